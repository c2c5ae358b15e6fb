"""Building an index on live data: how fast, and what is told about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from homeport.errors import DuplicateValues

if TYPE_CHECKING:
    from homeport.core.indexes import Index
    from homeport.core.keys import Key

Duplicates: TypeAlias = "list[tuple[tuple[Any, ...], list[Key]]]"
"""(values of the fields of an index, keys of the documents that have them)"""

Phase: TypeAlias = Literal["filling", "checking", "done"]

HOLD_S: Final = 0.01
"""A build keeps other writers out for about so long at a time."""

GAP_S: Final = 0.004
"""Between two steps it leaves the database alone for so long, for the threads of its own process;
who waits in another one stands in line and comes before the next step anyway."""

FIRST_ROWS: Final = 250
MOST_ROWS: Final = 5_000
FIRST_PAGES: Final = 64
LEAST_PAGES: Final = 32
MOST_PAGES: Final = 250
"""Pages of full text that one step of merging writes."""


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """How far the building of indexes is.

    Attributes:
        collection: whose. indexes: names of those that are being built, together.
        rows: documents looked at. total: how many there are, about; documents written meanwhile
            are in the index without being looked at.
        seconds: since the start of this call; an interrupted build goes on where it was.
        phase: ``filling``, ``checking`` (a unique index is examined for duplicates), ``done``.
    """

    collection: str
    indexes: tuple[str, ...]
    rows: int
    total: int
    seconds: float
    phase: Phase

    @property
    def share(self) -> float:
        """From 0 to 1."""
        if self.phase != "filling":
            return 1.0
        return min(1.0, self.rows / self.total) if self.total else 0.0


Report: TypeAlias = Callable[[IndexProgress], object]


class Build(NamedTuple):
    """What opening does about indexes of large collections that are not there.

    wait: build them now; else they are begun only. report: called after each step.
    """

    wait: bool = True
    report: Report | None = None


BUILD_ALL: Final = Build()


class Pace:
    """How many rows one step may take, and how many pages of full text one may merge, so that it
    lasts ``HOLD_S``."""

    __slots__ = ("pages", "rows", "steps")

    def __init__(self) -> None:
        self.rows = FIRST_ROWS
        self.pages = FIRST_PAGES
        self.steps = 0

    def took(self, seconds: float, *, rows: int = 0, pages: int = 0) -> None:
        """seconds: of the work alone. What a commit waits for the disk is the same for one row and
        for a thousand: counted in, it would make the steps of a busy machine smaller and smaller,
        and no shorter."""
        self.steps += 1
        if rows:
            self.rows = min(_fitting(rows, self.rows, seconds), MOST_ROWS)
        if pages:
            fitting = _fitting(pages, self.pages, seconds)
            self.pages = max(LEAST_PAGES, min(fitting, MOST_PAGES))


def _fitting(taken: int, before: int, seconds: float) -> int:
    # Never more than twice as many as before: one quick step proves little.
    return max(1, min(round(taken * HOLD_S / max(seconds, 1e-6)), 2 * before))


def refused(collection: str, index: Index, found: Duplicates) -> DuplicateValues:
    """Why an index cannot be unique."""
    listed = [(values[0] if len(values) == 1 else values, keys) for values, keys in found]
    value, keys = listed[0]
    more = f", and {len(found) - 1} more values like it" if len(found) > 1 else ""
    return DuplicateValues(
        f"{collection}: the documents {', '.join(map(repr, keys[:5]))} have the same "
        f"{', '.join(index.fields)} ({value!r:.60}){more}, so the index cannot be unique. They all "
        "stay as they are.",
        collection=collection,
        index=index.name,
        duplicates=listed,
    )
