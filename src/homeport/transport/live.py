"""The three kinds of a live stream, as a device reads them.

Each is a generator of hints. It returns when the connection just ended, and raises ``StreamEnded``
where it can tell why; ``core.streams`` decides what comes next.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from typing import Final

import msgspec

from homeport.core.streams import Kind
from homeport.core.wire import Hello, Hint
from homeport.transport.answers import (
    LOST_AFTER,
    POLL_GRACE_S,
    READY_S,
    StreamEnded,
    authorization,
    hint_of,
    poll_pause_s,
    stream_closed,
    stream_query,
    stream_refused,
)
from homeport.transport.client import aiohttp

CONNECT_S = 4.0
MAX_MESSAGE_BYTES = 1_000_000


async def websocket(
    http: aiohttp.ClientSession, url: str, hello: Hello, heartbeat_s: float
) -> AsyncGenerator[Hint, None]:
    """``/v1/live``."""
    address = "ws" + url.removeprefix("http") + "/v1/live"
    ready = False
    try:
        async with asyncio.timeout(READY_S) as limit:
            socket = await http.ws_connect(
                address, heartbeat=heartbeat_s, max_msg_size=MAX_MESSAGE_BYTES
            )
            async with socket:
                await socket.send_str(msgspec.json.encode(hello).decode())
                async for message in socket:
                    if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                        return
                    ready = True
                    limit.reschedule(None)
                    yield hint_of(message.data)
                code = socket.close_code or 1006
                if (why := stream_closed(code)) is not None:
                    raise why
    except aiohttp.WSServerHandshakeError as error:
        raise stream_refused(
            error.status, error.headers.get("Retry-After") if error.headers else None
        ) from error
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, msgspec.MsgspecError) as error:
        raise _failure(error, ready=ready) from error


async def events(
    http: aiohttp.ClientSession, url: str, hello: Hello, heartbeat_s: float
) -> AsyncGenerator[Hint, None]:
    """``/v1/events``: server-sent events."""
    silence = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=heartbeat_s * LOST_AFTER)
    headers = {**authorization(hello.token), "Accept": "text/event-stream"}
    ready = False
    try:
        async with asyncio.timeout(READY_S) as limit:
            query = http.get(
                f"{url}/v1/events",
                params=stream_query(hello, hello.since, heartbeat_s),
                headers=headers,
                timeout=silence,
                allow_redirects=False,
            )
            async with query as response:
                if response.status != 200:
                    raise stream_refused(response.status, response.headers.get("Retry-After"))
                if response.content_type != "text/event-stream":
                    raise StreamEnded("refused")
                async for line in response.content:
                    # Ours are one line of data each; ids are in the data as well.
                    if line.startswith(b"data:"):
                        ready = True
                        limit.reschedule(None)
                        yield hint_of(line[5:])
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, msgspec.MsgspecError) as error:
        raise _failure(error, ready=ready) from error


async def polls(
    http: aiohttp.ClientSession, url: str, hello: Hello, heartbeat_s: float
) -> AsyncGenerator[Hint, None]:
    """``/v1/poll``, one request after the other, each from where the last one ended."""
    loop = asyncio.get_running_loop()
    limit = aiohttp.ClientTimeout(total=heartbeat_s + POLL_GRACE_S, sock_connect=CONNECT_S)
    since = hello.since
    ready = False
    try:
        while True:
            began = loop.time()
            query = http.get(
                f"{url}/v1/poll",
                params=stream_query(hello, since, heartbeat_s),
                headers=authorization(hello.token),
                timeout=limit,
                allow_redirects=False,
            )
            async with query as response:
                if response.status != 200:
                    raise stream_refused(response.status, response.headers.get("Retry-After"))
                if response.content_type != "application/json":
                    raise StreamEnded("refused")
                hint = hint_of(await response.read())
            ready = True
            first = since is None and bool(hint.id)
            since = hint.id or since
            yield hint
            if hint.t == "bye":
                return
            early = hint.t != "hint" and not first and loop.time() - began < heartbeat_s / 2
            fraction = random.random()  # noqa: S311 - jitter
            await asyncio.sleep(
                poll_pause_s(early=early, heartbeat_s=heartbeat_s, fraction=fraction)
            )
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, msgspec.MsgspecError) as error:
        raise _failure(error, ready=ready) from error


def _failure(error: Exception, *, ready: bool) -> StreamEnded:
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return StreamEnded("unreachable")
    if ready:
        return StreamEnded("cut")
    if isinstance(error, TimeoutError):
        return StreamEnded("silent")
    return StreamEnded("refused" if isinstance(error, ValueError) else "cut")


STREAMS: Final[
    dict[Kind, Callable[[aiohttp.ClientSession, str, Hello, float], AsyncGenerator[Hint, None]]]
] = {"websocket": websocket, "sse": events, "long-poll": polls}
