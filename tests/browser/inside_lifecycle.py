"""One tab's part of the life of a database: asked from outside, step by step."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import homeport as hp
from homeport import browser
from homeport.core.query import EMPTY  # noqa: F401
from homeport.drivers import watch
from homeport.storage import indexeddb_connection

DOCS = hp.Collection("docs", indexes=["n"])
MORE = hp.Collection("docs", indexes=["n", "text"])
SECOND = hp.Collection(
    "docs", indexes=["n"], version=2, upcasters={1: lambda found: {**found, "form": 2}}
)
UNTRACKED = hp.Collection("docs", indexes=["n"], track_changes=False)
KINDS = {"docs": DOCS, "more": MORE, "second": SECOND, "untracked": UNTRACKED}
BLOCKED_S = indexeddb_connection.BLOCKED_S
_open: dict[str, hp.AsyncDatabase] = {}


async def outcome_of(wanted: Any) -> Any:
    try:
        return await wanted
    except hp.HomeportError as error:
        return {"error": type(error).__name__, "text": str(error)}


async def open_(argument: list[Any]) -> Any:
    """[name, kind, options]"""
    name, kind, options = argument

    async def opened() -> str:
        _open[name] = await hp.open_async(name, collections=[KINDS[kind]], **options)
        return "open"

    return await outcome_of(opened())


async def close(name: str) -> None:
    await _open.pop(name).close()


async def put(argument: list[Any]) -> Any:
    name, documents = argument
    return await outcome_of(_open[name]["docs"].put_many(documents))


async def keys(name: str) -> Any:
    return await outcome_of(_open[name]["docs"].keys())


async def increment(argument: list[Any]) -> int:
    """[name, key, how often]: read, change, write; each in one transaction."""
    name, key, times = argument

    def more(document: Any) -> Any:
        document["n"] += 1
        return document

    for _ in range(times):
        await _open[name]["docs"].update(key, more)
    return (await _open[name]["docs"].get(key))["n"]


async def follow(argument: list[Any]) -> list[Any]:
    """[name, seconds]: the first change that a live query hears of, by hints alone."""
    name, limit_s = argument
    before, watch.LOOK_S = watch.LOOK_S, 600.0
    try:
        async with _open[name]["docs"].where(hp.F.n >= 1_000).live() as live:
            await live.next(timeout_s=10)
            ready.set()
            change = await live.next(timeout_s=limit_s)
            return [] if change is None else [document["id"] for document in change.added]
    finally:
        watch.LOOK_S = before


ready = asyncio.Event()


async def following() -> bool:
    await asyncio.wait_for(ready.wait(), 20)
    ready.clear()
    return True


async def write_for_ever(name: str) -> int:
    """Acknowledged numbers are kept where the test reads them: in a window property."""
    import js

    docs, n = _open[name]["docs"], 0
    while True:
        await docs.put({"id": n, "n": n, "text": "x" * 200})
        js.globalThis.acknowledged = n
        n += 1


async def fill(argument: list[Any]) -> dict[str, Any]:
    """[name, at most so many MB]: random megabytes until the browser refuses one."""
    name, most = argument
    docs, stored, failed = _open[name]["docs"], [], None
    for n in range(most):
        outcome = await outcome_of(docs.put({"id": f"mb{n}", "n": n, "text": os.urandom(512 * 1024).hex()}))
        if isinstance(outcome, dict):
            failed = outcome
            break
        stored.append(f"mb{n}")
    kept = await docs.keys()
    return {"stored": stored, "failed": failed, "kept": sorted(kept)}


async def put_large_at_once(argument: list[Any]) -> list[Any]:
    """[name, beginning of the keys]: three documents that fill the store, all on their way together."""
    name, prefix = argument
    docs = _open[name]["docs"]
    texts = [os.urandom(1024 * 1024).hex() for _ in range(3)]
    puts = [outcome_of(docs.put_many([{"id": f"{prefix}{n}", "text": text}])) for n, text in enumerate(texts)]
    return await asyncio.gather(*puts)


def wait_for_others(limit_s: float | None = None) -> None:
    """How long an upgrade waits for tabs that do not let go; None = as always."""
    indexeddb_connection.BLOCKED_S = BLOCKED_S if limit_s is None else limit_s  # type: ignore[misc]


async def forms(name: str) -> list[int]:
    """The forms that there are."""
    return sorted({found.get("form", 1) for found in await _open[name]["docs"].all()})


async def tidy(argument: list[Any]) -> Any:
    name, keys = argument
    return await outcome_of(_open[name]["docs"].delete_many(keys))


async def info(name: str) -> dict[str, Any]:
    found = await _open[name].storage_info()
    return {
        "engine": found.engine, "limit": found.limit_bytes, "total": found.total_bytes,
        "persistent": found.persistent, "near": found.near_limit,
    }  # fmt: skip


async def promise() -> Any:
    start = asyncio.get_running_loop().time()
    return [await browser.persist(timeout_s=1.0), asyncio.get_running_loop().time() - start]


async def destroy(name: str) -> Any:
    return await outcome_of(browser.delete_database(name))


async def databases() -> list[str]:
    return await browser.databases()


async def foreign(name: str) -> None:
    """A database of another program."""
    from pyodide.code import run_js  # type: ignore[import-not-found]

    await run_js(
        """(name) => new Promise((answer) => {
          const request = indexedDB.open(name);
          request.onupgradeneeded = () => request.result.createObjectStore("named");
          request.onsuccess = () => { request.result.close(); answer(1); };
        })"""
    )(name)


async def durabilities() -> list[str]:
    """What the transactions of both settings ask of the browser."""
    from pyodide.code import run_js

    spy = run_js("""
        (() => {
          const before = IDBDatabase.prototype.transaction, seen = [];
          IDBDatabase.prototype.transaction = function (...words) {
            const made = before.apply(this, words);
            if (made.mode === "readwrite") seen.push(made.durability);
            return made;
          };
          return { seen, end() { IDBDatabase.prototype.transaction = before; } };
        })()
    """)
    found = []
    try:
        for durability in ("full", "relaxed"):
            async with hp.open_async("durable", collections=[DOCS], durability=durability) as db:
                spy.seen.length = 0
                await db[DOCS].put({"id": 1})
                found.append(sorted(set(spy.seen.to_py())))
    finally:
        spy.end()
    await browser.delete_database("durable")
    return found


async def lose_connections(name: str) -> Any:
    """The engine closes the connection without a word, as after a crash of its storage process."""
    from pyodide.code import run_js

    await _open[name]["docs"].put({"id": 1})
    run_js("""
        (() => {
          const before = IDBDatabase.prototype.transaction;
          IDBDatabase.prototype.transaction = function (...words) {
            IDBDatabase.prototype.transaction = before;
            this.close();
            return before.apply(this, words);
          };
        })()
    """)
    await _open[name]["docs"].put({"id": 2})
    return await _open[name]["docs"].keys()
