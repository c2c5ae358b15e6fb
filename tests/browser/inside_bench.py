"""Homeport and Dexie side by side in one page: ``bench/browser.py`` starts it."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import homeport as hp
from homeport import browser

DOCS = hp.Collection("docs", indexes=["age", "org", ("org", "age"), hp.Multi("tags")])
TOTAL = 10_000
SIZES = {"open": 0, "put": 7, "put_new": 0, "put_many": 200, "get": 7, "gets": 100, "get_many": 100, "range": 1_000, "all": TOTAL}
READS = ("get", "gets", "get_many", "range", "all")


def document(n: int) -> dict[str, Any]:
    """About 320 bytes of JSON; 200 documents of each age."""
    return {
        "id": f"doc-{n:06d}", "age": n % 50, "org": f"org-{n % 97}", "tags": [f"t{n % 7}", f"u{n % 11}"],
        "name": f"name of number {n}", "rev": 0, "score": n / 7, "active": n % 2 == 0,
        "text": ("a line of text that stands for what people write " * 3)[: 120 + n % 20],
    }  # fmt: skip


async def compare(repeats: int) -> dict[str, dict[str, float]]:
    """Medians in ms of each operation, the two sides in turn."""
    import js

    documents = [document(n) for n in range(TOTAL)]
    await js.window.dexie.seed(json.dumps(documents))
    db = await hp.open_async("bench", collections=[DOCS], durability="relaxed")
    await db[DOCS].put_many(documents)
    keys = [one["id"] for one in documents]

    async def reopen(_: int) -> None:
        nonlocal db
        await db.close()
        db = await hp.open_async("bench", collections=[DOCS], durability="relaxed")

    async def expect(wanted: Awaitable[Any], n: int) -> None:
        found = await wanted
        assert len(found) == n, len(found)

    fresh = iter(range(TOTAL, 2 * TOTAL))

    async def put_new(_: int) -> None:
        await db[DOCS].put(document(next(fresh)))

    ours: dict[str, Callable[[int], Awaitable[Any]]] = {
        "open": reopen,
        "put": lambda n: db[DOCS].put({**documents[n], "rev": 1}),
        "put_new": put_new,
        "put_many": lambda n: db[DOCS].put_many(documents[:n]),
        "get": lambda n: db[DOCS].get(keys[n]),
        "gets": lambda n: asyncio.gather(*(db[DOCS].get(key) for key in keys[:n])),
        "get_many": lambda n: expect(db[DOCS].get_many(keys[:n]), n),
        "range": lambda n: expect(db[DOCS].where(hp.F.age >= 20, hp.F.age < 25).all(), n),
        "all": lambda n: expect(db[DOCS].all(), n),
    }
    found: dict[str, dict[str, float]] = {}
    # Cold: both sides were opened just before; warm: asked before, and nothing has changed.
    for name, run in ours.items():
        for cold in (True, False) if name in READS else (False,):
            row = f"{name}, {'cold' if cold else 'warm'}" if name in READS else name
            if name == "get" and cold:
                await db[DOCS].delete_many([one["id"] for one in map(document, range(TOTAL, next(fresh)))])
                await js.window.dexie.tidy(TOTAL)
            if name in READS and not cold:
                await warm_up(run, SIZES[name])
            mine, theirs = [], []
            for _ in range(repeats):
                if cold:
                    await js.window.dexie.open(0)
                    await js.window.dexie.get(0)
                theirs.append(float(await getattr(js.window.dexie, name)(SIZES[name])))
                if cold:
                    await reopen(0)
                    await db[DOCS].get(keys[0])
                start = time.perf_counter()
                await run(SIZES[name])
                mine.append((time.perf_counter() - start) * 1000)
            found[row] = {"homeport": statistics.median(mine), "dexie": statistics.median(theirs)}
    await db.close()
    await browser.delete_database("bench")
    return found


async def warm_up(run: Callable[[int], Awaitable[Any]], size: int) -> None:
    """A connection finds out that it is alone in half a second."""
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        await run(size)
        await asyncio.sleep(0.05)


async def sealed(repeats: int) -> dict[str, dict[str, float]]:
    """Medians in ms without and with a key, in turn; nothing is kept in memory."""
    documents = [document(n) for n in range(TOTAL // 5)]
    names = {"plain": "bench-plain", "sealed": "bench-sealed"}
    options: dict[str, dict[str, Any]] = {"plain": {}, "sealed": {"key": b"k" * 32}}
    databases = {
        kind: await hp.open_async(name, collections=[DOCS], durability="relaxed", **options[kind])
        for kind, name in names.items()
    }
    for db in databases.values():
        db._driver.engine.store.kept.max_bytes = 0
        await db[DOCS].put_many(documents)
    work: dict[str, Callable[[Any], Awaitable[Any]]] = {
        "put": lambda docs: docs.put(documents[7]),
        "put_many": lambda docs: docs.put_many(documents[:200]),
        "get": lambda docs: docs.get(documents[7]["id"]),
        "range of 200": lambda docs: docs.where(hp.F.age >= 20, hp.F.age < 25).all(),
    }
    found: dict[str, dict[str, float]] = {}
    for name, run in work.items():
        taken: dict[str, list[float]] = {kind: [] for kind in databases}
        for _ in range(repeats):
            for kind, db in databases.items():
                start = time.perf_counter()
                await run(db[DOCS])
                taken[kind].append((time.perf_counter() - start) * 1000)
        found[name] = {kind: statistics.median(times) for kind, times in taken.items()}
    for kind, db in databases.items():
        await db.close()
        await browser.delete_database(names[kind])
    return found
