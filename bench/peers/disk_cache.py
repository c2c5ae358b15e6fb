"""diskcache: a cache that keeps pickled values by key in SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from diskcache import Cache

from bench.peers.base import CACHE_MB, Document, Peer, batches

NO_QUERY = "a cache by key: no queries"


class DiskCache(Peer):
    name = "diskcache"
    title = "diskcache"
    package = "diskcache"
    durabilities = {"full": "sqlite_synchronous=2", "relaxed": "default, sqlite_synchronous=1"}
    unable = {
        **{op: NO_QUERY for op in ("equal", "range_1000", "compound_eq", "order_limit", "count")},
        "text": NO_QUERY,
        "search_20": NO_QUERY,
        "notify": "tells nobody about changes",
    }
    how = {"bulk_get_100": "a call for each key: it has no other", "load": "no indexes to keep"}

    def __init__(self, folder: Path, durability: str) -> None:
        self._cache = Cache(
            str(folder),
            eviction_policy="none",
            cull_limit=0,
            size_limit=2**40,
            sqlite_synchronous=2 if durability == "full" else 1,
            sqlite_cache_size=CACHE_MB * 256,  # pages of 4 KB
            sqlite_mmap_size=CACHE_MB * 2**20,
        )
        self.get = self._cache.get
        self.delete = self._cache.delete

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        return [self._cache.get(key) for key in keys]

    def iterate(self, _: object) -> int:
        return sum(self._cache[key]["pop"] for key in self._cache)

    def put(self, city: Document) -> None:
        self._cache.set(city["id"], city)

    def put_many(self, cities: Sequence[Document]) -> None:
        with self._cache.transact():
            for city in cities:
                self._cache.set(city["id"], city)

    def patch(self, change: tuple[str, int]) -> None:
        with self._cache.transact():
            city = self._cache[change[0]]
            city["pop"] = change[1]
            self._cache[change[0]] = city

    def load(self, documents: Iterable[Document]) -> None:
        for batch in batches(documents):
            self.put_many(batch)

    def close(self) -> None:
        self._cache.close()
