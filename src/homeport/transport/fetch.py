"""Bytes between a page and a node: the browser's ``fetch`` and its WebSocket.

Also in a worker. Bodies and hints are the same as over sockets (``http``, ``live``); the browser
does what aiohttp does there, by way of ``fetch.js``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

import msgspec

from homeport.core.streams import HEARTBEAT_MS, Kind, Reason
from homeport.core.wire import Hello, Hint, Reply
from homeport.errors import Unreachable
from homeport.transport.answers import (
    LOST_AFTER,
    POLL_GRACE_S,
    READ_TIMEOUT_S,
    READY_S,
    StreamEnded,
    authorization,
    hint_of,
    poll_pause_s,
    reply_of,
    retry_after_s,
    stream_closed,
    stream_query,
    stream_refused,
)
from homeport.transport.encoding import PACK_FROM_BYTES, choose, pack
from homeport.transport.traffic import Meter


@cache
def _helper() -> Any:
    from pyodide.code import run_js  # type: ignore[import-not-found] # noqa: PLC0415

    return run_js(files("homeport.transport").joinpath("fetch.js").read_text("utf-8"))


def _js(value: object) -> Any:
    from pyodide.ffi import to_js  # type: ignore[import-not-found] # noqa: PLC0415

    return to_js(value)


def _pairs(headers: Mapping[str, str]) -> Any:
    return _js([list(pair) for pair in headers.items()])


class FetchTransport:
    """Speaks to one node from a page. Raises from ``exchange`` what ``HttpTransport`` does.

    meter: a browser does not tell what it sends and receives around them, so the bodies alone are
    counted.
    """

    def __init__(self, url: str, meter: Meter | None = None) -> None:
        self.url = url.rstrip("/")
        self.meter = meter or Meter()
        self._accepted = ""
        """What the node said it can unpack; nothing before its first answer."""
        self.requests = 0

    async def exchange(self, body: bytes, token: str) -> Reply:
        answer = await self._ask(body, token)
        if answer.status == 415:
            # Another node of the same address may unpack less: now it is known what.
            answer = await self._ask(body, token)
        wait_s = retry_after_s(answer.retryAfter or None)
        return reply_of(self.url, answer.status, answer.bytes.to_bytes(), wait_s)

    async def _ask(self, body: bytes, token: str) -> Any:
        """One request → what came. The browser unpacks answers by itself."""
        self.requests += 1
        headers = {**authorization(token), "Content-Type": "application/json"}
        encoding = choose(self._accepted) if len(body) >= PACK_FROM_BYTES else None
        data = body
        if encoding is not None:
            headers["Content-Encoding"] = encoding
            data = pack(body, encoding)
        self.meter.body_sent += len(body)
        self.meter.packed_sent += len(data)
        answer = await _helper().request(
            "POST", f"{self.url}/v1/sync", _pairs(headers), _js(data), READ_TIMEOUT_S * 1000
        )
        if hasattr(answer, "failed"):
            raise Unreachable(f"{self.url} does not answer: {answer.text}.")
        self._accepted = answer.accepted
        self.meter.packed_received += int(answer.packed)
        self.meter.body_received += int(answer.bytes.length)
        return answer

    def hints(
        self, hello: Hello, kind: Kind = "websocket", heartbeat_s: float = HEARTBEAT_MS / 1000
    ) -> AsyncGenerator[Hint, None]:
        """One stream of hints, to its end. Raises ``StreamEnded`` where there is a reason."""
        if kind == "long-poll":
            return self._polls(hello, heartbeat_s)
        return self._stream(hello, kind, heartbeat_s)

    async def _stream(
        self, hello: Hello, kind: Kind, heartbeat_s: float
    ) -> AsyncGenerator[Hint, None]:
        if kind == "websocket":
            # A page hears nothing of the protocol's own pings, so silence says nothing here: the
            # browser closes a connection that is gone, and the timer of the replication goes on.
            silence_s = float("inf")
            address = "ws" + self.url.removeprefix("http") + "/v1/live"
            stream = _helper().socket(address, msgspec.json.encode(hello).decode())
        else:
            silence_s = heartbeat_s * LOST_AFTER
            query = urlencode(stream_query(hello, hello.since, heartbeat_s))
            headers = {**authorization(hello.token), "Accept": "text/event-stream"}
            stream = _helper().events(f"{self.url}/v1/events?{query}", _pairs(headers))
        ready = False
        try:
            while True:
                limit_s = min(silence_s, LONGEST_WAIT_S) if ready else READY_S
                item = await stream.next(limit_s * 1000)
                if hasattr(item, "text") and not hasattr(item, "failed"):
                    ready = True
                    yield _decoded(item.text)
                elif hasattr(item, "closed"):
                    why = stream_closed(item.closed)
                    if why is None and ready:
                        return
                    raise why or StreamEnded(await self._unopened(item.closed))
                elif hasattr(item, "refused"):
                    raise stream_refused(item.refused, item.retryAfter or None)
                elif hasattr(item, "failed"):
                    if ready and item.failed == "late" and silence_s > limit_s:
                        continue
                    if ready:
                        raise StreamEnded("cut")
                    raise StreamEnded("silent" if item.failed == "late" else "unreachable")
        finally:
            stream.close()

    async def _unopened(self, code: int) -> Reason:
        """Why a WebSocket ended that never spoke. A page is not told whether nobody answers, or
        somebody who does not pass sockets on; so the place where exchanges go is asked anything."""
        if code != LOST:
            return "refused"
        answer = await _helper().request(
            "GET", f"{self.url}/v1/sync", _pairs({}), "", READY_S * 1000
        )
        # Not "refused", which is for good: what passes on fetch may have lost this socket only.
        return "unreachable" if hasattr(answer, "failed") else "cut"

    async def _polls(self, hello: Hello, heartbeat_s: float) -> AsyncGenerator[Hint, None]:
        loop = asyncio.get_running_loop()
        headers = _pairs(authorization(hello.token))
        since, ready = hello.since, False
        limit_ms = (heartbeat_s + POLL_GRACE_S) * 1000
        while True:
            began = loop.time()
            query = urlencode(stream_query(hello, since, heartbeat_s))
            answer = await _helper().request(
                "GET", f"{self.url}/v1/poll?{query}", headers, "", limit_ms
            )
            if hasattr(answer, "failed"):
                raise StreamEnded("cut" if ready else "unreachable")
            if answer.status != 200:
                raise stream_refused(answer.status, answer.retryAfter or None)
            hint = _decoded(answer.bytes.to_bytes())
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

    async def close(self) -> None:
        """Nothing is kept open between two requests."""


LONGEST_WAIT_S = 3600.0
"""Of one question to a stream; then it is asked again."""
LOST = 1006
"""What a WebSocket says that was not closed, but ended."""


def _decoded(text: str | bytes) -> Hint:
    try:
        return hint_of(text)
    except msgspec.MsgspecError as error:
        raise StreamEnded("refused") from error
