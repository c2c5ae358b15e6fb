"""Many devices on one node: the time until all of them have a change, and what one costs the node.

The clients speak the protocol over the device's own transport, each with a WebSocket and a kept
connection; they keep no documents, since a thousand databases on this machine would measure its disk.
"""

from __future__ import annotations

import asyncio
import random
import resource
import statistics
import uuid
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import homeport as hp
import msgspec
from homeport.core.session import delay_ms
from homeport.core.wire import PROTOCOL, Hello, PullRequest, PushRequest
from homeport.errors import Unreachable
from homeport.transport.answers import StreamEnded
from homeport.transport.http import HttpTransport

from bench.cities import Cities, Document
from bench.report import Measure
from bench.stage import Node

CROWD: hp.Collection[Document] = hp.Collection("crowd")
encode = msgspec.json.Encoder().encode
LIMIT_S = 60.0
CROWD_S = 180.0
"""Connecting, all changes and leaving of one number of clients."""
CLIENTS = "connected"
"""Ends the subject of each figure of this module."""
FEWEST = 100
"""Below, the growth of the node's memory is not that of its connections."""


def measures(
    supply: Cities,
    node: Node,
    folder: Path,
    counts: Sequence[int],
    changes: int,
    tell: Callable[[str], None],
) -> list[Measure]:
    """For each number of clients: ``changes`` single changes, each seen by all. A crowd that is not
    through within ``CROWD_S`` is left out, and so are larger ones."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 3 * max(counts) + 100:
        wanted = min(hard, 3 * max(counts) + 100) if hard > 0 else 3 * max(counts) + 100
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    found: list[Measure] = []
    with hp.open(str(folder / "crowd.db"), collections=[CROWD]) as db:
        handle = db.sync(node.url, token=node.token)
        handle.now()
        handle.start()
        for count in counts:
            tell(f"{count:,} clients")
            try:
                found += asyncio.run(_bounded(_crowd(supply, node, db, count, changes)))
            except TimeoutError:
                break
        handle.stop()
    return found


async def _bounded(crowd: Coroutine[Any, Any, list[Measure]]) -> list[Measure]:
    async with asyncio.timeout(CROWD_S):
        return await crowd


async def _crowd(
    supply: Cities, node: Node, db: hp.Database, count: int, changes: int
) -> list[Measure]:
    clients = [_Client(node) for _ in range(count)]
    before = node.resident_bytes()
    for start in range(0, count, 50):
        await asyncio.gather(*(client.start() for client in clients[start : start + 50]))
    await asyncio.sleep(0.5)
    memory = node.resident_bytes() - before
    last: list[float] = []
    half: list[float] = []
    cpu_s, asked = node.cpu_s(), sum(client.pulls for client in clients)
    try:
        for document in supply.take(changes):
            began = perf_counter()
            await asyncio.to_thread(db[CROWD].put, document)
            async with asyncio.timeout(LIMIT_S):
                seen = await asyncio.gather(*(client.until(document["id"]) for client in clients))
            waits = sorted(at - began for at in seen)
            last.append(waits[-1])
            half.append(statistics.median(waits))
            await asyncio.sleep(random.uniform(0.05, 0.1))
        cpu_s = node.cpu_s() - cpu_s
        asked = sum(client.pulls for client in clients) - asked
    finally:
        await asyncio.gather(*(client.stop() for client in clients))
    who = f"{count:,} {CLIENTS}"
    refused = sum(client.refused for client in clients)
    note = f"{refused} requests were told to wait" if refused else ""
    found = [
        Measure.of("a change, until half of the clients have it", who, _ms(half), "ms"),
        Measure.of("until all have it", who, _ms(last), "ms", note=note),
        Measure.of("node's processor time per pull", who, cpu_s / max(1, asked) * 1000, "ms"),
    ]
    if count >= FEWEST:
        each = memory / count / 1000
        found.append(Measure.of("node's memory per connection", who, each, "kB"))
    return found


def _ms(values: Sequence[float]) -> float:
    return statistics.median(values) * 1000


class _Client:
    """A device without a database: it pulls when it is told that something moved."""

    def __init__(self, node: Node) -> None:
        self._id = uuid.uuid4().hex
        self._token = node.token_of(self._id)
        self._net = HttpTransport(node.url)
        self._pull = PullRequest(collections={CROWD.name: "merge"})
        self._seen: dict[str, float] = {}
        self._arrived = asyncio.Event()
        self._again = asyncio.Event()
        self._ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.pulls = 0
        self.refused = 0

    async def start(self) -> None:
        await self._exchange()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._work())]
        await self._ready.wait()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._net.close()

    async def until(self, key: str) -> float:
        """→ when this client had the document."""
        while key not in self._seen:
            self._arrived.clear()
            await self._arrived.wait()
        return self._seen[key]

    async def _listen(self) -> None:
        hello = Hello(PROTOCOL, self._token, self._id, [CROWD.name])
        failures = 0
        while True:
            try:
                async for hint in self._net.hints(hello):
                    failures = 0
                    if hint.t == "ready":
                        self._ready.set()
                    else:
                        self._again.set()
            except StreamEnded:
                self.refused += 1  # so many at once: the node tells some to come back
            failures += 1
            await asyncio.sleep(delay_ms(failures, random.random()) / 1000)
            self._again.set()  # what was said in between

    async def _work(self) -> None:
        while True:
            await self._again.wait()
            self._again.clear()
            await self._exchange()

    async def _exchange(self) -> None:
        failures = 0
        while True:
            request = PushRequest(PROTOCOL, self._id, self._pull)
            try:
                reply = await self._net.exchange(encode(request), self._token)
            except Unreachable as error:
                # As the session of a device does.
                self.refused += 1
                failures += 1
                asked_ms = float(error.context.get("retry_after_s") or 0) * 1000
                await asyncio.sleep(max(delay_ms(failures, random.random()), asked_ms) / 1000)
                continue
            failures = 0
            self.pulls += 1
            now = perf_counter()
            for row in reply.rows:
                self._seen[row.key] = now
            if reply.rows:
                self._arrived.set()
            if reply.more is None:
                self._pull.cursor, self._pull.position = reply.cursor, None
                self._pull.holds = reply.holds
                return
            self._pull.position = reply.more
