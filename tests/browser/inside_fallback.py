"""One tab's part of the fallback and of the simple store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import homeport as hp
from homeport import browser
from homeport.storage import localstorage
from homeport.storage.journaled_texts import JournaledTexts, prefix_of
from homeport.storage.simple import SimpleStore
from homeport.testing import conformance
from tests.browser.inside_lifecycle import outcome_of
from tests.facade import cases, cases_blocking, shared
from tests.portable.inside import TABLE, Outcome

DOCS = hp.Collection("docs", indexes=["n", hp.Unique("name")], sync=False)
NUMBERED = hp.Collection("numbered", key_generator="autoincrement", sync=False)
BOTH = [DOCS, NUMBERED]
_open: dict[str, hp.AsyncDatabase] = {}
told: list[Any] = []


async def suite() -> Mapping[str, Any]:
    """The conformance suite on localStorage."""
    outcome = Outcome()
    prefix = prefix_of("conformance", "x")

    def make_store(clock_ms: Callable[[], int]) -> Any:
        localstorage.discard("conformance", "x")
        keeper = JournaledTexts(localstorage._Area(), prefix, "localStorage")
        return SimpleStore(keeper, "x", clock_ms=clock_ms)

    for case in conformance.cases(TABLE):
        await outcome.run(str(case), lambda case=case: case.run(make_store))
    localstorage.discard("conformance", "x")
    return outcome.json()


async def facade() -> Mapping[str, Any]:
    first, second = Outcome(), Outcome()
    for name, check in shared.checks(cases).items():

        async def later(check: Any = check) -> None:
            await browser.delete_database("simple")
            async with hp.open_async("simple", collections=shared.COLLECTIONS, storage="simple") as db:
                await asyncio.wait_for(check(db), 60)
                keys = {one.name: await db[one].keys() for one in shared.COLLECTIONS}
            async with hp.open_async("simple", collections=shared.COLLECTIONS, storage="simple") as db:
                for one in shared.COLLECTIONS:
                    assert sorted(map(repr, await db[one].keys())) == sorted(map(repr, keys[one.name]))

        await first.run(name, later)
    for name, check in shared.checks(cases_blocking).items():

        async def now(check: Any = check) -> None:
            await browser.delete_database("simple")
            with hp.open("simple", collections=shared.COLLECTIONS, storage="simple") as db:
                check(db)

        await second.run(name, now)
    await browser.delete_database("simple")
    return {"asyncio": first.json(), "blocking": second.json()}


async def open_(argument: list[Any]) -> Any:
    name, options = argument
    told.clear()

    async def opened() -> Any:
        _open[name] = db = await hp.open_async(
            name, collections=BOTH, on_fallback=told.append, **options
        )
        info = await db.storage_info()
        return {
            "engine": info.engine, "fallback": info.fallback, "limit": info.limit_bytes,
            "told": [[type(one).__name__, str(one)] for one in told],
            "replaced": [
                [old.collection, old.key, old.document]
                for one in told if isinstance(one, hp.MovedUp) for old in one.replaced
            ],
        }  # fmt: skip

    return await outcome_of(opened())


async def put(argument: list[Any]) -> Any:
    name, collection, documents = argument
    return await outcome_of(_open[name][collection].put_many(documents))


async def delete(argument: list[Any]) -> Any:
    name, keys = argument
    return await outcome_of(_open[name]["docs"].delete_many(keys))


async def all_(name: str) -> Any:
    db = _open[name]
    return [await db[one].order_by("id").all() for one in BOTH]


async def revisions(name: str) -> Any:
    docs = _open[name]["docs"]
    return {key: (await docs.meta(key)).version for key in await docs.keys()}


async def close(name: str) -> None:
    await _open.pop(name).close()


async def sync(name: str) -> Any:
    async def begun() -> None:
        _open[name].sync("https://sync.example.com", token="t")

    return await outcome_of(begun())


async def remove(name: str) -> Any:
    return await outcome_of(browser.delete_database(name))


async def warned(name: str) -> list[str]:
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        db = await hp.open_async(name, collections=BOTH)
    await db.close()
    return [type(one.message).__name__ for one in caught]


async def interrupted_move(name: str, collections: Any = BOTH) -> str:
    """The tab dies behind the commit in IndexedDB, before localStorage is told."""
    before = localstorage.LocalStorage.write

    def die(*_: Any) -> None:
        raise RuntimeError("killed")

    localstorage.LocalStorage.write = die  # type: ignore[assignment]
    try:
        await hp.open_async(name, collections=collections)
    except RuntimeError as error:
        return str(error)
    finally:
        localstorage.LocalStorage.write = before  # type: ignore[method-assign]
    return "not killed"


class _Killed(BaseException):
    """Nothing of a program runs behind it: neither what takes back nor what lets go."""


async def die_at(argument: list[Any]) -> str:
    """[name, step, documents]: a commit that ends before its n-th change of localStorage."""
    name, step, documents = argument
    before, steps = localstorage._Area.set, iter(range(1, step))

    def set_(self: Any, name: str, text: str) -> None:
        if next(steps, None) is None:
            raise _Killed
        before(self, name, text)

    localstorage._Area.set = set_  # type: ignore[method-assign]
    try:
        await _open[name]["docs"].put_many(documents)
    except _Killed:
        return "killed"
    return "not killed"


async def fill(name: str) -> Any:
    """Documents of 200,000 characters until there is no room."""
    docs, stored, failed = _open[name]["docs"], [], None
    for n in range(60):
        outcome = await outcome_of(docs.put_many([{"id": f"{n}", "text": "x" * 200_000}, {"id": f"{n}b"}]))
        if isinstance(outcome, dict):
            failed = outcome["error"]
            break
        stored += [f"{n}", f"{n}b"]
    return {"failed": failed, "stored": sorted(stored), "kept": sorted(await docs.keys())}


async def write_for_ever(name: str) -> None:
    import js

    docs, n = _open[name]["docs"], 0
    while True:
        await docs.put_many([{"id": f"a{n}"}, {"id": f"b{n}"}])
        js.globalThis.pairs = n
        n += 1
        await asyncio.sleep(0.01)
