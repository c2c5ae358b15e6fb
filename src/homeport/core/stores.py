"""What a store promises: the two protocols that every engine implements.

The isolation promise of a session: one writer at a time, many readers; a read operation sees one
committed state from its first request to its last; a write operation sees its own writes, and
nobody else sees any of them before the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from homeport.core.indexing import BUILD_ALL, Build
from homeport.core.requests import Mode, Request

if TYPE_CHECKING:
    from homeport.core.advisor import SlowQueries
    from homeport.core.codec import Row, Table
    from homeport.core.indexes import Index
    from homeport.core.indexing import Duplicates, IndexProgress
    from homeport.core.indexstats import IndexStats, OptimizeTask
    from homeport.core.keys import Key
    from homeport.core.query import QueryValue
    from homeport.core.storageinfo import StoreFacts


Logged: TypeAlias = "tuple[int, dict[str, list[Key] | None]]"
"""A change row: its number, and the keys by collection (None: too many to say)."""


class CommitStamp(Protocol):
    """Tells at the price of a comparison whether anything was committed to the store, by whatever
    process. Two equal stamps: the committed state is the same one."""

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Held around ``read``, so that the store is not closed meanwhile."""
        ...

    def read(self) -> Any:
        """→ the stamp of now; of a closed store, one that no commit has."""
        ...

    def commits(self, stamp: Any) -> int:
        """How many commits there were until a stamp, modulo 2**32, from an unknown beginning."""
        ...


class StoreSession(Protocol):
    """One connection to a store. Not thread safe: its driver's lock owns it."""

    @property
    def in_transaction(self) -> bool:
        """Asked of the engine, never assumed: a failing statement may have ended it."""
        ...

    def answer(self, request: Request) -> Any:
        """Execute one request. Outside begin/commit a Write is its own transaction."""
        ...

    def begin(self, mode: Mode, unit: str | None = None, timeout_s: float | None = None) -> None:
        """Start a transaction; ``Busy`` after the time limit. A write transaction first notices
        what other processes changed in the declarations (``Store.refresh``)."""
        ...

    def write_row(self, table: Table[Any], row: Row, timeout_s: float | None = None, /) -> bool:
        """Store a row that nothing else depends on (no capture, no side table, nothing to be
        refused) in a transaction of its own. False: it is not of that kind, nothing was done."""
        ...

    def commit(self) -> None:
        """Append the change row, then commit. Raises only if nothing was committed."""
        ...

    def rollback(self) -> None:
        """Roll back; silent when the engine already did."""
        ...

    def savepoint(self) -> int:
        """Start an inner transaction → its depth."""
        ...

    def release(self, depth: int) -> None: ...

    def rollback_to(self, depth: int) -> None: ...

    def interrupt(self) -> None:
        """From any thread: end the running statement with ``Interrupted``."""
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """A file (or memory) with documents."""

    @property
    def multiprocess(self) -> bool:
        """May other processes write to it?"""
        ...

    @property
    def clock_ms(self) -> Callable[[], int]:
        """Milliseconds since 1970, by which documents expire."""
        ...

    @property
    def slow(self) -> SlowQueries:
        """Slow queries since it was opened."""
        ...

    def session(self, *, readonly: bool = False) -> StoreSession: ...

    @property
    def logged(self) -> Logged | None:
        """The last change row that was committed through this store, None before the first."""
        ...

    def stamp(self) -> CommitStamp | None:
        """Of the first session; None where the engine has no such thing. Asked for under the
        driver's lock."""
        ...

    def define(self, tables: Sequence[Table[Any]], *, build: Build = BUILD_ALL) -> None:
        """Create or follow the tables of the declarations; raises ``SchemaMismatch``, and
        ``DuplicateValues`` when documents break a new unique index."""
        ...

    def index_stats(self, table: Table[Any]) -> list[IndexStats]:
        """What each index of a collection holds; without the driver's lock."""
        ...

    def optimize_tasks(self) -> list[OptimizeTask]:
        """What would make reading cheaper now. Under the driver's lock, like the next one."""
        ...

    def optimize(self, task: OptimizeTask) -> bool:
        """One step of a task → is there more to do?"""
        ...

    @property
    def broken(self) -> Sequence[tuple[Table[Any], Index, Duplicates]]:
        """What documents of synced collections have in common under a new unique index."""
        ...

    def create_index(self, table: Table[Any], index: Index) -> None:
        """Begin an index that no declaration has, or go on with it. This and the next ones are
        called under the driver's lock, outside a transaction."""
        ...

    def drop_index(self, table: Table[Any], name: str) -> bool:
        """Take an index away → was there one?"""
        ...

    def build_step(self, table: Table[Any], seconds: float) -> IndexProgress | None:
        """One short step of building what is begun; None when nothing is left to do. seconds:
        since the caller began."""
        ...

    def enforce_unique(self, table: Table[Any], name: str) -> bool:
        """Refuse new duplicates in a complete index from now on → has it to be examined?"""
        ...

    def duplicates(self, table: Table[Any], name: str) -> Duplicates:
        """What several documents have in common in an index; without the driver's lock."""
        ...

    def settle_unique(self, table: Table[Any], name: str, *, unique: bool) -> None:
        """The outcome of that examination."""
        ...

    def explain(self, table: Table[Any], query: QueryValue, *, run: bool = False) -> Any:
        """→ core.explanation.Explanation; ``run`` executes the query and adds what that took.
        Called under the driver's lock."""
        ...

    def size(self) -> dict[str, int]:
        """→ bytes: one entry for each collection, index and other part, and ``total``, their
        sum."""
        ...

    def facts(self) -> StoreFacts:
        """What there is to say about the store beside sizes."""
        ...

    def verify_text(self) -> list[str]:
        """Where the full text of a collection is not what its documents hold, in sentences."""
        ...

    def rebuild_text(self, names: Sequence[str]) -> None:
        """Begin to make the full text of these collections anew; ``build_step`` does the rest.
        Called under the driver's lock, outside a transaction."""
        ...

    def prune(self, *, aggressive: bool) -> int:
        """Drop old rows of the change log → how many. As ``purge_expired``."""
        ...

    def quota_used(self) -> tuple[int, int] | None:
        """(bytes used as of the last write, max_bytes); None without a quota. It costs nothing."""
        ...

    def shrink(self, *, aggressive: bool) -> str | None:
        """Give free space back → why that could not be done now, or None. As ``purge_expired``."""
        ...

    def purge_expired(self, limit: int) -> int:
        """Remove up to so many expired documents of each collection that is not synced → how many.
        Called under the driver's lock, outside a transaction."""
        ...

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file, where there is one."""
        ...

    def close(self) -> None: ...
