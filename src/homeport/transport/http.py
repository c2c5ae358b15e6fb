"""Bytes between device and node: one POST per exchange, and streams of hints."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from homeport.core.streams import HEARTBEAT_MS, Kind
from homeport.core.wire import PROTOCOL, Hello, Hint, Problem, Reply
from homeport.errors import (
    Forbidden,
    HistoryBroken,
    IdentityBroken,
    NeedsAuth,
    ProtocolMismatch,
    RateLimited,
    ServerRefused,
    SyncError,
    Unreachable,
    UpgradeRequired,
)
from homeport.transport.client import aiohttp, retry_after_s
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
from homeport.transport.live import STREAMS
from homeport.transport.traffic import Meter

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
"""Longest silence of the server within one exchange."""
MAX_REPLY_BYTES = 256_000_000
"""Of one page, unpacked: far above what a node sends, far below what a bomb becomes."""
_ERRORS: dict[int, type[SyncError]] = {
    401: NeedsAuth,
    403: Forbidden,
    409: IdentityBroken,
    410: HistoryBroken,
    426: ProtocolMismatch,
}
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))

_reply = msgspec.json.Decoder(Reply)
_problem = msgspec.json.Decoder(Problem)


class Identity(NamedTuple):
    """Whom a token speaks for, as it says itself (the server verifies it, the device cannot)."""

    tenant: str
    subject: str


def identity_of(token: str) -> Identity | None:
    """Claims of a JWT without verification; None when it is no JWT or does not say."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    payload = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        claims: Any = msgspec.json.decode(base64.urlsafe_b64decode(payload))
        return Identity(str(claims["tenant"]), str(claims["sub"]))
    except (ValueError, KeyError, TypeError):
        return None


class HttpTransport:
    """Speaks to one node. Made and used within one event loop.

    Raises from ``exchange``: ``Unreachable`` (also for 429 and 5xx, with ``retry_after_s`` in its
    context), ``NeedsAuth``, ``Forbidden``, ``IdentityBroken``, ``HistoryBroken``,
    ``ProtocolMismatch``, ``UpgradeRequired``, ``ServerRefused``.
    """

    def __init__(self, url: str, meter: Meter | None = None) -> None:
        self.url = url.rstrip("/")
        self.meter = meter or Meter()
        self._accepted = ""
        """What the node said it can unpack; nothing before its first answer."""
        timeout = aiohttp.ClientTimeout(
            total=None, connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(socket_factory=self.meter.socket_factory()),
            timeout=timeout,
            # Ours is bounded. Streams of hints are too small to be packed.
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )
        self.requests = 0

    async def exchange(self, body: bytes, token: str) -> Reply:
        try:
            status, answer, wait_s = await self._ask(body, token)
            if status == 415:
                # Another node of the same address may unpack less: now it is known what.
                status, answer, wait_s = await self._ask(body, token)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            text = str(error) or type(error).__name__
            raise Unreachable(f"{self.url} does not answer: {text}.") from error
        except TooMuch as error:
            raise ServerRefused(
                f"An answer of {self.url} has more than {MAX_REPLY_BYTES} bytes.",
                action="Ask who runs the server: pages are far smaller.",
            ) from error
        except (UnknownEncoding, Damaged) as error:
            raise Unreachable(f"An answer of {self.url} cannot be unpacked: {error}") from error
        except ValueError as error:
            raise ServerRefused(
                f"{self.url!r} or the token cannot be used: {error}.", action="Correct it."
            ) from error
        if status != 200:
            raise _refusal(self.url, status, answer, wait_s)
        try:
            reply = _reply.decode(answer)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ServerRefused(
                f"{self.url} answers, but not as a Homeport node does.", action="Check the address."
            ) from error
        if reply.v != PROTOCOL:
            raise ProtocolMismatch(
                f"{self.url} speaks version {reply.v} of the protocol, this device {PROTOCOL}."
            )
        return reply

    async def _ask(self, body: bytes, token: str) -> tuple[int, bytes, float | None]:
        """One request → status, unpacked body, wish for a pause."""
        self.requests += 1
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Accept-Encoding": ACCEPTED,
        }
        encoding = choose(self._accepted) if len(body) >= PACK_FROM_BYTES else None
        data = body
        if encoding is not None:
            headers["Content-Encoding"] = encoding
            data = await packed(body, encoding)
        self.meter.body_sent += len(body)
        self.meter.packed_sent += len(data)
        async with self._session.post(
            f"{self.url}/v1/sync", data=data, headers=headers, allow_redirects=False
        ) as response:
            self._accepted = response.headers.get("Accept-Encoding", "")
            unpacker = Unpacker(response.headers.get("Content-Encoding"), MAX_REPLY_BYTES)
            async for chunk in response.content.iter_any():
                self.meter.packed_received += len(chunk)
                unpacker.feed(chunk)
            answer = unpacker.finish()
            self.meter.body_received += len(answer)
            return response.status, answer, retry_after_s(response.headers.get("Retry-After"))

    def hints(
        self, hello: Hello, kind: Kind = "websocket", heartbeat_s: float = HEARTBEAT_MS / 1000
    ) -> AsyncGenerator[Hint, None]:
        """One stream of hints, to its end. Raises ``live.StreamEnded`` where there is a reason."""
        return STREAMS[kind](self._session, self.url, hello, heartbeat_s)

    async def close(self) -> None:
        await self._session.close()
        # aiohttp closes its sockets in the loop's next turns.
        await asyncio.sleep(0)

    async def __aenter__(self) -> HttpTransport:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _refusal(url: str, status: int, answer: bytes, wait_s: float | None) -> SyncError:
    try:
        problem = _problem.decode(answer)
    except (msgspec.MsgspecError, RecursionError):
        problem = Problem("", f"{url} answered with status {status}.")
    if status in _PASSING:
        # A proxy knows the header only; the node says the same in both, the body more finely.
        after_s = problem.retry_after_s if problem.retry_after_s is not None else wait_s
        passing = RateLimited if problem.code == RateLimited.code else Unreachable
        return passing(problem.message, retry_after_s=after_s)
    kind = _ERRORS.get(status, ServerRefused)
    if problem.code == UpgradeRequired.code:
        kind = UpgradeRequired
    action = None
    if status == 404:
        action = "Check the address: there is no Homeport node at it."
    return kind(problem.message, action=action, status=status)
