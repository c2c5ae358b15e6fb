"""The IndexedDB store: a browser's own database, through one helper in JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from homeport.core.advisor import SlowQueries
from homeport.core.codec import Table
from homeport.core.loading import META_LOAD
from homeport.core.operations import unfiltered
from homeport.core.requests import Count, Find, GetMany, Operation, Request
from homeport.core.schema import SYSTEM_NAMES
from homeport.core.storageinfo import StoreFacts
from homeport.errors import Closed, SchemaMismatch
from homeport.storage import web_storage
from homeport.storage.declared_indexes import DeclaredIndexes
from homeport.storage.indexeddb_connection import Connection
from homeport.storage.indexeddb_explain import explain
from homeport.storage.indexeddb_kept import at_hand
from homeport.storage.indexeddb_read import Packed
from homeport.storage.indexeddb_schema import (
    CHANGES,
    FLAGS,
    NAMED,
    Layout,
    check,
    place_of,
    read_layout,
)
from homeport.storage.indexeddb_schema import follow as follow_declarations
from homeport.storage.indexeddb_session import IndexedDBSession, Stepped, unknown
from homeport.storage.indexeddb_text import TextCare
from homeport.storage.indexeddb_wire import ask

if TYPE_CHECKING:
    from homeport.core.explanation import Explanation
    from homeport.core.query import QueryValue
    from homeport.storage.secret import DeviceKey, Secret

UPGRADES_TRIED = 5
KEYS_LEAST = 4
"""Fewer documents by key are read faster than it is found out whether they have changed."""

CACHE_BYTES = 32 * 1024 * 1024
CHANGES_LEFT = 100
"""Rows of the change log that an aggressive clean-up leaves."""


class IndexedDBStore(DeclaredIndexes, TextCare, Connection):
    """``core.stores`` on a database of the browser; what takes time is awaited or stepped."""

    multiprocess = True
    no_new_index = (
        "A new index is an upgrade of the whole database, for which every tab must let go of it."
    )

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.tables: dict[str, Table[Any]] = {}
        self.slow = SlowQueries(perf_counter, self.clock_ms)
        self._stamp_ms = 0
        self.noticed: tuple[str | None, str | None] = (None, None)
        """``FLAGS`` as the tables here know them."""

    @classmethod
    async def open(
        cls,
        name: str,
        *,
        clock_ms: Callable[[], int],
        durability: Literal["full", "relaxed"] = "full",
        readonly: bool = False,
        cache_bytes: int = CACHE_BYTES,
        key: Secret | DeviceKey | None = None,
    ) -> IndexedDBStore:
        """Open or create a database. Raises ``CannotOpen``, ``Busy``, ``QuotaExceeded``,
        ``KeyRequired``, ``WrongKey``.

        cache_bytes: for what was read, while nothing has changed it; 0 = keep nothing. key: what is
        stored is encrypted.
        """
        options = {"durability": durability, "readonly": readonly, "cache_bytes": cache_bytes}
        store = cls(name, clock_ms=clock_ms, key=key, **options)
        try:
            await store._connect()
        except BaseException:
            await store.close()
            raise
        return store

    @staticmethod
    async def exists(name: str) -> bool:
        """Has this site a database with this name?"""
        import js  # type: ignore[import-not-found]  # noqa: PLC0415 - of a browser

        return any(found.name == name for found in await js.indexedDB.databases())

    @classmethod
    async def delete(cls, name: str) -> None:
        """Delete a database with everything in it; silent when there is none. ``Busy`` while a tab
        keeps it open."""
        store = cls(name, clock_ms=lambda: 0)
        opening = store._opening(None)
        try:
            store._helper.destroy(opening.id, name)
            await opening.landing
        finally:
            await store.close()

    # -- declarations

    def everything(self) -> list[str]:
        return [NAMED, CHANGES, *map(place_of, self.tables)]

    def reconnected(self) -> None:
        late = [table.name for table in self.tables.values() if not self._fits(table)]
        if late and not self._layouts:
            # An empty one under the same name is not what the program has open.
            raise Closed(
                f"{self.name} and all that was in it was deleted, by the browser or another tab.",
                action="Open it again; it will be empty.",
                path=self.name,
            )
        if late:
            raise SchemaMismatch(
                f"Another tab has changed the declaration of {late[0]} in {self.name}.",
                action="Reload the page, so that all tabs use one declaration.",
                collection=late[0],
            )

    def _fits(self, table: Table[Any]) -> bool:
        stored = self._layouts.get(table.name)
        wanted = Layout.of(table, sealed=self.sealed)
        if stored is None or stored.shape != wanted.shape:
            return False
        version = table.collection.versions.current
        # Who only reads says himself that documents are behind.
        return stored.version == version or (self.readonly and stored.version < version)

    async def define(self, tables: Sequence[Table[Any]]) -> None:
        """Make the database follow the declarations; raises ``SchemaMismatch``.

        A change of indexes is an upgrade: other tabs let go of the database for that moment.
        """
        await self._connected()
        for _ in range(UPGRADES_TRIED):
            for table in tables:
                check(table, self._layouts.get(table.name))
            late = [table for table in tables if not self._fits(table)]
            if not late:
                break
            if self.readonly:
                raise SchemaMismatch(
                    f"{self.name} has no collection {late[0].name} with these indexes, and it is "
                    "open for reading only.",
                    action="Open it once without readonly=True.",
                )
            await self._upgrade(late)
        if not self.readonly and not all(map(self._has_written, tables)):
            await self.perform(self._learn(tables), "write", [NAMED])
        for table in tables:
            self.tables[table.name] = table
        flags, self._flags = self._flags, None
        if flags is None:
            (flags,) = await self.perform(
                ask({"op": "named", "get": FLAGS, "set": []}), "read", [NAMED]
            )
        self.notice(*flags)

    def _has_written(self, table: Table[Any]) -> bool:
        """Is its model known here?"""
        return table.codec.fingerprint in self._layouts[table.name].fingerprints

    async def _upgrade(self, late: Sequence[Table[Any]]) -> None:
        if self._handle is not None:
            self._helper.close(self._handle)
            self._handle = None
        self._flags = self._versions = None
        layouts = dict(self._layouts)
        opening = self._opening(lambda: follow_declarations(late, layouts, self._ring))
        self._helper.open(opening.id, self.name, self._version + 1)
        with suppress(SchemaMismatch):  # another tab may be faster: then look again
            self._version, self._handle = await opening.landing
        if self._handle is None:
            await self._connect()
        self._layouts = await self.perform(read_layout(), "read", [NAMED])

    def versions(self) -> tuple[str | None] | None:
        """What the database said under ``META_VERSIONS`` when it was opened, to be asked for once;
        None: it has to be read."""
        found, self._versions = self._versions, None
        return None if self.sealed else found

    def _learn(self, tables: Sequence[Table[Any]]) -> Stepped[None]:
        """Remember each model that has written here."""
        layouts = yield from read_layout()
        new = False
        for table in tables:
            known = layouts[table.name].fingerprints
            if table.codec.fingerprint not in known:
                known.append(table.codec.fingerprint)
                new = True
        if new:
            text = msgspec.json.encode(layouts).decode()
            yield from ask({"op": "named", "get": [], "set": [["layout", text]]})
        self._layouts = layouts

    def notice(self, epoch: str | None, synced: str | None) -> None:
        """What the database says about its collections."""
        self.noticed = epoch, synced
        names = set(msgspec.json.decode(synced)) if synced else set()
        for table in self.tables.values():
            table.synced = table.name in names
            foreign = self._layouts[table.name].fingerprints != [table.codec.fingerprint]
            table.keep_unknown = table.collection.model is not None and foreign

    def known(self, table: Table[Any]) -> None:
        """Raise ``UnknownCollection`` for a table that was not declared here."""
        if table.name not in self.tables:
            raise unknown(table.name)

    def place(self, table: Table[Any]) -> str:
        """The object store of a table."""
        self.known(table)
        return place_of(table.name)

    def places_of(self, tables: Sequence[Table[Any]], *, writing: bool, log: bool) -> Sequence[str]:
        """The object stores of a transaction over these tables."""
        names = {table.name for table in tables}
        if writing:  # whether it is captured for the server is seen inside
            names |= {name for name in self.tables if name in SYSTEM_NAMES}
        log_places = [NAMED, CHANGES] if writing or log else []
        return [*log_places, *(place_of(name) for name in names if name in self.tables)]

    def keeps(self, request: Request) -> bool:
        """May the answer of this read be kept in memory?"""
        kind = type(request)
        if kind is Find:
            kept = request.form in ("keys", "texts")  # type: ignore[attr-defined]
        elif kind is GetMany:
            kept = len(request.keys) >= KEYS_LEAST  # type: ignore[attr-defined]
        else:
            kept = kind in (Packed, Count)
        return kept and self.kept.cacheable(request.table)  # type: ignore[attr-defined]

    def sure(self, table: Table[Any]) -> bool:
        """Is what is in memory of this table the state of now?"""
        return (
            self._handle is not None
            and self.kept.cacheable(table)
            and self.alone.holds()  # asking it is what makes it look who is there
            and self.kept.head >= 0
        )

    def at_hand(self, request: Request) -> Any:
        """The answer to a read from memory, where that needs no look at the database; else None."""
        return at_hand(self, request)

    def packed(self, operation: Operation[Any]) -> Operation[Any]:
        """The same operation, with the texts of its documents in one piece."""
        plan = operation.plan
        if type(plan) is not Find or not operation.documents:
            return operation
        table = plan.table
        decode = table.codec.decode_list

        def finish(pieces: list[Any]) -> list[Any]:
            if len(pieces) == 1:
                return decode(pieces[0])
            return [document for piece in pieces for document in decode(piece)]

        request = Packed(table, plan.query, "text")
        return Operation(request, "read", True, (table,), operation.bounded, finish, True)

    def next_stamp(self, stored_ms: int) -> int:
        """The clock, never going back within the database."""
        self._stamp_ms = max(self._stamp_ms, stored_ms, self.clock_ms())
        return self._stamp_ms

    # -- use

    def session(self, *, readonly: bool = False) -> IndexedDBSession:  # noqa: ARG002 - one kind only
        return IndexedDBSession(self)

    async def explain(
        self, table: Table[Any], query: QueryValue, *, run: bool = False
    ) -> Explanation:
        """How a query is answered; run: and how long that takes."""
        place = [CHANGES, self.place(table)]
        found: Explanation = await self.perform(explain(self, table, query), "read", place)
        if not run:
            return found
        asked = unfiltered(query) if query.predicates else query
        start = perf_counter()
        rows = await self.perform(
            self.session().answer(Find(table, asked, "entries")), "read", place
        )
        elapsed_ms = (perf_counter() - start) * 1000
        return found.measured(
            rows=len(rows), actual_rows=found.estimated_rows, elapsed_ms=elapsed_ms
        )

    async def facts(self) -> StoreFacts:
        loads = await self.perform(ask({"op": "prefixed", "prefix": META_LOAD}), "read", [NAMED])
        found = [(name, text) for name, text in loads[0]]
        room = await web_storage.room()
        free = max(0, room.quota - room.usage) if room.quota else None
        return StoreFacts(
            "IndexedDB", str(self._version), 1, None, free, found, persistent=room.persisted
        )

    async def prune(self, *, aggressive: bool) -> int:
        """Drop old change rows → how many."""
        if not aggressive:
            return 0  # a commit does that
        return await self.perform(self._prune(), "write", [CHANGES])  # type: ignore[no-any-return]

    def _prune(self) -> Stepped[int]:
        ((head, _),) = yield from ask({"op": "head"})
        (total,) = yield from ask({"op": "prune", "to": head - CHANGES_LEFT})
        return total  # type: ignore[no-any-return]

    async def shrink(self, *, aggressive: bool) -> str | None:  # noqa: ARG002 - the browser does that
        """The browser takes back what was deleted by itself."""
        return None

    async def size(self) -> dict[str, int]:
        """Bytes of the JSON texts: each collection, and ``total``, their sum."""
        names = list(self.tables)
        commands = [{"op": "size", "s": place_of(name)} for name in names]
        sizes = await self.perform(ask(*commands), "read")
        return {"total": sum(sizes), **dict(zip(names, sizes, strict=True))}

    async def my_turn(self, every_s: float) -> bool:
        """Of all tabs that have it open, one at a time removes what has expired."""
        return await web_storage.turn(f"purge/{self.name}", every_s)

    async def purge_expired(self, limit: int = 500) -> int:
        """Remove up to so many expired documents of each collection that is not synced → how
        many."""
        total = 0
        for table in self.tables.values():
            if table.collection.expiring and not table.synced:
                total += await self.perform(self.session().purge(table, limit), "write")
        return total

    async def checkpoint(self) -> None:
        """Nothing to move."""
