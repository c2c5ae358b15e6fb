"""Ranked full text of the IndexedDB store: computed here, from the words of all documents.

They are read once and followed by the change log. Inside a write transaction, and
for documents that expire, they are read for the search itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from homeport.core.evaluate import compile_condition
from homeport.core.keys import Encoded, encode_key, order
from homeport.core.models import decode_object
from homeport.core.requests import Changes, ChangeSet, GetMany
from homeport.core.textrequests import Found, Search, Vocabulary
from homeport.storage.indexeddb_wire import ask_texts, encoded_of, public_of
from homeport.storage.text_words import Words, answer

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.keys import Key
    from homeport.storage.indexeddb_read import Reads, Stepped

KEPT_DOCUMENTS = 20_000
"""The words of a collection with more documents are not kept in memory between two searches."""


class KnownWords:
    """Words and texts of one collection as of a change number."""

    def __init__(self, table: Table[Any], head: int) -> None:
        self.codec = table.codec
        self.head = head
        self.words = Words(table.codec.text_paths)
        self.texts: dict[Encoded, str] = {}

    def follow(self, entries: Iterable[tuple[Key, str | None]]) -> None:
        for key, text in entries:
            name = encode_key(key)
            if text is None:
                self.texts.pop(name, None)
                self.words.drop(name)
            else:
                self.texts[name] = text
                self.words.put(name, self.codec.extras_of_text(text)[1])


class TextCare:
    """The part of a store that cares for full text: the words of a document stand in its own
    record, and an index of words follows the records by itself."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.known_words: dict[str, KnownWords] = {}

    async def verify_text(self) -> list[str]:
        """Nothing can differ."""
        return []

    async def rebuild_text(self, names: Sequence[str]) -> None:
        """Nothing is to be built."""


class Texts:
    """Answers searches of one session."""

    def __init__(self, reads: Reads) -> None:
        self.reads = reads

    def search(self, request: Search, *, writing: bool) -> Stepped[Found]:
        table, where = request.table, request.query.where
        self.reads.store.known(table)
        known = yield from self._read(table, writing=writing)
        alive = yield from self._alive(table)
        test = None if where is None else compile_condition(where)

        def allowed(key: Encoded) -> bool:
            if alive is not None and key not in alive:
                return False
            return test is None or test(decode_object(known.texts[key]))

        def newest() -> Iterable[Encoded]:
            # Keys made by the library sort by time; what was stored when is not known otherwise.
            return sorted(known.texts, key=order, reverse=True)

        return answer(request, known.words, newest, allowed, lambda key: known.texts[key])

    def vocabulary(self, request: Vocabulary, *, writing: bool) -> Stepped[list[tuple[str, int]]]:
        self.reads.store.known(request.table)
        known = yield from self._read(request.table, writing=writing)
        return known.words.vocabulary(request.low, request.high, request.limit)

    def _read(self, table: Table[Any], *, writing: bool) -> Stepped[KnownWords]:
        collection = table.collection
        keeping = not writing and collection.track_changes and not collection.expiring
        known = self.reads.store.known_words.get(table.name) if keeping else None
        if known is not None and known.codec is table.codec:
            news: ChangeSet = yield from self.reads.changes(Changes(known.head, (table,)))
            if news.keys is not None:
                keys = news.keys.get(table.name) or []
                texts = yield from self.reads.get_many(GetMany(table, keys))
                known.follow(zip(keys, texts, strict=True))
                known.head = news.head
                return known
        head: ChangeSet = yield from self.reads.changes(Changes(None, ()))
        known = KnownWords(table, head.head)
        known.follow((yield from self._all(table)))
        if keeping and len(known.texts) <= KEPT_DOCUMENTS:
            self.reads.store.known_words[table.name] = known
        else:
            self.reads.store.known_words.pop(table.name, None)
        return known

    def _all(self, table: Table[Any]) -> Stepped[list[tuple[Key, str | None]]]:
        """Every document; those that have expired count in the statistics until they are gone."""
        ((keys, _),), texts = yield from ask_texts(self._scan(table, "e", None))
        return list(zip(map(public_of, keys), texts, strict=True))

    def _alive(self, table: Table[Any]) -> Stepped[set[Encoded] | None]:
        now = self.reads.now_of(table)
        if now is None:
            return None
        (((keys, _),), _) = yield from ask_texts(self._scan(table, "k", now))
        return {encoded_of(key) for key in keys}

    def _scan(self, table: Table[Any], form: str, now: int | None) -> dict[str, Any]:
        whole = [[None, None, False, False, None]]
        place = self.reads.store.place(table)
        command = {"op": "scan", "s": place, "i": None, "r": whole, "d": "next", "n": None}
        return {**command, "f": form, "now": now}
