"""A device is woken by what others write, not by its own pushes coming back as hints."""

from __future__ import annotations

import asyncio

import homeport as hp
import pytest
from homeport.core.wire import Hint, Seen

from .helpers import Device, put, served

wells = hp.Collection("wells")


async def until(check, timeout_s=10.0):
    async with asyncio.timeout(timeout_s):
        while not await check():
            await asyncio.sleep(0.01)


async def _live(tmp_path, node, url, name):
    db = await hp.open_async(tmp_path / f"{name}.db", collections=[wells], durability="relaxed")
    sync = db.sync(url, token=node.auth.mint("ann", "t1", 600), poll_s=600, verify_s=None)
    streams = node.hub.count
    await sync.start()

    async def settled():
        return node.hub.count > streams and (await sync.status()).state == "idle"

    await until(settled)
    await asyncio.sleep(0.4)  # what the first "ready" asked for is over
    return db, sync


@pytest.mark.parametrize("kind", ["put", "delete"])
async def test_r08_a_push_costs_one_request_and_brings_none_to_its_own_device(
    dsn, make_node, tmp_path, kind
):
    node = await make_node(dsn, hint_interval_s=0.05)
    async with served(node) as url:
        a, a_sync = await _live(tmp_path, node, url, "a")
        b, b_sync = await _live(tmp_path, node, url, "b")
        if kind == "delete":
            await a[wells].put_many([{"id": f"w{n}"} for n in range(5)])
            await a_sync.now()
            await until(lambda: _has(b, "w4"))
            await asyncio.sleep(0.3)
        before = (await a_sync.status()).requests, (await b_sync.status()).requests
        for n in range(5):
            if kind == "put":
                await a[wells].put({"id": f"w{n}"})
                await until(lambda n=n: _has(b, f"w{n}"))
            else:
                await a[wells].delete(f"w{n}")
                await until(lambda n=n: _lacks(b, f"w{n}"))
            await asyncio.sleep(0.15)  # time for an echo that must not come
        spent = (await a_sync.status()).requests, (await b_sync.status()).requests
        # One each: a pushes, b pulls. Nobody asks for what it has.
        assert (spent[0] - before[0], spent[1] - before[1]) == (5, 5)
        await a.close()
        await b.close()


async def _has(db, key):
    return await db[wells].get(key) is not None


async def _lacks(db, key):
    return await db[wells].get(key) is None


async def test_r22_a_change_of_somebody_else_is_never_taken_for_an_echo(dsn, make_node, tmp_path, sql):
    """Another writer commits while ours is under way; its transaction is older than ours and in
    no answer of ours, so only the hint can tell of it."""
    node = await make_node(dsn, hint_interval_s=0.05)
    async with served(node) as url:
        a, a_sync = await _live(tmp_path, node, url, "a")
        for n in range(6):
            change = sql.transaction()
            await change.start()
            await sql.execute(
                "insert into homeport.documents (tenant, collection, key, body)"
                f" values ('t1', 'wells', 'x{n}', '{{\"id\": \"x{n}\"}}')"
            )
            await a[wells].put({"id": f"w{n}"})
            await until(lambda: _drained(a_sync))
            await asyncio.sleep(0.1)
            assert await _lacks(a, f"x{n}")
            await change.commit()
            await until(lambda n=n: _has(a, f"x{n}"), 5)
        await a.close()


async def _drained(sync):
    return (await sync.status()).queued == 0


async def test_many_writers_see_everything_of_each_other(dsn, make_node, tmp_path):
    """Polling is far away: a hint that is wrongly held for an echo would show as a missing row."""
    node = await make_node(dsn, hint_interval_s=0.05)
    async with served(node) as url:
        devices = [await _live(tmp_path, node, url, f"d{n}") for n in range(4)]

        async def write(n):
            for k in range(12):
                await devices[n][0][wells].put({"id": f"{n}-{k}"})
                await asyncio.sleep(0.01 * (n + 1))

        await asyncio.gather(*(write(n) for n in range(4)))

        for db, _ in devices:
            await until(lambda db=db: _count(db, 48), 10)
        for db, _ in devices:
            await db.close()


async def _count(db, wanted):
    return len(await db[wells].all()) == wanted


async def test_hints_name_their_transactions_and_cuts_what_they_hold(dsn, make_node):
    node = await make_node(dsn)
    device = Device(node)
    reply = await node.sync(device.claims, device.request(put("a", {"id": "a"})))
    token = int(reply.rows[0].token)
    assert reply.seen is not None and reply.seen.has(token)
    assert not reply.seen.has(reply.seen.high)


def test_what_is_news():
    seen = Seen(10, 20, [12, 15])
    assert [n for n in range(8, 22) if not seen.has(n)] == [12, 15, 20, 21]
    assert not Hint("hint", ["w"], [9, 11, 19]).is_news(seen)
    assert Hint("hint", ["w"], [9, 12]).is_news(seen)
    assert Hint("hint", ["w"], [20]).is_news(seen)
    # Nothing known of it, or of the device: ask.
    assert Hint("hint", ["w"]).is_news(seen)
    assert Hint("hint", ["w"], [9]).is_news(None)
    assert Hint("resync", ["w"]).is_news(seen)
    assert Hint("ready", ["w"]).is_news(seen)
    assert not Hint("bye").is_news(seen)
