"""An engine with a result cache: reads that were made before are answered without the store.

Never stale: each hit compares the stamp of the store (``CommitStamp``) with that of the state for
which the cache holds, under the lock that guards both. When they differ, what changed is read from
the log, in one read transaction with what is asked. An answer is kept only when the stamp is the
same before and after the read. A thread inside a transaction sees its own writes, so it asks the
store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from homeport.core.operations import getter
from homeport.core.requests import (
    Aggregate,
    Changes,
    ChangeSet,
    Count,
    Find,
    Get,
    GetMany,
    Lookup,
    Operation,
    Plan,
)
from homeport.core.resultcache import (
    Answer,
    CacheStats,
    Entry,
    ResultCache,
    Room,
    belongs,
)
from homeport.core.resultkeys import Asked, key_of
from homeport.core.textrequests import Search
from homeport.drivers.engine import Engine
from homeport.errors import UsageError

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.keys import Key
    from homeport.core.query import QueryValue
    from homeport.core.stores import CommitStamp, Store

R = TypeVar("R")

_ANSWERED = (Count, Aggregate, Search)

KNOWN_QUERIES = 256
_WRAP = 1 << 32

_NEVER_MS = 1 << 62

LARGE_BYTES = 64 * 1024
"""A larger result is made on the worker, not on the event loop."""


class CachingEngine(Engine):
    """``Engine``, with the results of reads kept in memory."""

    def __init__(self, store: Store, *, cache_bytes: int, **options: Any) -> None:
        super().__init__(store, **options)
        stamp = store.stamp()
        if stamp is None:
            raise UsageError(
                "Here a result cache cannot know what other programs commit: the shared memory of "
                "SQLite's log is out of reach.",
                action="Open the database without result_cache_mb.",
            )
        self.cache = ResultCache(cache_bytes)
        self.guard: Any = stamp.lock
        self._stamp: CommitStamp = stamp
        # Of queries that are asked again and again, what they ask as a key: (query, form) by id.
        self._known: dict[tuple[int, str], tuple[QueryValue, Any]] = {}
        self._listeners[self] = self._committed

    def orphan(self) -> object:
        # A thread that is not here may hold the old one for ever.
        self.guard = threading.Lock()
        self.cache.seen = None
        return super().orphan(), self._stamp

    def cache_stats(self) -> CacheStats:
        with self.guard:
            return self.cache.stats()

    # -- asking

    def getter(self, table: Table[Any]) -> Callable[[Any, Any], Any]:
        """For ``operations.getter``: the whole of a hit in one function, because each further call
        would cost as much as what is left of it."""
        if not _cacheable(table) or table.collection.expiring:
            return getter(self, table, own=False)
        with self.guard:
            room = self.cache.room(table)
        cache, documents, read = self.cache, room.documents, self._stamp.read
        run, fetch, decode = self.run, self._fetch, table.codec.decode
        forms = table.codec.keys
        stored = forms.stored

        def get(key: Any, default: Any) -> Any:
            if type(key) not in stored:
                key = forms.into(key)
            if type(key) is str:
                with self.guard:
                    holder = self._holder
                    known = read() == cache.seen and (not holder or holder != get_ident())
                    entry = documents.get(key)
                    if entry is None:
                        cache.misses += known
                    elif known and entry.ready:
                        cache.hits += 1
                        entry.used = True
                        make = entry.make
                        return default if make is None else make()
                if known and entry is None:
                    text = fetch(room, Get(table, key), cache.seen)
                    return default if text is None else decode(text)
            return run(Lookup(Get(table, key), decode=decode, default=default))

        return get

    def run(self, operation: Operation[R]) -> R:
        hit, operation = self.look(operation)
        return super().run(operation) if hit is None else hit.result()

    def _fetch(self, room: Room, request: Get, now: Any) -> str | None:
        """Ask the store for a document in the state ``now``, and keep the answer."""
        text: str | None = super().run(Lookup(request))
        with self.guard:
            if self._stamp.read() == now == self.cache.seen:
                self.cache.keep_document(room, request.key, text)  # type: ignore[arg-type]
        return text

    def look(self, operation: Operation[R]) -> tuple[Hit[R] | None, Operation[R]]:
        """→ what is kept, or None and the operation that gets it from the store and keeps it."""
        plan = operation.plan
        kind = type(plan)
        if kind is Get:
            wanted = type(plan.key) is str  # type: ignore[union-attr]
        elif kind is Find:
            # Entries are steps of an iteration, or the rows of a predicate: not asked twice.
            wanted = plan.form != "entries"  # type: ignore[union-attr]
        else:
            wanted = kind in _ANSWERED
        if not wanted or self.held_here:
            return None, operation
        request: Get | Asked = plan  # type: ignore[assignment]
        if not _cacheable(request.table):
            return None, operation
        key = request.key if isinstance(request, Get) else self._key_of(request)
        if key is None:
            return None, operation
        room = self._room(request.table)
        hit = self._hit(room, key, operation)
        if hit is None:
            operation = self._keeping(operation, request, room, key)
        return hit, operation

    def _room(self, table: Table[Any]) -> Room:
        room = self.cache.rooms.get(table.name)
        if room is None:
            with self.guard:
                room = self.cache.room(table)
        return room

    def _key_of(self, request: Asked) -> Any:
        if not isinstance(request, (Find, Count)):
            return key_of(request)
        query = request.query
        form = request.form if isinstance(request, Find) else "count"
        known = self._known.get((id(query), form))
        if known is not None and known[0] is query:
            return known[1]
        key = key_of(request)
        if len(self._known) >= KNOWN_QUERIES:
            self._known = {}
        self._known[id(query), form] = query, key
        return key

    # -- what is kept

    def _hit(self, room: Room, key: Any, operation: Operation[R]) -> Hit[R] | None:
        cache = self.cache
        entries: dict[Any, Any] = room.documents if type(key) is str else room.answers
        unseen: list[Key] | None = []
        with self.guard:
            entry = entries.get(key)
            now = self._stamp.read()
        if entry is not None and now != cache.seen:
            self._catch_up()
        with self.guard:
            entry = entries.get(key)
            if entry is not None and self._stamp.read() == cache.seen and self._in_time(entry):
                if type(entry) is Answer:
                    unseen = cache.unseen(entry)
                    if unseen is None:
                        cache.invalidations += 1
                        cache.forget(entry)
                        entry = None
                if entry is not None and not unseen:
                    return self._counted(entry, operation)
            else:
                entry = None
            if entry is None:
                cache.misses += 1
                return None
            seen, head = cache.seen, cache.head
        # None of the documents that changed was in the answer; does one of them belong there now?
        texts: list[str | None] = super().run(
            Operation(GetMany(room.table, unseen or ()), "read", single=True)
        )
        out = belongs(entry.query, texts)
        with self.guard:
            if entry.alive and cache.seen == seen and self._stamp.read() == seen:
                if not out:
                    entry.head = head
                    return self._counted(entry, operation)
                cache.invalidations += 1
                cache.forget(entry)
            cache.misses += 1
        return None

    def _counted(self, entry: Entry, operation: Operation[R]) -> Hit[R]:
        self.cache.hits += 1
        entry.used = True
        return Hit(self, operation, entry)

    def _in_time(self, entry: Entry) -> bool:
        if entry.from_ms is None or entry.until_ms is None:
            return True
        return entry.from_ms <= self.store.clock_ms() < entry.until_ms

    def prepared(self, entry: Entry, made: Any, copy: Callable[[], Any] | None) -> None:
        with self.guard:
            self.cache.prepare(entry, made, copy)

    # -- the state

    def _committed(self) -> None:
        """After a commit of ours: if it is the only one since, its change row need not be read."""
        cache, logged = self.cache, self.store.logged
        if logged is None or self.closed:
            return
        with self.guard:
            if cache.head < 0 or logged[0] != cache.head + 1:
                return
            now = self._stamp.read()
            if (self._stamp.commits(now) - self._stamp.commits(cache.seen)) % _WRAP == 1:
                cache.advance_by(logged, now)

    def _catch_up(self) -> Any:
        """Drop what changed since the state for which the cache holds → the stamp of now."""
        return super().run(Operation(self._changes(), "read", single=True))

    def _changes(self) -> Plan[Any]:
        """Brings the cache to the state of this moment → its stamp.

        One request after the other, without a transaction around them: what is kept of them counts
        only if the stamp is the same at the end, and then nothing was committed in between.
        """
        cache = self.cache
        with self.guard:
            now, seen, head = self._stamp.read(), cache.seen, cache.head
            if now == seen:
                return now
            tables = cache.tables()
        news: ChangeSet = yield Changes(head if head >= 0 else None, tables)
        with self.guard:
            if self._stamp.read() == now and cache.seen == seen and cache.head == head:
                commits = (
                    0 if seen is None else self._stamp.commits(now) - self._stamp.commits(seen)
                )
                cache.advance(news, now, commits % _WRAP)
        return now

    def _keeping(
        self, operation: Operation[R], request: Get | Asked, room: Room, key: Any
    ) -> Operation[R]:
        """The operation that asks the store and keeps the answer."""
        plan = self._kept(request, room, key)
        # A search is several statements, for which a transaction has to be open.
        return Operation(
            plan, "read", operation.single, (room.table,), operation.bounded, operation.finished
        )

    def _kept(self, request: Get | Asked, room: Room, key: Any) -> Plan[Any]:
        now = yield from self._changes()
        time: ChangeSet | None = None
        if room.table.collection.expiring:
            time = yield Changes(None, (room.table,))
        raw = yield request
        cache = self.cache
        with self.guard:
            if self._stamp.read() != now or cache.seen != now:
                return raw  # committed meanwhile: before or after the answer, who knows
            entry: Entry | None
            if isinstance(request, Get):
                entry = cache.keep_document(room, key, raw)
            else:
                entry = cache.keep_answer(room, key, request.query, raw)
            if entry is not None and time is not None:
                entry.from_ms = time.at_ms
                entry.until_ms = _NEVER_MS if time.expires_ms is None else time.expires_ms
        return raw.copy() if type(raw) is list else raw


class Hit(Generic[R]):
    """What was found in the cache for an operation; made under the guard."""

    __slots__ = ("_engine", "_entry", "_make", "_operation", "_raw")

    def __init__(self, engine: CachingEngine, operation: Operation[R], entry: Entry) -> None:
        self._engine = engine
        self._operation = operation
        self._entry = entry
        self._make = entry.make
        self._raw = entry.raw if isinstance(entry, Answer) else None

    @property
    def large(self) -> bool:
        """Too much to be decoded or copied on an event loop?"""
        return self._entry.size > LARGE_BYTES

    def result(self) -> R:
        entry, operation, make = self._entry, self._operation, self._make
        sharing = entry.room.sharing
        if not isinstance(entry, Answer):
            if make is None:
                return operation.finished(None)
            made: Any = make()
            return made if entry.ready else self._prepared(made, sharing.copies(made))
        if not operation.documents:
            # What has no finish gives its answer away; the list that is kept stays here.
            raw = self._raw
            return operation.finished(raw.copy() if type(raw) is list else raw)
        if make is not None:
            found: R = make()
            return found
        made = operation.finished(self._raw)
        return made if entry.ready else self._prepared(made, sharing.copies_of_list(made))

    def _prepared(self, made: Any, copy: Callable[[], Any] | None) -> R:
        """The first hit decodes what the later ones copy."""
        self._engine.prepared(self._entry, made, copy)
        found: R = made if copy is None else copy()
        return found


def _cacheable(table: Table[Any]) -> bool:
    return table.collection.track_changes and not table.system
