"""What is told of a database that could not be where it should be: values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from homeport.errors import HomeportError

Step: TypeAlias = "Literal['localStorage', 'memory']"
STEPS: tuple[Step, ...] = ("localStorage", "memory")


@dataclass(frozen=True, slots=True)
class Fallback:
    """The browser refused IndexedDB.

    Attributes:
        database: its name.
        engine: where it is instead: ``localStorage``, or ``memory``, which keeps nothing.
        error: what was refused last.
    """

    database: str
    engine: Step
    error: HomeportError

    def __str__(self) -> str:
        where = (
            "localStorage, which holds about five million characters"
            if self.engine == "localStorage"
            else "memory, which keeps nothing when the page is closed"
        )
        return f"{self.database} is in {where}, and does not sync. {self.error.message}"


@dataclass(frozen=True, slots=True)
class Replaced:
    """A document that both sides had: the one that was in IndexedDB, as plain JSON values."""

    collection: str
    key: Any
    document: Any


@dataclass(frozen=True, slots=True)
class MovedUp:
    """IndexedDB is there again, and what was written meanwhile is in it.

    Attributes:
        database: its name.
        documents: so many were written into IndexedDB.
        deleted: so many were deleted in it, because they were deleted meanwhile.
        replaced: what IndexedDB had under the same keys.
        failures: what could not be written, by collection and key; it stays in localStorage and is
            tried again at the next opening.
    """

    database: str
    documents: int = 0
    deleted: int = 0
    replaced: tuple[Replaced, ...] = ()
    failures: dict[tuple[str, Any], HomeportError] = field(default_factory=dict)

    def __str__(self) -> str:
        text = (
            f"{self.database} is in IndexedDB again: {self.documents} documents were moved there "
            f"from localStorage ({len(self.replaced)} in the place of others), {self.deleted} "
            "were deleted."
        )
        if self.failures:
            error = next(iter(self.failures.values()))
            text += f" {len(self.failures)} stay where they are: {error.message}"
        return text
