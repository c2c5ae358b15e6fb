"""From a write on one device until another device shows it, against PostgreSQL's own LISTEN."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, sleep

import asyncpg
import homeport as hp

from bench.cities import Cities, Document
from bench.report import Measure
from bench.stage import Node

NOTES: hp.Collection[Document] = hp.Collection("latency")
LIMIT_S = 10.0


def measures(
    supply: Cities, dsn: str, node: Node, folder: Path, count: int, rng: random.Random
) -> list[Measure]:
    """One change at a time, ours and raw in turn, with random pauses between."""
    loop = asyncio.new_event_loop()
    raw = _Raw(dsn)
    loop.run_until_complete(raw.start())
    ours: list[float] = []
    theirs: list[float] = []
    with (
        hp.open(str(folder / "writer.db"), collections=[NOTES]) as writer,
        hp.open(str(folder / "reader.db"), collections=[NOTES]) as reader,
    ):
        handles = [db.sync(node.url, token=node.token) for db in (writer, reader)]
        for handle in handles:
            handle.now()
            handle.start()
        with reader[NOTES].live() as live:
            live.next(LIMIT_S)
            _until_heard(supply, writer, live)
            for document in supply.take(count):
                sleep(rng.uniform(0.05, 0.15))
                start = perf_counter()
                writer[NOTES].put(document)
                change = live.next(LIMIT_S)
                ours.append(perf_counter() - start)
                if change is None or [row["id"] for row in change.added] != [document["id"]]:
                    raise AssertionError("latency: the change did not arrive alone")
                theirs.append(loop.run_until_complete(raw.once(document)))
        for handle in handles:
            handle.stop()
    loop.run_until_complete(raw.stop())
    loop.close()
    return [
        Measure.of(
            f"latency {name}",
            f"{count} single changes",
            _quantile(ours, at) * 1000,
            "ms",
            "insert + NOTIFY, LISTEN + select",
            _quantile(theirs, at) * 1000,
        )
        for name, at in (("p50", 0.5), ("p99", 0.99))
    ]


def _until_heard(supply: Cities, writer: hp.Database, live: hp.LiveQuery[Document]) -> None:
    """The reader's live connection is up when changes arrive much faster than its poll."""
    for document in supply.take(20):
        start = perf_counter()
        writer[NOTES].put(document)
        if live.next(LIMIT_S) is not None and perf_counter() - start < 0.5:
            return
    raise AssertionError("latency: hints do not arrive")


def _quantile(values: Sequence[float], at: float) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[round(at * 100) - 1]


class _Raw:
    """Two connections by hand: one inserts and notifies, one listens and reads the row."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def start(self) -> None:
        self._writer = await asyncpg.connect(self._dsn)
        self._reader = await asyncpg.connect(self._dsn)
        await self._writer.execute(
            "create schema if not exists bench;"
            "create table if not exists bench.latency(key text primary key, body json)"
        )
        self._heard = asyncio.Event()
        self._key = ""

        def heard(_: object, __: int, ___: str, key: str) -> None:
            self._key = key
            self._heard.set()

        await self._reader.add_listener("bench_latency", heard)

    async def once(self, document: Document) -> float:
        from bench.byhand import encode

        body = encode(document).decode()
        self._heard.clear()
        start = perf_counter()
        async with self._writer.transaction():
            await self._writer.execute(
                "insert into bench.latency values($1, $2)", document["id"], body
            )
            await self._writer.execute("select pg_notify('bench_latency', $1)", document["id"])
        await self._heard.wait()
        found = await self._reader.fetchval(
            "select body from bench.latency where key = $1", self._key
        )
        spent = perf_counter() - start
        if found != body:
            raise AssertionError("latency: another row was read")
        return spent

    async def stop(self) -> None:
        await self._writer.close()
        await self._reader.close()
