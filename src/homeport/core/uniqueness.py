"""Which rows of a write a unique index refuses. Judged by the state at the end of the write, so
that two documents may swap their values in one call; an engine finds out who holds what, and this
decides.

The rules: every row is accepted unless it has to go. A value that a document outside the write
holds refuses the rows that want it. Among the rows, the one that holds the value already keeps it,
then the first takes it. A refused row leaves its document as it was, which may refuse others. What
a document holds already it may keep, even if the server has sent a twin (rule G).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, TypeAlias

from homeport.core.keys import Encoded, decode
from homeport.errors import HomeportError, KeyExists, UniqueViolation

if TYPE_CHECKING:
    from homeport.core.codec import Codec, Extras, Row
    from homeport.core.schema import Index

Value: TypeAlias = tuple[Encoded, ...]
"""What one document holds in an index: one element, or one for each field of a compound index."""

Holders: TypeAlias = Callable[["Index", Sequence[Value]], Iterable[tuple[Value, Encoded]]]
"""(index, values) → (value, encoded key) of the stored documents that hold one of the values."""

_Claim: TypeAlias = tuple[int, Value]
"""(number of the unique index, value)"""


def values_of(
    codec: Codec[Any], index: Index, rows: Sequence[Row], extras: Sequence[Extras] | None
) -> list[Sequence[Value]]:
    """The values of each row in an index; a row without one of the fields has none."""
    if index.multi:
        assert extras is not None
        number = codec.multi.index(index)
        return [[(entry,) for entry in found[0][number]] for found in extras]
    places = [2 + codec.columns.index(path) for path in index.fields]
    if len(places) == 1:
        place = places[0]
        return [() if row[place] is None else ((row[place],),) for row in rows]
    found = [tuple([row[place] for place in places]) for row in rows]
    return [() if None in value else (value,) for value in found]


def refusals(
    name: str,
    codec: Codec[Any],
    rows: Sequence[Row],
    extras: Sequence[Extras] | None,
    holders: Holders,
    *,
    adding: bool = False,
    existing: Collection[Encoded] = (),
) -> dict[int, HomeportError]:
    """Why which of these rows cannot be written, by position; all the others can.

    adding: no key may be written over. existing: those of the keys that are stored already.
    """
    failures: dict[int, HomeportError] = {}
    if existing:
        for n, row in enumerate(rows):
            if row[0] in existing:
                failures[n] = _exists(name, row[0])
    unique = [index for index in codec.indexes if index.unique]
    if unique:
        claims = [values_of(codec, index, rows, extras) for index in unique]
        _refuse_claims(name, unique, rows, claims, holders, failures, first=adding)
    if adding and len(rows) > 1:
        added: set[Encoded] = set()
        for n, row in enumerate(rows):
            if n in failures:
                continue
            if row[0] in added:
                failures[n] = _exists(name, row[0])
            added.add(row[0])
    return failures


def _exists(name: str, key: Encoded) -> KeyExists:
    public = decode(key)
    return KeyExists(f"{name} has a document {public!r} already.", collection=name, key=public)


def _refuse_claims(
    name: str,
    unique: Sequence[Index],
    rows: Sequence[Row],
    claims: Sequence[Sequence[Sequence[Value]]],
    holders: Holders,
    failures: dict[int, HomeportError],
    *,
    first: bool,
) -> None:
    stored: list[tuple[_Claim, Encoded]] = []
    clash = False
    for number, index in enumerate(unique):
        wanted: dict[Value, Encoded] = {}
        for n, values in enumerate(claims[number]):
            for value in values:
                clash |= wanted.setdefault(value, rows[n][0]) != rows[n][0]
        if wanted:
            for value, key in holders(index, list(wanted)):
                clash |= wanted[value] != key
                stored.append(((number, value), key))
    if not clash:  # as nearly always
        return
    case = _Case(rows, claims, stored, set(failures), first=first)
    for n, ((number, value), other) in case.settle().items():
        failures[n] = _violation(name, unique[number], value, rows[n][0], other)


def _violation(
    name: str, index: Index, value: Value, key: Encoded, other: Encoded
) -> UniqueViolation:
    held = [decode(part) for part in value]
    shown = held[0] if len(held) == 1 else held
    return UniqueViolation(
        f"{name}: {decode(other)!r} holds {shown!r:.80} in the unique index {index.name} "
        f"({', '.join(index.fields)}), so {decode(key)!r} cannot have it.",
        collection=name,
        index=index.name,
        value=shown,
        key=decode(key),
        other=decode(other),
    )


class _Case:
    """A write in which some value is wanted twice. Rows are refused one at a time; each refusal may
    bring others about, because the refused document keeps what it held."""

    def __init__(
        self,
        rows: Sequence[Row],
        claims: Sequence[Sequence[Sequence[Value]]],
        stored: Iterable[tuple[_Claim, Encoded]],
        out: set[int],
        *,
        first: bool,
    ) -> None:
        self.keys = [row[0] for row in rows]
        self.claims: list[list[_Claim]] = [
            [(number, value) for number, found in enumerate(claims) for value in found[n]]
            for n in range(len(rows))
        ]
        self.held: dict[Encoded, set[_Claim]] = {}
        """What stored documents hold, of all that is wanted."""
        self.holders: dict[_Claim, list[Encoded]] = {}
        for claim, key in stored:
            self.held.setdefault(key, set()).add(claim)
            self.holders.setdefault(claim, []).append(key)
        self.first = first
        self.rows: dict[Encoded, list[int]] = {}
        """The rows of each key; the last one counts. Of an ``add``, that is the first given."""
        for n in reversed(range(len(rows))) if first else range(len(rows)):
            if n not in out:
                self.rows.setdefault(self.keys[n], []).append(n)
        self.counting: set[int] = set()
        self.wanting: dict[_Claim, list[int]] = {}  # heaps; those that no longer count stay in
        self.changed: list[int] = []
        self.rivals: list[int] = []
        self.refused: dict[int, tuple[_Claim, Encoded]] = {}

    def settle(self) -> dict[int, tuple[_Claim, Encoded]]:
        """→ position of each refused row: what it may not have, and the key of who has it."""
        for key in self.rows:
            self._count(key)
        self.rivals = sorted(self.counting)
        self.changed = self.rivals[::-1]
        while True:
            # First what is certain whoever wins among the rows: values that others hold.
            while self.changed:
                self._judge(self.changed.pop(), self._outsider)
            if not self.rivals:
                break
            self._judge(heappop(self.rivals), self._rival)
        if self.refused:
            self._readmit()
        return self.refused

    def _readmit(self) -> None:
        """Take back what nothing stands in the way of any more, since its rival had to go too."""
        for claim, wanting in self.wanting.items():
            self.wanting[claim] = [n for n in wanting if n in self.counting]
        found = True
        while found:
            found = False
            for n in sorted(self.refused):
                rows = self.rows[self.keys[n]]
                if rows and n < rows[-1] and not self.first:
                    del self.refused[n]  # a later row of its key replaces it anyhow
                    continue
                if (rows and self.first) or not self._is_free(n):
                    continue
                if rows:
                    self.counting.discard(rows[-1])
                    for claim in self.claims[rows[-1]]:
                        self.wanting[claim].remove(rows[-1])
                rows.append(n)
                self.counting.add(n)
                for claim in self.claims[n]:
                    self.wanting[claim].append(n)
                del self.refused[n]
                found = True

    def _is_free(self, n: int) -> bool:
        key = self.keys[n]
        if self._outsider(n) is not None:
            return False
        own = self.held.get(key, ())
        return not any(
            self.keys[other] != key
            for claim in self.claims[n]
            if claim not in own
            for other in self.wanting[claim]
        )

    def _judge(self, n: int, find: Callable[[int], tuple[_Claim, Encoded] | None]) -> None:
        if n not in self.counting:
            return
        why = find(n)
        if why is None:
            return
        self.refused[n] = why
        self.counting.discard(n)
        key = self.keys[n]
        self.rows[key].pop()
        if self.rows[key]:
            n = self._count(key)
            self._look_at((n,))
            for claim in self.claims[n]:
                self._look_at(self.wanting[claim])  # it may go before some of them
            return
        for claim in self.held.get(key, ()):
            self._look_at(self.wanting.get(claim, ()))

    def _count(self, key: Encoded) -> int:
        n = self.rows[key][-1]
        self.counting.add(n)
        for claim in self.claims[n]:
            heappush(self.wanting.setdefault(claim, []), n)
        return n

    def _look_at(self, rows: Iterable[int]) -> None:
        for n in rows:
            if n in self.counting:
                self.changed.append(n)
                heappush(self.rivals, n)

    def _outsider(self, n: int) -> tuple[_Claim, Encoded] | None:
        """A document outside the write that holds what this row wants."""
        own = self.held.get(self.keys[n], ())
        for claim in self.claims[n]:
            if claim not in own:
                for key in self.holders.get(claim, ()):
                    if not self.rows.get(key):
                        return claim, key
        return None

    def _rival(self, n: int) -> tuple[_Claim, Encoded] | None:
        """A row that goes before this one and wants the same."""
        own = self.held.get(self.keys[n], ())
        for claim in self.claims[n]:
            if claim in own:
                continue
            for key in self.holders.get(claim, ()):
                rows = self.rows.get(key)
                if rows and claim in self.claims[rows[-1]]:
                    return claim, key
            wanting = self.wanting[claim]
            while wanting[0] not in self.counting:
                heappop(wanting)
            if wanting[0] < n:
                return claim, self.keys[wanting[0]]
        return None
