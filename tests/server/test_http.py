"""The node over real HTTP and WebSockets."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import time

import aiohttp
import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from homeport.core.wire import Hello, Hint, Problem, Reply
from homeport.errors import NeedsAuth, ServerError
from homeport.server import app as app_module
from homeport.server.auth import Authenticator, development
from homeport.server.rules import ServerCollection

from .helpers import SECRET, Device, put, served


def _headers(node, subject="ann", ttl_s=60.0):
    return {"Authorization": "Bearer " + node.auth.mint(subject, "t1", ttl_s)}


async def test_push_and_pull_over_http_compressed_and_plain(dsn, make_node):
    node = await make_node(dsn)
    device = Device(node)
    body = msgspec.json.encode(device.request(*(put(f"k{n}", {"id": f"k{n}"}) for n in range(50))))
    async with served(node) as url, aiohttp.ClientSession(auto_decompress=False) as http:
        headers = _headers(node) | {"Accept-Encoding": "gzip"}
        async with http.post(url + "/v1/sync", data=body, headers=headers) as answer:
            assert answer.status == 200 and answer.headers["Content-Encoding"] == "gzip"
            reply = msgspec.json.decode(gzip.decompress(await answer.read()), type=Reply)
        assert len(reply.rows) == 50
        headers["Accept-Encoding"] = "identity"
        async with http.post(url + "/v1/sync", data=body, headers=headers) as answer:
            assert "Content-Encoding" not in answer.headers
            again = msgspec.json.decode(await answer.read(), type=Reply)
        assert again.batch == reply.batch
        for path, text in (("/healthz", "ok"), ("/readyz", "ready"), ("/metrics", "applied")):
            async with http.get(url + path) as answer:
                assert answer.status == 200 and text in await answer.text()


async def test_refusals_have_stable_codes(dsn, make_node, monkeypatch):
    node = await make_node(dsn)
    device = Device(node)
    good = msgspec.json.encode(device.request())
    node.max_request_bytes = 10_000
    async with served(node) as url, aiohttp.ClientSession() as http:

        async def ask(body, headers, path="/v1/sync"):
            async with http.post(url + path, data=body, headers=headers) as answer:
                problem = msgspec.json.decode(await answer.read(), type=Problem)
                return answer.status, problem.code

        ok = _headers(node)
        assert await ask(good, {}) == (401, "needs-auth")
        assert await ask(good, {"Authorization": "Bearer nonsense"}) == (401, "needs-auth")
        assert await ask(good, _headers(node, ttl_s=-60)) == (401, "needs-auth")
        assert await ask(good, ok, "/v1/nothing") == (404, "not-found")
        assert await ask(b"{", ok) == (422, "bad-request")
        assert await ask(b"\xff\xfe", ok) == (422, "bad-request")
        assert await ask(b"[" * 5000, ok) == (422, "bad-request")
        assert await ask(good.replace(b'"v":1', b'"v":2'), ok) == (426, "protocol-mismatch")
        assert await ask(b"x" * 20_000, ok) == (413, "too-large")
        bad_hash = device.request(put("a", {}))
        bad_hash.hash = "0"
        assert await ask(msgspec.json.encode(bad_hash), ok) == (422, "bad-request")
        device.number = 7
        skipped = device.request(put("a", {}))
        assert await ask(msgspec.json.encode(skipped), ok) == (409, "identity-broken")
        device.cursor = "nonsense"
        assert await ask(msgspec.json.encode(device.request()), ok) == (410, "history-broken")
        assert node.refusals["needs-auth"] == 3


async def test_half_a_surrogate_pair_costs_its_unit_only(dsn, make_node):
    node = await make_node(dsn)
    changes = (
        rb'{"id":"u1","changes":[{"collection":"wells","key":"a","op":"put","doc":{"t":"\ud800"}}]},'
        rb'{"id":"u2","changes":[{"collection":"wells","key":"b","op":"put","doc":{"t":"\ud83d\ude00"}}]}'
    )
    raw = b'{"number":1,"units":[' + changes + b"]}"
    digest = hashlib.sha256(raw).hexdigest().encode()
    body = (
        b'{"v":1,"client":"c","pull":{"collections":{"wells":"merge"}},"hash":"'
        + digest + b'","batch":' + raw + b"}"
    )  # fmt: skip
    async with served(node) as url, aiohttp.ClientSession() as http:
        async with http.post(url + "/v1/sync", data=body, headers=_headers(node)) as answer:
            reply = msgspec.json.decode(await answer.read(), type=Reply)
    assert [v.code for v in reply.batch.verdicts] == ["invalid-text", ""]
    assert [row.key for row in reply.rows] == ["b"]


async def test_too_many_waiting_requests_are_turned_away(dsn, make_node, sql):
    node = await make_node(dsn, pool_size=1, max_waiting=2, timeout_s=1.5)
    device = Device(node)
    await device.sync()
    await sql.execute("begin; lock table homeport.clients")
    async with served(node) as url, aiohttp.ClientSession() as http:

        async def ask():
            body = msgspec.json.encode(device.request())
            async with http.post(url + "/v1/sync", data=body, headers=_headers(node)) as answer:
                return answer.status, answer.headers.get("Retry-After")

        begin = time.monotonic()
        answers = await asyncio.gather(*(ask() for _ in range(8)))
        assert time.monotonic() - begin < 3.5
    assert {status for status, _ in answers} == {429, 503}
    assert all(retry is not None for _, retry in answers)


async def _next(socket) -> Hint:
    message = await asyncio.wait_for(socket.receive(), 5)
    assert message.type is aiohttp.WSMsgType.TEXT, message
    return msgspec.json.decode(message.data, type=Hint)


async def _names(socket) -> list[str]:
    hint = await _next(socket)
    assert hint.t == "hint"
    return hint.collections


async def _hello(http, url, node, collections, subject="ann", ttl_s=60.0):
    socket = await http.ws_connect(url + "/v1/live")
    token = node.auth.mint(subject, "t1", ttl_s)
    await socket.send_str(msgspec.json.encode(Hello(1, token, "c", collections)).decode())
    return socket


async def test_hints_for_pushes_plain_sql_and_truncate(dsn, make_node, sql):
    node = await make_node(dsn, hint_interval_s=30.0)
    other = await make_node(dsn, hint_interval_s=0.1)
    device = Device(node, collections={"wells": "merge", "logs": "merge"})
    await device.sync()
    async with served(node) as url, served(other) as url2, aiohttp.ClientSession() as http:
        here = await _hello(http, url, node, ["wells", "logs"])
        there = await _hello(http, url2, other, ["wells"])
        assert (await _next(here)).t == (await _next(there)).t == "ready"
        await asyncio.sleep(0.3)
        begin = time.monotonic()
        await device.sync(put("a", {"id": "a"}))
        # This node polls every 30 s only: the nudge did it.
        assert await _names(here) == ["wells"]
        assert time.monotonic() - begin < 1.0
        assert await _names(there) == ["wells"]
        await device.sync(put("l", {"id": "l"}, collection="logs"))
        assert await _names(here) == ["logs"]
        # Plain SQL nudges nobody; the timer finds it. The other tenant is not told of.
        await sql.execute(
            "insert into homeport.documents (tenant, collection, key, body)"
            " values ('t2', 'wells', 'x', '{}')"
        )
        await asyncio.sleep(0.3)
        await sql.execute("delete from homeport.documents where key = 'a'")
        assert await _names(there) == ["wells"]
        await sql.execute("truncate homeport.documents")
        assert await _names(there) == ["wells"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(there.receive(), 0.4)
        await here.close()
        await there.close()


async def test_hints_keep_to_the_scope(dsn, make_node, sql):
    rule = ServerCollection(
        "wells", bucket=lambda doc: doc["r"], buckets=lambda claims, fetch: [claims.subject]
    )
    node = await make_node(dsn, [rule], hint_interval_s=0.05)
    async with served(node) as url, aiohttp.ClientSession() as http:
        socket = await _hello(http, url, node, ["wells"], subject="n")
        assert (await _next(socket)).t == "ready"
        insert = (
            "insert into homeport.documents (tenant, collection, key, bucket, body)"
            " values ('t1', 'wells', $1, $1, '{}')"
        )
        await sql.execute(insert, "s")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.receive(), 0.4)
        await socket.close()
        socket = await _hello(http, url, node, ["wells"], subject="n")
        assert (await _next(socket)).t == "ready"
        await sql.execute(insert, "n")
        assert await _names(socket) == ["wells"]
        await socket.close()


async def test_a_live_stream_ends_with_its_token(dsn, make_node):
    node = await make_node(dsn)
    async with served(node) as url, aiohttp.ClientSession() as http:
        socket = await _hello(http, url, node, ["wells"], ttl_s=1.5)
        assert (await _next(socket)).t == "ready"
        assert (await _next(socket)).t == "bye"
        assert (await asyncio.wait_for(socket.receive(), 5)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 4401
        socket = await _hello(http, url, node, ["wells"], ttl_s=-60)
        await asyncio.wait_for(socket.receive(), 5)
        assert socket.close_code == 4401
        socket = await http.ws_connect(url + "/v1/live")
        await socket.send_str("nonsense")
        await asyncio.wait_for(socket.receive(), 5)
        assert socket.close_code == 4400
        assert node.hub.count == 0


async def test_a_slow_stream_holds_a_bounded_set_and_resyncs():
    from homeport.server.live import MAX_PENDING, Subscriber

    names = [f"c{n}" for n in range(MAX_PENDING + 1)]
    slow = Subscriber("t1", names, {name: frozenset(("",)) for name in names})
    for _ in range(3):
        for name in names[:5]:
            slow.offer(name, "")
    assert await slow.take() == Hint("hint", sorted(names[:5]))
    for name in names:
        slow.offer(name, "")
    assert await slow.take() == Hint("resync", sorted(names))


async def test_a_database_crash_makes_live_streams_resync(own_server, make_node):
    node = await make_node(own_server.dsn, hint_interval_s=0.1)
    async with served(node) as url, aiohttp.ClientSession() as http:
        socket = await _hello(http, url, node, ["wells"])
        assert (await _next(socket)).t == "ready"
        own_server.kill()
        await asyncio.sleep(0.3)
        own_server.restart()
        while (hint := await _next(socket)).t != "resync":
            pass
        assert hint.collections == ["wells"]
        await socket.close()


def _token(key, alg="HS256", **changes):
    now = int(time.time())
    claims = {"sub": "ann", "tenant": "t1", "aud": "homeport", "iss": "me", "exp": now + 60}
    claims |= changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode({"alg": alg}, claims, key, algorithms=[alg])


def test_tokens_are_pinned_to_algorithm_audience_issuer_and_time():
    key = OctKey.import_key(SECRET)
    auth = Authenticator(SECRET, issuer="me")
    assert auth.verify(_token(key)).subject == "ann"
    assert auth.verify(_token(key, aud=["x", "homeport"])).tenant == "t1"
    bad = [
        _token(key, aud="other"),
        _token(key, iss="you"),
        _token(key, exp=int(time.time()) - 60),
        _token(key, exp=None),
        _token(key, exp="soon"),
        _token(key, nbf=int(time.time()) + 600),
        _token(key, tenant=None),
        _token(key, sub=""),
        _token(key, sub="a\0b"),
        _token(OctKey.import_key(b"another secret of thirty-two bytes!!")),
        _token(key)[:-4] + "AAAA",
        _token(OctKey.import_key(SECRET * 2), "HS512"),
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.",
        "",
    ]
    for token in bad:
        with pytest.raises(NeedsAuth):
            auth.verify(token)


def test_public_keys_verify_and_cannot_mint():
    private = ECKey.generate_key("P-256")
    auth = Authenticator(private.as_pem(private=False), issuer="me")
    assert auth.verify(_token(private, "ES256")).subject == "ann"
    # The public key used as a shared secret, the classic confusion.
    head, claims, _ = _token(OctKey.import_key(SECRET)).split(".")
    mac = hmac.digest(private.as_pem(private=False).strip(), f"{head}.{claims}".encode(), "sha256")
    forged = f"{head}.{claims}." + base64.urlsafe_b64encode(mac).decode().rstrip("=")
    with pytest.raises(NeedsAuth):
        auth.verify(forged)
    with pytest.raises(ServerError):
        auth.mint("ann", "t1", 60)
    with pytest.raises(ServerError):
        Authenticator(b"short")


def test_the_development_key_is_kept_and_private(tmp_path):
    token = development(tmp_path).mint("dev", "dev", 60)
    assert development(tmp_path).verify(token).tenant == "dev"
    assert (tmp_path / "dev.key").stat().st_mode & 0o077 == 0
