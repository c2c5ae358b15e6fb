"""One of several tabs that sync with a real node through good and bad times: asked step by step."""

from __future__ import annotations

import asyncio
from typing import Any

import homeport as hp
from homeport import browser
from homeport.core import session, streams
from homeport.transport import fetch, pump

COUNTS = hp.Collection("counts", sync=hp.Synced(fields={"n": hp.Counter()}))
READY_S, LEASE_MS, DELAY_MS = fetch.READY_S, pump.LEASE_MS, session.delay_ms
_open: dict[str, tuple[hp.AsyncDatabase, Any]] = {}
_badges: list[str] = []
_states: list[str] = []
_tokens: list[Any] = []
_asked: list[int] = []
_tasks: list[asyncio.Task[None]] = []


def quick(argument: dict[str, Any]) -> None:
    """lease_ms: how long a lease holds that is not renewed. ready_s: how long a stream may be silent at
    first. longest_pause_ms, pause_ms: between two attempts."""
    pump.LEASE_MS = argument.get("lease_ms", LEASE_MS)  # type: ignore[misc]
    fetch.READY_S = argument.get("ready_s", READY_S)  # type: ignore[misc]
    longest_ms = argument.get("longest_pause_ms")
    pause_ms = argument.get("pause_ms")

    def delay_ms(failures: int, fraction: float) -> int:
        if pause_ms is not None:
            return int(pause_ms)
        return DELAY_MS(failures, fraction) if longest_ms is None else int(longest_ms * fraction)

    session.delay_ms = streams.delay_ms = delay_ms


async def ended(argument: list[Any]) -> None:
    """[reason, times]: wait until so many streams have ended for this reason, one after the other."""
    wanted, times = argument
    before, seen = streams.Choice.ended, asyncio.Event()
    left = times

    def ended(self: streams.Choice, event: streams.Ended) -> int:
        nonlocal left
        left = left - 1 if event.reason == wanted else times
        if not left:
            seen.set()
        return before(self, event)

    streams.Choice.ended = ended  # type: ignore[method-assign]
    try:
        await asyncio.wait_for(seen.wait(), 30)
    finally:
        streams.Choice.ended = before  # type: ignore[method-assign]


async def _token() -> str:
    """The first of those that are left; the last one stays."""
    await asyncio.sleep(0)
    _asked.append(1)
    given = _tokens.pop(0) if len(_tokens) > 1 else _tokens[0]
    if not given:
        raise OSError("no sign-in without a network")
    return given


async def open_(argument: list[Any]) -> None:
    """[name, url, token or tokens, live, sealed]: open and begin to replicate."""
    name, url, token, live, sealed = [*argument, *[True, False][len(argument) - 3 :]]
    key = await browser.device_key(name) if sealed else None
    db = await hp.open_async(name, collections=[COUNTS], key=key)
    if isinstance(token, list):
        _tokens[:] = token
        _asked.clear()
        token = _token
    sync = db.sync(url, token=token, poll_s=600.0, live=live)
    sync.on_event(lambda event: _states.append(event.detail) if event.kind == "state" else None)
    await sync.start()
    _open[name] = db, sync
    _tasks.append(asyncio.ensure_future(_follow(db)))


async def _follow(db: hp.AsyncDatabase) -> None:
    async for changes in db.badges(COUNTS):
        _badges.extend(change.badge for change in changes)


async def reject_text(argument: list[Any]) -> None:
    """A token function of JavaScript that is rejected with a text."""
    from pyodide.code import run_js

    name, url = argument
    db = await hp.open_async(name, collections=[COUNTS])
    sync = db.sync(url, token=run_js("() => Promise.reject('nobody is signed in')"), poll_s=600.0)
    await sync.start()
    _open[name] = db, sync


async def sign_in(tokens: list[str], name: str = "") -> None:
    """Other tokens from now on."""
    _tokens[:] = tokens
    for _, sync in _open.values():
        await sync.resume()


async def close(name: str) -> None:
    db, sync = _open.pop(name)
    for task in _tasks:
        task.cancel()
    _tasks.clear()
    await sync.stop()
    await db.close()


async def destroy(name: str) -> None:
    await browser.delete_database(name)


async def add(argument: list[Any]) -> int:
    """[name, key, times]: count up, each in a transaction of its own."""
    name, key, times = argument
    counts = _open[name][0]["counts"]
    for _ in range(times):
        if await counts.get(key) is None:
            await counts.put({"id": key, "n": 0})
        await counts.update(key, lambda found: {**found, "n": found["n"] + 1})
    return (await counts.get(key))["n"]


async def fill(argument: list[Any]) -> None:
    name, total = argument
    text = "what people write again and again, and again " * 4
    await _open[name][0]["counts"].put_many(
        [{"id": f"filling-{name}-{n}", "n": n, "text": text} for n in range(total)]
    )


async def look(name: str) -> dict[str, Any]:
    db, sync = _open[name]
    status = await sync.status()
    traffic = status.traffic
    return {
        "state": status.state, "queued": status.queued, "error": status.last_error, "asked": len(_asked),
        "counts": {one["id"]: one["n"] for one in await db["counts"].all() if "text" not in one},
        "badges": _badges, "states": _states, "stream": status.stream,
        "leads": sync._pump._renew_at > 0, "requests": sync._pump.rounds.requests,
        "sent": [traffic.body_sent_bytes, traffic.packed_sent_bytes],
        "received": [traffic.body_received_bytes, traffic.packed_received_bytes],
    }  # fmt: skip


async def note(argument: list[Any]) -> None:
    """[name, key, text]: write it into a document."""
    name, key, text = argument
    await _open[name][0]["counts"].put({"id": key, "n": 0, "note": text})


async def notes(name: str) -> dict[str, str]:
    return {one["id"]: one["note"] for one in await _open[name][0]["counts"].all() if "note" in one}


async def everything(name: str) -> str:
    """All that the browser keeps of a database, as text."""
    from tests.portable.inside_sealed import _raw

    return str(await _raw().dump(name))


async def unseal(name: str) -> None:
    await browser.forget_key(name)


def forget() -> None:
    _badges.clear()
    _states.clear()
