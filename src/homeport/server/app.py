"""The HTTP face of a node: a Starlette application, served alone or mounted into another one.

Mounted, its lifespan does not run: call ``app.state.node.start()`` and ``stop()`` in your own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import re
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from homeport.core.wire import (
    MAX_UNIT_BYTES,
    PROTOCOL,
    Hello,
    Hint,
    Problem,
    PushRequest,
    present,
)
from homeport.errors import (
    DatabaseUnavailable,
    Forbidden,
    HistoryBroken,
    HomeportError,
    IdentityBroken,
    NeedsAuth,
    ProtocolMismatch,
    UpgradeRequired,
    UsageError,
)

from .auth import Authenticator
from .database import Overloaded
from .live import Subscriber
from .node import Node, decode_request
from .rules import Claims, ServerCollection

log = logging.getLogger("homeport.server")

MAX_REQUEST_BYTES = MAX_UNIT_BYTES + 1_000_000
HELLO_TIMEOUT_S = 10.0
SCOPE_RECHECK_S = 30.0
_GZIP_FROM = 1_024
_GZIP_IN_THREAD_FROM = 65_536

_STATUS: tuple[tuple[type[HomeportError], int, str], ...] = (
    (NeedsAuth, 401, "needs-auth"),
    (Forbidden, 403, "forbidden"),
    (IdentityBroken, 409, "identity-broken"),
    (HistoryBroken, 410, "history-broken"),
    (UsageError, 422, "bad-request"),
    (ProtocolMismatch, 426, "protocol-mismatch"),
    (UpgradeRequired, 426, "upgrade-required"),
    (Overloaded, 429, "busy"),
    (DatabaseUnavailable, 503, "database-unavailable"),
)

# An escaped backslash, a whole surrogate pair (both kept), or half of one.
_SURROGATE = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


class _TooLarge(UsageError):
    code = "too-large"


def create_app(
    postgres: str,
    *,
    auth: Authenticator,
    collections: Iterable[ServerCollection] | None,
    **options: Any,
) -> Starlette:
    """A node as an ASGI application; ``app.state.node`` is its ``Node``.

    Args:
        postgres: connection string of the primary.
        auth: verifies bearer tokens.
        collections: what is served; None = development mode, any collection.
        options: further arguments of ``Node``.
    """
    return application(Node(postgres, auth=auth, collections=collections, **options))


def application(node: Node, *, lifespan: bool = True) -> Starlette:
    """The application of a node; ``lifespan`` False when the node is started elsewhere."""

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        await node.start()
        try:
            yield
        finally:
            await node.stop()

    app = Starlette(
        routes=[
            Route("/v1/sync", _sync, methods=["POST"]),
            WebSocketRoute("/v1/live", _live),
            Route("/healthz", _healthz),
            Route("/readyz", _readyz),
            Route("/metrics", _metrics),
        ],
        exception_handlers={HTTPException: _unknown_path},
        lifespan=life if lifespan else None,
    )
    app.state.node = node
    return app


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _readyz(request: Request) -> Response:
    node: Node = request.app.state.node
    if await node.ready():
        return PlainTextResponse("ready\n")
    return PlainTextResponse("the database does not answer\n", status_code=503)


async def _metrics(request: Request) -> Response:
    node: Node = request.app.state.node
    return PlainTextResponse(node.metrics(), media_type="text/plain; version=0.0.4")


async def _unknown_path(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = "not-found" if status == 404 else "bad-request"
    return _problem(status, Problem(code, "There is nothing here; POST to /v1/sync."))


def _problem(status: int, problem: Problem) -> Response:
    headers = {}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(problem.retry_after_s)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.code == "protocol-mismatch":
        headers["Upgrade"] = f"homeport/{PROTOCOL}"
    body = msgspec.json.encode(problem)
    return Response(body, status, headers, media_type="application/json")


def _refusal(node: Node, error: HomeportError) -> Response:
    status, code = 503, "database-unavailable"
    if isinstance(error, _TooLarge):
        status, code = 413, "too-large"
    elif (known := next((k for k in _STATUS if isinstance(error, k[0])), None)) is not None:
        _, status, code = known
    else:
        # A statement of ours that PostgreSQL refused: the device shall try again.
        log.error("request failed: %s", getattr(error, "log_text", error.message))
    node.refusals[code] = node.refusals.get(code, 0) + 1
    retry = {429: 1.0, 503: 2.0}.get(status)
    return _problem(status, Problem(code, error.message, retry))


async def _sync(request: Request) -> Response:
    node: Node = request.app.state.node
    try:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        claims = node.auth.verify(token.strip() if scheme.lower() == "bearer" else "")
        asked = _parse(await _body(request))
        reply = await node.sync(claims, asked)
    except ClientDisconnect:
        return Response(status_code=400)
    except HomeportError as error:
        return _refusal(node, error)
    except Exception:
        # A bug of ours: the device waits and tries again, and is told nothing of our insides.
        log.exception("request failed")
        node.refusals["server-error"] = node.refusals.get("server-error", 0) + 1
        return _problem(500, Problem("server-error", "The node failed; try again later."))
    body = msgspec.json.encode(reply)
    headers = {"Vary": "Accept-Encoding", "Cache-Control": "no-store"}
    if len(body) > _GZIP_FROM and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        if len(body) < _GZIP_IN_THREAD_FROM:
            body = gzip.compress(body, 1, mtime=0)
        else:
            body = await asyncio.to_thread(gzip.compress, body, 1, mtime=0)
    return Response(body, 200, headers, media_type="application/json")


async def _body(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_REQUEST_BYTES:
            raise _TooLarge(f"A request has at most {MAX_REQUEST_BYTES} bytes.")
        parts.append(part)
    return b"".join(parts)


def _parse(body: bytes) -> PushRequest:
    try:
        asked = _decode(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The request is malformed: {error}") from error
    if asked.v != PROTOCOL:
        raise ProtocolMismatch(f"This node speaks version {PROTOCOL}, the device {asked.v}.")
    if not 0 < len(asked.client) <= 200 or "\0" in asked.client:
        raise UsageError("The name of the client is empty or too long.")
    return asked


def _decode(body: bytes) -> PushRequest:
    try:
        return decode_request(body)
    except msgspec.DecodeError:
        # Half a surrogate pair is no JSON text for anybody. It shall cost its unit, not the
        # batch, so it is read as U+0000 (as long, and refused as well); the hash stays that of
        # the bytes that were sent.
        cleaned = _SURROGATE.sub(lambda m: rb"\u0000" if m.group(1) else m.group(0), body)
        if cleaned == body:
            raise
        asked = decode_request(cleaned)
        if present(asked.batch):
            raw = bytes(asked.batch)
            start = cleaned.find(raw)
            asked.hash = _rehash(asked.hash, body[start : start + len(raw)], raw)
        return asked


def _rehash(claimed: str, sent: bytes, cleaned: bytes) -> str:
    import hashlib  # noqa: PLC0415 - this path is rare

    if hashlib.sha256(sent).hexdigest() != claimed:
        return claimed
    return hashlib.sha256(cleaned).hexdigest()


async def _live(socket: WebSocket) -> None:
    node: Node = socket.app.state.node
    await socket.accept()
    try:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                hello = msgspec.json.decode(await socket.receive_text(), type=Hello)
        except (ValueError, RecursionError, KeyError, TimeoutError):
            await socket.close(4400, "the first message is a Hello")
            return
        if hello.v != PROTOCOL:
            await socket.close(4426, "protocol-mismatch")
            return
        try:
            claims = node.auth.verify(hello.token)
            scope = await _scope(node, claims, hello.collections)
        except NeedsAuth:
            await socket.close(4401, "needs-auth")
            return
        except HomeportError:
            await socket.close(1013, "database-unavailable")
            return
        subscriber = Subscriber(claims.tenant, hello.collections, scope)
        node.hub.add(subscriber)
        try:
            await _stream(node, socket, claims, subscriber)
        finally:
            node.hub.remove(subscriber)
    except (WebSocketDisconnect, RuntimeError):
        # Starlette raises RuntimeError for a send on a socket that went away meanwhile.
        return


async def _scope(node: Node, claims: Claims, names: Iterable[str]) -> dict[str, frozenset[str]]:
    async with node.database.session() as connection:
        return await node.rules.scope(claims, names, connection.fetch)


async def _stream(node: Node, socket: WebSocket, claims: Claims, subscriber: Subscriber) -> None:
    await _send(socket, Hint("ready", sorted(subscriber.collections)))
    tasks = [
        asyncio.create_task(_listen(socket)),
        asyncio.create_task(_tell(socket, subscriber)),
        asyncio.create_task(_recheck(node, claims, subscriber)),
    ]
    try:
        left_s = claims.expires_at - time.time()
        done, _ = await asyncio.wait(
            tasks, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if tasks[0] in done:
        return
    if not done:
        await _send(socket, Hint("bye"))
        await socket.close(4401, "needs-auth")
    elif tasks[1] in done:
        await socket.close(1012, "the node is stopping")


async def _send(socket: WebSocket, hint: Hint) -> None:
    await socket.send_text(msgspec.json.encode(hint).decode())


async def _listen(socket: WebSocket) -> None:
    """Nothing is expected from the device any more; this notices that it went away."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return


async def _tell(socket: WebSocket, subscriber: Subscriber) -> None:
    while True:
        hint = await subscriber.take()
        if hint.t != "hint" or hint.collections:
            await _send(socket, hint)
        if hint.t == "bye":
            return


async def _recheck(node: Node, claims: Claims, subscriber: Subscriber) -> None:
    """Membership may change by plain SQL; a device that gained buckets is told to pull."""
    while True:
        await asyncio.sleep(SCOPE_RECHECK_S)
        with contextlib.suppress(HomeportError):
            scope = await _scope(node, claims, subscriber.collections)
            if scope != subscriber.scope:
                subscriber.scope = scope
                subscriber.resync()
