"""A node met by clients that nobody of us wrote: plain sockets and `http.client`, all of it by hand."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import http.client
import json
import logging
import socket
import time
import uuid
from urllib.parse import quote, urlsplit

import pytest
import uvicorn

import homeport as hp
from homeport.core.wire import UniqueIndex
from homeport.errors import UsageError
from homeport.server import patience
from homeport.server.app import application
from homeport.server.limits import RateLimit, rate_limit
from homeport.server.rules import ServerCollection

from .helpers import Device, patch, put, results, served

HUGE = 10**400
DEEP = "[" * 50_000 + "]" * 50_000


def pack(value) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def asked(pull="{}", batch=None, **more) -> str:
    """A request as text, so that it can be wrong in any way."""
    fields = {"v": "1", "client": '"c-1"', "pull": pull}
    if batch is not None:
        fields["batch"] = batch
        fields["hash"] = json.dumps(hashlib.sha256(batch.encode()).hexdigest())
    return "{" + ",".join(f'"{k}":{v}' for k, v in (fields | more).items()) + "}"


def unit(change: str, number="1") -> str:
    return f'{{"number":{number},"units":[{{"id":"u","changes":[{change}]}}]}}'


MALFORMED = [
    "", "null", "[]", "1e400", '"x"', DEEP, "{" * 9_000, "\x00", '{"v":1', '{"v":1}',
    asked(v="true"), asked(v='"1"'), asked(v=str(HUGE)), asked(v="1e400"), asked(v="-1"),
    asked(client="7"), asked(client='""'), asked(client='"\\u0000"'), asked(client=f'"{"x" * 300}"'),
    asked(pull="null"), asked(pull="[]"), asked(pull=DEEP), asked(pull='{"cursor":7}'),
    asked(pull='{"holds":{"wells":{"generation":"x","buckets":[]}}}'),
    asked(pull='{"collections":["wells"]}'), asked(pull='{"versions":{"wells":1.5}}'),
    asked(pull='{"former":["\\u0000"]}'), asked(pull=f'{{"former":["{"x" * 3000}"]}}'),
    asked(pull='{"repair":{"wells":["x"]}}'), asked(pull='{"fetch":{"wells":[1]}}'),
    asked(batch="7"), asked(batch="[]"), asked(batch='{"number":"1","units":[]}'),
    asked(batch='{"number":1e400,"units":[]}'), asked(batch='{"number":1,"units":{}}'),
    asked(batch=unit('{"collection":"wells","key":1,"op":"put"}')),
    asked(batch=unit('{"collection":"wells","key":"k","op":"drop"}')),
    asked(batch=unit('{"collection":"wells","key":"k"}')),
    asked(batch=unit("{}"), hash='"00"'), asked(batch=unit("{}"), hash="null"),
]  # fmt: skip

FORGED = [
    asked(pull=json.dumps({"cursor": text}))
    for text in (
        "", "é", "=", "%00", pack([]), pack(["1:1:", "x", "y"]), pack([HUGE, 1, 2]),
        pack([f"1:{HUGE}:", str(uuid.uuid4()), "0" * 16]), pack(["5:3:", str(uuid.uuid4()), ""]),
    )
]  # fmt: skip
GONE = '{"collection":"w","key":"k","op":"delete"}'
FOREIGN = [asked(batch=unit(GONE, number)) for number in ("0", "-1", "2", str(HUGE))]


class Client:
    def __init__(self, url: str, token: str) -> None:
        self.place = urlsplit(url)
        self.token = token

    def _ask(self, method, path, body, headers):
        connection = http.client.HTTPConnection(self.place.hostname, self.place.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Authorization": f"Bearer {self.token}", **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")

    async def post(self, body: str | bytes, **headers):
        data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
        return await asyncio.to_thread(self._ask, "POST", "/v1/sync", data, headers)

    async def get(self, path: str):
        return await asyncio.to_thread(self._ask, "GET", path, None, {})


async def test_whatever_is_malformed_is_refused_by_a_code_and_never_a_failure_of_the_node(
    dsn, make_node, sql, caplog
):
    caplog.set_level(logging.WARNING)
    node = await make_node(dsn)
    async with served(node) as url:
        client = Client(url, node.auth.mint("ann", "t1", 600))
        assert (await client.post(asked(pull='{"collections":{"w":"merge"}}')))[0] == 200
        for expected, bodies in (({422, 426}, MALFORMED), ({410}, FORGED), ({409}, FOREIGN)):
            for body in bodies:
                status, said = await client.post(body)
                assert status in expected, (body[:200], said)
                assert said["code"] and said["message"]
        for token in ("", "x", "a.b.c", f"{pack({'alg': 'none'})}.{pack({'sub': 'x'})}.", "é" * 9):
            quoted = quote(token)
            assert (await client.get(f"/v1/poll?token={quoted}"))[0] == 200  # the header counts
            status, said = await Client(url, quoted).post(asked())
            assert (status, said["code"]) == (401, "needs-auth")
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR], caplog.text
    assert await sql.fetchval("select count(*) from homeport.documents") == 0


async def test_former_ids_that_come_twice_are_one(dsn, make_node):
    node = await make_node(dsn)
    device = Device(node)
    request = device.request()
    request.pull.former = ["old", "old", "other"]
    reply = await node.sync(device.claims, request)
    assert set(reply.former) == {"old", "other"}


@pytest.mark.parametrize(
    "doc",
    [
        '{"n":1e400}', '{"n":-1e400}', '{"n":' + "9" * 5_000 + "}", '{"n":NaN}', "[1]", "7",
        '"x"', '{"n":"\\u0000"}', '{"\\u0000":1}', '{"n":"\\ud800"}', '{"n":' + DEEP + "}",
    ],
)  # fmt: skip
async def test_r03_what_cannot_be_kept_costs_its_unit_alone(dsn, make_node, doc):
    node = await make_node(dsn)
    async with served(node) as url:
        client = Client(url, node.auth.mint("ann", "t1", 600))
        changes = [
            f'{{"collection":"w","key":"{key}","op":"put","doc":{body}}}'
            for key, body in (("a", '{"id":"a"}'), ("bad", doc), ("z", '{"id":"z"}'))
        ]
        units = ",".join(f'{{"id":"u{n}","changes":[{one}]}}' for n, one in enumerate(changes))
        text = asked('{"collections":{"w":"merge"}}', f'{{"number":1,"units":[{units}]}}')
        status, reply = await client.post(text)
        if status != 200:  # no JSON at all: the whole request is refused, and nothing is done
            assert (status, reply["code"]) == (422, "bad-request")
            assert "NaN" in doc or DEEP in doc
            return
        assert [v["result"] for v in reply["batch"]["verdicts"]] == ["applied", "rejected", "applied"]
        assert sorted(row[1] for row in reply["rows"]) == ["a", "z"]
        status, again = await client.post(text)
        assert (status, again["batch"]) == (200, reply["batch"])


@pytest.mark.parametrize("big", [HUGE, -HUGE, 1.7e308])
async def test_a_counter_beyond_all_numbers_is_a_conflict_and_no_failure(dsn, make_node, big):
    node = await make_node(dsn, [ServerCollection("wells", fields={"n": "counter"})])
    a, b = Device(node), Device(node, "bob")
    await a.sync(put("k", {"id": "k", "n": 1.5}))
    await b.sync()
    base = b.token("k")
    assert results(await a.sync(patch("k", base, set={"n": 1.7e308}, old={"n": 1.5}))) == ["applied"]
    verdicts = await b.sync(patch("k", base, set={"n": big}, old={"n": 1.5}))
    assert [v.result for v in verdicts] == ["conflict"]


def test_no_counter_breaks_a_merge():
    counter, values = hp.Counter(), (0, 1.5, HUGE, -HUGE, 1e308, -1e308, True, None, "x")
    for base in values:
        for mine in values:
            for theirs in values:
                counter.merge(base, mine, theirs)


@pytest.mark.parametrize(
    "path", ["a$$; drop table canary; --", "a'b", "a\\", "a\\'", "$1", "${x}", "a$b$c", 'a"b', "{0}"]
)
async def test_a_declared_path_is_never_a_part_of_a_statement(dsn, make_node, sql, path):
    await sql.execute("create table canary (n int)")
    node = await make_node(dsn)
    device = Device(node)
    request = device.request()
    request.pull.unique = {"wells": [UniqueIndex([path])]}
    await node.sync(device.claims, request)
    verdicts = await device.sync(
        put("a", {"id": "a", path: 1}), put("b", {"id": "b", path: 2}), put("c", {"id": "c", path: 1})
    )
    assert [v.result for v in verdicts][:2] == ["applied", "applied"]
    kept = "rejected" if "." not in path else "applied"
    assert verdicts[2].result == kept
    assert await sql.fetchval("select count(*) from canary") == 0


async def test_streams_take_no_nonsense(dsn, make_node, caplog):
    caplog.set_level(logging.WARNING)
    node = await make_node(dsn)
    async with served(node) as url:
        client = Client(url, node.auth.mint("ann", "t1", 600))
        status, ready = await client.get("/v1/poll?collection=w")
        assert (status, ready["t"]) == (200, "ready")
        snapshot, digest, _ = json.loads(base64.urlsafe_b64decode(ready["id"]))
        for forged in ([snapshot, digest, HUGE], [snapshot, digest, -HUGE], [snapshot, digest, "x"],
                       ["1:" + "9" * 30 + ":", digest, 1], [snapshot, HUGE, 1], HUGE, DEEP[49_000:51_000]):  # fmt: skip
            since = quote(pack(forged))
            status, hint = await client.get(f"/v1/poll?collection=w&pause_s=1&since={since}")
            assert (status, hint["t"]) == (200, "resync"), forged
        since = quote(ready["id"])
        assert (await client.get(f"/v1/poll?collection=a%00b&pause_s=1&since={since}"))[0] == 200
        for query in ("pause_s=nan", "pause_s=x", "pause_s=-1",
                      "pause_s=1e400", "v=9", "v=x", "&".join(["collection=x"] * 1_001)):  # fmt: skip
            for path in ("/v1/poll", "/v1/events"):
                status, said = await client.get(f"{path}?{query}")
                assert status in (422, 426) and said["code"], query
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR], caplog.text


@contextlib.asynccontextmanager
async def hurried(node, head_s: float):
    """Served as `homeport serve` does it, with less patience."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(application(node, lifespan=False), lifespan="off", log_level="error")
    config.load()
    config.http_protocol_class = patience.patient(config.http_protocol_class, head_s)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task
        listener.close()


async def test_who_sends_slowly_is_not_waited_for(dsn, make_node, monkeypatch):
    """Slowloris, in the head and in the body; an honest client beside it, and a stream that lasts."""
    monkeypatch.setattr(patience.in_time, "__defaults__", (0.3, 1_000_000))
    node = await make_node(dsn)
    async with hurried(node, 0.3) as port:
        token = node.auth.mint("ann", "t1", 600)
        client = Client(f"http://127.0.0.1:{port}", token)
        since = quote((await client.get("/v1/poll?collection=w"))[1]["id"])
        lasting = f"/v1/poll?since={since}&pause_s=1&collection=w"
        streaming = asyncio.create_task(client.get(lasting))
        silent = []
        began = time.monotonic()
        for sent in (b"", b"POST /v1/sync HTTP/1.1\r\nHo"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            silent.append((reader, writer))
        # One that goes on for ever, a byte at a time.
        slow, trickle = await asyncio.open_connection("127.0.0.1", port)

        async def drip():
            with contextlib.suppress(OSError):
                trickle.write(b"GET /healthz HTTP/1.1\r\nX: ")
                while not slow.at_eof():
                    trickle.write(b"x")
                    await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        head = f"POST /v1/sync HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 99\r\n\r\n{{"
        body, half = await asyncio.open_connection("127.0.0.1", port)
        half.write(head.encode())
        async with asyncio.timeout(10):
            for reader, _ in [*silent, (slow, trickle)]:
                await reader.read()  # to its end
            said = await body.read()
        await dripping
        for writer in (*(writer for _, writer in silent), trickle, half):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        assert b" 408 " in said.split(b"\r\n")[0] and b'"too-slow"' in said
        assert time.monotonic() - began < 10
        assert (await streaming)[1]["t"] == "quiet"
        assert (await client.post(asked()))[0] == 200


async def test_a_hundred_megabytes_are_not_read(dsn, make_node):
    node = await make_node(dsn)
    async with served(node) as url:
        client = Client(url, node.auth.mint("ann", "t1", 600))
        with contextlib.suppress(ConnectionError):
            status, said = await client.post(b" " * 100_000_000)
            assert (status, said["code"]) == (413, "too-large")
        assert node.refusals == {"too-large": 1}
        assert (await client.post(asked()))[0] == 200


async def test_a_node_that_is_late_before_it_has_begun_still_gets_on(dsn, make_node):
    """A page has something on it also when waiting for the database took all of its time."""
    node = await make_node(dsn, page_s=0.0)
    writer, reader = Device(node), Device(node, "bob")
    for part in range(3):
        units = [put(f"{part}-{n:02d}", {"id": f"{part}-{n:02d}"}) for n in range(40)]
        reply = await node.sync(writer.claims, writer.request(*units))
        assert results(reply.batch.verdicts) == ["applied"] * 40
    async with asyncio.timeout(20):
        await reader.sync()
    assert len(reader.docs()) == 120 and reader.pages < 20


def test_rates_of_the_command_line():
    assert rate_limit("50/500", "--x") == RateLimit(50, 500)
    assert rate_limit("5", "--x") == RateLimit(5, 50)
    assert rate_limit("0.05", "--x") == RateLimit(0.05, 1)
    assert rate_limit(" None ", "--x") is None
    for bad in ("", "x", "1/", "-1", "0", "nan", "inf/inf", "1/2/3", "1e400"):
        with pytest.raises(UsageError, match="--x"):
            rate_limit(bad, "--x")
