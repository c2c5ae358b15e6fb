"""The three kinds of a live stream, as a device reads them.

Each is a generator of hints. It returns when the connection just ended, and raises ``StreamEnded``
where it can tell why; ``core.streams`` decides what comes next.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Final

import msgspec

from homeport.core.streams import Kind, Reason
from homeport.core.wire import Hello, Hint
from homeport.transport.client import aiohttp, retry_after_s

CONNECT_S = 4.0
READY_S = 8.0
"""From the beginning to the first message; longer means that something keeps it back."""
LOST_AFTER = 2.5
"""So many heartbeats without a sound, and the connection is given up."""
POLL_GAP_S = 0.2
"""Longest pause between a long poll that brought something and the next."""
POLL_GRACE_S = 15.0
MAX_MESSAGE_BYTES = 1_000_000

_hint = msgspec.json.Decoder(Hint)


class StreamEnded(Exception):
    """Why a stream ended, for ``core.streams.Choice``."""

    def __init__(self, reason: Reason, wait_s: float | None = None) -> None:
        self.reason: Reason = reason
        self.wait_s = wait_s
        super().__init__(reason)


def _refusal(status: int, headers: Mapping[str, str] | None) -> StreamEnded:
    wait_s = retry_after_s((headers or {}).get("Retry-After"))
    if status == 401:
        return StreamEnded("auth")
    if status == 429 or (status == 503 and wait_s is not None):
        return StreamEnded("busy", 2.0 if wait_s is None else wait_s)
    # Without a wish of when to come back, 5xx is as likely a proxy that cannot pass this kind on.
    return StreamEnded("cut" if status >= 500 else "refused", wait_s)


_CLOSED: Final[dict[int, Reason]] = {1012: "bye", 1013: "busy", 4401: "auth", 4429: "busy"}


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
                    yield _hint.decode(message.data)
                code = socket.close_code or 1006
                if code in _CLOSED:
                    raise StreamEnded(_CLOSED[code], 2.0 if _CLOSED[code] == "busy" else None)
                if 4400 <= code < 4500:
                    raise StreamEnded("refused")
    except aiohttp.WSServerHandshakeError as error:
        raise _refusal(error.status, error.headers) from error
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, msgspec.MsgspecError) as error:
        raise _failure(error, ready=ready) from error


async def events(
    http: aiohttp.ClientSession, url: str, hello: Hello, heartbeat_s: float
) -> AsyncGenerator[Hint, None]:
    """``/v1/events``: server-sent events."""
    silence = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=heartbeat_s * LOST_AFTER)
    headers = {**_authorization(hello), "Accept": "text/event-stream"}
    ready = False
    try:
        async with asyncio.timeout(READY_S) as limit:
            query = http.get(
                f"{url}/v1/events",
                params=_params(hello, hello.since, heartbeat_s),
                headers=headers,
                timeout=silence,
                allow_redirects=False,
            )
            async with query as response:
                if response.status != 200:
                    raise _refusal(response.status, response.headers)
                if response.content_type != "text/event-stream":
                    raise StreamEnded("refused")
                async for line in response.content:
                    # Ours are one line of data each; ids are in the data as well.
                    if line.startswith(b"data:"):
                        ready = True
                        limit.reschedule(None)
                        yield _hint.decode(line[5:])
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
                params=_params(hello, since, heartbeat_s),
                headers=_authorization(hello),
                timeout=limit,
                allow_redirects=False,
            )
            async with query as response:
                if response.status != 200:
                    raise _refusal(response.status, response.headers)
                if response.content_type != "application/json":
                    raise StreamEnded("refused")
                hint = _hint.decode(await response.read())
            ready = True
            first = since is None and bool(hint.id)
            since = hint.id or since
            yield hint
            if hint.t == "bye":
                return
            early = hint.t != "hint" and not first and loop.time() - began < heartbeat_s / 2
            # Whoever answers at once without news must not be asked again at once.
            longest_s = heartbeat_s if early else POLL_GAP_S
            await asyncio.sleep(random.uniform(longest_s / 2, longest_s))  # noqa: S311 - jitter
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


def _authorization(hello: Hello) -> dict[str, str]:
    return {"Authorization": f"Bearer {hello.token}"}


def _params(hello: Hello, since: str | None, pause_s: float) -> list[tuple[str, str]]:
    asked = [("v", str(hello.v)), ("client", hello.client), ("pause_s", f"{pause_s:g}")]
    if since is not None:
        asked.append(("since", since))
    return asked + [("collection", name) for name in hello.collections]


STREAMS: Final[
    dict[Kind, Callable[[aiohttp.ClientSession, str, Hello, float], AsyncGenerator[Hint, None]]]
] = {"websocket": websocket, "sse": events, "long-poll": polls}
