"""Live streams of a node: a WebSocket, server-sent events, or one long poll after the other.

All three tell the same hints to the same ``Subscriber``, whose memory is bounded however slowly it
is read; a stream that takes nothing for ``SEND_LIMIT_S`` is cut. Nothing is kept between two
streams: the ``id`` of a message says how far the log was told, and the next stream goes on from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from homeport.core.wire import PROTOCOL, Hello, Hint
from homeport.errors import HomeportError, ProtocolMismatch, UsageError

from .answers import judged, refusal
from .live import Subscriber, catch_up
from .node import Node
from .rules import Claims

HELLO_TIMEOUT_S = 10.0
SCOPE_RECHECK_S = 30.0
SEND_LIMIT_S = 30.0
MAX_COLLECTIONS = 1_000
LONGEST_PAUSE_S = 60.0
"""Bound of what a client may ask for as heartbeat or wait."""
DEFAULT_PAUSE_S = 15.0

_encode = msgspec.json.Encoder().encode
_Gone = (WebSocketDisconnect, RuntimeError, OSError)
"""Starlette raises RuntimeError for a send on a socket that went away meanwhile."""


class _Stream(NamedTuple):
    claims: Claims
    subscriber: Subscriber

    def left_s(self) -> float:
        """Until the token expires."""
        return max(0.0, self.claims.expires_at - time.time())

    def ready(self) -> Hint:
        return Hint("ready", sorted(self.subscriber.collections), id=self.subscriber.id())


@contextlib.asynccontextmanager
async def _joined(
    node: Node, token: str, collections: Sequence[str], since: str | None, kind: str
) -> AsyncIterator[_Stream]:
    """A place in the hub, with what moved ``since`` on offer already.

    Raises:
        NeedsAuth: the token.
        UsageError: too many collections.
        Overloaded: too many streams, or the database is busy.
        DatabaseUnavailable: it does not answer.
    """
    claims = node.auth.verify(token)
    node.limits.enter(claims)
    if len(collections) > MAX_COLLECTIONS:
        raise UsageError(f"A stream follows at most {MAX_COLLECTIONS} collections.")
    async with contextlib.AsyncExitStack() as stack:
        async with node.database.session() as connection:
            scope = await node.rules.scope(claims, collections, connection.fetch)
            subscriber = Subscriber(claims.tenant, collections, scope, claims.subject, kind)
            node.hub.add(subscriber)
            stack.callback(node.hub.remove, subscriber)
            if since is not None:
                await catch_up(connection, subscriber, since)
        yield _Stream(claims, subscriber)


async def _recheck(node: Node, stream: _Stream) -> None:
    """Membership may change by plain SQL; a device that gained buckets is told to pull."""
    subscriber = stream.subscriber
    while True:
        await asyncio.sleep(SCOPE_RECHECK_S)
        with contextlib.suppress(HomeportError):
            async with node.database.session() as connection:
                scope = await node.rules.scope(
                    stream.claims, subscriber.collections, connection.fetch
                )
            if scope != subscriber.scope:
                subscriber.rescope(scope)
                subscriber.resync()


async def _first_of(limit_s: float | None, *tasks: asyncio.Task[None]) -> set[asyncio.Task[None]]:
    """Wait for one of them, end all → which were done."""
    try:
        done, _ = await asyncio.wait(tasks, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return done


# -- WebSocket


async def _websocket(socket: WebSocket) -> None:
    node: Node = socket.app.state.node
    await socket.accept()
    with contextlib.suppress(*_Gone):
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                hello = msgspec.json.decode(await socket.receive_text(), type=Hello)
        except (msgspec.MsgspecError, ValueError, RecursionError, KeyError, TimeoutError):
            await socket.close(4400, "the first message is a Hello")
            return
        try:
            if hello.v != PROTOCOL:
                raise ProtocolMismatch(f"This node speaks version {PROTOCOL}.")
            opened = _joined(node, hello.token, hello.collections, hello.since, "websocket")
            async with opened as stream:
                await _converse(node, socket, stream)
        except HomeportError as error:
            status, said = judged(node, error)
            await socket.close(1013 if status >= 500 else 4000 + status, said.code)


async def _converse(node: Node, socket: WebSocket, stream: _Stream) -> None:
    await _send(socket, stream.ready())
    loop = asyncio.get_running_loop()
    heard = loop.create_task(_until_gone(socket))
    told = loop.create_task(_tell(socket, stream.subscriber))
    recheck = loop.create_task(_recheck(node, stream))
    done = await _first_of(stream.left_s(), heard, told, recheck)
    if heard in done:
        return
    if not done:
        await _send(socket, Hint("bye"))
        await socket.close(4401, "needs-auth")
    elif told in done:
        await socket.close(1012, "the node is stopping")


async def _send(socket: WebSocket, hint: Hint) -> None:
    async with asyncio.timeout(SEND_LIMIT_S):
        await socket.send_text(_encode(hint).decode())


async def _until_gone(socket: WebSocket) -> None:
    """Nothing is expected from the device any more; this notices that it went away."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        continue


async def _tell(socket: WebSocket, subscriber: Subscriber) -> None:
    while True:
        hint = await subscriber.take()
        await _send(socket, hint)
        if hint.t == "bye":
            return


# -- server-sent events


class _Events(Response):
    """An endless ``text/event-stream``; Starlette's own waits for ever on a reader who stopped."""

    media_type = "text/event-stream"

    def __init__(self, node: Node, stream: _Stream, heartbeat_s: float) -> None:
        super().__init__(headers=_UNBUFFERED)
        del self.headers["content-length"]
        self._node = node
        self._stream = stream
        self._heartbeat_s = heartbeat_s

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        loop = asyncio.get_running_loop()
        gone = loop.create_task(_until_disconnected(receive))
        told = loop.create_task(self._tell(send))
        recheck = loop.create_task(_recheck(self._node, self._stream))
        done = await _first_of(None, gone, told, recheck)
        if told in done and told.exception() is None:
            await send({"type": "http.response.body", "body": b""})

    async def _tell(self, send: Send) -> None:
        async def write(text: bytes) -> None:
            async with asyncio.timeout(SEND_LIMIT_S):
                await send({"type": "http.response.body", "body": text, "more_body": True})

        # Where an EventSource reconnects by itself, all of them shall not do it in one moment.
        await write(b"retry: %d\n\n" % random.randint(1_000, 5_000))  # noqa: S311 - jitter
        await write(_event(self._stream.ready()))
        while True:
            left_s = self._stream.left_s()
            try:
                async with asyncio.timeout(min(self._heartbeat_s, left_s)):
                    hint = await self._stream.subscriber.take()
            except TimeoutError:
                if left_s <= self._heartbeat_s:
                    hint = Hint("bye")
                else:
                    await write(b":\n\n")
                    continue
            await write(_event(hint))
            if hint.t == "bye":
                return


_UNBUFFERED = {
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
    "Referrer-Policy": "no-referrer",
}


def _event(hint: Hint) -> bytes:
    head = f"id: {hint.id}\n".encode() if hint.id else b""
    return head + b"data: " + _encode(hint) + b"\n\n"


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _events(request: Request) -> Response:
    node: Node = request.app.state.node
    try:
        asked = _Asked.of(request)
        opened = _joined(node, asked.token, asked.collections, asked.since, "sse")
        async with contextlib.AsyncExitStack() as stack:
            stream = await stack.enter_async_context(opened)
            return _Kept(_Events(node, stream, asked.pause_s), stack.pop_all())
    except HomeportError as error:
        return refusal(node, error)


class _Kept(Response):
    """A response with what must be closed behind it."""

    def __init__(self, inner: Response, stack: contextlib.AsyncExitStack) -> None:
        super().__init__()
        self._inner = inner
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await self._inner(scope, receive, send)


# -- long poll


async def _poll(request: Request) -> Response:
    node: Node = request.app.state.node
    try:
        asked = _Asked.of(request)
        opened = _joined(node, asked.token, asked.collections, asked.since, "long-poll")
        async with opened as stream:
            hint = stream.ready() if asked.since is None else await _next(request, stream, asked)
    except HomeportError as error:
        return refusal(node, error)
    return Response(_encode(hint), headers=_UNBUFFERED, media_type="application/json")


async def _next(request: Request, stream: _Stream, asked: _Asked) -> Hint:
    found: list[Hint] = []

    async def take() -> None:
        found.append(await stream.subscriber.take())

    loop = asyncio.get_running_loop()
    gone = loop.create_task(_until_disconnected(request.receive))
    await _first_of(min(asked.pause_s, stream.left_s()), loop.create_task(take()), gone)
    return found[0] if found else Hint("quiet", id=stream.subscriber.id())


class _Asked(NamedTuple):
    """The question of a GET. An ``EventSource`` can send no header of its own: the token may be in
    the address, and ``Last-Event-ID`` is what it says by itself when it reconnects."""

    token: str
    collections: list[str]
    since: str | None
    pause_s: float

    @classmethod
    def of(cls, request: HTTPConnection) -> _Asked:
        """Raises ``ProtocolMismatch``, ``UsageError``."""
        given = request.query_params
        if given.get("v", str(PROTOCOL)) != str(PROTOCOL):
            raise ProtocolMismatch(f"This node speaks version {PROTOCOL}.")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = given.get("token", "")
        since = request.headers.get("last-event-id") or given.get("since") or None
        try:
            pause_s = float(given.get("pause_s", DEFAULT_PAUSE_S))
        except ValueError:
            pause_s = math.nan
        if not 0 < pause_s < math.inf:
            raise UsageError("pause_s is a number of seconds above 0.")
        pause_s = min(max(pause_s, 1.0), LONGEST_PAUSE_S)
        return cls(token.strip(), given.getlist("collection"), since, pause_s)


ROUTES: list[BaseRoute] = [
    WebSocketRoute("/v1/live", _websocket),
    Route("/v1/events", _events, methods=["GET"]),
    Route("/v1/poll", _poll, methods=["GET"]),
]
