"""Floods: what the node turns away is neither lost nor doubled, and a device says when it is full."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec
import pytest

import homeport as hp
from homeport.core.wire import Problem
from homeport.server.limits import RateLimit

from .helpers import Device, served

wells = hp.Collection("wells")


def token(node, subject="ann"):
    return node.auth.mint(subject, "t1", 600.0)


async def test_a_device_that_asks_too_often_is_told_when_and_others_are_served(dsn, make_node):
    node = await make_node(dsn, device_requests=RateLimit(0.5, 3))
    device = Device(node)
    body = msgspec.json.encode(device.request())
    other = msgspec.json.encode(Device(node).request())
    async with served(node) as url, aiohttp.ClientSession() as http:

        async def ask(body, subject="ann"):
            headers = {"Authorization": "Bearer " + token(node, subject)}
            async with http.post(url + "/v1/sync", data=body, headers=headers) as answer:
                return answer.status, await answer.read(), answer.headers.get("Retry-After")

        assert [(await ask(body))[0] for _ in range(3)] == [200, 200, 200]
        status, answer, header = await ask(body)
        problem = msgspec.json.decode(answer, type=Problem)
        assert (status, problem.code, header) == (429, "rate-limited", "2")
        assert 0 < problem.retry_after_s <= 2.1
        assert (await ask(other))[0] == 200 and (await ask(body, "bob"))[0] == 200
        assert node.refusals["rate-limited"] == 1


async def test_a_user_over_the_limit_is_refused_before_the_body_is_read(dsn, make_node):
    node = await make_node(dsn, user_requests=RateLimit(0.1, 1))
    async with served(node) as url, aiohttp.ClientSession() as http:
        headers = {"Authorization": "Bearer " + token(node)}
        async with http.get(f"{url}/v1/poll", headers=headers) as answer:
            assert answer.status == 200
        read = node.bytes_received["packed"]
        async with http.post(url + "/v1/sync", data=b"x" * 100_000, headers=headers) as answer:
            assert answer.status == 429
        async with http.get(f"{url}/v1/poll", headers=headers) as answer:
            assert answer.status == 429
        assert node.bytes_received["packed"] == read


async def test_a_client_honours_the_limit_and_nothing_is_lost_or_doubled(dsn, make_node, tmp_path):
    node = await make_node(dsn, device_requests=RateLimit(4, 2), hint_interval_s=0.05)
    async with served(node) as url:
        async with hp.open_async(tmp_path / "d.db", collections=[wells]) as db:
            sync = db.sync(url, token=token(node), poll_s=600, verify_s=None)
            events = []
            sync.on_event(events.append)
            await sync.start()
            for n in range(30):
                await db[wells].put({"id": f"w{n:02}"})
                await asyncio.sleep(0.02)
            refused = node.refusals.get("rate-limited", 0)
            async with asyncio.timeout(20):
                while (await sync.status()).queued:
                    await asyncio.sleep(0.05)
            status = await sync.status()
            assert (status.pushed, status.dead, status.conflicts) == (30, 0, 0)
            # It was turned away, waited, and did not hammer at the door.
            assert node.refusals["rate-limited"] >= max(1, refused)
            assert status.requests <= 25
        observer = Device(node, "bob")
        await observer.sync()
        assert sorted(observer.docs()) == [f"w{n:02}" for n in range(30)]


async def test_now_waits_as_long_as_it_was_asked_or_raises_a_typed_error(dsn, make_node, tmp_path):
    node = await make_node(dsn, device_requests=RateLimit(0.01, 1))
    async with served(node) as url:
        async with hp.open_async(tmp_path / "d.db", collections=[wells]) as db:
            sync = db.sync(url, token=token(node), live=False, verify_s=None)
            await sync.now()
            await db[wells].put({"id": "w"})
            with pytest.raises(hp.errors.RateLimited) as caught:
                await sync.now(timeout_s=5)
            assert caught.value.context["retry_after_s"] > 5
            status = await sync.status()
            assert (status.queued, status.state) == (1, "offline")


async def test_limits_of_a_request_cannot_be_set_below_what_the_protocol_needs(dsn, make_node):
    with pytest.raises(hp.errors.ServerError):
        await make_node(dsn, max_request_bytes=1_000)


async def test_r19_a_full_queue_refuses_before_it_acknowledges_and_draining_frees_it(
    dsn, make_node, tmp_path
):
    """Single writes, batches and units: what does not fit is not written at all."""
    node = await make_node(dsn)
    async with served(node) as url:
        async with hp.open_async(tmp_path / "d.db", collections=[wells]) as db:
            sync = db.sync(url, token=token(node), live=False, max_queue=10, verify_s=None)
            await db[wells].put_many([{"id": f"a{n}"} for n in range(8)])
            with pytest.raises(hp.errors.QueueFull):
                await db[wells].put_many([{"id": f"b{n}"} for n in range(3)])

            async def unit(tx):
                for n in range(3):
                    await tx[wells].put({"id": f"u{n}"})

            with pytest.raises(hp.errors.QueueFull):
                await db.run(unit)
            assert await db[wells].count() == 8
            assert (await sync.status()).queued == 8
            await db[wells].put_many([{"id": "c0"}, {"id": "c1"}])
            for write in (
                lambda: db[wells].put({"id": "d"}),
                lambda: db[wells].delete("a0"),
                lambda: db[wells].patch("a1", {"x": 1}),
            ):
                before = await db[wells].all()
                try:
                    await write()
                except hp.errors.QueueFull:
                    assert await db[wells].all() == before
            assert (await sync.status()).queued <= 10
            await sync.now()
            assert (await sync.status()).queued == 0
            await db[wells].put_many([{"id": f"e{n}"} for n in range(10)])
            await sync.now()
        observer = Device(node, "bob")
        await observer.sync()
        keys = set(observer.docs())
        assert {"c0", "c1", "e9"} <= keys and not keys & {"b0", "b1", "b2", "u0", "u1", "u2"}


async def test_a_loop_of_writes_to_one_document_stays_small(dsn, make_node, tmp_path):
    """A runaway loop: coalesced in the queue, or refused; the memory of the queue is bounded."""
    node = await make_node(dsn)
    async with served(node) as url:
        async with hp.open_async(tmp_path / "d.db", collections=[wells]) as db:
            sync = db.sync(url, token=token(node), live=False, max_queue=50, verify_s=None)
            await db[wells].put({"id": "w", "n": 0})
            for n in range(1, 500):
                await db[wells].patch("w", {"n": n})
            assert (await sync.status()).queued <= 2
            await sync.now()
            with pytest.raises(hp.errors.QueueFull):
                for n in range(500):
                    await db[wells].put({"id": f"x{n}"})
            assert (await sync.status()).queued == 50
            await sync.now()
        observer = Device(node, "bob")
        await observer.sync()
        assert observer.docs()["w"] == {"id": "w", "n": 499} and len(observer.docs()) == 51
