"""Push and pull of many documents: a real device, a real node, a real PostgreSQL, wall time.

The same PostgreSQL serves both sides. A round uses new documents, a new collection and new files;
the sides take turns in random order.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import homeport as hp
from homeport.server.postgres import Postgres

from bench import byhand_sync as raw_sync
from bench.cities import DATA, ROOT, SEED, Cities, Document
from bench.byhand import PRAGMAS, Raw

from bench.peers import OURS
from bench.report import Row, row

INDEXES = ["pop", ("country", "admin1"), "name"]
REFERENCES = {"push": "asyncpg-unnest-500", "pull": "asyncpg-paging"}
ROUNDS = 3
LIMIT_S = 300.0


def rows(supply: Cities, count: int, ops: Sequence[str], *, quick: bool) -> list[Row]:
    """Measure and → one row per operation."""
    DATA.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-sync-", dir=DATA))
    spent: dict[tuple[str, str], list[float]] = {}
    rng = random.Random(SEED)
    try:
        with Postgres.start() as postgres, _node(postgres.dsn, folder) as (url, token):
            asyncio.run(raw_sync.prepare(postgres.dsn))
            for number in range(1 if quick else ROUNDS):
                place = folder / str(number)
                place.mkdir()
                _round(
                    f"cities{number}",
                    supply.take(count),
                    place,
                    url,
                    token,
                    postgres.dsn,
                    rng,
                    spent,
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    median = {key: statistics.median(values) * 1_000_000 for key, values in spent.items()}
    return [
        row(op, count, "full", median[op, OURS], REFERENCES[op], median[op, REFERENCES[op]])
        for op in ops
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
        seconds = _timed(lambda: asyncio.run(raw_sync.push(dsn, name, device)))
        device.close()
        return seconds

    def pull_raw() -> float:
        device = Raw(str(place / "raw-b.db"), "full", PRAGMAS)
        seconds = _timed(lambda: asyncio.run(raw_sync.pull(dsn, name, device)))
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


@contextmanager
def _node(dsn: str, folder: Path) -> Iterator[tuple[str, str]]:
    """A node in a process of its own, its key and its log in ``folder`` → (url, token)."""
    command = [sys.executable, "-m", "homeport", "serve", "--dev", "--json"]
    command += ["--port", "0", "--postgres", dsn]
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    log = folder / "node.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"The node did not start:\n{log.read_text()}")
        ready = json.loads(line)
        yield ready["url"], ready["token"]
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()
