"""The operations on one device: which inputs, which sides, how many rounds."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from homeport.storage.sqlite import WAL_STOP_PAGES

from bench.cities import Cities, Document
from bench.measure import Case
from bench.ours import Ours
from bench.raw import Raw

READS = ("get", "bulk_get_100", "range_1000", "compound_eq", "order_limit", "count")
WRITES = ("put", "bulk_put_200")
OPS = (*READS, *WRITES, "open")
DURABILITIES = ("full", "relaxed")

OURS = "homeport"
RAW = "raw-apsw"
BARE = "raw-apsw-bare"
SAME = "raw-apsw-same-obligations"
AGAIN = "again"
"""A second file of the reference, measured as a side of its own: its ratio to the first is noise."""

CACHE_MB = 64
"""Page cache of every side. The files fit into it: with less, the larger file would miss more often,
and a ratio would say how much larger it is, not what the code costs."""

# What Homeport's store sets; the hand-written side gets the same, so that code is compared with
# code and not one checkpoint interval with another.
PRAGMAS = {"cache_size": -1024 * CACHE_MB, "wal_autocheckpoint": WAL_STOP_PAGES, "temp_store": 2}

LOAD = 2000

SITTINGS = 3
"""How often the files are copied and opened anew: where their pages come to lie in memory moves the
reads of one and the same file by a tenth."""


class Local:
    """The files of a run and the cases over them."""

    def __init__(
        self, folder: Path, supply: Cities, docs: int, quick: bool, rng: random.Random
    ) -> None:
        self.folder = folder
        self.supply = supply
        self.docs = docs
        self.quick = quick
        self.rng = rng
        self.cities = supply.take(docs)
        self._master_ours = folder / "ours.db"
        self._master_raw = folder / "raw.db"

    def load(self) -> None:
        """Fill one file per side; every case then works on copies of them."""
        ours = Ours(str(self._master_ours), "relaxed", CACHE_MB)
        raw = Raw(str(self._master_raw), "relaxed", PRAGMAS)
        for start in range(0, self.docs, LOAD):
            part = self.cities[start : start + LOAD]
            ours.put_many(part)
            raw.put_many(part)
        raw.checkpoint()
        ours.close()
        raw.close()

    def cases(self, ops: set[str]) -> Iterator[Case]:
        """The cases of these operations, one after the other; files are open while a case runs."""
        if ops & set(READS):
            with self._sides("relaxed", (RAW, AGAIN)) as sides:
                for op in READS:
                    if op in ops:
                        yield self._read(op, sides)
        for op in WRITES:
            if op in ops:
                for durability in DURABILITIES:
                    with self._sides(durability, (BARE, SAME, AGAIN)) as sides:
                        yield self._write(op, durability, sides)
        if "open" in ops:
            yield self._open()

    # reads

    def _read(self, op: str, sides: _Sides) -> Case:
        inputs, method, rounds = {
            "get": (self._keys(100), "get", 75),
            "bulk_get_100": (self._key_lists(5), "get_many", 60),
            "range_1000": (self._ranges(2, 1000), "between", 60),
            "compound_eq": (self._areas(10), "compound", 60),
            "order_limit": (self._floors(20), "ordered", 60),
            "count": (self._ranges(10, self.docs // 10), "count", 60),
        }[op]
        calls = {name: getattr(side, method) for name, side in sides.named.items()}
        self._agree(op, inputs(), calls)
        return Case(op, None, self._rounds(rounds), inputs, calls)

    def _agree(self, op: str, inputs: list[Any], calls: dict[str, Callable[[Any], Any]]) -> None:
        """A ratio between different answers means nothing: compare them first."""
        ordered = op in ("get", "bulk_get_100", "count")
        for item in inputs[:3]:
            ours, theirs = calls[OURS](item), calls[RAW](item)
            if op == "order_limit":  # equal values of pop may come in either order
                ours, theirs = ([row["pop"] for row in rows] for rows in (ours, theirs))
            elif not ordered:
                ours, theirs = (sorted(rows, key=lambda row: row["id"]) for rows in (ours, theirs))
            if ours != theirs:
                raise AssertionError(f"{op}: the two sides gave different answers to {item!r}")

    def _keys(self, count: int) -> Callable[[], list[Any]]:
        return lambda: [self.rng.choice(self.cities)["id"] for _ in range(count)]

    def _key_lists(self, count: int) -> Callable[[], list[Any]]:
        size = min(100, self.docs)
        return lambda: [
            [city["id"] for city in self.rng.sample(self.cities, size)] for _ in range(count)
        ]

    def _ranges(self, count: int, hits: int) -> Callable[[], list[Any]]:
        width = min(1_000_000, 1_000_000 * hits // self.docs)

        def inputs() -> list[tuple[int, int]]:
            lows = [self.rng.randrange(1_000_001 - width) for _ in range(count)]
            return [(low, low + width - 1) for low in lows]

        return inputs

    def _areas(self, count: int) -> Callable[[], list[Any]]:
        sizes = Counter((city["country"], city["admin1"]) for city in self.cities)
        wanted = [area for area, size in sizes.items() if 150 <= size <= 250]
        # A small collection has no such areas: take its largest.
        areas = wanted or [area for area, _ in sizes.most_common(5)]
        return lambda: [self.rng.choice(areas) for _ in range(count)]

    def _floors(self, count: int) -> Callable[[], list[Any]]:
        return lambda: [self.rng.randrange(900_000) for _ in range(count)]

    # writes

    def _write(self, op: str, durability: str, sides: _Sides) -> Case:
        named = sides.named
        logged = {"put": "put_logged", "bulk_put_200": "put_many_logged"}[op]
        bare = {"put": "put", "bulk_put_200": "put_many"}[op]
        calls = {name: getattr(side, bare) for name, side in named.items()}
        calls[SAME] = getattr(named[SAME], logged)
        inputs: Callable[[], list[Any]]
        if op == "put":
            inputs, rounds = lambda: self.supply.take(20), 90
        else:
            inputs, rounds = lambda: [self.supply.take(200)], 45
        return Case(op, durability, self._rounds(rounds), inputs, calls)

    # open

    def _open(self) -> Case:
        """An existing file, opened and read once; closing is not counted."""
        key = self.cities[0]["id"]
        ours, raw, again = (self._copy(name, source) for name, source in self._sources("open"))

        def open_ours(_: object) -> Any:
            side = Ours(str(ours), "full", CACHE_MB)
            side.get(key)
            return side

        def open_raw(path: Path) -> Callable[[object], Any]:
            def call(_: object) -> Any:
                side = Raw(str(path), "full", PRAGMAS)
                side.get(key)
                return side

            return call

        sides = {OURS: open_ours, RAW: open_raw(raw), AGAIN: open_raw(again)}
        return Case("open", "full", self._rounds(60), lambda: [None], sides, lambda s: s.close())

    def _sources(self, name: str) -> Iterator[tuple[str, Path]]:
        yield f"{name}-ours.db", self._master_ours
        yield f"{name}-raw.db", self._master_raw
        yield f"{name}-again.db", self._master_raw

    # files

    def _rounds(self, rounds: int) -> int:
        return max(3, rounds // 8) if self.quick else rounds // SITTINGS

    def _copy(self, name: str, source: Path) -> Path:
        target = self.folder / name
        shutil.copyfile(source, target)
        return target

    def _sides(self, durability: str, references: tuple[str, ...]) -> _Sides:
        return _Sides(self, durability, references)

    def warm(self, side: Ours | Raw) -> None:
        """Bring the pages of a file into its cache: every document and the index of ``pop``."""
        for start in range(0, self.docs, LOAD):
            side.get_many([city["id"] for city in self.cities[start : start + LOAD]])
        side.count((0, 1_000_000))

    def open_side(self, name: str, durability: str, path: str) -> Ours | Raw:
        if name == OURS:
            return Ours(path, durability, CACHE_MB)
        return Raw(path, durability, PRAGMAS)

    def copy_for(self, name: str) -> Path:
        source = self._master_ours if name == OURS else self._master_raw
        return self._copy(f"case-{name}.db", source)


class _Sides:
    """Ours and the references, each on its own copy of its file, open while a case runs."""

    def __init__(self, local: Local, durability: str, references: tuple[str, ...]) -> None:
        self._local = local
        self._durability = durability
        self._names = (OURS, *references)
        self._stack = ExitStack()
        self.named: dict[str, Any] = {}

    def __enter__(self) -> _Sides:
        for name in self._names:
            path = self._local.copy_for(name)
            side = self._local.open_side(name, self._durability, str(path))
            self._stack.callback(_remove, path)
            self._stack.callback(side.close)
            self._local.warm(side)
            self.named[name] = side
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


__all__ = ["AGAIN", "BARE", "OPS", "OURS", "RAW", "SAME", "Case", "Document", "Local"]
