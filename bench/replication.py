"""Replication: a real device, a real node, a real PostgreSQL, each in a process of its own.

Push and pull are wall times of the whole job; a round uses new documents, a new collection and new
files, and the sides take turns in random order. The other figures are in modules of their own:
``replication_latency``, ``replication_wire``, ``replication_clients``.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import homeport as hp
from homeport.server.postgres import Postgres

from bench import byhand_sync, replication_clients, replication_latency, replication_wire
from bench.byhand import PRAGMAS, Raw
from bench.cities import DATA, SEED, Cities, Document
from bench.peers import OURS
from bench.report import Measure, Row, row
from bench.stage import Node, node

MOVES = ("push", "pull")
FIGURES = ("latency", "wire", "calls", "clients")
OPS = (*MOVES, *FIGURES)
INDEXES = ["pop", ("country", "admin1"), "name"]
REFERENCES = {"push": "asyncpg-unnest-500", "pull": "asyncpg-paging"}
LIMIT_S = 600.0


def measure(
    supply: Cities,
    counts: Sequence[int],
    ops: Sequence[str],
    tell: Callable[[str], None],
    *,
    quick: bool,
    keep: Callable[[list[Row], list[Measure]], None] = lambda rows, figures: None,
) -> tuple[list[Row], list[Measure]]:
    """counts: documents to push and pull, one job for each. keep: is given what there is after
    each part."""
    DATA.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-sync-", dir=DATA))
    rows: list[Row] = []
    figures: list[Measure] = []
    rng = random.Random(SEED)
    settings = {"max_connections": "200"}
    try:
        with Postgres.start(settings=settings) as postgres:
            with node(postgres.dsn, folder / "node") as stage:
                if set(ops) & set(MOVES):
                    asyncio.run(byhand_sync.prepare(postgres.dsn))
                    for count in counts:
                        tell(f"push and pull of {count:,} documents")
                        rows += _moves(
                            supply, count, ops, folder, stage, postgres.dsn, rng, quick=quick
                        )
                        keep(rows, figures)
                if "latency" in ops:
                    tell("latency")
                    figures += replication_latency.measures(
                        supply, postgres.dsn, stage, folder, 10 if quick else 200, rng
                    )
                if "wire" in ops:
                    tell("bytes on the wire")
                    figures += replication_wire.wire(supply, stage, folder)
                    keep(rows, figures)
                if "clients" in ops:
                    tell("clients")
                    crowd = (1, 10) if quick else (1, 10, 100, 1000)
                    figures += replication_clients.measures(
                        supply, stage, folder, crowd, 2 if quick else 5, tell
                    )
                    keep(rows, figures)
            if "calls" in ops:
                tell("statements")
                figures += replication_wire.calls(
                    supply, postgres.dsn, folder, 100 if quick else 1000
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows, figures


def _moves(
    supply: Cities,
    count: int,
    ops: Sequence[str],
    folder: Path,
    stage: Node,
    dsn: str,
    rng: random.Random,
    *,
    quick: bool,
) -> list[Row]:
    spent: dict[tuple[str, str], list[float]] = {}
    for number in range(1 if quick else 3 if count <= 20_000 else 1):
        place = folder / f"{count}-{number}"
        place.mkdir()
        _round(
            f"cities{count}x{number}",
            supply.take(count),
            place,
            stage.url,
            stage.token,
            dsn,
            rng,
            spent,
        )
        shutil.rmtree(place)
    median = {key: statistics.median(values) * 1_000_000 for key, values in spent.items()}
    return [
        row(op, count, "full", median[op, OURS], REFERENCES[op], median[op, REFERENCES[op]])
        for op in ops
        if op in MOVES
    ]


def _round(
    name: str,
    documents: list[Document],
    place: Path,
    url: str,
    token: str,
    dsn: str,
    rng: random.Random,
    spent: dict[tuple[str, str], list[float]],
) -> None:
    collection: hp.Collection[dict[str, Any]] = hp.Collection(name, indexes=INDEXES)

    def push_ours() -> float:
        with hp.open(str(place / "a.db"), collections=[collection]) as db:
            sync = db.sync(url, token=token, live=False)
            db[collection].put_many(documents)
            return _timed(lambda: sync.now(timeout_s=LIMIT_S))

    def pull_ours() -> float:
        with hp.open(str(place / "b.db"), collections=[collection]) as db:
            sync = db.sync(url, token=token, live=False)
            seconds = _timed(lambda: sync.now(timeout_s=LIMIT_S))
            _check("pull", db[collection].count(), len(documents))
            return seconds

    def push_raw() -> float:
        device = Raw(str(place / "raw-a.db"), "full", PRAGMAS)
        device.put_many(documents)
        seconds = _timed(lambda: asyncio.run(byhand_sync.push(dsn, name, device)))
        device.close()
        return seconds

    def pull_raw() -> float:
        device = Raw(str(place / "raw-b.db"), "full", PRAGMAS)
        seconds = _timed(lambda: asyncio.run(byhand_sync.pull(dsn, name, device)))
        _check("raw pull", device.count((0, 1_000_000)), len(documents))
        device.close()
        return seconds

    for op, ours, raw in (("push", push_ours, push_raw), ("pull", pull_ours, pull_raw)):
        sides = [(OURS, ours), (REFERENCES[op], raw)]
        rng.shuffle(sides)
        for side, run in sides:
            spent.setdefault((op, side), []).append(run())


def _timed(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def _check(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: {found} documents arrived instead of {wanted}")
