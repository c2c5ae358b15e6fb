"""A keeper on a place that sets one text at a time, atomically: localStorage.

A commit of one item is one such step. Of several it begins with a journal: the former texts of what
it will change, or, of a commit that only deletes, the names. Then the items change, removals first,
then the journal goes, and with it the commit is made. Whoever finds a journal takes the changes
back, which always fits, because the former texts fitted beside it; or completes the deletions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import quote, unquote

import msgspec

from homeport.errors import Closed, Corrupted

JOURNAL: Final = "journal"
ROOT: Final = "homeport/"
"""What the names of all databases begin with."""
_ITEMS: Final = "i/"


class Texts(Protocol):
    """Texts by name; each call happens whole or not at all, and raises typed errors."""

    def all(self, prefix: str) -> dict[str, str]: ...
    def get(self, name: str) -> str | None: ...
    def set(self, name: str, text: str) -> None:
        """Raises ``QuotaExceeded``."""
        ...

    def remove(self, name: str) -> None: ...
    def free_bytes(self) -> int | None: ...


class _Journal(msgspec.Struct, omit_defaults=True):
    back: list[tuple[str, str | None]] = []
    drop: list[str] = []


_journal = msgspec.json.Decoder(_Journal).decode
_encode = msgspec.json.Encoder().encode


def prefix_of(kind: str, database: str) -> str:
    """What the names of one database begin with."""
    return f"{ROOT}{kind}/{quote(database, safe='')}/"


def database_of(name: str) -> str | None:
    """The database that a name belongs to; None for a name of another kind."""
    parts = name.removeprefix(ROOT).split("/", 2)
    return unquote(parts[1]) if len(parts) == 3 else None


class JournaledTexts:
    """``keeper.Keeper`` on such a place; nobody else may write below the prefix meanwhile."""

    def __init__(self, texts: Texts, prefix: str, engine: str) -> None:
        self.engine = engine
        self.name = prefix.rstrip("/")
        self._texts = texts
        self._prefix = prefix
        self._witness: str | None = None  # an item that is there unless somebody cleared all
        self._failed = False

    def load(self) -> dict[str, str]:
        if (text := self._texts.get(self._prefix + JOURNAL)) is not None:
            try:
                journal = _journal(text)
            except msgspec.DecodeError as error:
                raise Corrupted(f"The journal of {self.name} cannot be read.") from error
            self._take_back(journal)
        start = self._prefix + _ITEMS
        items = {name[len(start) :]: text for name, text in self._texts.all(start).items()}
        self._witness = next(iter(items), None)
        return items

    def _take_back(self, journal: _Journal) -> None:
        """Undo what a commit has changed so far, or complete its deletions."""
        for name in (*journal.drop, *(name for name, _ in journal.back)):
            self._texts.remove(self._name(name))
        for name, old in journal.back:
            if old is not None:
                self._texts.set(self._name(name), old)
        self._texts.remove(self._prefix + JOURNAL)

    def _name(self, item: str) -> str:
        return f"{self._prefix}{_ITEMS}{item}"

    def write(self, changes: Mapping[str, str | None]) -> None:
        if self._failed:
            raise Closed(f"A write to {self.name} could not be taken back.", action="Reload.")
        if self._witness is not None and self._texts.get(self._name(self._witness)) is None:
            raise Closed(
                f"{self.name} was cleared, by the user or another program of this site.",
                action="Open it again; it will be empty.",
            )
        if len(changes) == 1:
            ((item, text),) = changes.items()
            self._change(item, text)
        elif changes:
            self._change_several(changes)
        if self._witness is None or changes.get(self._witness, "") is None:
            there = (item for item, text in changes.items() if text is not None)
            self._witness = next(there, None)

    def _change(self, item: str, text: str | None) -> None:
        if text is None:
            self._texts.remove(self._name(item))
        else:
            self._texts.set(self._name(item), text)

    def _change_several(self, changes: Mapping[str, str | None]) -> None:
        olds = {item: self._texts.get(self._name(item)) for item in changes}
        back = _Journal(back=list(olds.items()))
        deleting = all(text is None for text in changes.values())
        journal = _Journal(drop=list(changes)) if deleting else back
        self._texts.set(self._prefix + JOURNAL, _encode(journal).decode())
        try:
            for item, text in sorted(changes.items(), key=lambda change: change[1] is not None):
                self._change(item, text)
            self._texts.remove(self._prefix + JOURNAL)
        except Exception:
            self._failed = True
            self._take_back(back)
            self._failed = False
            raise

    def free_bytes(self) -> int | None:
        return self._texts.free_bytes()

    def close(self) -> None:
        """Nothing is held here."""
