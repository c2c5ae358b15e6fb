"""The sqlite3 module of the standard library, by hand: the same table, columns and indexes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.peers import sql
from bench.peers.base import CACHE_MB, Document, Peer, batches

NO_NOTICE = "tells nobody about changes"


def pragmas(durability: str) -> list[str]:
    """WAL and its level; the checkpoint interval stays SQLite's own, as everybody leaves it."""
    return [
        "pragma journal_mode = wal",
        f"pragma synchronous = {'full' if durability == 'full' else 'normal'}",
        f"pragma cache_size = {-1024 * CACHE_MB}",
    ]


def row(city: Document) -> tuple[Any, ...]:
    return (
        city["id"],
        city["pop"],
        city["country"],
        city["admin1"],
        city["name"],
        json.dumps(city, ensure_ascii=False, separators=(",", ":")),
    )


class SqliteStdlib(Peer):
    name = "sqlite3"
    title = "sqlite3 by hand"
    durabilities = {"full": "WAL, synchronous=FULL", "relaxed": "WAL, synchronous=NORMAL"}
    unable = {"notify": NO_NOTICE}

    @classmethod
    def version(cls) -> str:
        return sqlite3.sqlite_version

    def __init__(self, folder: Path, durability: str) -> None:
        self._db = db = sqlite3.connect(folder / "cities.db")
        for statement in pragmas(durability):
            db.execute(statement)
        db.execute(sql.TABLE)
        self._create_indexes()

    def _create_indexes(self) -> None:
        for name, columns in sql.INDEXES.items():
            self._db.execute(f"create index if not exists {name} on {columns}")

    def get(self, key: str) -> Any:
        found = self._db.execute(sql.GET, (key,)).fetchone()
        return None if found is None else json.loads(found[0])

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        found = self._db.execute(sql.GET_MANY, (json.dumps(keys),))
        return [None if text is None else json.loads(text) for (text,) in found]

    def _documents(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        return [json.loads(text) for (text,) in self._db.execute(statement, values)]

    def equal(self, name: str) -> list[Any]:
        return self._documents(sql.EQUAL, (name,))

    def between(self, bounds: tuple[int, int]) -> list[Any]:
        return self._documents(sql.BETWEEN, bounds)

    def compound(self, area: tuple[str, str]) -> list[Any]:
        return self._documents(sql.COMPOUND, area)

    def ordered(self, above: int) -> list[Any]:
        return self._documents(sql.ORDER, (above,))

    def count(self, bounds: tuple[int, int]) -> int:
        return self._db.execute(sql.COUNT, bounds).fetchone()[0]

    def iterate(self, _: object) -> int:
        return sum(json.loads(text)["pop"] for (text,) in self._db.execute(sql.ALL))

    def text(self, word: str) -> list[Any]:
        return [{"id": key, "text": text} for key, text in self._db.execute(sql.TEXT, (word,))]

    def search(self, word: str) -> list[Any]:
        return [{"id": key, "text": text} for key, text in self._db.execute(sql.SEARCH, (word,))]

    def put(self, city: Document) -> None:
        with self._db:
            self._db.execute(sql.PUT, row(city))

    def put_many(self, cities: Sequence[Document]) -> None:
        with self._db:
            self._db.executemany(sql.PUT, map(row, cities))

    def patch(self, change: tuple[str, int]) -> None:
        with self._db:
            self._db.execute(sql.PATCH, (change[1], change[0]))

    def delete(self, key: str) -> None:
        with self._db:
            self._db.execute(sql.DELETE, (key,))

    def load(self, documents: Iterable[Document]) -> None:
        for name in sql.INDEXES:
            self._db.execute(f"drop index if exists {name}")
        with self._db:
            self._db.executemany(sql.PUT, map(row, documents))
        self._create_indexes()

    def load_texts(self, documents: Iterable[Document]) -> None:
        for statement in sql.TEXT_SCHEMA:
            self._db.execute(statement)
        for batch in batches(documents):
            with self._db:
                self._db.executemany(
                    sql.PUT_TEXT, [(note["id"], note["text"]) for note in batch]
                )

    def close(self) -> None:
        self._db.close()
