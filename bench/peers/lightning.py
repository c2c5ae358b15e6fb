"""LMDB with msgspec: documents and three indexes by hand, as duplicates under the indexed value."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from bench.peers.base import Document, Peer

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode
POP = struct.Struct(">Q")
MAP_BYTES = 8 * 2**30


def _area(country: str, admin1: str) -> bytes:
    return f"{country}\0{admin1}".encode()


def _name(name: str) -> bytes:
    return name.encode()[:500]  # a key holds 511 bytes


class Lightning(Peer):
    name = "lmdb"
    title = "LMDB + msgspec"
    package = "lmdb"
    durabilities = {
        "full": "sync=True (default)",
        "none": "sync=False: a power cut may damage the file",
    }
    unable = {"text": "no full-text search", "search_20": "no full-text search", "notify": "tells nobody about changes"}
    how = {"count": "walks over the entries of the index; it has no count of a range"}

    def __init__(self, folder: Path, durability: str) -> None:
        self._env = lmdb.open(
            str(folder / "cities.lmdb"), map_size=MAP_BYTES, max_dbs=4, sync=durability == "full"
        )
        self._docs = self._env.open_db(b"docs")
        self._pop = self._env.open_db(b"pop", dupsort=True)
        self._areas = self._env.open_db(b"area", dupsort=True)
        self._names = self._env.open_db(b"name", dupsort=True)

    # reads

    def get(self, key: str) -> Any:
        with self._env.begin(self._docs) as txn:
            found = txn.get(key.encode())
        return None if found is None else decode(found)

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        with self._env.begin(self._docs) as txn:
            found = txn.cursor().getmulti([key.encode() for key in keys])
            by_key = {key: decode(body) for key, body in found}
        return [by_key.get(key.encode()) for key in keys]

    def _documents(self, txn: Any, keys: Iterable[bytes]) -> list[Any]:
        return [decode(txn.get(key, db=self._docs)) for key in keys]

    def _equal(self, index: Any, value: bytes) -> list[Any]:
        with self._env.begin() as txn:
            cursor = txn.cursor(index)
            found = cursor.iternext_dup() if cursor.set_key(value) else ()
            return self._documents(txn, found)

    def equal(self, name: str) -> list[Any]:
        return self._equal(self._names, _name(name))

    def compound(self, area: tuple[str, str]) -> list[Any]:
        return self._equal(self._areas, _area(*area))

    def _range(self, txn: Any, low: int, high: int) -> Iterator[bytes]:
        last = POP.pack(high)
        cursor = txn.cursor(self._pop)
        if cursor.set_range(POP.pack(low)):
            for value, key in cursor.iternext(keys=True, values=True):
                if value > last:
                    return
                yield key

    def between(self, bounds: tuple[int, int]) -> list[Any]:
        with self._env.begin() as txn:
            return self._documents(txn, self._range(txn, *bounds))

    def ordered(self, above: int) -> list[Any]:
        with self._env.begin() as txn:
            found = self._range(txn, above + 1, 2**63)
            return self._documents(txn, (key for _, key in zip(range(50), found, strict=False)))

    def count(self, bounds: tuple[int, int]) -> int:
        with self._env.begin() as txn:
            return sum(1 for _ in self._range(txn, *bounds))

    def iterate(self, _: object) -> int:
        with self._env.begin(self._docs) as txn:
            return sum(decode(body)["pop"] for _, body in txn.cursor())

    # writes

    def _add(self, txn: Any, city: Document) -> None:
        key = city["id"].encode()
        txn.put(key, encode(city), db=self._docs)
        txn.put(POP.pack(city["pop"]), key, db=self._pop)
        txn.put(_area(city["country"], city["admin1"]), key, db=self._areas)
        txn.put(_name(city["name"]), key, db=self._names)

    def put(self, city: Document) -> None:
        with self._env.begin(write=True) as txn:
            self._add(txn, city)

    def put_many(self, cities: Iterable[Document]) -> None:
        with self._env.begin(write=True) as txn:
            for city in cities:
                self._add(txn, city)

    def patch(self, change: tuple[str, int]) -> None:
        key = change[0].encode()
        with self._env.begin(write=True) as txn:
            city = decode(txn.get(key, db=self._docs))
            txn.delete(POP.pack(city["pop"]), key, db=self._pop)
            city["pop"] = change[1]
            txn.put(key, encode(city), db=self._docs)
            txn.put(POP.pack(change[1]), key, db=self._pop)

    def delete(self, text: str) -> None:
        key = text.encode()
        with self._env.begin(write=True) as txn:
            city = decode(txn.pop(key, db=self._docs))
            txn.delete(POP.pack(city["pop"]), key, db=self._pop)
            txn.delete(_area(city["country"], city["admin1"]), key, db=self._areas)
            txn.delete(_name(city["name"]), key, db=self._names)

    load = put_many

    def close(self) -> None:
        self._env.close()
