"""One tab's part of a random run: it performs steps that come from outside, and tells what came of them."""

from __future__ import annotations

import asyncio
from typing import Any

import homeport as hp
from homeport import browser, making
from tests.browser.inside_packed import pack, unpack
from tests.property import apply
from tests.property.generate import collections_of
from tests.property.run import START_MS, Abort, Clock, unit_of


AT_ONCE = 4


class _Outcomes:
    """Stands where the model stands in a script that is checked at once."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def check(self, op: Any, outcome: Any) -> None:
        self.found.append(outcome)


class _Tab:
    operations = 0

    def __init__(self, name: str, seed: int, options: dict[str, Any]) -> None:
        self.name = name
        self.collections = collections_of(seed)
        self.clock = Clock()
        self.options = {"durability": "relaxed", "fallback": False, **options}
        self.cache_bytes = self.options.pop("cache_bytes", None)

    async def open(self) -> None:
        before, making.clock_ms = making.clock_ms, self.clock
        try:
            self.db = await hp.open_async(self.name, collections=self.collections, **self.options)
        finally:
            making.clock_ms = before
        if self.cache_bytes is not None:
            self.db._driver.engine.store.kept.max_bytes = self.cache_bytes

    async def step(self, step: Any) -> list[Any]:
        self.model = _Outcomes()
        if step[0] == "advance":
            self.clock.now_ms += step[1]
        elif step[0] == "reopen":
            await self.db.close()
            await self.open()
        elif step[0] == "do":
            self.model.check(step[2], await apply.apply(lambda name: self.db[name], step[2]))
        else:
            try:
                await self.db.run(unit_of(self, step[2], keep=step[3]))
            except Abort:
                pass
        return self.model.found


_tabs: dict[str, _Tab] = {}


async def begin(argument: list[Any]) -> None:
    """[name, seed, options]"""
    name, seed, options = argument
    _tabs[name] = tab = _Tab(name, seed, options)
    await tab.open()


async def play(argument: list[Any]) -> str:
    """[name, ms since the beginning, steps] → for each step the outcomes of its operations."""
    name, elapsed_ms, steps = argument
    tab = _tabs[name]
    tab.clock.now_ms = START_MS + elapsed_ms
    found: list[Any] = []
    for step in unpack(steps):
        try:
            found.append(await tab.step(step))
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
            break
    return pack(found)


async def storm(argument: list[Any]) -> None:
    """[name, ms since the beginning, operations]: several at once, while the other tab does the same."""
    name, elapsed_ms, packed = argument
    tab = _tabs[name]
    tab.clock.now_ms = START_MS + elapsed_ms
    waiting = iter(unpack(packed))

    async def one() -> None:
        for op in waiting:
            await apply.apply(lambda name: tab.db[name], op)

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))


async def rows(argument: list[Any]) -> str:
    """[name, with a new connection that keeps nothing]: each document with its metadata, and the same
    documents by keys; asked twice, because the second answer may come from memory."""
    name, anew = argument
    tab = _tabs[name]
    if anew:
        other = _Tab(name, 0, {**tab.options, "cache_bytes": 0})
        other.collections, other.clock = tab.collections, tab.clock
        await other.open()
    db = other.db if anew else tab.db
    found: dict[str, Any] = {}
    for collection in tab.collections:
        docs = db[collection]
        for _ in range(2):
            documents = await docs.order_by("id").all()
            keys = [document["id"] for document in documents]
            by_key = await docs.get_many(keys)
        metas = [await apply.perform(docs, "meta", key) for key in keys]
        found[collection.name] = [documents, by_key, sorted(map(repr, await docs.keys())), metas]
    if anew:
        await other.db.close()
    return pack(found)


async def state(name: str) -> dict[str, int]:
    kept = _tabs[name].db._driver.engine.store.kept
    return {"hits": kept.hits, "entries": len(kept)}


async def end(name: str) -> None:
    await _tabs.pop(name).db.close()


async def remove(name: str) -> None:
    await browser.delete_database(name)
