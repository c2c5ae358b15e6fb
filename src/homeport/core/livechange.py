"""What a live query delivers: a change, its rows, and the edits that lead from the rows before to
the rows now."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from homeport.core.liverows import Entry, LiveRows, SortedRows

if TYPE_CHECKING:
    from homeport.core.keys import Encoded
    from homeport.core.restore import Restore

T = TypeVar("T")

MOVES_MAX = 100

EditKind: TypeAlias = Literal["remove", "move", "insert", "change"]


class Edit(NamedTuple, Generic[T]):
    """One step from the rows before a change to the rows after it; numbers of rows are those at the
    moment of the step, so apply them in order.

    Attributes:
        kind: ``remove`` row ``row``; ``move`` it to ``to`` (its number once it is there);
            ``insert`` ``document`` as row ``row``; ``change`` row ``row`` into ``document``.
        row: number of the row, from 0.
        to: where a moved row goes; of other kinds the same as ``row``.
        document: of ``insert`` and ``change``, else None.
    """

    kind: EditKind
    row: int
    to: int
    document: T | None


class Window:
    """The rows of one state that the consumer sees: those from ``low`` up to ``high``."""

    __slots__ = ("_all", "high", "low", "rows")

    def __init__(self, rows: SortedRows, low: int, limit: int | None) -> None:
        self._all = not low and limit is None
        self.rows = rows
        self.low = low
        self.high = len(rows) if limit is None else min(low + limit, len(rows))

    def sees(self, entry: Entry) -> bool:
        """Is this entry, which is one of the rows, inside?"""
        return self._all or self.low <= self.rows.row(entry) < self.high

    def row(self, entry: Entry) -> int:
        """The number under which the consumer sees an entry."""
        return self.rows.row(entry) - self.low

    def __iter__(self) -> Iterator[Entry]:
        return self.rows.between(self.low, self.high)


class LiveChange(Generic[T]):
    """What one look at a live query found new.

    Attributes:
        removed: keys of documents that left the result (deleted, or no longer matching).
        reset: the result was read as a whole: the first time, or because the log of changes did
            not reach back far enough. All lists are exact all the same.
    """

    __slots__ = ("_added", "_after", "_before", "_changed", "_decode", "_removed", "removed",
                 "reset")  # fmt: skip

    def __init__(
        self,
        decode: Callable[[str], T],
        windows: tuple[Window, Window],
        added: list[Entry],
        changed: list[tuple[Entry, Entry]],
        removed: list[Entry],
        *,
        reset: bool,
        typed: Restore | None = None,
    ) -> None:
        self._decode = decode
        self._before, self._after = windows
        self._added = added
        self._changed = changed
        self._removed = removed
        self.removed: list[Any] = [
            entry.key if typed is None else typed(entry.key) for entry in removed
        ]
        self.reset = reset

    @property
    def added(self) -> list[T]:
        """Documents that are in the result now and were not before; the first time, all."""
        return [self._decode(entry.text) for entry in self._added]

    @property
    def changed(self) -> list[T]:
        """Documents of the result that were written."""
        return [self._decode(entry.text) for _, entry in self._changed]

    @property
    def rows(self) -> LiveRows[T]:
        """The whole result in its order. It stays what it is when the query moves on."""
        return LiveRows(self._after.rows, self._after.low, self._after.high, self._decode)

    @property
    def edits(self) -> list[Edit[T]]:
        """The steps that turn the rows before this change into ``rows``, for whoever keeps a list
        or a table of them: removals, then moves, insertions, and changes in place. More than 100
        rows that change their places at once are removed and inserted."""
        return list(self._edits())

    def __len__(self) -> int:
        """How many documents were added, changed or removed."""
        return len(self._added) + len(self._changed) + len(self._removed)

    def __repr__(self) -> str:
        return (
            f"LiveChange(added={len(self._added)}, changed={len(self._changed)}, "
            f"removed={len(self._removed)}, reset={self.reset})"
        )

    def _edits(self) -> Iterator[Edit[T]]:
        before, after, decode = self._before, self._after, self._decode
        if not len(before.rows):
            for row, entry in enumerate(after):
                yield Edit("insert", row, row, decode(entry.text))
            return
        gone = sorted(before.row(entry) for entry in self._removed)
        come = {after.row(entry): entry for entry in self._added}
        changed = sorted((before.row(old), after.row(new), new) for old, new in self._changed)
        moving = _moving([(at, to) for at, to, _ in changed], gone, sorted(come))
        if len(moving) > MOVES_MAX:
            gone = sorted([*gone, *moving])
            come.update((to, entry) for at, to, entry in changed if at in moving)
            changed = [one for one in changed if one[0] not in moving]
            moving = {}
        for row in reversed(gone):
            yield Edit("remove", row, row, None)
        new = sorted(come)
        for row, to in _moves(
            [(to - bisect_left(new, to), at - bisect_left(gone, at)) for at, to in moving.items()]
        ):
            yield Edit("move", row, to, None)
        for row in new:
            yield Edit("insert", row, row, decode(come[row].text))
        for row, entry in sorted((to, entry) for _, to, entry in changed):
            yield Edit("change", row, row, decode(entry.text))


def _moving(changed: list[tuple[int, int]], gone: list[int], come: list[int]) -> dict[int, int]:
    """Which of the changed rows, (place before, place after), have to leave their place among the
    rows that did not change."""
    ats = sorted([*gone, *(at for at, _ in changed)])
    tos = sorted([*come, *(to for _, to in changed)])
    moving: dict[int, int] = {}
    last = -1
    for at, to in changed:
        if at - bisect_left(ats, at) == to - bisect_left(tos, to) and to > last:
            last = to
        else:
            moving[at] = to
    return moving


def _moves(moving: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(wanted row, present row) of the rows that move → the single moves, (row, to). The wanted
    rows are filled from the top."""
    waiting = sorted(moving)
    while waiting:
        wanted, at = waiting.pop(0)
        waiting = [(to, row - (row > at)) for to, row in waiting]
        # So many rows stand before it for good; those that will move on do not count.
        target = wanted
        for row in sorted(row for _, row in waiting):
            if row > target:
                break
            target += 1
        waiting = [(to, row + (row >= target)) for to, row in waiting]
        if at != target:
            yield at, target


def difference(
    decode: Callable[[str], T],
    windows: tuple[Window, Window],
    *,
    reset: bool,
    typed: Restore | None = None,
) -> LiveChange[T]:
    """The change between two windows of whose difference nothing is known."""
    before, after = windows
    old: dict[Encoded, Entry] = {entry.name: entry for entry in before}
    added: list[Entry] = []
    changed: list[tuple[Entry, Entry]] = []
    for entry in after:
        was = old.pop(entry.name, None)
        if was is None:
            added.append(entry)
        elif was.text != entry.text:
            changed.append((was, entry))
    gone = list(old.values())
    return LiveChange(decode, windows, added, changed, gone, reset=reset, typed=typed)
