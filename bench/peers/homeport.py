"""Our side: the public API, used as the documentation teaches it, plain dicts as documents."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import homeport as hp
from homeport import F

from bench.peers.base import CACHE_MB, Document, Peer

CITIES = hp.Collection("cities", indexes=["pop", ("country", "admin1"), "name"])
NOTES = hp.Collection("notes", indexes=[hp.FullText("text")])
COLLECTIONS = [CITIES, NOTES]


class Homeport(Peer):
    name = "homeport"
    title = "Homeport"
    package = "homeport"
    durabilities = {"full": "durability='full' (default)", "relaxed": "durability='relaxed'"}
    how = {"notify": "a live query of the whole collection, in order"}

    def __init__(self, folder: Path, durability: str) -> None:
        path = str(folder / "cities.db")
        self._db = hp.open(path, collections=COLLECTIONS, durability=durability, cache_mb=CACHE_MB)
        self._cities = cities = self._db[CITIES]
        # Bound methods kept by the caller, as the side by hand keeps its cursor.
        self.get = cities.get
        self.get_many = cities.get_many
        self.put = cities.put
        self.put_many = cities.put_many
        self.delete = cities.delete
        self.close = self._db.close

    def equal(self, name: str) -> list[Any]:
        return self._cities.where(F.name == name).all()

    def between(self, bounds: tuple[int, int]) -> list[Any]:
        return self._cities.where(F.pop.between(*bounds)).all()

    def compound(self, area: tuple[str, str]) -> list[Any]:
        return self._cities.where(F.country == area[0], F.admin1 == area[1]).all()

    def ordered(self, above: int) -> list[Any]:
        return self._cities.where(F.pop > above).order_by("pop").limit(50).all()

    def count(self, bounds: tuple[int, int]) -> int:
        return self._cities.where(F.pop.between(*bounds)).count()

    def iterate(self, _: object) -> int:
        return sum(city["pop"] for city in self._cities)

    def text(self, word: str) -> list[Any]:
        return self._db[NOTES].where(F.text.matches(word)).all()

    def search(self, word: str) -> list[Any]:
        return [hit.document for hit in self._db[NOTES].search(word, limit=20)]

    def patch(self, change: tuple[str, int]) -> Any:
        return self._cities.patch(change[0], {"pop": change[1]})

    def load(self, documents: Iterable[Document]) -> None:
        self._cities.load(documents)

    def load_texts(self, documents: Iterable[Document]) -> None:
        self._db[NOTES].load(documents)

    def observe(self) -> None:
        self._live = self._cities.order_by("pop").live()
        self._live.next()

    def notify(self, document: Document) -> Any:
        self._cities.put(document)
        change = self._live.next()
        assert change is not None
        return change.added[-1]


class HomeportAsync(Peer):
    name = "homeport-async"
    title = "Homeport, asyncio"
    package = "homeport"
    is_async = True
    durabilities = Homeport.durabilities

    def __init__(self, folder: Path, durability: str) -> None:
        self._opening = hp.open_async(
            str(folder / "cities.db"),
            collections=COLLECTIONS,
            durability=durability,  # type: ignore[arg-type]
            cache_mb=CACHE_MB,
        )

    async def start(self) -> None:
        self._db = await self._opening
        self._cities = cities = self._db[CITIES]
        self.get = cities.get
        self.get_many = cities.get_many
        self.put = cities.put
        self.put_many = cities.put_many
        self.delete = cities.delete
        self.close = self._db.close

    async def equal(self, name: str) -> list[Any]:
        return await self._cities.where(F.name == name).all()

    async def between(self, bounds: tuple[int, int]) -> list[Any]:
        return await self._cities.where(F.pop.between(*bounds)).all()

    async def compound(self, area: tuple[str, str]) -> list[Any]:
        return await self._cities.where(F.country == area[0], F.admin1 == area[1]).all()

    async def ordered(self, above: int) -> list[Any]:
        return await self._cities.where(F.pop > above).order_by("pop").limit(50).all()

    async def count(self, bounds: tuple[int, int]) -> int:
        return await self._cities.where(F.pop.between(*bounds)).count()

    async def iterate(self, _: object) -> int:
        return sum([city["pop"] async for city in self._cities])

    async def text(self, word: str) -> list[Any]:
        return await self._db[NOTES].where(F.text.matches(word)).all()

    async def search(self, word: str) -> list[Any]:
        return [hit.document for hit in await self._db[NOTES].search(word, limit=20)]

    async def patch(self, change: tuple[str, int]) -> Any:
        return await self._cities.patch(change[0], {"pop": change[1]})

    async def load(self, documents: Iterable[Document]) -> None:
        await self._cities.load(documents)

    async def load_texts(self, documents: Iterable[Document]) -> None:
        await self._db[NOTES].load(documents)

    async def observe(self) -> None:
        self._live = self._cities.order_by("pop").live()
        await self._live.next()

    async def notify(self, document: Document) -> Any:
        await self._cities.put(document)
        change = await self._live.next()
        assert change is not None
        return change.added[-1]
