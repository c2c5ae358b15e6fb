"""The HTTP face of a node: a Starlette application, served alone or mounted into another one.

Mounted, its lifespan does not run: call ``app.state.node.start()`` and ``stop()`` in your own.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from homeport.core.wire import (
    PROTOCOL,
    Problem,
    PushRequest,
    present,
)
from homeport.errors import (
    HomeportError,
    ProtocolMismatch,
    UsageError,
)
from homeport.transport.encoding import (
    ACCEPTED,
    PACK_FROM_BYTES,
    Damaged,
    TooMuch,
    UnknownEncoding,
    Unpacker,
    choose,
    packed,
)

from . import streams
from .answers import Late, TooLarge, UnsupportedEncoding, problem, refusal
from .auth import Authenticator
from .node import Node, decode_request
from .patience import TooSlow, in_time
from .rules import ServerCollection

log = logging.getLogger("homeport.server")


PREFLIGHT_KEPT_S = 24 * 3600
"""How long browsers may remember that a page may ask; they have limits of their own (Chromium: two
hours)."""

# An escaped backslash, a whole surrogate pair (both kept), or half of one.
_SURROGATE = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


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


def application(node: Node, *, lifespan: bool = True, origins: Sequence[str] = ()) -> Starlette:
    """The application of a node; ``lifespan`` False when the node is started elsewhere.

    origins: of pages that may speak to it from a browser (``https://app.example.com``), beside
    those that it is mounted with; ``*`` = all. Who may do what hangs on tokens alone.
    """

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
            *streams.ROUTES,
            Route("/healthz", _healthz),
            Route("/readyz", _readyz),
            Route("/metrics", _metrics),
        ],
        exception_handlers={HTTPException: _unknown_path},
        lifespan=life if lifespan else None,
    )
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Content-Encoding"],
            expose_headers=["Retry-After", "Accept-Encoding"],
            max_age=PREFLIGHT_KEPT_S,
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
    return problem(status, Problem(code, "There is nothing here; POST to /v1/sync."))


async def _sync(request: Request) -> Response:
    node: Node = request.app.state.node
    try:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        claims = node.auth.verify(token.strip() if scheme.lower() == "bearer" else "")
        node.limits.enter(claims)
        body = await _body(node, request)
        asked = _parse(body)
        node.limits.read(claims, asked.client, len(body))
        reply = await node.sync(claims, asked)
    except ClientDisconnect:
        return Response(status_code=400)
    except HomeportError as error:
        return refusal(node, error)
    except Exception:
        # A bug of ours: the device waits and tries again, and is told nothing of our insides.
        log.exception("request failed")
        node.refusals["server-error"] = node.refusals.get("server-error", 0) + 1
        return problem(500, Problem("server-error", "The node failed; try again later."))
    body = msgspec.json.encode(reply)
    node.bytes_sent["unpacked"] += len(body)
    headers = {"Vary": "Accept-Encoding", "Cache-Control": "no-store", "Accept-Encoding": ACCEPTED}
    encoding = choose(request.headers.get("accept-encoding"))
    if encoding is not None and len(body) >= PACK_FROM_BYTES:
        headers["Content-Encoding"] = encoding
        body = await packed(body, encoding)
    node.bytes_sent["packed"] += len(body)
    return Response(body, 200, headers, media_type="application/json")


async def _body(node: Node, request: Request) -> bytes:
    """The body, unpacked as it comes in: what would become too large is refused half-way."""
    try:
        unpacker = Unpacker(request.headers.get("content-encoding"), node.max_request_bytes)
        async for part in in_time(request.stream()):
            unpacker.feed(part)
        body = unpacker.finish()
    except TooSlow as error:
        raise Late("The body of the request did not come in time.") from error
    except TooMuch as error:
        most = node.max_request_bytes
        raise TooLarge(f"A request has at most {most} bytes, unpacked.") from error
    except UnknownEncoding as error:
        raise UnsupportedEncoding(f"This node does not unpack {error}.") from error
    except Damaged as error:
        raise UsageError(f"The request cannot be unpacked: {error}") from error
    node.bytes_received["packed"] += unpacker.packed
    node.bytes_received["unpacked"] += len(body)
    return body


def _parse(body: bytes) -> PushRequest:
    try:
        asked = _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UsageError(f"The request is malformed: {error}") from error
    if asked.v != PROTOCOL:
        raise ProtocolMismatch(f"This node speaks version {PROTOCOL}, the device {asked.v}.")
    if not 0 < len(asked.client) <= 200 or "\0" in asked.client:
        raise UsageError("The name of the client is empty or too long.")
    if any(len(one) > 200 or "\0" in one for one in asked.pull.former):
        raise UsageError("A former name of the client is too long, or none.")
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
