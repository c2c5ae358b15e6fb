"""An open database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from homeport.badges import AsyncBadges
from homeport.care import AsyncCare
from homeport.core.advisor import IndexAdvice, SlowQuery
from homeport.core.arguments import check_function
from homeport.core.codec import Table
from homeport.core.context import Event
from homeport.core.indexes import Index
from homeport.core.indexing import IndexProgress
from homeport.core.indexstats import IndexStats, OptimizeReport
from homeport.core.quotawatch import LEVELS, QuotaNotice, QuotaWatch
from homeport.core.resultcache import CacheStats
from homeport.core.schema import Collection, IndexForm
from homeport.core.storageinfo import CleanupReport, StorageInfo
from homeport.core.units import unit
from homeport.documents import AsyncDocuments
from homeport.drivers.inline import Transaction
from homeport.errors import CannotSync, UsageError
from homeport.handles import Handle
from homeport.indexcare import AsyncIndexCare
from homeport.indexing import AsyncIndexBuilder
from homeport.optimistic import AsyncOptimistic
from homeport.runners import AsyncDriver
from homeport.snapshots import Snapshot
from homeport.transactions import Tx, Unit, table_of

if TYPE_CHECKING:
    from homeport.core.backend import Backend
    from homeport.replication import AsyncSync
    from homeport.transport.recovery import OnReset
    from homeport.transport.rounds import Token

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


class AsyncDatabase(Handle):
    """A file (or memory) with collections of documents. Made by ``open`` and ``open_async``."""

    def __init__(
        self,
        driver: AsyncDriver,
        tables: Mapping[str, Table[Any]],
        path: str,
        *,
        by_itself: bool = False,
    ) -> None:
        """by_itself: the tables are what the file said, not what a program declared."""
        self._driver = driver
        self._by_itself = by_itself
        self._tables = tables
        self._path = path
        self._documents: dict[Any, AsyncDocuments[Any]] = {}
        self._syncs: list[AsyncSync] = []
        self._optimistic = AsyncOptimistic(driver, tables, self._tell)

    @property
    def path(self) -> str:
        """Where the file is; ``":memory:"`` for a database in memory."""
        return self._path

    @property
    def collections(self) -> tuple[Collection[Any], ...]:
        """The declarations that the database was opened with."""
        return tuple(table.collection for table in self._tables.values() if not table.system)

    @overload
    def __getitem__(self, collection: Collection[T]) -> AsyncDocuments[T]: ...
    @overload
    def __getitem__(self, collection: str) -> AsyncDocuments[Any]: ...
    def __getitem__(self, collection: Any) -> Any:
        """The documents of a collection, by declaration or name; raises ``UnknownCollection``."""
        try:
            documents = self._documents.get(collection)
        except TypeError:  # what cannot be in a dict is no collection either
            documents = None
        if documents is None:
            table = table_of(self._tables, collection)
            documents = AsyncDocuments(self._driver, table, self.optimistic)
            self._documents[collection] = documents
        return documents

    # -- transactions

    def transaction(self) -> Transaction:
        """``with db.transaction():`` everything in the block happens together or not at all.

        Inside another one it is a savepoint. Blocking only: use ``run`` on an event loop.
        """
        return self._driver.transaction()

    def run(self, fn: Unit[P, R], *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        """Run ``async def fn(tx, ...)`` as one transaction → what it returns.

        The function awaits operations of ``tx`` and nothing else. An error rolls everything back,
        and so does an operation that was not awaited. It may run on another thread.
        """
        return self._driver.run(unit(fn, args, kwargs, self._tx))

    def read(self, fn: Unit[P, R], *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        """As ``run``, for a function that only reads: it sees one committed state from its first
        operation to its last, waits for no writer, and no writer waits for it."""
        return self._driver.run(unit(fn, args, kwargs, self._tx, "read"))

    def snapshot(self) -> Snapshot:
        """``with db.snapshot() as then:`` and ``then[wells].all()``: what is read in the block is
        one committed state, whoever writes meanwhile. Blocking only: use ``read`` on an event loop.
        """
        return Snapshot(self._driver.snapshot(), self._tables)

    def _tx(self, runner: Any) -> Tx:
        return Tx(runner, self._tables)

    # -- replication

    @property
    def optimistic(self) -> AsyncOptimistic:
        """Changes that are shown at once, and committed or rolled back later."""
        return self._optimistic

    def badges(self, *collections: Collection[Any] | str) -> AsyncBadges:
        """Follow how the documents of these collections (none named: of all that may sync) stand
        with the server; close it."""
        named = [table_of(self._tables, one) for one in collections]
        every = [
            table
            for table in self._tables.values()
            if not table.system and table.collection.sync is not None
        ]
        return AsyncBadges(self._driver, named or every)

    def _tell(self, event: Event) -> None:
        for handle in self._syncs:
            handle._tell(event)

    def sync(
        self,
        url: str | Backend,
        *,
        token: Token = None,
        collections: Iterable[Collection[Any] | str] | None = None,
        max_queue: int = 100_000,
        live: bool = True,
        poll_s: float = 30.0,
        on_reset: OnReset = "recover",
        verify_s: float | None = 86_400.0,
    ) -> AsyncSync:
        """Replicate with a server → the handle; call its ``start()``.

        Args:
            url: address of the server; or a back end (``homeport.backends``), such as a shared
                folder.
            token: text, or a function that returns one (it may be a coroutine function), or None
                while there is none. A back end takes none.
            collections: which ones; None = all that are not declared with ``sync=False``.
            max_queue: so many changes may wait for the server; then writes raise ``QueueFull``.
            live: keep a connection open for hints that something is new.
            poll_s: without a hint, look so often.
            on_reset: what to do when the server does not know where this file stands (restored from
                a backup, history pruned, the file copied): ``"recover"`` merges the queue, and what
                the server lost, onto fresh data; ``"recover-else-export"`` also puts what cannot be
                applied into a file beside the database; ``"discard"`` puts the queue there and
                takes the server's state; ``"manual"`` waits for ``recover()``.
            verify_s: so often the file is compared with the server, while ``start()`` runs; None =
                never.

        Raises:
            MissingDependency: a server is asked by the package of ``homeport[sync]``.
        """
        if self._by_itself:
            raise UsageError(
                "A database that was opened without declarations does not sync: how conflicts are "
                "settled is known to its program.",
                action="Open it with collections=[...].",
            )
        reason = getattr(self._driver.engine.store, "no_sync", None)
        if reason is not None:
            raise CannotSync(reason)
        from homeport.replication import AsyncSync  # noqa: PLC0415 - loads asyncio

        handle = AsyncSync(
            self,
            url,
            token=token,
            collections=collections,
            max_queue=max_queue,
            live=live,
            poll_s=poll_s,
            on_reset=on_reset,
            verify_s=verify_s,
        )
        self._syncs.append(handle)
        return handle

    # -- indexes

    async def create_index(
        self,
        collection: Collection[Any] | str,
        index: IndexForm,
        *,
        progress: Callable[[IndexProgress], object] | None = None,
    ) -> Index:
        """Make an index that is not declared, while everybody reads and writes → the index.

        It is built in steps of about 20 ms, between which other threads and processes write; all
        of them keep it right from its first moment, and queries use it once it is complete.
        Interrupted, even by a kill, the same call goes on with it. It stays in the file until
        ``drop_index``.

        Args:
            index: as in ``indexes=[...]``.
            progress: called after each step.

        Raises:
            DuplicateValues: it is unique, and documents have the same value; then it is gone again.
            SchemaError: an index that cannot be.
        """
        table = table_of(self._tables, collection)
        return await AsyncIndexBuilder(self._driver, table, progress).create(index)

    async def drop_index(self, collection: Collection[Any] | str, index: IndexForm) -> bool:
        """Take away an index that ``create_index`` made → was there one?

        Raises ``SchemaError`` for a declared one.
        """
        table = table_of(self._tables, collection)
        return await AsyncIndexBuilder(self._driver, table).drop(index)

    async def build_indexes(
        self, *, progress: Callable[[IndexProgress], object] | None = None
    ) -> None:
        """Complete every index that was begun: after ``open(defer_indexes=True)``, or after a
        ``create_index`` that was interrupted. Raises ``DuplicateValues``."""
        for table in self._tables.values():
            await AsyncIndexBuilder(self._driver, table, progress).complete()

    def index_stats(self) -> Awaitable[list[IndexStats]]:
        """Every index: bytes, entries, distinct keys, and how often queries have read it since
        the database was opened here. It reads each index once (a second for ten million entries)
        and holds nobody up."""
        return AsyncIndexCare(self._driver, self._tables.values()).stats()

    def slow_queries(self) -> list[SlowQuery]:
        """Queries of this object that took longer than ``slow_query_ms``, by their shape, the most
        expensive first; values are not kept."""
        return self._driver.engine.store.slow.log.queries()

    def advise(self) -> Awaitable[list[IndexAdvice]]:
        """Indexes that the slow queries would have used, ranked by the time that they would have
        saved; none that exists, and as few as serve all."""
        return AsyncIndexCare(self._driver, self._tables.values()).advise()

    def optimize(self) -> Awaitable[OptimizeReport]:
        """Statistics for the planner, full text merged, free pages given back where the file was
        made for that, the log moved into the file → what was done. In steps of some 20 ms; worth
        it after a load, or once a day."""
        return AsyncIndexCare(self._driver, self._tables.values()).optimize()

    # -- care

    def size(self) -> Awaitable[dict[str, int]]:
        """Bytes of each collection (``wells``), index (``wells.depth_m``) and part of the library's
        own (``_outbox``, ``homeport.changes``, ``homeport.free``, ``homeport.log``); ``total`` is
        their sum: what the files take on the disk. It looks at every page."""
        return AsyncCare(self._driver).sizes()

    def storage_info(self) -> Awaitable[StorageInfo]:
        """Path, engine, versions, what is used, what may be used, and documents and bytes of each
        collection and index."""
        return AsyncCare(self._driver).info(self._tables.values(), self._path)

    def cleanup(self, aggressive: bool = False) -> Awaitable[CleanupReport]:
        """Remove expired documents and old rows of the change log, move the log into the file →
        what that gave.

        aggressive: shorten the change log further, and write the file anew without its free pages;
        writers wait for that. What waits for the server, and documents, are never touched.
        Raises ``TransactionError`` inside a transaction, ``ReadOnly``.
        """
        return AsyncCare(self._driver).cleanup(aggressive=aggressive)

    def verify_text(self) -> Awaitable[list[str]]:
        """Compare the full text of all collections with their documents, word by word → what is
        wrong, in sentences; empty when nothing is. It reads everything; others write meanwhile."""
        return AsyncCare(self._driver).verify_text()

    def rebuild_text(self, *collections: Collection[Any] | str) -> Awaitable[None]:
        """Make the full text of these collections (none named: of all) anew from their documents.

        For a file that ``verify_text`` complains of. In short steps between which others write;
        what is there is searched until the new one is complete. One that was interrupted is gone
        on with when the file is opened, or by another call. Raises ``UnknownCollection``,
        ``ReadOnly``, and ``TransactionError`` inside a transaction.
        """
        named = [table_of(self._tables, one) for one in collections]
        return AsyncCare(self._driver).rebuild_text(named or self._tables.values())

    def checkpoint(self) -> Awaitable[None]:
        """Move the write-ahead log into the file; done by itself on close and when it grows."""
        return self._driver.call(self._driver.engine.store.checkpoint, "checkpoint()")

    def cache_stats(self) -> CacheStats:
        """Hits, misses, evictions and bytes of the result cache (``result_cache_mb`` of ``open``)
        since the database was opened; all 0 without one."""
        stats: CacheStats = getattr(self._driver.engine, "cache_stats", CacheStats)()
        return stats

    def on_commit(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call a function after each commit made through this object → a function that ends that.
        It runs in the committing thread and must only signal, for example set an event. An
        exception that leaves it goes to the log ``homeport``: the write is committed."""
        check_function(callback, "on_commit()")
        return self._driver.engine.on_commit(callback)

    def on_quota(
        self, callback: Callable[[QuotaNotice], object], *, levels: Iterable[float] = LEVELS
    ) -> Callable[[], None]:
        """Call a function when a commit made through this object takes the database past a part of
        ``max_bytes`` → a function that ends that.

        It is called once for each time that a level is passed, in the committing thread, as by
        ``on_commit``: before ``QuotaExceeded`` there is time to make room. Raises ``UsageError``
        without a quota.

        Args:
            levels: parts of the quota, between 0 and 1.
        """
        check_function(callback, "on_quota()")
        used = getattr(self._driver.engine.store, "quota_used", lambda: None)
        return self._driver.engine.on_commit(QuotaWatch(used, callback, levels).look)

    async def close(self) -> None:
        """Stop replication and close the file; silent when it is closed already.

        Raises ``TransactionError`` inside a transaction.
        """
        self._driver.engine.forbid_inside("close()")
        self._optimistic._stop()
        handles, self._syncs = self._syncs, []
        for handle in handles:
            await handle.stop()
        await self._driver.close()

    async def __aenter__(self) -> AsyncDatabase:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path!r}>"
