"""Bytes between device and node: one POST per exchange, and streams of hints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType

from homeport.core.streams import HEARTBEAT_MS, Kind
from homeport.core.wire import Hello, Hint, Reply
from homeport.errors import ServerRefused, Unreachable
from homeport.transport.answers import (
    CONNECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    authorization,
    reply_of,
    retry_after_s,
)
from homeport.transport.client import aiohttp
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

MAX_REPLY_BYTES = 256_000_000
"""Of one page, unpacked: far above what a node sends, far below what a bomb becomes."""


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
        return reply_of(self.url, status, answer, wait_s)

    async def _ask(self, body: bytes, token: str) -> tuple[int, bytes, float | None]:
        """One request → status, unpacked body, wish for a pause."""
        self.requests += 1
        headers = {
            **authorization(token),
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
        """One stream of hints, to its end. Raises ``StreamEnded`` where there is a reason."""
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
