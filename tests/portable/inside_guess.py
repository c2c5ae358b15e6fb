"""Writes that take for granted what this connection knows, beside a model: two connections."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import homeport as hp
from homeport.core.outbox import META_COLLECTIONS
from homeport.core.requests import Operation, SetMeta, Write
from homeport.storage.indexeddb import IndexedDBStore

DOCS = hp.Collection("docs", indexes=["n"])
OTHER = hp.Collection("other")
KEYS: list[Any] = [*(f"k{n}" for n in range(6)), 1, 2, 2.5, "1"]


def _open(name: str) -> Any:
    return hp.open_async(name, collections=[DOCS, OTHER], durability="relaxed")


def _count() -> Any:
    """Counts records that were added, and transactions that were undone."""
    from pyodide.code import run_js

    return run_js("""
        (() => {
          const seen = { added: 0, undone: 0 }, kinds = [IDBObjectStore.prototype, IDBTransaction.prototype];
          const before = [kinds[0].add, kinds[1].abort];
          kinds[0].add = function (...words) {
            if (this.name !== "changes") seen.added++;
            return before[0].apply(this, words);
          };
          kinds[1].abort = function () { seen.undone++; return before[1].call(this); };
          return { seen, end() { [kinds[0].add, kinds[1].abort] = before; } };
        })()
    """)


async def _versions(db: hp.AsyncDatabase, keys: list[Any]) -> list[int]:
    found = [await db[DOCS].meta(key) for key in keys]
    return [0 if one is None else one.version for one in found]


async def by_hand() -> dict[str, Any]:
    """What each guess can be wrong about."""
    found: dict[str, Any] = {}
    name = "guess"
    async with _open(name) as one:
        await one[DOCS].put_many([{"id": "old", "n": 0}, {"id": "mine", "n": 0}])
        created = (await one[DOCS].meta("old")).created
    async with _open(name) as one, _open(name) as two:
        counter = _count()
        await one[DOCS].put({"id": "first", "n": 0})
        await one[DOCS].put({"id": "new", "n": 0})
        await one[DOCS].put({"id": "first", "n": 1})
        found["right"] = [counter.seen.to_py(), await _versions(one, ["first", "new"])]
        await one[DOCS].put({"id": "old", "n": 1})  # it was there
        found["there"] = [*await _versions(one, ["old"]), (await one[DOCS].meta("old")).created == created]
        for n in range(40):  # until it dares again
            await one[DOCS].put({"id": "first", "n": n})
        await two[DOCS].put({"id": "first", "n": -1})
        await one[DOCS].put({"id": "first", "n": 1})
        found["between"] = await _versions(one, ["first"])
        for n in range(40):
            await one[DOCS].put({"id": "first", "n": n})
        await two[DOCS].put({"id": "theirs", "n": -1})
        await one[DOCS].put_many([{"id": "theirs", "n": 1}, {"id": "first", "n": 1}, {"id": "theirs", "n": 2}])
        found["theirs"] = await _versions(one, ["first", "theirs"])
        await one[DOCS].delete("first")
        await one[DOCS].put({"id": "first", "n": 0})
        found["deleted"] = await _versions(one, ["first"])
        await asyncio.gather(*(one[DOCS].put({"id": "gathered", "n": n}) for n in range(20)))
        found["gathered"] = await _versions(one, ["gathered"])
        for n in range(40):
            await one[DOCS].put({"id": "first", "n": n})
        before = counter.seen.to_py()["undone"]
        cancelled = asyncio.ensure_future(one[DOCS].put({"id": "mine", "n": 1}))
        await asyncio.sleep(0)
        cancelled.cancel()
        with suppress(asyncio.CancelledError):
            await cancelled
        await two[DOCS].count()
        version = (await _versions(two, ["mine"]))[0]
        n = (await two[DOCS].get("mine"))["n"]
        found["cancelled"] = (version, n) in ((1, 0), (2, 1)), counter.seen.to_py()["undone"] > before
        for n in range(40):
            await one[DOCS].put({"id": "first", "n": n})
        plan = Write([SetMeta(META_COLLECTIONS, '["other"]')])
        await two._driver.run(Operation(plan, "write"))
        await one[DOCS].put({"id": "first", "n": 0})
        found["declared"] = one._driver.engine.store.noticed[1]
        counter.end()
    await IndexedDBStore.delete(name)
    return found


async def at_random(seed: int = 3, rounds: int = 250) -> dict[str, int]:
    """Both in turn; one writes for a while, so that its guesses are right, and the other comes between."""
    dice, name = random.Random(seed), "guess-random"
    model: dict[str, list[int]] = {}  # n and version
    counter = _count()
    async with _open(name) as one, _open(name) as two:
        db = one

        def written(key: Any, n: int) -> None:
            row = model.setdefault(repr(key), [0, 0])
            row[:] = n, row[1] + 1

        for n in range(rounds):
            if dice.random() < 0.06:
                db = two if db is one else one
            key, kind = dice.choice(KEYS), dice.randrange(12)
            if kind <= 7:
                await db[DOCS].put({"id": key, "n": n})
                written(key, n)
            elif kind <= 9:
                keys = dice.choices(KEYS, k=dice.choice([2, 9]))
                await db[DOCS].put_many([{"id": one, "n": n} for one in keys])
                for each in keys:
                    written(each, n)
            elif kind == 10:
                await db[DOCS].delete(key)
                model.pop(repr(key), None)
            else:
                await db[OTHER].put({"id": key})
            if n % 10 == 0:
                found = {repr(row["id"]): row["n"] for row in await db[DOCS].all()}
                assert found == {key: row[0] for key, row in model.items()}, n
                versions = await _versions(db, KEYS)
                assert versions == [model.get(repr(key), [0, 0])[1] for key in KEYS], n
    await IndexedDBStore.delete(name)
    seen: dict[str, int] = counter.seen.to_py()
    counter.end()
    return seen
