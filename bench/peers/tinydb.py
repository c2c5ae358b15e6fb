"""TinyDB: one JSON file, all of it in memory, no indexes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tinydb import TinyDB, where
from tinydb.middlewares import CachingMiddleware
from tinydb.storages import JSONStorage
from tinydb.table import Document as Stored
from tinydb.table import Table

from bench.peers.base import Document, Peer

SCAN = "a scan: there are no indexes"


class ByText(Table):
    """Its documentation's way to keys of one's own."""

    document_id_class = str  # type: ignore[assignment]


class Database(TinyDB):
    table_class = ByText


class Tinydb(Peer):
    name = "tinydb"
    title = "TinyDB"
    package = "tinydb"
    durabilities = {
        "full": "default: every write rewrites and flushes the file",
        "none": "CachingMiddleware: the file is written after 1,000 writes and on close",
    }
    unable = {"notify": "tells nobody about changes", "search_20": "no ranking"}
    how = {op: SCAN for op in ("equal", "range_1000", "compound_eq", "order_limit", "count", "text")}

    def __init__(self, folder: Path, durability: str) -> None:
        storage = JSONStorage if durability == "full" else CachingMiddleware(JSONStorage)
        self._db = Database(str(folder / "cities.json"), storage=storage)
        # Without its cache of queries, which would answer a repeated one without looking.
        self._cities = self._db.table("cities", cache_size=0)
        self._notes = self._db.table("notes", cache_size=0)

    @classmethod
    def plain(cls, result: Any) -> Document:
        return dict(result)

    def get(self, key: str) -> Any:
        return self._cities.get(doc_id=key)  # type: ignore[call-overload]

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        found = {city.doc_id: city for city in self._cities.get(doc_ids=list(keys))}  # type: ignore[call-overload]
        return [found.get(key) for key in keys]

    def equal(self, name: str) -> list[Any]:
        return self._cities.search(where("name") == name)

    def between(self, bounds: tuple[int, int]) -> list[Any]:
        return self._cities.search((where("pop") >= bounds[0]) & (where("pop") <= bounds[1]))

    def compound(self, area: tuple[str, str]) -> list[Any]:
        return self._cities.search((where("country") == area[0]) & (where("admin1") == area[1]))

    def ordered(self, above: int) -> list[Any]:
        found = self._cities.search(where("pop") > above)
        return sorted(found, key=lambda city: city["pop"])[:50]

    def count(self, bounds: tuple[int, int]) -> int:
        return self._cities.count((where("pop") >= bounds[0]) & (where("pop") <= bounds[1]))

    def iterate(self, _: object) -> int:
        return sum(city["pop"] for city in self._cities)

    def text(self, word: str) -> list[Any]:
        return self._notes.search(where("text").search(rf"\b{word}\b"))

    def put(self, city: Document) -> None:
        self._cities.upsert(Stored(city, doc_id=city["id"]))  # type: ignore[arg-type]

    def put_many(self, cities: Sequence[Document]) -> None:
        self._cities.insert_multiple(Stored(city, doc_id=city["id"]) for city in cities)  # type: ignore[arg-type]

    def patch(self, change: tuple[str, int]) -> None:
        self._cities.update({"pop": change[1]}, doc_ids=[change[0]])  # type: ignore[list-item]

    def delete(self, key: str) -> None:
        self._cities.remove(doc_ids=[key])  # type: ignore[list-item]

    def load(self, documents: Iterable[Document]) -> None:
        self._cities.insert_multiple(Stored(city, doc_id=city["id"]) for city in documents)  # type: ignore[arg-type]

    def load_texts(self, documents: Iterable[Document]) -> None:
        self._notes.insert_multiple(Stored(note, doc_id=note["id"]) for note in documents)  # type: ignore[arg-type]

    def close(self) -> None:
        self._db.close()
