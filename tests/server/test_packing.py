"""Packed bodies between a real device and a real node, and the bytes that both say they moved."""

from __future__ import annotations

import asyncio
import contextlib
import gzip

import aiohttp
import msgspec
import pytest
from aiohttp import web

import homeport as hp
from homeport.core.wire import Problem, Reply
from homeport.server import app as app_module
from homeport.transport import encoding, http

from .helpers import Device, put, served
from .middlebox import Middlebox

wells = hp.Collection("wells")
DOCS = [{"id": f"w{n:04}", "name": "the same words again and again", "n": n} for n in range(300)]


def bearer(node):
    return {"Authorization": "Bearer " + node.auth.mint("ann", "t1", 600.0)}


@contextlib.asynccontextmanager
async def device(tmp_path, url, node, name="d"):
    async with hp.open_async(tmp_path / f"{name}.db", collections=[wells]) as db:
        token = node.auth.mint("ann", "t1", 600.0)
        yield db, db.sync(url, token=token, live=False, verify_s=None)


@pytest.mark.parametrize("spoken", ["zstd", "gzip"])
async def test_bodies_are_packed_and_every_byte_is_counted(
    dsn, make_node, tmp_path, monkeypatch, spoken
):
    monkeypatch.setattr(encoding, "ENCODINGS", (spoken,))
    for module in (http, app_module):
        monkeypatch.setattr(module, "ACCEPTED", spoken)
    node = await make_node(dsn)
    async with served(node) as url, Middlebox(url) as proxy:
        async with device(tmp_path, proxy.url, node) as (db, sync):
            await sync.now()
            small = (await sync.status()).traffic
            # What fits into a packet is not packed.
            assert small.packed_sent_bytes == small.body_sent_bytes > 0
            assert small.saved_bytes == 0
            await db[wells].put_many(DOCS)
            status = await sync.now()
            traffic = status.traffic
            assert (traffic.sent_bytes, traffic.received_bytes) == (proxy.sent, proxy.received)
            sent = traffic.packed_sent_bytes - small.packed_sent_bytes
            meant = traffic.body_sent_bytes - small.body_sent_bytes
            assert sent < meant / 5 and traffic.sent_bytes > traffic.packed_sent_bytes
            assert traffic.packed_received_bytes < traffic.body_received_bytes / 3
            assert traffic.saved_bytes > 2 / 3 * (meant + traffic.body_received_bytes)
            # The node counts the same bodies.
            assert node.bytes_received == {
                "packed": traffic.packed_sent_bytes, "unpacked": traffic.body_sent_bytes
            }  # fmt: skip
            assert node.bytes_sent == {
                "packed": traffic.packed_received_bytes, "unpacked": traffic.body_received_bytes
            }  # fmt: skip
            assert f'homeport_sent_bytes_total{{form="packed"}} {node.bytes_sent["packed"]}' in (
                node.metrics()
            )
            # One call for each document and each row, against the few requests there were.
            assert status.calls_saved == status.pushed + status.pulled - status.requests > 500
        async with device(tmp_path, proxy.url, node, "e") as (db, sync):
            await sync.now()
            assert await db[wells].count() == len(DOCS)


async def test_live_streams_are_counted_too(dsn, make_node, tmp_path):
    node = await make_node(dsn, hint_interval_s=0.05)
    writer = Device(node, "bob")
    async with served(node) as url, Middlebox(url) as proxy:
        async with hp.open_async(tmp_path / "d.db", collections=[wells]) as db:
            token = node.auth.mint("ann", "t1", 600.0)
            sync = db.sync(proxy.url, token=token, poll_s=600, verify_s=None)
            await sync.start()
            async with asyncio.timeout(10):
                while (await sync.status()).stream is None:
                    await asyncio.sleep(0.02)
                await writer.sync(put("a", {"id": "a"}))
                while await db[wells].get("a") is None:
                    await asyncio.sleep(0.02)
                while True:
                    traffic = (await sync.status()).traffic
                    if (traffic.sent_bytes, traffic.received_bytes) == (proxy.sent, proxy.received):
                        break
                    await asyncio.sleep(0.02)
            assert traffic.received_bytes > traffic.packed_received_bytes


async def test_a_node_refuses_bombs_rubbish_and_what_it_cannot_unpack(dsn, make_node, monkeypatch):
    node = await make_node(dsn)
    node.max_request_bytes = 1_000_000
    good = msgspec.json.encode(Device(node).request(put("a", {"id": "a"})))
    async with served(node) as url, aiohttp.ClientSession() as session:

        async def ask(body, name):
            headers = bearer(node) | {"Content-Encoding": name}
            async with session.post(url + "/v1/sync", data=body, headers=headers) as answer:
                code = ""
                if answer.status != 200:
                    code = msgspec.json.decode(await answer.read(), type=Problem).code
                return answer.status, code, answer.headers.get("Accept-Encoding")

        bomb = gzip.compress(bytes(100_000_000))
        assert len(bomb) < 120_000
        assert (await ask(bomb, "gzip"))[:2] == (413, "too-large")
        assert (await ask(b"not gzip", "gzip"))[:2] == (422, "bad-request")
        assert (await ask(gzip.compress(good)[:-4], "gzip"))[:2] == (422, "bad-request")
        assert await ask(good, "br") == (415, "unsupported-encoding", "zstd, gzip")
        assert await ask(gzip.compress(good), "gzip") == (200, "", "zstd, gzip")


async def test_a_device_follows_what_the_node_of_today_unpacks(
    dsn, make_node, tmp_path, monkeypatch
):
    """Two nodes behind one address, one without zstd: 415, and the same batch at once again."""
    node = await make_node(dsn)
    async with served(node) as url:
        async with device(tmp_path, url, node) as (db, sync):
            await sync.now()
            real, refused = app_module.Unpacker, []

            def poorer(name, limit):
                if name == "zstd":
                    refused.append(name)
                    raise encoding.UnknownEncoding(name)
                return real(name, limit)

            monkeypatch.setattr(app_module, "Unpacker", poorer)
            monkeypatch.setattr(app_module, "ACCEPTED", "gzip")
            monkeypatch.setattr("homeport.server.answers.ACCEPTED", "gzip")
            await db[wells].put_many(DOCS)
            status = await sync.now()
            assert (status.queued, status.pushed, len(refused)) == (0, len(DOCS), 1)


@pytest.mark.parametrize("kind", ["bomb", "damaged", "unknown"])
async def test_a_device_survives_what_a_server_packs(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(http, "MAX_REPLY_BYTES", 1_000_000)
    reply = msgspec.json.encode(Reply(1, 0))
    answers = {
        "bomb": (gzip.compress(bytes(100_000_000)), "gzip", hp.errors.ServerRefused),
        "damaged": (gzip.compress(reply)[:-2], "gzip", hp.errors.Unreachable),
        "unknown": (reply, "br", hp.errors.Unreachable),
    }
    body, name, expected = answers[kind]

    async def answer(_):
        return web.Response(body=body, headers={"Content-Encoding": name})

    application = web.Application()
    application.router.add_post("/v1/sync", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with hp.open_async(tmp_path / "d.db", collections=[wells]) as db:
            sync = db.sync(f"http://127.0.0.1:{runner.addresses[0][1]}", token="t", live=False)
            await db[wells].put({"id": "w"})
            with pytest.raises(expected):
                await sync.now(timeout_s=0.5)
            assert (await sync.status()).queued == 1
    finally:
        await runner.cleanup()
