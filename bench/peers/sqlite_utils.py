"""sqlite-utils: tables made from dicts, as its Python documentation shows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlite_utils import Database
from sqlite_utils.db import NotFoundError

from bench.peers.base import Document, Peer
from bench.peers.sqlite_stdlib import NO_NOTICE, pragmas


class SqliteUtils(Peer):
    name = "sqlite-utils"
    title = "sqlite-utils"
    package = "sqlite-utils"
    durabilities = {"full": "WAL, synchronous=FULL", "relaxed": "WAL, synchronous=NORMAL"}
    unable = {"notify": NO_NOTICE}
    how = {"get": "lists stay JSON text"}

    def __init__(self, folder: Path, durability: str) -> None:
        self._db = Database(str(folder / "cities.db"))
        for statement in pragmas(durability):
            self._db.conn.execute(statement)
        self._cities = self._db.table("cities")
        self._notes = self._db.table("notes")

    @classmethod
    def plain(cls, result: Any) -> Document:
        document = dict(result)
        if "tags" in document:
            document["tags"] = json.loads(document["tags"])
            document["capital"] = bool(document["capital"])
        document.pop("rowid", None)
        return document

    def get(self, key: str) -> Any:
        try:
            return self._cities.get(key)
        except NotFoundError:
            return None

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        marks = ",".join("?" * len(keys))
        found = {city["id"]: city for city in self._cities.rows_where(f"id in ({marks})", keys)}
        return [found.get(key) for key in keys]

    def equal(self, name: str) -> list[Any]:
        return list(self._cities.rows_where("name = ?", [name]))

    def between(self, bounds: tuple[int, int]) -> list[Any]:
        return list(self._cities.rows_where("pop between ? and ?", bounds))

    def compound(self, area: tuple[str, str]) -> list[Any]:
        return list(self._cities.rows_where("country = ? and admin1 = ?", area))

    def ordered(self, above: int) -> list[Any]:
        return list(self._cities.rows_where("pop > ?", [above], order_by="pop", limit=50))

    def count(self, bounds: tuple[int, int]) -> int:
        return self._cities.count_where("pop between ? and ?", bounds)

    def iterate(self, _: object) -> int:
        return sum(city["pop"] for city in self._cities.rows)

    def text(self, word: str) -> list[Any]:
        return list(self._notes.search(word))

    def search(self, word: str) -> list[Any]:
        return list(self._notes.search(word, limit=20))

    def put(self, city: Document) -> None:
        self._cities.upsert(city, pk="id")

    def put_many(self, cities: Sequence[Document]) -> None:
        self._cities.upsert_all(cities, pk="id")

    def patch(self, change: tuple[str, int]) -> None:
        self._cities.update(change[0], {"pop": change[1]})

    def delete(self, key: str) -> None:
        self._cities.delete(key)

    def load(self, documents: Iterable[Document]) -> None:
        self._cities.insert_all(documents, pk="id", batch_size=1000)
        self._cities.create_index(["pop"])
        self._cities.create_index(["country", "admin1"])
        self._cities.create_index(["name"])

    def load_texts(self, documents: Iterable[Document]) -> None:
        self._notes.insert_all(documents, pk="id", batch_size=1000)
        self._notes.enable_fts(["text"])

    def close(self) -> None:
        self._db.close()
