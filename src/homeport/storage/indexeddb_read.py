"""The reads of the IndexedDB store: by key, by query, counts, the change log."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec

from homeport.core.aggregate import Fold, GroupRow, fold_texts
from homeport.core.evaluate import position_key, sort_key
from homeport.core.keys import Key, encode, encode_key
from homeport.core.models import decode_object
from homeport.core.query import QueryValue
from homeport.core.requests import (
    Aggregate,
    Changes,
    ChangeSet,
    Count,
    Find,
    Get,
    GetMany,
    RowInfo,
)
from homeport.core.textquery import Asked, terms
from homeport.storage.indexeddb_ranges import cover, word_range, words_of
from homeport.storage.indexeddb_route import Leg, Route, order_of, route
from homeport.storage.indexeddb_wire import ask, ask_packed, ask_texts, public_of, to_wire

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.storage.indexeddb import IndexedDBStore

R = TypeVar("R")
Stepped: TypeAlias = Generator[str, str, R]
Entries: TypeAlias = list[tuple[Key, str]]

CHUNK = 1_000
FIRST_ROWS = 64
"""Rows read at once while looking for a few that satisfy what no index decides; doubled as it goes
on."""


class Packed(Find):
    """As ``Find`` for texts → a list of JSON arrays of them, as text or as bytes."""

    __slots__ = ()


class Reads:
    """Answers to the reading requests. now_ms: the stamp of the running write, None = ask."""

    def __init__(self, store: IndexedDBStore) -> None:
        self.store = store
        self.now_ms: int | None = None

    def now_of(self, table: Table[Any]) -> int | None:
        """The clock that hides expired documents; None where none expires."""
        if not table.collection.expiring:
            return None
        return self.store.clock_ms() if self.now_ms is None else self.now_ms

    # -- by key

    def get(self, request: Get) -> Stepped[str | None]:
        _, texts = yield from self._by_key(request.table, [request.key])
        return texts[0] if texts else None

    def get_many(self, request: GetMany) -> Stepped[list[str | None]]:
        if not request.keys:
            return []
        there, texts = yield from self._by_key(request.table, list(request.keys))
        found = iter(texts)
        return [next(found) if one else None for one in there]

    def _by_key(self, table: Table[Any], keys: list[Key]) -> Stepped[tuple[list[int], list[str]]]:
        place = self.store.place(table)
        wires = [to_wire(encode_key(key)) for key in keys]
        command = {"op": "get", "s": place, "k": wires, "now": self.now_of(table)}
        (there,), texts = yield from ask_texts(command)
        return there, texts

    def row(self, table: Table[Any], key: Key | None) -> Stepped[RowInfo | None]:
        wire = to_wire(encode_key(key))
        command = {"op": "row", "s": self.store.place(table), "k": wire, "now": self.now_of(table)}
        (found,), texts = yield from ask_texts(command)
        if found is None:
            return None
        revision, created_ms, modified_ms, expires_ms, token, bucket = found
        return RowInfo(revision, created_ms, modified_ms, expires_ms, token, bucket, texts[0])

    # -- by query

    def find(self, request: Find) -> Stepped[list[Any]]:
        self.store.known(request.table)
        entries = yield from self._entries(request.table, request.query, request.form)
        if request.form == "entries":
            return entries
        if request.form == "keys":
            return [key for key, _ in entries]
        texts = [text for _, text in entries]
        if request.form == "texts":
            return texts
        return ["[" + ",".join(texts[at : at + CHUNK]) + "]" for at in range(0, len(texts), CHUNK)]

    def packed(self, request: Packed) -> Stepped[list[str | bytes]]:
        """In one piece where the engine has the order and decides every condition."""
        table, query = request.table, request.query
        self.store.known(table)
        way = route(query, table.codec)
        whole = query.after is None and not query.offset and query.limit != 0
        if not (way.test is None and way.sorted and way.distinct and whole):
            found: list[str | bytes] = yield from self.find(Find(table, query, "text"))
            return found
        (leg,) = way.legs
        if not leg.ranges:
            return []
        command = {
            "op": "pack",
            "s": self.store.place(table),
            "i": leg.index,
            "r": leg.ranges,
            "d": "prev" if way.down else "next",
            "n": query.limit,
            "now": self.now_of(table),
        }
        return [(yield from ask_packed(command))]

    def count(self, request: Count) -> Stepped[int]:
        table, query = request.table, request.query
        place = self.store.place(table)
        way = route(query, table.codec)
        if way.test is not None or not way.distinct or query.after is not None:
            entries = yield from self._entries(table, query, "keys")
            return len(entries)
        (leg,) = way.legs
        command = {"op": "count", "s": place, "i": leg.index, "r": leg.ranges}
        (total,) = yield from ask({**command, "now": self.now_of(table)})
        rest: int = max(0, total - query.offset)
        return rest if query.limit is None else min(rest, query.limit)

    def aggregate(self, request: Aggregate) -> Stepped[list[GroupRow]]:
        self.store.known(request.table)
        fold = Fold(request.groups, request.measures, request.elements)
        entries = yield from self._entries(request.table, request.query, "texts")
        return fold_texts(fold, (text for _, text in entries))

    def _entries(self, table: Table[Any], query: QueryValue, form: str) -> Stepped[Entries]:
        """(key, text) of what matches, in the order of the query and within its limit. The text is
        empty where only keys are asked for and only they are needed."""
        if query.limit == 0:
            return []
        way = route(query, table.codec)
        end = None if query.limit is None else query.offset + query.limit
        whole = query.after is None or way.placed
        if way.sorted and way.distinct and whole:
            found = yield from self._in_order(table, way, end, keys_only=form == "keys")
            return found[query.offset :]
        return (yield from self._sorted(table, query, way))

    def _in_order(
        self, table: Table[Any], way: Route, end: int | None, *, keys_only: bool
    ) -> Stepped[Entries]:
        (leg,) = way.legs
        if way.test is None:
            form = "k" if keys_only else "e"
            rows, _ = yield from self._scan(table, way, leg.index, leg.ranges, form, end)
            return rows
        if end is None:
            rows, _ = yield from self._scan(table, way, leg.index, leg.ranges, "e", None)
            return [row for row in rows if way.test(decode_object(row[1]))]
        found: Entries = []
        ranges, size = leg.ranges, FIRST_ROWS
        while True:
            rows, last = yield from self._scan(table, way, leg.index, ranges, "e", size)
            found += [row for row in rows if way.test(decode_object(row[1]))]
            if len(found) >= end or len(rows) < size:
                return found[:end]
            number, *position = last
            ranges = [[*ranges[number][:4], position], *ranges[number + 1 :]]
            size *= 2

    def _sorted(self, table: Table[Any], query: QueryValue, way: Route) -> Stepped[Entries]:
        """Read everything that may match, then filter and sort here."""
        rows: Entries = []
        for index, ranges in (yield from self.legs(table, way)):
            more, _ = yield from self._scan(table, way, index, ranges, "e", None)
            rows += more
        if not way.distinct:
            rows = list({encode(key): (key, text) for key, text in rows}.values())
        asked = order_of(query)
        start = None if query.after is None else position_key(asked, _place(query))
        found = []
        for key, text in rows:
            plain = decode_object(text)
            if way.test is not None and not way.test(plain):
                continue
            place = sort_key(asked, plain, key) if asked else ()
            if start is None or start < place:
                found.append((place, key, text))
        if asked:
            found.sort(key=lambda one: one[0])
        stop = None if query.limit is None else query.offset + query.limit
        return [(key, text) for _, key, text in found[query.offset : stop]]

    def legs(self, table: Table[Any], way: Route) -> Stepped[list[tuple[str | None, list[Any]]]]:
        """(index, ranges) of each leg."""
        found: list[tuple[str | None, list[Any]]] = []
        for leg in way.legs:
            ranges = leg.ranges
            if leg.asked is not None and self.store.sealed:
                # The words of sealed documents are stored nowhere: each is read and looked at.
                found.append((None, [[None, None, False, False, None]]))
                continue
            if leg.asked is not None:
                ranges = yield from self._cover(table, leg, leg.asked)
            found.append((leg.index, ranges))
        return found

    def _cover(self, table: Table[Any], leg: Leg, asked: Asked) -> Stepped[list[Any]]:
        """The ranges of the rarest words that lead to everything a text query can find."""
        place = self.store.place(table)
        words = list(dict.fromkeys(word for term in terms(asked) for word in words_of(term)))
        totals = yield from ask(
            *(
                {"op": "count", "s": place, "i": leg.index, "r": [word_range(word)], "now": None}
                for word in words
            )
        )
        _, chosen = cover(asked, dict(zip(words, totals, strict=True)))
        return [word_range(word) for word in dict.fromkeys(chosen)]

    def _scan(
        self,
        table: Table[Any],
        way: Route,
        index: str | None,
        ranges: list[Any],
        form: str,
        rows: int | None,
    ) -> Stepped[tuple[Entries, list[Any]]]:
        """→ entries, and where the last one was: [range, index key, document key]."""
        if not ranges:
            return [], []
        ((keys, last),), texts = yield from ask_texts(
            {
                "op": "scan",
                "s": self.store.place(table),
                "i": index,
                "r": ranges,
                "d": "prev" if way.down else "next",
                "n": rows,
                "f": form,
                "now": self.now_of(table),
            }
        )
        if form == "k":
            return [(public_of(key), "") for key in keys], last
        return [(public_of(key), text) for key, text in zip(keys, texts, strict=True)], last

    # -- the change log

    def changes(self, request: Changes) -> Stepped[ChangeSet]:
        head, keys = yield from self._logged(request)
        now = self.store.clock_ms() if self.now_ms is None else self.now_ms
        next_ms: int | None = None
        for table in request.tables:
            if not table.collection.expiring:
                continue
            ((_, last),) = yield from ask(self._expiries(table, now, None, 1))
            if last is not None and (next_ms is None or last[1] < next_ms):
                next_ms = last[1]
            if keys is None or request.since_ms is None or request.since_ms == now:
                continue  # a range without anything in it is an error there
            if request.since_ms > now:
                keys = None  # the clock was set back: what had expired is there again
                continue
            ((gone, _),) = yield from ask(self._expiries(table, request.since_ms, now, None))
            found = [public_of(key) for key in gone]
            keys.setdefault(table.name, {}).update((encode(key), key) for key in found)
        if keys is None:
            return ChangeSet(head, None, now, next_ms)
        listed = {name: list(found.values()) for name, found in keys.items()}
        return ChangeSet(head, listed, now, next_ms)

    def _expiries(
        self, table: Table[Any], above: int, most: int | None, rows: int | None
    ) -> dict[str, Any]:
        """The keys of the next documents that expire after a moment."""
        return {
            "op": "scan", "s": self.store.place(table), "i": "expires",
            "r": [[above, most, True, False, None]], "d": "next", "n": rows, "f": "k", "now": None,
        }  # fmt: skip

    def _logged(self, request: Changes) -> Stepped[tuple[int, dict[str, dict[Any, Key]] | None]]:
        """The head of the log, and keys by table and storable form; None when it does not say."""
        ((head, _),) = yield from ask({"op": "head"})
        if request.after is None or request.after >= head:
            # A number beyond the head belongs to another database: start again.
            lost = request.after is not None and request.after > head
            return head, None if lost else {}
        (numbers,), bodies = yield from ask_texts({"op": "changes", "after": request.after})
        if not numbers or numbers[0] != request.after + 1:
            return head, None
        names = {table.name for table in request.tables}
        keys: dict[str, dict[Any, Key]] = {}
        for body in bodies:
            for name, changed in msgspec.json.decode(body).items():
                if name not in names:
                    continue
                if changed is None:
                    return head, None
                keys.setdefault(name, {}).update({encode(key): key for key in changed})
        return head, keys


def _place(query: QueryValue) -> tuple[Any, ...]:
    assert query.after is not None
    return query.after if query.order else (query.after[-1], query.after[-1])
