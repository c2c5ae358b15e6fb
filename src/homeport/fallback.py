"""Opening a database of the browser's: in IndexedDB; where the browser refuses that, in
localStorage or memory; and the way back."""

from __future__ import annotations

import logging
import warnings
from asyncio import sleep
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from homeport.core.codec import Table
from homeport.core.fallbacks import Fallback, MovedUp, Replaced
from homeport.core.keys import Key, decode
from homeport.core.requests import GetMany, Operation
from homeport.drivers.engine import Engine
from homeport.errors import (
    BulkError,
    Busy,
    HomeportError,
    StorageError,
    StorageFallbackWarning,
    StorageRefused,
)
from homeport.making import clock_ms, engine_over, indexeddb_driver
from homeport.options import Options
from homeport.storage import localstorage
from homeport.storage.keeper import Forgetful, Keeper
from homeport.storage.localstorage import LocalStorage
from homeport.storage.simple import SimpleStore
from homeport.storage.simple_items import DOCS, doc_name

if TYPE_CHECKING:
    from homeport.database import AsyncDatabase
    from homeport.drivers.browser import BrowserDriver

Tables: TypeAlias = Mapping[str, Table[Any]]

KIND = "fallback"
"""What stands in for IndexedDB is kept apart from databases that were asked to be simple."""

PASSING = "UnknownError"
"""What browsers say of their own faults: a process of theirs that is being started again, a file
that a scanner of viruses holds."""
PASSING_S = (0.1, 0.6)
"""Pauses before the next attempt."""

CHUNK_ROWS = 200
PATIENCE_S = 1.0


async def open_in_browser(name: str, tables: Tables, options: Options) -> BrowserDriver | Engine:
    """→ what runs operations: IndexedDB's driver, or the engine of a simple store."""
    if options.storage == "simple":
        return await _in_localstorage(name, tables, options, "simple", None)
    try:
        driver = await _in_indexeddb(name, tables, options)
    except StorageRefused as error:
        return await _elsewhere(name, tables, options, error)
    if not options.readonly and localstorage.there_is(KIND, name):
        try:
            moved = await _move_up(name, driver, tables, options)
            if moved is not None:
                _announce(moved, options)
        except BaseException:
            await driver.close()
            raise
    return driver


async def _in_indexeddb(name: str, tables: Tables, options: Options) -> BrowserDriver:
    """Open it there; what may pass is tried again before anybody's data goes elsewhere."""
    for pause_s in PASSING_S:
        try:
            return await indexeddb_driver(name, tables, options)
        except StorageRefused as error:
            if error.context.get("reason") != PASSING:
                raise
        await sleep(pause_s)
    return await indexeddb_driver(name, tables, options)


async def _in_localstorage(
    name: str, tables: Tables, options: Options, kind: str, reason: str | None
) -> Engine:
    keeper = await LocalStorage.open(
        kind, name, timeout_s=options.busy_timeout_s, shared=options.readonly
    )
    return _over(keeper, name, tables, options, reason)


def _over(
    keeper: Keeper, name: str, tables: Tables, options: Options, reason: str | None
) -> Engine:
    try:
        store = SimpleStore(
            keeper,
            name,
            clock_ms=clock_ms,
            max_bytes=options.max_bytes,
            readonly=options.readonly,
            fallback=reason,
        )
    except BaseException:
        keeper.close()
        raise
    return engine_over(store, tables, options, name)


async def _elsewhere(
    name: str, tables: Tables, options: Options, refused: StorageRefused
) -> Engine:
    """The next best place that is allowed and can be had; raises ``refused`` when there is none."""
    reason, error = refused.message, refused
    for step in options.steps:
        if step == "memory":
            engine = _over(Forgetful(), name, tables, options, reason)
        elif options.key is not None:
            continue  # what was to be encrypted is not written in the clear
        else:
            try:
                engine = await _in_localstorage(name, tables, options, KIND, reason)
            except StorageRefused as also:
                error = also
                continue
        try:
            _announce(Fallback(name, step, error), options)
        except BaseException:
            engine.close()
            raise
        return engine
    raise error


def _announce(told: Fallback | MovedUp, options: Options) -> None:
    """Tell the program's function, or warn."""
    if options.on_fallback is None:
        warnings.warn(str(told), StorageFallbackWarning, stacklevel=2)
        return
    try:
        options.on_fallback(told)
    except Exception:
        # The database is open: an error here must not look like one of the opening.
        log = logging.getLogger("homeport")
        log.exception("A function given as on_fallback= failed: %r", options.on_fallback)


async def _move_up(
    name: str, driver: BrowserDriver, tables: Tables, options: Options
) -> MovedUp | None:
    """Move what was written meanwhile; None when there was nothing, or a tab still works there."""
    from homeport.database import AsyncDatabase  # noqa: PLC0415 - a ring of imports otherwise

    try:
        keeper = await LocalStorage.open(KIND, name, timeout_s=PATIENCE_S)
    except (Busy, StorageRefused):
        return None
    try:
        # Documents of older versions are brought up to date in memory, whatever room there is.
        meant = {
            table.name: table if table.system else Table(table.collection)
            for table in tables.values()
        }
        for table in meant.values():
            if not table.system:
                table.siblings = meant
        kept = SimpleStore(Forgetful(keeper.load()), name, clock_ms=clock_ms, fallback="moving")
        engine = engine_over(kept, meant, options, name)
        try:
            move = _Move(AsyncDatabase(driver, tables, name), driver, keeper, kept)
            for table in tables.values():
                if not table.system:
                    await move.collection(table)
        finally:
            engine.close()
        if not move.failures and not kept.undeclared:
            localstorage.discard(KIND, name)
        return move.report(name)
    finally:
        keeper.close()


class _Move:
    """Documents from localStorage to IndexedDB, some at a time: written first, then removed here,
    so that what is killed in between is repeated and finds itself there."""

    def __init__(
        self, db: AsyncDatabase, driver: BrowserDriver, keeper: Keeper, kept: SimpleStore
    ) -> None:
        self._db = db
        self._driver = driver
        self._keeper = keeper
        self._kept = kept
        self._documents = 0
        self._deleted = 0
        self._replaced: list[Replaced] = []
        self.failures: dict[tuple[str, Any], HomeportError] = {}

    def report(self, name: str) -> MovedUp | None:
        if not self._documents and not self._deleted and not self.failures:
            return None
        return MovedUp(
            name, self._documents, self._deleted, tuple(self._replaced), dict(self.failures)
        )

    async def collection(self, table: Table[Any]) -> None:
        now = clock_ms()
        rows = [
            (doc_name(table.name, encoded), decode(encoded), row.row[1])
            for encoded, row in self._kept.rows[table.name].items()
            if row.info.expires_ms is None or row.info.expires_ms > now
        ]
        for chunk in _chunks(rows):
            await self._put(table, chunk)
        for gone in _chunks(self._kept.gone.get(table.name, [])):
            await self._delete(table, gone)

    async def _there(self, table: Table[Any], keys: Sequence[Key]) -> list[str | None]:
        wanted: Operation[list[str | None]] = Operation(
            GetMany(table, keys), "read", True, (table,)
        )
        return await self._driver.run(wanted)

    async def _put(self, table: Table[Any], rows: Sequence[tuple[str, Key, str]]) -> None:
        olds = await self._there(table, [key for _, key, _ in rows])
        news: list[tuple[str, Key, str | None, Any]] = []
        done: dict[str, None] = {}
        for (item, key, text), old in zip(rows, olds, strict=True):
            if old == text:
                done[item] = None
                continue
            try:
                news.append((item, key, old, table.codec.decode(text)))
            except HomeportError as error:
                self.failures[table.name, key] = error
        failed: Mapping[int, HomeportError] = {}
        if news:
            try:
                await self._db[table.name].put_many([document for *_, document in news])
            except BulkError as error:
                failed = error.failures
            except StorageError as error:
                failed = dict.fromkeys(range(len(news)), error)
        for n, (item, key, old, _) in enumerate(news):
            if n in failed:
                self.failures[table.name, key] = failed[n]
                continue
            done[item] = None
            self._documents += 1
            if old is not None:
                self._replaced.append(Replaced(table.name, key, msgspec.json.decode(old)))
        self._keeper.write(done)

    async def _delete(self, table: Table[Any], gone: Sequence[str]) -> None:
        keys = [msgspec.json.decode(key) for key in gone]
        olds = await self._there(table, keys)
        there = [key for key, old in zip(keys, olds, strict=True) if old is not None]
        if there:
            try:
                self._deleted += await self._db[table.name].delete_many(there)
            except StorageError as error:
                self.failures.update({(table.name, key): error for key in keys})
                return
        self._keeper.write({f"{DOCS}{table.name}/{key}": None for key in gone})


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), CHUNK_ROWS):
        yield items[start : start + CHUNK_ROWS]
