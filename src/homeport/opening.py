"""``open`` and ``open_async``: store, engine, driver and facade put together."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from homeport._blocking.database import Database
from homeport.core.arguments import is_unicode
from homeport.core.codec import Table
from homeport.core.fallbacks import Step
from homeport.core.outbox import LOCAL_TABLES, RESOLUTION_LOG
from homeport.core.schema import Collection
from homeport.drivers.engine import Engine
from homeport.drivers.inline import InlineDriver
from homeport.errors import SchemaError, UsageError
from homeport.making import MEMORY, engine_over, make_store
from homeport.options import Durability, OnFallback, Options, Storage
from homeport.storage.secret import any_secret_of

if TYPE_CHECKING:
    from asyncio import Future

    from homeport.core.indexing import IndexProgress
    from homeport.database import AsyncDatabase
    from homeport.storage.secret import DeviceKey

Path: TypeAlias = "str | os.PathLike[str]"

THREADS = sys.platform != "emscripten"
"""Pyodide has neither threads nor files; its databases are those of the browser, by name."""


def open(  # noqa: A001 - hp.open reads as it should
    path: Path,
    *,
    collections: Iterable[Collection[Any]] | None,
    durability: Durability = "full",
    readonly: bool = False,
    busy_timeout_s: float = 5.0,
    cache_mb: int = 32,
    max_bytes: int | None = None,
    key: str | bytes | DeviceKey | None = None,
    long_transaction_s: float | None = 5.0,
    defer_indexes: bool = False,
    index_progress: Callable[[IndexProgress], object] | None = None,
    result_cache_mb: float = 0,
    slow_query_ms: float | None = 100.0,
    storage: Storage = "database",
    fallback: bool | Sequence[Step] = True,
    on_fallback: OnFallback | None = None,
) -> Database:
    """Open a database, creating the file if there is none; a context manager.

    Args:
        path: of the file; ``":memory:"`` for a database that lives in this process only. Under
            Pyodide the name of a database of the browser (IndexedDB); there ``open`` works where
            Python can be suspended, ``open_async`` everywhere.
        collections: their declarations. Indexes are built and dropped to follow them: in steps that
            let other processes write in between, when the collection is large. None: as the file
            was last opened, with plain dicts for documents, for tools that have the file and not
            the program. Such a database does not sync.
        durability: ``full``: what was acknowledged survives a power cut. ``relaxed``: faster; a
            power cut may take the last commits, a crash of the program takes nothing.
        readonly: write nothing; the file must exist.
        busy_timeout_s: how long a write waits for another thread or process, then ``Busy``.
        cache_mb: page cache of each connection; in a browser, memory for what was read of documents
            that nobody has changed since.
        max_bytes: quota of the file (of the JSON texts for ``":memory:"``); a write that would pass
            it raises ``QuotaExceeded``, deletes go on. The log beside the file comes on top, up to
            64 MB. At least 1 MiB; None = no quota but the disk.
        key: the file is encrypted: a passphrase, or 32 bytes. A new file is made so. Without the
            right key nobody can read it. See ``hp.rekey``. In a browser: documents, the queue and
            the change log are encrypted; keys and the values of indexes stay readable. There also
            ``await browser.device_key(name)``.
        long_transaction_s: a transaction that is open for longer while others wait for it is
            logged (``homeport.transactions``) and warned of (``LongTransactionWarning``) with the
            line where it began; None = never.
        defer_indexes: begin new indexes of large collections only, and complete them with
            ``build_indexes``; queries do without them until then.
        index_progress: called after each step of building indexes here.
        result_cache_mb: memory for the results of ``get`` and of queries, which are then answered
            without reading the file as long as nothing was written to them, by whatever process;
            0 = no such cache.
        slow_query_ms: queries that take at least so long are recorded by their shape, for
            ``slow_queries`` and ``advise``; None records none.
        storage: ``simple``: one small JSON file that a person can read, instead of SQLite; in a
            browser localStorage instead of IndexedDB. Every query looks at all of it; it is open
            once at a time (``Busy``) and does not sync (``CannotSync``). For a few thousand
            documents.
        fallback: where to go in a browser that refuses IndexedDB: True = to localStorage, and where
            that is refused too to memory; or those of ``("localStorage", "memory")`` that are
            allowed; False raises ``StorageRefused``. Elsewhere nothing is refused like this.
        on_fallback: called with a ``Fallback``, and with a ``MovedUp`` when IndexedDB is there
            again; without it these are warnings (``StorageFallbackWarning``).

    Raises:
        DuplicateValues: a new unique index met documents with the same value.
        CannotOpen, ReadOnly, Corrupted, FileTooNew, SchemaMismatch, Busy, KeyRequired, WrongKey:
            about the file.
        SchemaError: about the declarations.
    """
    options = Options(
        durability=durability,
        readonly=readonly,
        busy_timeout_s=busy_timeout_s,
        cache_mb=cache_mb,
        max_bytes=max_bytes,
        key=any_secret_of(key),
        long_transaction_s=long_transaction_s,
        defer_indexes=defer_indexes,
        index_progress=index_progress,
        slow_query_ms=slow_query_ms,
        result_cache_mb=result_cache_mb,
        storage=storage,
        fallback=fallback,
        on_fallback=on_fallback,
    )
    make, tables = _plan(path, collections, options)
    file = os.fspath(path)
    if _is_browser(file):
        from homeport.drivers.suspending import SuspendingDriver, wait_for  # noqa: PLC0415
        from homeport.fallback import open_in_browser  # noqa: PLC0415

        found = wait_for(open_in_browser(file, tables, options))
        if isinstance(found, Engine):
            return Database(InlineDriver(found), tables, file)
        return Database(SuspendingDriver(found), tables, file)
    engine, tables = make()
    return Database(InlineDriver(engine), tables, file, by_itself=collections is None)


def open_async(
    path: Path,
    *,
    collections: Iterable[Collection[Any]] | None,
    durability: Durability = "full",
    readonly: bool = False,
    busy_timeout_s: float = 5.0,
    cache_mb: int = 32,
    max_bytes: int | None = None,
    key: str | bytes | DeviceKey | None = None,
    long_transaction_s: float | None = 5.0,
    defer_indexes: bool = False,
    index_progress: Callable[[IndexProgress], object] | None = None,
    result_cache_mb: float = 0,
    slow_query_ms: float | None = 100.0,
    storage: Storage = "database",
    fallback: bool | Sequence[Step] = True,
    on_fallback: OnFallback | None = None,
) -> Opening:
    """As ``open``, for asyncio: ``async with hp.open_async(...) as db`` or
    ``db = await hp.open_async(...)``."""
    options = Options(
        durability=durability,
        readonly=readonly,
        busy_timeout_s=busy_timeout_s,
        cache_mb=cache_mb,
        max_bytes=max_bytes,
        key=any_secret_of(key),
        long_transaction_s=long_transaction_s,
        defer_indexes=defer_indexes,
        index_progress=index_progress,
        slow_query_ms=slow_query_ms,
        result_cache_mb=result_cache_mb,
        storage=storage,
        fallback=fallback,
        on_fallback=on_fallback,
    )
    make, tables = _plan(path, collections, options)
    file = os.fspath(path)
    if not _is_browser(file):
        return Opening(make, file, by_itself=collections is None)

    async def later() -> AsyncDatabase:
        from homeport.database import AsyncDatabase  # noqa: PLC0415
        from homeport.drivers.direct import DirectDriver  # noqa: PLC0415
        from homeport.fallback import open_in_browser  # noqa: PLC0415

        found = await open_in_browser(file, tables, options)
        driver = DirectDriver(found) if isinstance(found, Engine) else found
        return AsyncDatabase(driver, tables, file)

    return Opening(make, file, later)


def _is_browser(path: str) -> bool:
    """Is this the name of a database of the browser's?"""
    return not THREADS and path != MEMORY


class Opening:
    """A database that is being opened: await it, or enter it with ``async with``."""

    def __init__(
        self,
        make: Make,
        path: str,
        later: Callable[[], Coroutine[Any, Any, AsyncDatabase]] | None = None,
        *,
        by_itself: bool = False,
    ) -> None:
        self._make = make
        self._by_itself = by_itself
        self._path = path
        self._later = later
        self._database: AsyncDatabase | None = None

    def __await__(self) -> Generator[Any, None, AsyncDatabase]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncDatabase:
        self._database = await self._open()
        return self._database

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._database is not None:
            await self._database.close()

    async def _open(self) -> AsyncDatabase:
        from homeport.database import AsyncDatabase  # noqa: PLC0415

        if self._later is not None:
            return await self._later()
        if not THREADS:
            from homeport.drivers.direct import DirectDriver  # noqa: PLC0415

            engine, tables = self._make()
            return AsyncDatabase(DirectDriver(engine), tables, self._path)
        import asyncio  # noqa: PLC0415 - blocking programs never load it

        from homeport.drivers.worker import WorkerDriver  # noqa: PLC0415

        made = asyncio.get_running_loop().run_in_executor(None, self._make)
        try:
            engine, tables = await asyncio.shield(made)
        except asyncio.CancelledError:
            # Nobody will have this database: close it when it is there.
            made.add_done_callback(_abandon)
            raise
        driver = WorkerDriver(engine)
        return AsyncDatabase(driver, tables, self._path, by_itself=self._by_itself)


Tables: TypeAlias = dict[str, Table[Any]]
Make: TypeAlias = Callable[[], tuple[Engine, Tables]]


def _abandon(made: Future[tuple[Engine, Tables]]) -> None:
    if not made.cancelled() and made.exception() is None:
        made.result()[0].close()


def _plan(
    path: Path, collections: Iterable[Collection[Any]] | None, options: Options
) -> tuple[Make, Tables]:
    """Check the arguments now → what opens the file, and the tables that were declared."""
    file = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(file, str) or not file or "\x00" in file or not is_unicode(file):
        raise UsageError(
            f"open() takes the path of a file, not {path!r:.80}.",
            action='For example open("field.db", ...), or ":memory:".',
        )
    options.check(browser=_is_browser(file), memory=file == MEMORY)
    simple = options.storage == "simple"
    if collections is None and (file == MEMORY or not THREADS or simple):
        raise UsageError(
            f"There is no file {file!r} that could say its collections.",
            action="Pass collections=[...].",
        )
    declared = None if collections is None else _tables(collections)

    def make() -> tuple[Engine, Tables]:
        store = make_store(file, options)
        store.slow.limit_s = options.slow_s
        try:
            tables = declared or _tables(store.kept())  # type: ignore[attr-defined]
        except BaseException:
            store.close()
            raise
        engine = engine_over(store, tables, options, file, declared=declared is not None)
        return engine, tables

    return make, declared or {}


def _tables(collections: Iterable[Collection[Any]]) -> Tables:
    if isinstance(collections, (Collection, str, Mapping)) or not isinstance(collections, Iterable):
        raise UsageError(
            f"collections= takes a list, not {collections!r:.60}.",
            action="open(path, collections=[wells]).",
        )
    tables: Tables = {}
    for collection in collections:
        if not isinstance(collection, Collection):
            raise UsageError(
                f"collections= takes hp.Collection values, not {collection!r:.60}.",
                action='Declare it: wells = hp.Collection("wells").',
            )
        known = tables.get(collection.name)
        if known is not None and known.collection is not collection:
            raise SchemaError(f"Two declarations are named {collection.name!r}.")
        tables.setdefault(collection.name, Table(collection))
    for table in (*LOCAL_TABLES, Table(RESOLUTION_LOG)):
        tables[table.name] = table
    for table in tables.values():
        table.siblings = tables
    return tables
