"""A connection that is alone answers from memory, and is never wrong about it."""

from __future__ import annotations

import random
import time
from asyncio import sleep
from collections.abc import Mapping
from typing import Any

import homeport as hp
from homeport.storage.indexeddb import IndexedDBStore
from tests.portable.inside_indexeddb import _count_transactions

DOCS = hp.Collection("docs", indexes=["n"])
_held: dict[str, hp.AsyncDatabase] = {}


def _open(name: str, **options: Any) -> Any:
    return hp.open_async(name, collections=[DOCS], durability="relaxed", **options)


def _store(db: hp.AsyncDatabase) -> Any:
    return db._driver.engine.store


async def _until_alone(db: hp.AsyncDatabase) -> None:
    """Read until that takes no transaction any more."""
    kept, end = _store(db).kept, time.monotonic() + 30
    while True:
        before = kept.hits
        await db[DOCS].get("k")
        if kept.hits > before:
            return
        assert time.monotonic() < end, "it never finds out that it is alone"
        await sleep(0.02)


async def _n(db: hp.AsyncDatabase) -> int:
    found: int = (await db[DOCS].get("k"))["n"]
    return found


async def lone() -> Mapping[str, Any]:
    """What takes a transaction and what none; a second connection that comes, writes and goes."""
    name = "lone"
    async with _open(name) as db:
        docs = db[DOCS]
        await docs.put_many([{"id": f"k{n}", "n": n} for n in range(10)])
        await docs.put({"id": "k", "n": 1})

        async def reads() -> list[Any]:
            keys = [f"k{n}" for n in range(10)]
            return [await docs.get("k"), await docs.get_many(keys),
                    await docs.where(hp.F.n >= 5).all(), await docs.count()]  # fmt: skip

        for _ in range(20):  # on a machine that stands still for a second the lease runs out
            await _until_alone(db)
            first = await reads()
            counter = _count_transactions()
            again = await reads()
            begun = counter.seen.to_py()
            counter.end()
            if not any(begun.values()):
                break
        again[0]["n"] = again[1][0]["n"] = 77  # what was given away is not what is kept
        assert await reads() == first
        await docs.put({"id": "k", "n": 2})
        own = [await _n(db), await docs.count()]

        async def refuse(tx: Any) -> None:
            await tx[DOCS].put({"id": "k", "n": 3})
            raise LookupError

        try:
            await db.run(refuse)
        except LookupError:
            pass
        own.append(await _n(db))
        async with _open(name) as other:
            await other[DOCS].put({"id": "k", "n": 4})
            theirs = [await _n(db), _store(db).alone.holds()]
            await other[DOCS].delete("k3")
            theirs.append(await docs.get("k3"))
        await _until_alone(db)
        last = [await _n(db), await docs.get("k3"), await docs.count()]
    await IndexedDBStore.delete(name)
    return {"begun": begun, "own": own, "theirs": theirs, "last": last}


# -- for several tabs


async def enter(name: str) -> bool:
    """Open and keep it open; alone when it returns."""
    db = _held[name] = await _open(name)
    await db[DOCS].put({"id": "k", "n": 0})
    await _until_alone(db)
    return True


async def stubborn(argument: list[Any]) -> list[list[float]]:
    """Read for so long, and let nothing else of this tab run → each value, with the clock when the
    last read of it began."""
    name, seconds = argument
    db = _held[name]

    async def breathless() -> None:
        """Instead of letting the page have its turn now and then."""

    db._driver._breathe = breathless  # type: ignore[method-assign]
    await _until_alone(db)
    await sleep(0.2)  # the test goes on
    end = time.monotonic() + seconds
    seen: dict[int, float] = {}
    while time.monotonic() < end:
        begun = time.time()
        seen[await _n(db)] = begun
    return [[at, n] for n, at in seen.items()]


async def write(name: str) -> list[float]:
    """[what was there, the clock when the next number was acknowledged]."""
    await sleep(1.0)
    async with _open(name) as db:
        before = await _n(db)
        await db[DOCS].put({"id": "k", "n": before + 1})
        return [before, time.time()]


async def write_for_ever(name: str) -> None:
    db = _held[name] = await _open(name)
    while True:
        await db[DOCS].update("k", _more)


def _more(document: Any) -> Any:
    document["n"] += 1
    return document


async def look(name: str) -> int:
    return await _n(_held[name])


async def compare(name: str) -> list[Any]:
    """[from memory, what is stored], again and again, when nobody else is there."""
    db = _held[name]
    await _until_alone(db)
    mine = [await _n(db), *[row["n"] for row in await db[DOCS].all()]]
    async with _open(name) as other:  # it has nothing in memory yet
        return [*mine, await _n(other), await _n(db)]


async def watch(argument: list[Any]) -> dict[str, Any]:
    """[name, seconds]: read all the time → for each number when a read that has answered it began last,
    and how many reads took no transaction."""
    name, seconds = argument
    db = _held[name]
    await _until_alone(db)
    end = time.monotonic() + seconds
    last: dict[int, float] = {}
    seen, hits = 0, _store(db).kept.hits
    while time.monotonic() < end:
        begun = time.time()
        n = await _n(db)
        assert n >= seen, f"{n} behind {seen}"
        seen, last[n] = n, begun
        await sleep(0.001)
    return {"last": list(last.items()), "at_hand": _store(db).kept.hits - hits}


async def come_and_go(argument: list[Any]) -> list[list[float]]:
    """[name, seconds, seed]: connections that write some numbers each, with pauses → each number, and the
    clock when it was acknowledged."""
    name, seconds, seed = argument
    dice, end = random.Random(seed), time.monotonic() + seconds
    found: list[list[float]] = []
    while time.monotonic() < end:
        async with _open(name) as db:
            for _ in range(dice.randint(1, 3)):
                n = (await db[DOCS].update("k", _more))["n"]
                found.append([n, time.time()])
                await sleep(dice.choice([0, 0.01, 0.3]))
        await sleep(dice.choice([0, 0.02, 0.4, 1.8, 2.5]))
    return found


async def leave(name: str) -> None:
    await _held.pop(name).close()
    await IndexedDBStore.delete(name)
