"""The store and the engine of a path."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from homeport.core.codec import Table
from homeport.core.integrity import suspect
from homeport.core.layers import Open, open_layers
from homeport.core.optimistic import expire
from homeport.core.raising import behind, older_in, raise_all
from homeport.core.requests import Operation
from homeport.core.stores import Store
from homeport.drivers.engine import Engine
from homeport.drivers.forks import close_in_children
from homeport.errors import ReadOnly, UsageError
from homeport.ids import new_id
from homeport.options import Options
from homeport.storage.secret import secret_of

if TYPE_CHECKING:
    from homeport.drivers.browser import BrowserDriver

Tables: TypeAlias = Mapping[str, Table[Any]]

MEMORY: Final = ":memory:"


def make_store(path: str, options: Options) -> Store:
    if path == MEMORY:
        from homeport.storage.memory import MemoryStore  # noqa: PLC0415 - most programs use a file

        return MemoryStore(clock_ms=clock_ms, max_bytes=options.max_bytes)
    if options.storage == "simple":
        return _simple_store(path, options)
    from homeport.storage.sqlite import SQLiteStore  # noqa: PLC0415

    return SQLiteStore.open(
        path,
        durability=options.durability,
        readonly=options.readonly,
        busy_timeout_s=options.busy_timeout_s,
        cache_mb=options.cache_mb,
        clock_ms=clock_ms,
        max_bytes=options.max_bytes,
        key=options.file_key,
    )


def _simple_store(path: str, options: Options) -> Store:
    from homeport.storage.json_file import JsonFile  # noqa: PLC0415 - most programs have none
    from homeport.storage.simple import SimpleStore  # noqa: PLC0415

    durable, wait_s = options.durability == "full", options.busy_timeout_s
    file = JsonFile(path, readonly=options.readonly, durable=durable, busy_timeout_s=wait_s)
    try:
        return SimpleStore(
            file,
            path,
            clock_ms=clock_ms,
            max_bytes=options.max_bytes,
            readonly=options.readonly,
        )
    except BaseException:
        file.close()
        raise


def make_engine(store: Store, cache_bytes: int, **options: Any) -> Engine:
    engine: Engine
    if not cache_bytes:
        engine = Engine(store, new_unit=new_id, **options)
    else:
        from homeport.drivers.cache import CachingEngine  # noqa: PLC0415 - most programs have none

        engine = CachingEngine(store, cache_bytes=cache_bytes, new_unit=new_id, **options)
    if hasattr(store, "keeper"):
        close_in_children(engine)  # the file is the parent's
    return engine


def engine_over(
    store: Store, tables: Tables, options: Options, file: str, *, declared: bool = True
) -> Engine:
    """The engine of a store that is open: follows the declarations (if they are a program's), and
    does what is due. Closes the store if that fails."""
    expiring = any(table.collection.expiring for table in tables.values())
    try:
        store.define(list(tables.values()), build=options.build)
        engine = make_engine(
            store,
            options.cache_bytes,
            busy_timeout_s=options.busy_timeout_s,
            expiring=expiring and not options.readonly,
            long_transaction_s=options.long_transaction_s,
        )
        for table, index, found in store.broken:
            for _, keys in found:
                engine.run(suspect(table.name, index.name, keys))
        if declared:
            _bring_up(engine, tables, file, readonly=options.readonly)
        if expiring:
            engine.call(engine.purge, "open()")
        waiting: Open = engine.run(Operation(open_layers(), "read"))
        if waiting.open and not options.readonly:
            engine.due_ms = engine.run(Operation(expire(tables), "write")).until_ms
    except BaseException:
        store.close()
        raise
    return engine


def _bring_up(engine: Engine, tables: Tables, file: str, *, readonly: bool) -> None:
    if engine.run(Operation(behind(tables), "read")):
        if readonly:
            raise _behind(file)
        engine.run(Operation(raise_all(tables), "write"))


async def indexeddb_driver(name: str, tables: Tables, options: Options) -> BrowserDriver:
    """Open a database in IndexedDB."""
    from homeport.drivers.browser import BrowserDriver  # noqa: PLC0415
    from homeport.storage.indexeddb import IndexedDBStore  # noqa: PLC0415

    readonly = options.readonly
    store = await IndexedDBStore.open(
        name,
        clock_ms=clock_ms,
        durability=options.durability,
        readonly=readonly,
        cache_bytes=options.cache_mb * 1024 * 1024,
        key=options.key,
    )
    store.slow.limit_s = options.slow_s
    expiring = any(table.collection.expiring for table in tables.values())
    try:
        await store.define(list(tables.values()))
        if expiring and not readonly:
            await store.purge_expired()
    except BaseException:
        await store.close()
        raise
    driver = BrowserDriver(store, new_unit=new_id, expiring=expiring and not readonly)
    versions = store.versions()
    if versions is None:
        older: dict[str, int] = await driver.run(Operation(behind(tables), "read"))
    else:
        older = older_in(versions[0], tables)
    if older:
        if readonly:
            await store.close()
            raise _behind(name)
        await driver.run(Operation(raise_all(tables), "write"))
    return driver


def _behind(file: str) -> ReadOnly:
    return ReadOnly(
        f"{file} holds documents of an older version of this program.",
        action="Open it once without readonly=True, so that they are brought up to date.",
    )


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


def rekey(path: str | os.PathLike[str], old: str | bytes | None, new: str | bytes | None) -> None:
    """Change the key of a file that nobody has open: every page is written anew.

    Args:
        path: of the file.
        old: its key; None = it is not encrypted.
        new: the key that it gets (a passphrase, or 32 bytes); None = it is encrypted no more.

    A crash leaves the file whole, under the one key or the other. What the disk keeps of pages that
    were written before is out of reach of any program.

    Raises:
        WrongKey, KeyRequired: ``old`` is not the key; nothing was changed.
        Busy: it is open, here or in another process.
        CannotOpen: there is no such file.
        UsageError: what is given is no key.
    """
    if sys.platform == "emscripten":
        raise UsageError(
            "rekey() is for files.",
            action="In a browser: await browser.rekey(name, old, new).",
        )
    from homeport.storage.sqlite_key import rekey as change  # noqa: PLC0415

    change(os.fspath(path), secret_of(old), secret_of(new))
