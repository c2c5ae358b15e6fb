"""What was written, who saw it, and what was found to be wrong.

Every write carries a value of its own, so that its fate can be followed by looking for that text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

History = Mapping[tuple[str, str], list[str | None]]


def quoted(value: str) -> str:
    """A value as it stands in a JSON text."""
    return f'"{value}"'


class Ledger:
    """Values of devices are named ``a1``, ``b2`` …, those of other programs ``sql3``."""

    def __init__(self, clients: int) -> None:
        self.values: dict[str, int | None] = {}
        """value → the device that wrote it, None = another program."""
        self.seen: list[set[str]] = [set() for _ in range(clients)]
        self.replaced: set[str] = set()
        """Values that their holder overwrote or deleted in his own view."""
        self.forgiven: set[str] = set()
        """Values that a restored file took away before anybody else had them."""
        self.creations: dict[str, int] = {}
        self.violations: list[str] = []
        self.where = ""
        self._marks: dict[int, int] = {}

    def violate(self, what: str) -> None:
        text = f"{what} ({self.where})" if self.where else what
        if text not in self.violations:
            self.violations.append(text)

    def new_value(self, client: int | None) -> str:
        letter = "sql" if client is None else "abcdefgh"[client]
        value = f"{letter}{len(self.values) + 1}"
        self.values[value] = client
        return value

    def in_text(self, text: str) -> set[str]:
        return {value for value in self.values if quoted(value) in text}

    def saw(self, client: int, views: Mapping[str, Any]) -> None:
        self.seen[client] |= self.in_text(json.dumps(views))

    def replaced_by(self, client: int, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        self.seen[client] |= self.in_text(json.dumps(before))
        for name, old in before.items():
            now = after.get(name) or {}
            for field, value in old.items():
                if isinstance(value, str) and now.get(field) != value:
                    self.replaced.add(value)

    def saved(self, client: int) -> None:
        self._marks[client] = len(self.values)

    def restored(self, client: int, history: History) -> None:
        mark = self._marks.get(client, 0)
        reached = json.dumps([text for texts in history.values() for text in texts])
        for number, (value, writer) in enumerate(self.values.items()):
            if writer == client and number >= mark and f'\\"{value}\\"' not in reached:
                self.forgiven.add(value)
