"""One tab that syncs with a real node: asked from outside, step by step."""

from __future__ import annotations

import asyncio
from typing import Any

import homeport as hp
from homeport.core import outbox, streams
from homeport.core.query import EMPTY
from homeport.core.requests import Find, Meta, Operation
from homeport.core.wire import Hello
from homeport.transport.fetch import FetchTransport
from tests.browser import inside_fallback

WELLS = hp.Collection("wells", indexes=["depth_m", ("field", "depth_m")])
NOTES = hp.Collection("notes", indexes=[hp.FullText("text")])
_open: dict[str, tuple[hp.AsyncDatabase, Any]] = {}


async def open_(argument: list[Any]) -> None:
    """[name, url, token]: open and begin to replicate."""
    name, url, token = argument
    db = await hp.open_async(name, collections=[WELLS, NOTES])
    sync = db.sync(url, token=token, poll_s=600.0)
    await sync.start()
    _open[name] = db, sync


async def close(name: str) -> None:
    await leave(name)
    await hp_delete(name)


async def leave(name: str) -> None:
    db, sync = _open.pop(name)
    await sync.stop()
    await db.close()


async def stop(name: str) -> None:
    await _open[name][1].stop()


async def _offline(name: str, told: list[Any]) -> hp.AsyncDatabase:
    return await hp.open_async(name, collections=[WELLS, NOTES], on_fallback=told.append)


async def meanwhile(argument: list[Any]) -> list[str]:
    """[name, documents, keys]: what a database without sync writes and deletes."""
    name, documents, gone = argument
    told: list[Any] = []
    async with await _offline(name, told) as db:
        await db["wells"].put_many(documents)
        await db["wells"].delete_many(gone)
        return [(await db.storage_info()).engine, *(type(one).__name__ for one in told)]


async def killed_move(name: str) -> str:
    return await inside_fallback.interrupted_move(name, [WELLS, NOTES])


async def what_waits(name: str) -> dict[str, Any]:
    """The queue, in its order, and what the device is known by."""
    told: list[Any] = []
    async with await _offline(name, told) as db:
        rows = await db._driver.run(Operation(Find(outbox.OUTBOX, EMPTY, "texts"), "read"))
        entries = sorted((outbox.read_entry(text) for text in rows), key=lambda entry: entry.id)
        names = (outbox.META_CLIENT, outbox.META_BINDING, outbox.META_CURSOR)
        return {
            "queue": [[entry.op, entry.key] for entry in entries],
            "device": [await db._driver.run(Operation(Meta(one), "read")) for one in names],
            "told": [[one.documents, one.deleted, len(one.replaced), len(one.failures)] for one in told],
        }


async def hp_delete(name: str) -> None:
    from homeport import browser

    await browser.delete_database(name)


async def put(argument: list[Any]) -> None:
    name, documents = argument
    await _open[name][0]["wells"].put_many(documents)


async def state(name: str) -> dict[str, Any]:
    db, sync = _open[name]
    status = await sync.status()
    wells = {well["id"]: well["depth_m"] for well in await db["wells"].all()}
    return {"state": status.state, "queued": status.queued, "wells": wells, "error": status.last_error,
            "next_attempt_s": status.next_attempt_s, "pushed": status.pushed, "pulled": status.pulled,
            "leads": sync._pump._renew_at > 0}  # fmt: skip


async def blocking(argument: list[Any]) -> list[Any]:
    """The blocking facade: one exchange while Python is suspended."""
    name, url, token = argument
    with hp.open(name, collections=[WELLS, NOTES]) as db:
        sync = db.sync(url, token=token)
        db["wells"].put({"id": name, "depth_m": 1.0})
        status = sync.now(timeout_s=30)
        found = db["wells"].count()
        sync.stop()
    await hp_delete(name)
    return [status.queued, found]


async def kinds(argument: list[Any]) -> dict[str, Any]:
    """The first message of every kind of stream, and what a refused one says."""
    url, token = argument
    found: dict[str, Any] = {}
    net = FetchTransport(url)
    for kind in streams.KINDS:
        for what, given in (("good", token), ("bad", "nonsense")):
            hello = Hello(1, given, "", ["wells"])
            try:
                async with asyncio.timeout(20):
                    async for hint in net.hints(hello, kind, 2.0):
                        found[f"{kind} {what}"] = hint.t
                        break
            except Exception as error:
                found[f"{kind} {what}"] = f"{type(error).__name__}: {error}"
    await net.close()
    return found
