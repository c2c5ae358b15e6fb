"""Live streams over WebSocket, server-sent events and long poll: the node's side and the device's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time

import aiohttp
import pytest

import homeport as hp
from homeport.core import session as machine
from homeport.core import streams as choice
from homeport.server import streams
from homeport.server.rules import ServerCollection
from homeport.transport import live

from tests.portable.pyodide import NODE

from .helpers import Device, put, served
from .middlebox import Middlebox

wells = hp.Collection("wells")


def token(node, subject="ann", ttl_s=600.0):
    return node.auth.mint(subject, "t1", ttl_s)


def bearer(node, **of):
    return {"Authorization": "Bearer " + token(node, **of)}


async def read_event(response, comments=None):
    """As the standard's event stream interpretation has it → (id, data)."""
    last, data = "", []
    async with asyncio.timeout(5):
        while True:
            line = (await response.content.readline()).decode().rstrip("\n")
            if line.startswith(":"):
                if comments is not None:
                    comments.append(line)
            elif line.startswith("id: "):
                last = line[4:]
            elif line.startswith("data: "):
                data.append(line[6:])
            elif not line and data:
                return last, json.loads("\n".join(data))


async def test_events_carry_hints_ids_and_heartbeats(dsn, make_node, sql):
    node = await make_node(dsn, hint_interval_s=0.05)
    device = Device(node)
    await device.sync()
    async with served(node) as url, aiohttp.ClientSession() as http:
        asked = [("collection", "wells"), ("pause_s", "1")]
        async with http.get(f"{url}/v1/events", params=asked, headers=bearer(node)) as response:
            assert response.content_type == "text/event-stream"
            assert "no-store" in response.headers["Cache-Control"]
            first, ready = await read_event(response)
            assert ready["t"] == "ready" and ready["id"] == first
            assert node.hub.by_kind["sse"] == 1
            await device.sync(put("a", {"id": "a"}))
            last, hint = await read_event(response)
            assert (hint["t"], hint["collections"]) == ("hint", ["wells"])
            assert hint["moved"] == [int(device.token("a"))]
            comments = []
            task = asyncio.create_task(read_event(response, comments))
            while not comments:
                await asyncio.sleep(0.05)
            task.cancel()
        # What moves while nobody listens is told by the next stream, from the id on; in any way that
        # an EventSource or a script can ask.
        await device.sync(put("b", {"id": "b"}))
        for headers, more in (
            (bearer(node) | {"Last-Event-ID": last}, []),
            (bearer(node), [("since", last)]),
            ({"Last-Event-ID": last}, [("token", token(node))]),
        ):
            params = asked + more
            async with http.get(f"{url}/v1/events", params=params, headers=headers) as response:
                assert (await read_event(response))[1]["t"] == "ready"
                now, hint = await read_event(response)
                assert hint["moved"] == [int(device.token("b"))]
        params = [*asked, ("since", now)]
        async with http.get(f"{url}/v1/events", params=params, headers=bearer(node)) as response:
            assert (await read_event(response))[1]["t"] == "ready"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(read_event(response), 0.4)
    async with asyncio.timeout(5):
        while node.hub.count:
            await asyncio.sleep(0.02)


async def test_a_long_poll_waits_a_bounded_time_and_loses_nothing_between_two(dsn, make_node):
    node = await make_node(dsn, hint_interval_s=0.05)
    device = Device(node)
    await device.sync()
    async with served(node) as url, aiohttp.ClientSession() as http:

        async def poll(since=None, pause_s=1):
            params = [("collection", "wells"), ("pause_s", str(pause_s))]
            params += [("since", since)] if since else []
            async with http.get(f"{url}/v1/poll", params=params, headers=bearer(node)) as answer:
                assert answer.status == 200 and "no-store" in answer.headers["Cache-Control"]
                return await answer.json()

        ready = await poll()
        assert ready["t"] == "ready"
        quiet = await poll(ready["id"])
        assert quiet["t"] == "quiet"
        await device.sync(put("a", {"id": "a"}))
        hint = await poll(quiet["id"])
        assert hint["t"] == "hint" and hint["moved"] == [int(device.token("a"))]
        waiting = asyncio.create_task(poll(hint["id"], 50))
        while not node.hub.by_kind["long-poll"]:
            await asyncio.sleep(0.02)
        await device.sync(put("b", {"id": "b"}))
        assert (await asyncio.wait_for(waiting, 5))["moved"] == [int(device.token("b"))]
        # What cannot be said exactly makes the device pull.
        for nonsense in ("x", "W10=", "eyJ9"):
            assert (await poll(nonsense))["t"] == "resync"
        assert node.hub.count == 0


async def test_a_scope_that_changed_between_two_streams_is_told(dsn, make_node):
    seen = ["a"]
    rule = ServerCollection("wells", bucket=lambda doc: doc["r"], buckets=lambda c, f: list(seen))
    node = await make_node(dsn, [rule])
    async with served(node) as url, aiohttp.ClientSession() as http:

        async def poll(since=""):
            params = [("collection", "wells"), ("pause_s", "1"), ("since", since)]
            async with http.get(f"{url}/v1/poll", params=params, headers=bearer(node)) as answer:
                return await answer.json()

        first = await poll()
        assert (await poll(first["id"]))["t"] == "quiet"
        seen.append("b")
        assert (await poll(first["id"]))["t"] == "resync"


async def test_streams_refuse_what_a_push_refuses(dsn, make_node):
    node = await make_node(dsn, max_streams_per_user=2, max_streams=3)
    async with served(node) as url, aiohttp.ClientSession() as http:

        async def ask(path, headers=(), **params):
            async with http.get(url + path, params=params, headers=dict(headers)) as answer:
                return answer.status, (await answer.json())["code"], answer.headers

        for path in ("/v1/events", "/v1/poll"):
            assert (await ask(path))[:2] == (401, "needs-auth")
            assert (await ask(path, token=token(node, ttl_s=-60)))[:2] == (401, "needs-auth")
            good = bearer(node)
            assert (await ask(path, good, v="2"))[:2] == (426, "protocol-mismatch")
            for wrong in ("x", "nan", "-1", "inf"):
                assert (await ask(path, good, pause_s=wrong))[:2] == (422, "bad-request")
        async with contextlib.AsyncExitStack() as stack:
            for subject in ("ann", "ann", "bob"):
                await stack.enter_async_context(
                    http.get(f"{url}/v1/events", headers=bearer(node, subject=subject))
                )
                if subject == "ann" and node.hub.count == 2:
                    status, code, headers = await ask("/v1/poll", bearer(node))
                    assert (status, code, headers["Retry-After"]) == (429, "busy", "1")
            assert (await ask("/v1/poll", bearer(node, subject="eve")))[0] == 429
            ws = await http.ws_connect(url + "/v1/live")
            await ws.send_json({"v": 1, "token": token(node), "client": "c", "collections": []})
            assert (await ws.receive(5)).type is aiohttp.WSMsgType.CLOSE and ws.close_code == 4429
        assert node.refusals["busy"] == 3


async def test_events_end_with_the_token_and_when_the_node_stops(dsn, make_node):
    node = await make_node(dsn)
    async with served(node) as url, aiohttp.ClientSession() as http:
        headers = bearer(node, ttl_s=1.5)
        async with http.get(f"{url}/v1/events", headers=headers) as response:
            assert [(await read_event(response))[1]["t"] for _ in range(2)] == ["ready", "bye"]
            assert await response.content.read() == b"\n" or response.content.at_eof()
        async with http.get(f"{url}/v1/events", headers=bearer(node)) as response:
            await read_event(response)
            node.hub.leave()
            assert (await read_event(response))[1]["t"] == "bye"


async def test_a_reader_who_stops_reading_is_cut(dsn, make_node, monkeypatch):
    monkeypatch.setattr(streams, "SEND_LIMIT_S", 0.3)
    node = await make_node(dsn, hint_interval_s=0.02)
    names = [f"a-collection-with-a-long-name-{n:04}" for n in range(200)]
    async with served(node) as url:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            query = "&".join(f"collection={name}" for name in names)
            lines = [f"GET /v1/events?{query} HTTP/1.1", "Host: x"]
            lines.append(f"Authorization: Bearer {token(node)}")
            deaf.sendall("\r\n".join([*lines, "", ""]).encode())
            async with asyncio.timeout(5):
                while not node.hub.count:
                    await asyncio.sleep(0.01)
            async with asyncio.timeout(20):
                while node.hub.count:
                    for name in names:
                        node.hub.regenerated(name)
                    await asyncio.sleep(0)


# -- the device


@pytest.fixture
def quick(monkeypatch):
    """Pauses and patience that a test can wait for."""
    monkeypatch.setattr(machine, "FIRST_DELAY_MS", 50)
    monkeypatch.setattr(live, "READY_S", 1.0)
    monkeypatch.setattr(choice, "CUTS", 2)


async def until(check, timeout_s=20.0):
    async with asyncio.timeout(timeout_s):
        while not await check():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def device_behind(tmp_path, node, url):
    async with hp.open_async(tmp_path / "d.db", collections=[wells]) as db:
        sync = db.sync(url, token=token(node), poll_s=600, verify_s=None)
        assert (await sync.status()).stream is None
        await sync.start()
        yield db, sync


async def arrives(db, writer, key):
    """Only a hint can bring it: the timer is ten minutes away."""
    await writer.sync(put(key, {"id": key}))

    async def there():
        return await db[wells].get(key) is not None

    await until(there)


def uses(sync, kind):
    async def check():
        return (await sync.status()).stream == kind

    return check


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ({}, "websocket"),
        ({"no_upgrade": 403}, "sse"),
        ({"no_upgrade": 502}, "sse"),
        ({"no_upgrade": 400, "buffered": True}, "long-poll"),
    ],
)
async def test_r22_the_best_kind_that_gets_through_is_used(
    dsn, make_node, tmp_path, quick, box, kind
):
    node = await make_node(dsn, hint_interval_s=0.05)
    writer = Device(node, "bob")
    async with served(node) as url, Middlebox(url, **box) as proxy:
        async with device_behind(tmp_path, node, proxy.url) as (db, sync):
            await until(uses(sync, kind))
            for key in ("a", "b", "c"):
                await arrives(db, writer, key)
            assert (await sync.status()).stream == kind


async def test_r22_a_proxy_that_cuts_all_connections_costs_time_and_no_storm(
    dsn, make_node, tmp_path, quick
):
    node = await make_node(dsn, hint_interval_s=0.05)
    writer = Device(node, "bob")
    async with served(node) as url, Middlebox(url, cut_s=1.6) as proxy:
        async with device_behind(tmp_path, node, proxy.url) as (db, sync):
            for n in range(8):
                await arrives(db, writer, f"k{n}")
                await asyncio.sleep(0.5)
            await until(uses(sync, "long-poll"), 30)
            await arrives(db, writer, "last")
            # Every stream that was cut, and every poll; a loop without a pause makes thousands.
            assert sum(n for path, n in proxy.asked.items() if path != "/v1/sync") < 60
            # Going on from an id is no reason to pull: a pull for each change, some for the start.
            assert (await sync.status()).requests <= 9 + 6


async def test_an_idle_timeout_on_the_way_shortens_the_heartbeat(
    dsn, make_node, tmp_path, quick, monkeypatch
):
    monkeypatch.setattr(choice, "HEARTBEAT_MS", 5_000)
    monkeypatch.setattr(choice, "LEAST_HEARTBEAT_MS", 300)
    node = await make_node(dsn, hint_interval_s=0.05)
    writer = Device(node, "bob")
    async with served(node) as url, Middlebox(url, idle_s=1.5) as proxy:
        async with device_behind(tmp_path, node, proxy.url) as (db, sync):

            async def second():
                return proxy.asked.get("/v1/live", 0) >= 2 and await uses(sync, "websocket")()

            await until(second)
            for _ in range(3):  # a busy machine may be late with a heartbeat
                before = proxy.asked["/v1/live"]
                await asyncio.sleep(3.5)  # twice the limit: it is kept open now
                if proxy.asked["/v1/live"] == before:
                    break
            assert proxy.asked["/v1/live"] == before
            await arrives(db, writer, "a")


async def test_a_node_with_too_many_streams_is_asked_again_when_it_said(
    dsn, make_node, tmp_path, quick
):
    node = await make_node(dsn, max_streams=0)
    async with served(node) as url, Middlebox(url) as proxy:
        async with device_behind(tmp_path, node, proxy.url) as (_, sync):

            async def first():
                return "/v1/live" in proxy.asked

            await until(first)
            await asyncio.sleep(5)
            # After 2 s and more each time; the kind is not to blame.
            assert 1 <= proxy.asked["/v1/live"] <= 4
            assert "/v1/events" not in proxy.asked
            assert (await sync.status()).stream is None


async def test_r20_an_expired_token_of_a_stream_is_renewed(dsn, make_node, tmp_path, quick):
    node = await make_node(dsn, hint_interval_s=0.05)
    writer = Device(node, "bob")
    given = []

    def fresh():
        given.append(time.monotonic())
        return token(node, ttl_s=-60 if len(given) == 2 else 2)

    async with served(node) as url:
        async with hp.open_async(tmp_path / "d.db", collections=[wells]) as db:
            sync = db.sync(url, token=fresh, poll_s=600, verify_s=None)
            await sync.start()
            await until(uses(sync, "websocket"))

            async def renewed():
                return len(given) >= 3 and await uses(sync, "websocket")()

            await until(renewed)
            await arrives(db, writer, "a")


EVENT_SOURCE = """
const source = new EventSource(process.argv[1]);
let seen = [];
setInterval(() => {}, 1000);  // node itself does not wait for a reconnection
source.onmessage = (event) => {
  const hint = JSON.parse(event.data);
  seen.push(hint.t);
  if (hint.id !== event.lastEventId) { console.log("id differs"); process.exit(1); }
  console.log(hint.t);
  if (hint.t === "hint" && seen.filter((t) => t === "ready").length === 2) process.exit(0);
};
"""


async def test_a_plain_eventsource_follows_and_reconnects_by_itself(dsn, make_node, monkeypatch):
    node = await make_node(dsn, hint_interval_s=0.05)
    monkeypatch.setattr(streams.random, "randint", lambda a, b: 100)
    device = Device(node)
    await device.sync()
    async with served(node) as url, Middlebox(url, cut_s=1.5) as proxy:
        address = f"{proxy.url}/v1/events?collection=wells&pause_s=1&token={token(node)}"
        flags = ["--experimental-eventsource", "--no-warnings", "--input-type=module"]
        process = await asyncio.create_subprocess_exec(
            NODE, *flags, "-e", EVENT_SOURCE, address, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert (await process.stdout.readline()).strip() == b"ready"
            assert (await process.stdout.readline()).strip() == b"ready"
            await device.sync(put("a", {"id": "a"}))
            assert (await process.stdout.readline()).strip() == b"hint"
            assert await process.wait() == 0
