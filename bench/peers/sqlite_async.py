"""aiosqlite by hand: the same table, columns and indexes, each call on its thread."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import aiosqlite

from bench.peers import sql
from bench.peers.base import Document, Peer, batches
from bench.peers.sqlite_stdlib import NO_NOTICE, pragmas, row


class Aiosqlite(Peer):
    name = "aiosqlite"
    title = "aiosqlite by hand"
    package = "aiosqlite"
    is_async = True
    durabilities = {"full": "WAL, synchronous=FULL", "relaxed": "WAL, synchronous=NORMAL"}
    unable = {"notify": NO_NOTICE}

    def __init__(self, folder: Path, durability: str) -> None:
        self._opening = aiosqlite.connect(folder / "cities.db")
        self._pragmas = pragmas(durability)

    async def start(self) -> None:
        self._db = await self._opening
        for statement in self._pragmas:
            await self._db.execute(statement)
        await self._db.execute(sql.TABLE)
        await self._create_indexes()

    async def _create_indexes(self) -> None:
        for name, columns in sql.INDEXES.items():
            await self._db.execute(f"create index if not exists {name} on {columns}")

    async def get(self, key: str) -> Any:
        # execute_fetchall is one hop to the thread where execute and fetchone are two.
        found = await self._db.execute_fetchall(sql.GET, (key,))
        return json.loads(found[0][0]) if found else None

    async def get_many(self, keys: Sequence[str]) -> list[Any]:
        found = await self._db.execute_fetchall(sql.GET_MANY, (json.dumps(keys),))
        return [None if text is None else json.loads(text) for (text,) in found]

    async def _documents(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        return [json.loads(text) for (text,) in await self._db.execute_fetchall(statement, values)]

    async def equal(self, name: str) -> list[Any]:
        return await self._documents(sql.EQUAL, (name,))

    async def between(self, bounds: tuple[int, int]) -> list[Any]:
        return await self._documents(sql.BETWEEN, bounds)

    async def compound(self, area: tuple[str, str]) -> list[Any]:
        return await self._documents(sql.COMPOUND, area)

    async def ordered(self, above: int) -> list[Any]:
        return await self._documents(sql.ORDER, (above,))

    async def count(self, bounds: tuple[int, int]) -> int:
        return (await self._db.execute_fetchall(sql.COUNT, bounds))[0][0]

    async def iterate(self, _: object) -> int:
        total = 0
        async with self._db.execute(sql.ALL) as cursor:
            async for (text,) in cursor:
                total += json.loads(text)["pop"]
        return total

    async def text(self, word: str) -> list[Any]:
        found = await self._db.execute_fetchall(sql.TEXT, (word,))
        return [{"id": key, "text": text} for key, text in found]

    async def search(self, word: str) -> list[Any]:
        found = await self._db.execute_fetchall(sql.SEARCH, (word,))
        return [{"id": key, "text": text} for key, text in found]

    async def put(self, city: Document) -> None:
        await self._db.execute(sql.PUT, row(city))
        await self._db.commit()

    async def put_many(self, cities: Sequence[Document]) -> None:
        await self._db.executemany(sql.PUT, [row(city) for city in cities])
        await self._db.commit()

    async def patch(self, change: tuple[str, int]) -> None:
        await self._db.execute(sql.PATCH, (change[1], change[0]))
        await self._db.commit()

    async def delete(self, key: str) -> None:
        await self._db.execute(sql.DELETE, (key,))
        await self._db.commit()

    async def load(self, documents: Iterable[Document]) -> None:
        for name in sql.INDEXES:
            await self._db.execute(f"drop index if exists {name}")
        for batch in batches(documents):
            await self._db.executemany(sql.PUT, [row(city) for city in batch])
        await self._db.commit()
        await self._create_indexes()

    async def load_texts(self, documents: Iterable[Document]) -> None:
        for statement in sql.TEXT_SCHEMA:
            await self._db.execute(statement)
        for batch in batches(documents):
            rows = [(note["id"], note["text"]) for note in batch]
            await self._db.executemany(sql.PUT_TEXT, rows)
        await self._db.commit()

    async def close(self) -> None:
        await self._db.close()
