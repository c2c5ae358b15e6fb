"""monlite: documents as JSON text in SQLite, Mongo-like queries, no indexes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from monlite import create_db, fts

from bench.peers.base import Document, Peer, batches

SCAN = "a scan: there are no indexes"


def _inside(city: Document) -> Document:
    return {**city, "_id": city["id"]}


class Monlite(Peer):
    name = "monlite"
    title = "monlite"
    package = "monlite"
    durabilities = {"full": "WAL, synchronous=FULL (default, no option)"}
    how = {
        **{op: SCAN for op in ("equal", "range_1000", "compound_eq", "order_limit", "count")},
        "notify": "its change feed, asked after the put; no order is kept",
    }

    def __init__(self, folder: Path, durability: str) -> None:
        self._path = str(folder / "cities.db")
        self._db = create_db(self._path)
        self._cities = self._db.collection("cities")
        self.get = self._cities.find_by_id
        self.close = self._db.close

    @classmethod
    def plain(cls, result: Any) -> Document:
        return {
            name: value
            for name, value in result.items()
            if name not in ("_id", "_score", "created_at", "updated_at")
        }

    @cached_property
    def _words(self) -> Any:
        return fts(self._db, "notes", fields=["text"])

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        found = self._cities.find_many(where={"_id": {"in": list(keys)}})
        by_key = {city["_id"]: city for city in found}
        return [by_key.get(key) for key in keys]

    def equal(self, name: str) -> list[Any]:
        return self._cities.find_many(where={"name": name})

    def between(self, bounds: tuple[int, int]) -> list[Any]:
        return self._cities.find_many(where={"pop": {"gte": bounds[0], "lte": bounds[1]}})

    def compound(self, area: tuple[str, str]) -> list[Any]:
        return self._cities.find_many(where={"country": area[0], "admin1": area[1]})

    def ordered(self, above: int) -> list[Any]:
        where = {"pop": {"gt": above}}
        return self._cities.find_many(where=where, order_by={"pop": "asc"}, take=50)

    def count(self, bounds: tuple[int, int]) -> int:
        return self._cities.count(where={"pop": {"gte": bounds[0], "lte": bounds[1]}})

    def iterate(self, _: object) -> int:
        return sum(city["pop"] for city in self._cities.find_many())

    def text(self, word: str) -> list[Any]:
        return self._words.search(word, limit=1000)

    def search(self, word: str) -> list[Any]:
        return self._words.search(word, limit=20)

    def put(self, city: Document) -> None:
        self._cities.create(_inside(city))

    def put_many(self, cities: Sequence[Document]) -> None:
        self._cities.create_many([_inside(city) for city in cities])

    def patch(self, change: tuple[str, int]) -> None:
        self._cities.update({"_id": change[0]}, {"$set": {"pop": change[1]}})

    def delete(self, key: str) -> None:
        self._cities.delete({"_id": key})

    def load(self, documents: Iterable[Document]) -> None:
        for batch in batches(documents):
            self._cities.create_many([_inside(city) for city in batch])

    def load_texts(self, documents: Iterable[Document]) -> None:
        notes = self._db.collection("notes")
        for batch in batches(documents):
            notes.create_many([_inside(note) for note in batch])
        self._words.reindex()

    def observe(self) -> None:
        self._feed = create_db(self._path, changefeed=True)
        self._fed = self._feed.collection("cities")
        self._seen = self._feed.current_seq()

    def notify(self, document: Document) -> Any:
        self._fed.create(_inside(document))
        changes = self._feed.changes(since=self._seen)
        self._seen = changes[-1]["seq"]
        return self._fed.find_by_id(changes[-1]["doc_id"])
