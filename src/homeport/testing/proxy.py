"""A TCP proxy that breaks connections on purpose: between a device and its node, or before any
other server. It needs nothing but the standard library."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

from homeport.errors import UsageError
from homeport.testing.requests import RequestReader

__all__ = ["Direction", "FaultProxy"]

R = TypeVar("R")
Direction: TypeAlias = Literal["requests", "answers"]
Held: TypeAlias = Literal["requests", "answers", "both"]

CHUNK_BYTES = 65_536
TICK_S = 0.01
CONNECT_TIMEOUT_S = 5.0
KEPT_REQUESTS = 64
_LINGER_NOTHING = struct.pack("ii", 1, 0)
"""Closed with this, a socket sends a reset instead of a polite end."""


class FaultProxy:
    """Forwards every connection to ``target``, as badly as its settings say.

    It runs on a thread of its own; settings may be changed and methods called at any time, from any
    thread. Requests are what the side that connects sends, answers what the server sends.

    Args:
        target: where to forward to, ``"host:port"`` or an ``http://`` address.
        port: where to listen on this machine, 0 = a free one; kept by ``down()`` and ``up()``.

    Attributes:
        held: a direction in which bytes are taken and none is passed on, as by a network that
            drops packets: ``"requests"``, ``"answers"`` or ``"both"``. New connections are held
            too. None (the default) lets go what was held.
        latency_s, jitter_s: how late each piece arrives, at least and at most in addition.
        bytes_per_s: bandwidth of each direction of a connection, None = unlimited.
        chunk_bytes: the largest piece in which bytes are passed on, None = as they come. With 1
            every byte is a packet.
        lose_answers: how many more answers (of HTTP, status 2xx) are thrown away with their
            connection, after the server has done the work. Counted down, and ``lost`` up.
        truncate_answers: the same, but half of the first piece still arrives.
        duplicate: probability with which an HTTP request that writes (POST, PUT, PATCH, DELETE)
            is sent a second time on a connection of its own, up to ``duplicate_within_s`` later.
        requests: the last of these requests, whole, newest last. ``replay`` sends one again.
    """

    def __init__(self, target: str, *, port: int = 0) -> None:
        self.target = _address(target)
        self.port = port
        self.held: Held | None = None
        self.latency_s = 0.0
        self.jitter_s = 0.0
        self.bytes_per_s: float | None = None
        self.chunk_bytes: int | None = None
        self.lose_answers = 0
        self.truncate_answers = 0
        self.lost = 0
        self.duplicate = 0.0
        self.duplicate_within_s = 0.5
        self.duplicated = 0
        self.requests: deque[bytes] = deque(maxlen=KEPT_REQUESTS)
        self._links: set[_Link] = set()
        self._again: set[Future[str]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="homeport-fault-proxy", daemon=True
        )
        self._thread.start()
        try:
            self.up()
        except OSError:
            self.close()
            raise

    @property
    def url(self) -> str:
        """What a device is given instead of the node's address."""
        return f"http://{self.address}"

    @property
    def address(self) -> str:
        """``host:port`` of the proxy."""
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._links)

    def down(self) -> None:
        """Refuse new connections and reset the open ones, as a pulled cable would in the end."""
        self._do(self._down())

    def up(self) -> None:
        """Accept connections (again)."""
        self._do(self._up())

    def cut(self) -> None:
        """Reset every open connection; new ones are accepted."""
        self._do(self._cut())

    def half_close(self, direction: Direction) -> None:
        """End one direction of every open connection in good order (FIN); the other goes on."""
        self._do(self._half_close(direction))

    def retarget(self, target: str) -> None:
        """Forward new connections to another server, and reset the open ones."""
        self.target = _address(target)
        self.cut()

    def replay(self, request: bytes | None = None, timeout_s: float = 5.0) -> str:
        """Send a whole request (default: the last one seen) on a connection of its own, past all
        faults → the first line of the answer, empty when there was none."""
        if request is None:
            if not self.requests:
                return ""
            request = self.requests[-1]
        return asyncio.run_coroutine_threadsafe(
            self._replay(request, timeout_s), self._loop
        ).result()

    def heal(self) -> None:
        """Take every fault back; bytes that were held go on."""
        self.held = self.bytes_per_s = self.chunk_bytes = None
        self.latency_s = self.jitter_s = self.duplicate = 0.0
        self.lose_answers = self.truncate_answers = 0
        self.up()

    def close(self) -> None:
        """Reset everything and end the thread."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(OSError):
            self.down()
        self._do(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- on the proxy's thread

    def _do(self, work: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _up(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        for link in list(self._links):
            link.reset()

    async def _half_close(self, direction: Direction) -> None:
        for link in list(self._links):
            with contextlib.suppress(OSError, RuntimeError):
                link.sink(direction).write_eof()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(reader, writer)
        self._links.add(link)
        link.task = self._loop.create_task(self._serve(link))

    async def _serve(self, link: _Link) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                link.connected(*await asyncio.open_connection(*self.target))
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(link, "requests"))
                both.create_task(self._pump(link, "answers"))
        except (OSError, TimeoutError, ExceptionGroup):
            link.reset()
        finally:
            link.close()
            self._links.discard(link)

    async def _pump(self, link: _Link, direction: Direction) -> None:
        source, sink = link.source(direction), link.sink(direction)
        reader = RequestReader() if direction == "requests" else None
        while piece := await source.read(CHUNK_BYTES):
            for request in reader.feed(piece) if reader is not None else ():
                self.requests.append(request)
                if self.duplicate and random.random() < self.duplicate:  # noqa: S311 - a fault
                    self._send_again(request)
            while self.held in (direction, "both"):  # noqa: ASYNC110 - set by any thread
                await asyncio.sleep(TICK_S)
            if direction == "answers" and self._loses(piece, sink):
                await sink.drain()
                link.reset()
                return
            await self._pass_on(piece, sink)
        if not sink.is_closing():
            sink.write_eof()

    def _loses(self, piece: bytes, sink: asyncio.StreamWriter) -> bool:
        if not piece.startswith(b"HTTP/1.1 2"):
            return False
        if self.truncate_answers > 0:
            self.truncate_answers -= 1
            sink.write(piece[: len(piece) // 2])
        elif self.lose_answers > 0:
            self.lose_answers -= 1
        else:
            return False
        self.lost += 1
        return True

    async def _pass_on(self, piece: bytes, sink: asyncio.StreamWriter) -> None:
        if self.latency_s or self.jitter_s:
            await asyncio.sleep(self.latency_s + random.random() * self.jitter_s)  # noqa: S311
        size = self.chunk_bytes or len(piece)
        for start in range(0, len(piece), size):
            part = piece[start : start + size]
            sink.write(part)
            if self.bytes_per_s:
                await asyncio.sleep(len(part) / self.bytes_per_s)
        await sink.drain()

    def _send_again(self, request: bytes) -> None:
        async def later() -> str:
            await asyncio.sleep(random.random() * self.duplicate_within_s)  # noqa: S311
            return await self._replay(request, 5.0)

        self.duplicated += 1
        again = asyncio.run_coroutine_threadsafe(later(), self._loop)
        self._again.add(again)
        again.add_done_callback(self._again.discard)

    async def _replay(self, request: bytes, timeout_s: float) -> str:
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(*self.target)
                try:
                    writer.write(request)
                    await writer.drain()
                    return (await reader.readline()).decode("latin-1").strip()
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError):
            return ""


class _Link:
    """One connection through the proxy: its two ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._client = (reader, writer)
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.task: asyncio.Task[None] | None = None

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = (reader, writer)
        for end in (self._client, self._server):
            end[1].get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def source(self, direction: Direction) -> asyncio.StreamReader:
        assert self._server is not None
        return (self._client if direction == "requests" else self._server)[0]

    def sink(self, direction: Direction) -> asyncio.StreamWriter:
        if self._server is None:
            return self._client[1]
        return (self._server if direction == "requests" else self._client)[1]

    def reset(self) -> None:
        """Both ends at once, with a reset; what is under way is thrown away."""
        for end in (self._client, self._server):
            if end is not None and not end[1].transport.is_closing():
                with contextlib.suppress(OSError):
                    end[1].get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOTHING
                    )
                end[1].transport.abort()
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()

    def close(self) -> None:
        for end in (self._client, self._server):
            if end is not None:
                end[1].close()


async def _cancel_others() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _address(target: str) -> tuple[str, int]:
    try:
        parts = urlsplit(target if "://" in target else f"//{target}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise UsageError(f"{target!r:.80} is no address of a server.", action='Say "host:port".')
    return host, port
