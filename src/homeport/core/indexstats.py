"""What the indexes of a database hold and are used for, and what an optimisation did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeport.core.indexes import Index


@dataclass(frozen=True, slots=True)
class IndexStats:
    """One index, now.

    Attributes:
        collection: whose. name: of the index. index: as it would be declared.
        declared: by this program; False = made by ``create_index``, or by another program.
        complete: False while it is being built; then the next three are None.
        bytes: on the disk. None where the engine does not tell.
        entries: keys in it, of a multi-entry index one for each element; of full text documents.
        distinct: different keys; None for full text.
        uses: queries that read it since this program opened the database. None where the engine
            does not tell.
        last_used_ms: when the last one did, in milliseconds since 1970; None = not yet.
    """

    collection: str
    name: str
    index: Index
    declared: bool
    complete: bool
    bytes: int | None
    entries: int | None
    distinct: int | None
    uses: int | None
    last_used_ms: int | None

    @property
    def unused(self) -> bool:
        """No query has read it so far, and no document is refused by it: after a while of usual
        work it may go, and every write gets cheaper."""
        return self.complete and self.uses == 0 and not self.index.unique


@dataclass(frozen=True, slots=True)
class OptimizeTask:
    """Something that ``optimize`` may do: in steps, each a short transaction."""

    action: str
    target: str


@dataclass(frozen=True, slots=True)
class OptimizeStep:
    """What was done.

    Attributes:
        action: ``analyze`` (statistics for the planner), ``merge full text``, ``give back free
            pages``, ``move the log into the file``. target: of what.
        steps: short transactions. seconds: all of them together.
    """

    action: str
    target: str
    steps: int
    seconds: float


@dataclass(frozen=True, slots=True)
class OptimizeReport:
    """What ``optimize`` did, in that order."""

    done: Sequence[OptimizeStep]
    seconds: float

    def __str__(self) -> str:
        lines = [
            f"{one.action} {one.target}: {one.steps} steps, {one.seconds:.3f} s"
            for one in self.done
        ]
        return "\n".join([*lines, f"{self.seconds:.3f} s in all"])
