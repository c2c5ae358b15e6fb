"""What the chaos run remembers of acknowledged writes, to ask at the end where each one went."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

Place = tuple[str, str, str]
"""(collection, key, field)"""


class Written(NamedTuple):
    who: str
    order: int


class Ledger:
    """Every value is written once, so its name tells where it came from.

    A value may be gone at the end only if somebody who saw it wrote over it (or deleted its
    document), or if a record tells of it. What a device wrote after the moment to which it was put
    back is not asked for.
    """

    def __init__(self) -> None:
        self.written: dict[str, tuple[Place, Written]] = {}
        self.seen_and_replaced: set[str] = set()
        self.pairs: dict[str, str] = {}
        self._order = 0
        self._saves: dict[str, tuple[int, set[str]]] = {}

    def wrote(
        self,
        c: str,
        key: str,
        field: str,
        value: str,
        old: dict[str, Any] | None,
        who: str,
        *,
        replaced: bool = False,
    ) -> None:
        self._order += 1
        self.written[value] = ((c, key, field), Written(who, self._order))
        gone = (old or {}) if replaced else {field: (old or {}).get(field)}
        self.seen_and_replaced.update(v for f, v in gone.items() if f != "id" and v is not None)

    def deleted(self, c: str, key: str, old: dict[str, Any] | None) -> None:
        self.seen_and_replaced.update(v for f, v in (old or {}).items() if f != "id")

    def saved(self, who: str) -> None:
        self._saves[who] = (self._order, set(self.pairs))

    def restored(self, who: str) -> None:
        """The file is as it was then: what this device wrote since may or may not have gone out."""
        order, pairs = self._saves[who]
        self.written = {
            value: (place, w)
            for value, (place, w) in self.written.items()
            if w.who != who or w.order <= order
        }
        self.pairs = {name: by for name, by in self.pairs.items() if by != who or name in pairs}

    def missing(self, view: dict[str, Any], known: set[str]) -> list[Any]:
        out: list[Any] = []
        for value, (place, by) in self.written.items():
            c, key, field = place
            if view[c].get(key, {}).get(field) == value:
                continue
            if value not in self.seen_and_replaced and value not in known:
                out.append((value, place, by.who))
        out += [name for name in self.pairs if f"{name}-1" not in view["pairs"]]
        return out


def record_values(rests: Iterable[dict[str, Any]]) -> set[str]:
    """Every text in a conflict record, a dead letter or an open conflict."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, str):
            found.add(value)
        elif isinstance(value, dict):
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    for rest in rests:
        walk([rest["records"], rest["dead"], rest["conflicts"]])
    return found
