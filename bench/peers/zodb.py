"""ZODB: persistent objects, in BTrees by key and by each indexed value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import transaction
import ZODB
import ZODB.FileStorage
from BTrees.OOBTree import OOBTree
from persistent import Persistent

from bench.peers.base import CACHE_MB, Document, Peer, batches

LAST = "\U0010ffff"


class City(Persistent):
    def __init__(self, document: Document) -> None:
        self.__dict__.update(document)


class Zodb(Peer):
    name = "zodb"
    title = "ZODB + BTrees"
    package = "ZODB"
    durabilities = {"full": "FileStorage (no option)"}
    unable = {"text": "no full-text search of its own", "search_20": "no full-text search of its own", "notify": "tells nobody about changes"}
    how = {
        "get": "answers are objects that it keeps in its cache",
        "open": "its index of the file is read",
        "count": "the length of a BTree range: objects are not touched",
    }

    def __init__(self, folder: Path, durability: str) -> None:
        self._storage = ZODB.FileStorage.FileStorage(str(folder / "cities.fs"))
        self._db = ZODB.DB(
            self._storage, cache_size=1_000_000, cache_size_bytes=CACHE_MB * 2**20
        )
        self._manager = transaction.TransactionManager(explicit=False)
        self._connection = self._db.open(self._manager)
        root = self._connection.root()
        if "cities" not in root:
            for name in ("cities", "pop", "area", "name"):
                root[name] = OOBTree()
            self._manager.commit()
        self._cities = root["cities"]
        self._pop, self._area, self._name = root["pop"], root["area"], root["name"]

    @classmethod
    def plain(cls, result: Any) -> Document:
        # Its attributes are there once one of them was asked for.
        return {"id": result.id, **result.__dict__}

    # reads

    def get(self, key: str) -> Any:
        city = self._cities.get(key)
        if city is not None:
            city._p_activate()  # read it as a reader of its attributes would
        return city

    def _read(self, cities: Iterable[City]) -> list[City]:
        found = list(cities)
        for city in found:
            city._p_activate()
        return found

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        return [self.get(key) for key in keys]

    def equal(self, name: str) -> list[Any]:
        return self._read(self._name.values((name, ""), (name, LAST)))

    def compound(self, area: tuple[str, str]) -> list[Any]:
        return self._read(self._area.values((*area, ""), (*area, LAST)))

    def between(self, bounds: tuple[int, int]) -> list[Any]:
        return self._read(self._pop.values((bounds[0], ""), (bounds[1], LAST)))

    def ordered(self, above: int) -> list[Any]:
        return self._read(islice(self._pop.itervalues((above, LAST)), 50))

    def count(self, bounds: tuple[int, int]) -> int:
        return len(self._pop.keys((bounds[0], ""), (bounds[1], LAST)))

    def iterate(self, _: object) -> int:
        total = 0
        for number, city in enumerate(self._cities.itervalues()):
            total += city.pop
            if number % 10_000 == 0:
                self._connection.cacheGC()
        return total

    # writes

    def _add(self, document: Document) -> None:
        city = City(document)
        self._cities[city.id] = city
        self._pop[city.pop, city.id] = city
        self._area[city.country, city.admin1, city.id] = city
        self._name[city.name, city.id] = city

    def put(self, document: Document) -> None:
        self._add(document)
        self._manager.commit()

    def put_many(self, documents: Sequence[Document]) -> None:
        for document in documents:
            self._add(document)
        self._manager.commit()

    def patch(self, change: tuple[str, int]) -> None:
        city = self._cities[change[0]]
        del self._pop[city.pop, city.id]
        city.pop = change[1]
        self._pop[city.pop, city.id] = city
        self._manager.commit()

    def delete(self, key: str) -> None:
        city = self._cities.pop(key)
        del self._pop[city.pop, city.id]
        del self._area[city.country, city.admin1, city.id]
        del self._name[city.name, city.id]
        self._manager.commit()

    def load(self, documents: Iterable[Document]) -> None:
        """The indexes afterwards and in their order: filled at random, every commit would write
        most of their buckets again."""
        placed = []
        for batch in batches(documents):
            for document in batch:
                self._cities[document["id"]] = city = City(document)
                area = document["country"], document["admin1"]
                placed.append((document["pop"], area, document["name"], document["id"], city))
            self._manager.commit()
            self._connection.cacheGC()
        for tree, entries in (
            (self._pop, [((pop, key), city) for pop, _, _, key, city in placed]),
            (self._area, [((*area, key), city) for _, area, _, key, city in placed]),
            (self._name, [((name, key), city) for _, _, name, key, city in placed]),
        ):
            tree.update(sorted(entries, key=itemgetter(0)))
            self._manager.commit()

    def close(self) -> None:
        self._manager.abort()
        self._connection.close()
        self._db.close()
