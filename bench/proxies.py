"""Proxies that count: bytes between device and node, statements between node and PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

STATEMENTS = frozenset(b"QE")
"""What a client of PostgreSQL sends to have something run: a simple query, or an execute."""


class CountingProxy:
    """Forwards TCP on a thread of its own and counts the bytes of both directions.

    Attributes:
        sent, received: bytes towards the target, and back.
        messages: with ``postgres=True``, how often each type of message went to the target.
        requests: how often a chunk began with an HTTP POST.
    """

    def __init__(self, host: str, port: int, *, postgres: bool = False) -> None:
        self._target = (host, port)
        self._postgres = postgres
        self.sent = self.received = self.requests = 0
        self.messages: Counter[int] = Counter()
        self.port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, daemon=True)

    def __enter__(self) -> CountingProxy:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def statements(self) -> int:
        """How many statements were run."""
        return sum(self.messages[kind] for kind in STATEMENTS)

    def bytes(self) -> int:
        """Both directions together."""
        return self.sent + self.received

    def _note(self, data: bytes) -> None:
        self.requests += data.startswith(b"POST ")

    def _main(self) -> None:
        self._loop = loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            loop.run_forever()
        finally:
            server.close()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        count = _Messages(self.messages).feed if self._postgres else self._note
        try:
            await asyncio.gather(
                self._copy(reader, back, "sent", count), self._copy(there, writer, "received")
            )
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()
            back.close()

    async def _copy(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        name: str,
        count: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        try:
            while data := await source.read(65536):
                setattr(self, name, getattr(self, name) + len(data))
                count(data)
                target.write(data)
                await target.drain()
        except (ConnectionError, OSError):
            pass
        finally:
            if target.can_write_eof():
                try:
                    target.write_eof()
                except OSError:
                    pass


class _Messages:
    """Cuts one connection's stream into messages: a type byte and a length, but for the first."""

    def __init__(self, counts: Counter[int]) -> None:
        self._counts = counts
        self._buffer = bytearray()
        self._started = False

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head = 1 if self._started else 0
            if len(self._buffer) < head + 4:
                return
            length = head + int.from_bytes(self._buffer[head : head + 4], "big")
            if len(self._buffer) < length:
                return
            if self._started:
                self._counts[self._buffer[0]] += 1
            elif length != 8:  # 8 bytes ask for encryption; the start-up message follows
                self._started = True
            del self._buffer[:length]


def through(dsn: str, port: int) -> str:
    """The connection string, by way of a proxy; without TLS, which would hide the messages."""
    parts = urlsplit(dsn)
    credentials = parts.netloc.rpartition("@")[0]
    query = "&".join(part for part in (parts.query, "sslmode=disable") if part)
    return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{port}", query=query))


def host_of(address: str) -> tuple[str, int]:
    parts = urlsplit(address)
    return parts.hostname or "127.0.0.1", parts.port or 0
