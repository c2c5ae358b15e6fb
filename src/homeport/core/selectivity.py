"""Which of several paths reads least: a decision from numbers that a store counts.

Counting is bounded: a path is counted up to ``PROBE_ROWS`` entries, which costs less than a tenth
of reading as many documents; beyond that an average of the engine's statistics stands in, else a
fixed share. Nothing is counted when the rules leave one path only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from homeport.core.planner import Access

PROBE_ROWS: Final = 2_000
FEW: Final = 100
"""A path of so few documents is good enough: nothing else is counted."""

# In documents read: what an index entry costs, and a row of a sort (measured: 0.43 us, 0.06, 0.12).
ENTRY: Final = 0.12
SORTED: Final = 0.3
CHECKED: Final = 5.0
"""A document decoded and looked at by Python."""

INTERSECTED_ROWS: Final = 200
INTERSECTED_SHARE: Final = 1.5
"""Two indexes are cut when the smaller yields at least so many documents, and the larger at most so
many times as many: then it was faster on every table measured, 1.2 times on rows in memory and 20
times on rows that had to be fetched."""

COLLECTED: Final = 4
"""A document of a full text that is looked at, in rows that are collected without that."""

OUTSIDE_SHARE: Final = 0.05
"""The ranges around an excluded value are read when they hold less than this part of all."""

WALK_SHARE: Final = 0.25
"""A walk along the order may cost at most this part of the path that it tries to beat."""

Counter = Callable[[Access, int], int]
"""(path, at most) → entries of the path."""


class Choice:
    """The chosen path.

    Attributes:
        access: the path, None = a scan (or whatever order the engine reads).
        rows: entries that it is expected to read.
        beside: a second index whose keys are cut with those of the path.
        walk: an ordered path to try first, ``walk_rows`` entries of it at most.
    """

    __slots__ = ("access", "beside", "rows", "walk", "walk_rows")

    def __init__(
        self,
        access: Access | None,
        rows: int,
        beside: Access | None = None,
        walk: Access | None = None,
        walk_rows: int = 0,
    ) -> None:
        self.access = access
        self.rows = rows
        self.beside = beside
        self.walk = walk
        self.walk_rows = walk_rows


def choose(
    found: Sequence[Access],
    *,
    wanted: int | None,
    order: Sequence[str],
    total: int,
    count: Counter,
    guess: Callable[[Access], int],
) -> Choice:
    """The cheapest of the paths.

    Args:
        found: paths, best rule first, with those around excluded values.
        wanted: documents needed (limit and offset), None for all.
        order: paths of the query's order.
        total: documents of the collection.
        count: bounded count of a path's entries.
        guess: expected entries of a path that holds more than ``PROBE_ROWS``.
    """
    sorting = bool(order)
    rows: dict[int, int] = {}
    narrowing = [access for access in found if access.uses]
    least: int | None = None
    for access in narrowing:
        rows[id(access)] = number = _rows(access, least, total, count, guess)
        if access.outside and number > total * OUTSIDE_SHARE:
            continue
        if least is None or number < least:
            least = number
        if number <= FEW:
            return Choice(access, number)
    usable = [a for a in narrowing if not a.outside or rows[id(a)] <= total * OUTSIDE_SHARE]
    if not usable:
        return Choice(None, total)
    best = min(usable, key=lambda access: _cost(access, rows[id(access)], sorting=sorting))
    if wanted is not None and not sorting:
        # Any rows will do: those of a full text come one by one, and as a set they would first be
        # collected. The other conditions are taken to hold for the same share of them as of all.
        text = next((access for access in usable if access.kind == "text"), None)
        expected = wanted * total / max(1, rows[id(best)])
        if text is not None and expected * COLLECTED <= rows[id(text)]:
            best = text
    walk = None
    walk_rows = 0
    if sorting and wanted is not None and not best.ordered:
        ordered = [
            access
            for access in found
            if access.ordered
            and access.kind in ("order", "index", "key")
            and any(path not in access.equal for path in order)
        ]
        walk, walk_rows = _walk(ordered, best, rows, wanted, total)
    beside = None if walk is not None else _beside(usable, best, rows)
    return Choice(best, rows[id(best)], beside, walk, walk_rows)


def _rows(
    access: Access, least: int | None, total: int, count: Counter, guess: Callable[[Access], int]
) -> int:
    """Entries of a path; no further than needed to know that it is not the smallest."""
    cap = PROBE_ROWS
    if access.outside:
        cap = min(cap, int(total * OUTSIDE_SHARE) + 1)
    if least is not None:
        cap = min(cap, int(least * INTERSECTED_SHARE) + 1)
    number = count(access, cap)
    if number < cap:
        return number
    return number if cap < PROBE_ROWS else max(number, guess(access))


def _cost(access: Access, rows: int, *, sorting: bool) -> float:
    return rows * (1 + (SORTED if sorting and not access.ordered else 0))


def _walk(
    ordered: Sequence[Access], best: Access, rows: dict[int, int], wanted: int, total: int
) -> tuple[Access | None, int]:
    """Along an index in the asked order until enough documents are found. Where they lie is not
    known, so the walk is bounded by what it would save, and given up beyond."""
    share = rows[id(best)] / max(total, 1)
    price = _cost(best, rows[id(best)], sorting=True)
    for access in ordered:
        expected = wanted / max(share, 1e-9)
        budget = price * WALK_SHARE
        if expected * 2 <= budget:
            return access, int(budget)
    return None, 0


def _beside(usable: Sequence[Access], best: Access, rows: dict[int, int]) -> Access | None:
    number = rows[id(best)]
    if best.kind not in ("index", "multi") or number < INTERSECTED_ROWS:
        return None
    taken = {id(part) for part in best.uses}
    for access in usable:
        if access.kind not in ("index", "multi") or access.outside:
            continue
        if any(id(part) in taken for part in access.uses):
            continue
        if rows[id(access)] <= number * INTERSECTED_SHARE:
            return access
    return None
