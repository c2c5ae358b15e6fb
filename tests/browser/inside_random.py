"""One tab's part of a random run: it performs steps that come from outside, and tells what came of them."""

from __future__ import annotations

from typing import Any

import homeport as hp
from homeport import browser, making
from tests.browser.inside_packed import pack, unpack
from tests.property import apply
from tests.property.generate import collections_of
from tests.property.run import START_MS, Abort, Clock, unit_of


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


async def state(name: str) -> dict[str, int]:
    kept = _tabs[name].db._driver.engine.store.kept
    return {"hits": kept.hits, "entries": len(kept)}


async def end(name: str) -> None:
    await _tabs.pop(name).db.close()


async def remove(name: str) -> None:
    await browser.delete_database(name)
