"""The result cache: documents by key and answers of queries, each with what is needed to know
whether it still holds. Pure bookkeeping; ``drivers.cache`` reads and locks.

The cache as a whole stands at one committed state: ``seen``, the stamp of the store, and ``head``,
the number of the last change. While the store has that stamp, every entry is the present answer.
When it has not, the change rows since ``head`` say what to drop: documents by their keys; answers
of queries when one of the changed documents was in them or now matches. Commits that left no change
row (another program, a collection without change tracking, settings) are noticed by counting them
against the rows, and empty the cache.

Over its size it forgets what was not used since the last round: the "second chance" form of least
recently used, which makes a hit as cheap as setting a flag.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

import msgspec

from homeport.core.evaluate import compile_condition
from homeport.core.keys import Encoded, Key, encode
from homeport.core.models import decode_object
from homeport.core.requests import ChangeSet
from homeport.core.sharing import Make, Sharing, size_of
from homeport.core.textrequests import Found

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.query import QueryValue
    from homeport.core.stores import Logged

OVERHEAD_BYTES: Final = 400
"""An entry itself, its key, and its places in the books."""

LARGEST_SHARE: Final = 8
"""An answer that would take more than this part of the cache is not kept."""

CHECKED_KEYS: Final = 32
"""An answer is compared with at most so many changed documents, then dropped instead."""

_ROW_BYTES: Final = 57
"""A text of a row has so many bytes beside its characters."""


class CacheStats(msgspec.Struct, frozen=True):
    """What ``db.cache_stats()`` says, since the database was opened here.

    hits, misses: reads that were answered from the cache, and reads that could have been.
    evictions: entries that made room for others. invalidations: entries dropped because of a write.
    entries, bytes: what is kept now, the bytes about. max_bytes: the limit; 0 = there is no cache.
    """

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    invalidations: int = 0
    entries: int = 0
    bytes: int = 0
    max_bytes: int = 0


class Entry:
    """make: gives the document (or list of documents) to a reader; None: there is none, or the
    answer has to be finished by whoever asks. ready: make is the cheapest there is. from_ms,
    until_ms: of a collection whose documents expire, the time for which it holds."""

    __slots__ = ("alive", "from_ms", "key", "make", "ready", "room", "size", "until_ms", "used")

    def __init__(self, room: Room, key: Any, make: Make | None, size: int) -> None:
        self.room = room
        self.key = key
        self.make = make
        self.size = size
        self.from_ms: int | None = None
        self.until_ms: int | None = None
        self.ready = False
        self.alive = True
        self.used = False


class Answer(Entry):
    """Of a query. raw: what the store answered; head: the state for which it is known to hold."""

    __slots__ = ("_names", "head", "query", "raw", "table")

    def __init__(
        self, room: Room, key: Any, table: Table[Any], query: QueryValue, raw: Any, size: int
    ) -> None:
        super().__init__(room, key, None, size)
        self.table = table
        self.query = query
        self.raw = raw
        self.head = 0
        self._names: set[Encoded | None] | None = None

    @property
    def names(self) -> set[Encoded | None] | None:
        """The keys of the documents in it; None when it does not tell them."""
        if self._names is None:
            if type(self.key[1]) is not str or type(self.raw) is not list or self.query.offset:
                # A number, groups, hits (every document has its part in the scores), or an answer
                # that depends on documents in front of it.
                return None
            self._names = set(_keys_of(self.raw, self.key, self.table.codec.key))
        return self._names


class Room:
    """The entries of one collection."""

    __slots__ = ("answers", "changed", "documents", "sharing", "table")

    def __init__(self, table: Table[Any]) -> None:
        self.table = table
        self.sharing = Sharing(table.collection.model)
        self.documents: dict[str, Entry] = {}
        self.answers: dict[Any, Answer] = {}
        self.changed: deque[tuple[int, list[Key]]] = deque()
        """What changed, for answers that were not asked for since: (head, keys)."""


class ResultCache:
    """See above. Not thread safe: its owner's lock is."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.rooms: dict[str, Room] = {}
        self.seen: Any = None
        self.head = -1
        self.hits = self.misses = self.evictions = self.invalidations = 0
        self._bytes = 0
        self._count = 0
        self._clock: deque[Entry] = deque()

    def room(self, table: Table[Any]) -> Room:
        room = self.rooms.get(table.name)
        if room is None:
            room = self.rooms[table.name] = Room(table)
        return room

    def stats(self) -> CacheStats:
        return CacheStats(
            self.hits, self.misses, self.evictions, self.invalidations, self._count, self._bytes,
            self.max_bytes,
        )  # fmt: skip

    # -- keeping

    def keep_document(self, room: Room, key: str, text: str | None) -> Entry | None:
        """Keep what ``get`` of this key found → its entry."""
        decode = room.table.codec.decode
        make: Make | None = None if text is None else lambda: decode(text)
        size = OVERHEAD_BYTES + (0 if text is None else len(text) + _ROW_BYTES)
        if size * LARGEST_SHARE > self.max_bytes:
            return None
        old = room.documents.get(key)
        if old is not None:
            self.forget(old)
        entry = Entry(room, key, make, size)
        entry.ready = text is None
        room.documents[key] = entry
        self._keep(entry)
        return entry

    def keep_answer(self, room: Room, key: Any, query: QueryValue, raw: Any) -> Answer | None:
        """Keep what the store answered to a query → its entry."""
        more = _size_of_raw(raw)
        if more is None:
            return None
        size = 2 * OVERHEAD_BYTES + more
        if size * LARGEST_SHARE > self.max_bytes:
            return None
        old = room.answers.get(key)
        if old is not None:
            self.forget(old)
        entry = Answer(room, key, room.table, query, raw, size)
        entry.head = self.head
        room.answers[key] = entry
        self._keep(entry)
        return entry

    def prepare(self, entry: Entry, made: Any, make: Make | None) -> None:
        """Keep a decoded form beside what is there: ``make`` copies ``made``."""
        if not entry.alive or entry.ready:
            return
        entry.ready = True
        if make is None:
            return
        entry.make = make
        more = size_of(made) if type(made) is not list else _size_of_list(made)
        entry.size += more
        self._bytes += more
        self._shrink()

    def _keep(self, entry: Entry) -> None:
        self._bytes += entry.size
        self._count += 1
        self._clock.append(entry)
        if len(self._clock) > 2 * self._count + 64:
            self._clock = deque(one for one in self._clock if one.alive)
        self._shrink()

    def _shrink(self) -> None:
        clock = self._clock
        while self._bytes > self.max_bytes and clock:
            entry = clock.popleft()
            if not entry.alive:
                continue
            if entry.used:
                entry.used = False
                clock.append(entry)
                continue
            self.forget(entry)
            self.evictions += 1

    def forget(self, entry: Entry) -> None:
        if not entry.alive:
            return
        entry.alive = False
        entry.make = None  # what it holds goes now, although the books may name it for a while
        self._bytes -= entry.size
        self._count -= 1
        of: dict[Any, Any] = entry.room.documents
        if isinstance(entry, Answer):
            of = entry.room.answers
            entry.raw = None
        of.pop(entry.key, None)

    def clear(self) -> None:
        for room in self.rooms.values():
            self._forget_all(room)
        self._clock.clear()

    def _forget_all(self, room: Room) -> None:
        for entry in (*room.documents.values(), *room.answers.values()):
            self.invalidations += 1
            self.forget(entry)
        room.changed.clear()

    # -- what is new

    def tables(self) -> list[Table[Any]]:
        """The collections of which something is kept."""
        return [room.table for room in self.rooms.values() if room.documents or room.answers]

    def advance(self, news: ChangeSet, seen: Any, commits: int) -> None:
        """Go on to the state ``seen``. commits: how many there were since the last one."""
        if self.head >= 0 and news.keys is not None and news.head - self.head == commits:
            for name, keys in news.keys.items():
                if keys:
                    self._changed(self.rooms[name], news.head, keys)
        elif self._count:
            self.clear()
        self.head, self.seen = news.head, seen

    def advance_by(self, logged: Logged, seen: Any) -> None:
        """Go on by one change row, which is all that was committed since."""
        head, body = logged
        rooms = self.rooms
        for name, keys in body.items():
            room = rooms.get(name)
            if room is None:
                continue
            if keys is None:
                self._forget_all(room)
            else:
                self._changed(room, head, keys)
        self.head, self.seen = head, seen

    def _changed(self, room: Room, head: int, keys: list[Key]) -> None:
        documents = room.documents
        for key in keys:
            entry = documents.get(key) if type(key) is str else None
            if entry is not None:
                self.invalidations += 1
                self.forget(entry)
        if not room.answers:
            return
        room.changed.append((head, keys))
        # Who was not asked for during so many changes will not be worth a comparison.
        total = sum(len(some) for _, some in room.changed)
        while room.changed and total > 8 * CHECKED_KEYS:
            dropped, some = room.changed.popleft()
            total -= len(some)
            for answer in [one for one in room.answers.values() if one.head < dropped]:
                self.invalidations += 1
                self.forget(answer)

    def unseen(self, answer: Answer) -> list[Key] | None:
        """The documents that changed since an answer was known to hold; None when there are too
        many, or one of them was in it: then it holds no more."""
        keys: list[Key] = []
        for head, changed in reversed(answer.room.changed):
            if head <= answer.head:
                break
            keys += changed
        if not keys:
            return keys
        names = answer.names
        if names is None or len(keys) > CHECKED_KEYS:
            return None
        return None if any(encode(key) in names for key in keys) else keys


def belongs(query: QueryValue, texts: Iterable[str | None]) -> bool:
    """Does one of these documents, which were not in the answer of a query, belong there now? An
    order or a limit may still keep it out; asking again is right then, too."""
    test = None if query.where is None else compile_condition(query.where)
    return any(text is not None and (test is None or test(decode_object(text))) for text in texts)


def _keys_of(raw: list[Any], key: Any, field: str) -> Iterable[Encoded | None]:
    form = key[1]
    if form == "keys":
        return map(encode, raw)
    texts = (
        raw if form == "texts" else (bytes(one).decode() for chunk in raw for one in _raws(chunk))
    )
    return (encode(decode_object(text).get(field)) for text in texts)


_raws: Final[Callable[[str], list[msgspec.Raw]]] = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _size_of_raw(raw: Any) -> int | None:
    """About the bytes of what a store answered; None when it is not to be kept: with an array as a
    key or a value in it, which its receiver could change."""
    if type(raw) is Found:
        if any(type(key) is list for key, _, _ in raw.entries):
            return None
        return sum(len(text) + 2 * _ROW_BYTES for _, text, _ in raw.entries)
    if type(raw) is not list:
        return 0
    size = 0
    for item in raw:
        if type(item) is str:
            size += len(item) + _ROW_BYTES
        elif type(item) is tuple:  # a row of an aggregate
            values = (*item[0], *item[1])
            if any(type(value) in (list, dict) for value in values):
                return None
            size += 3 * _ROW_BYTES + sum(map(getsizeof, values))
        elif type(item) is list:
            return None
        else:
            size += 40
    return size


def _size_of_list(docs: list[Any]) -> int:
    """By a sample: documents of one collection are much alike."""
    sample = docs[:: max(1, len(docs) // 32)]
    return 64 + 8 * len(docs) + len(docs) * sum(map(size_of, sample)) // max(1, len(sample))
