"""What stands between a device and its node in offices and hotels."""

from __future__ import annotations

import asyncio
import contextlib
import re


class Middlebox:
    """A proxy on this loop; ``url`` is what the device is given.

    no_upgrade: this status answers every WebSocket. buffered: what is streamed is kept until it is
    complete. cut_s: connections end after this time. idle_s: or after so long without a byte.

    asked: how many requests of each path came. preflights: how often a browser asked whether a page
    may ask. Bytes: ``sent`` by the device, ``received`` by it.
    """

    def __init__(self, url, *, no_upgrade=None, buffered=False, cut_s=None, idle_s=None):
        host, _, port = url.removeprefix("http://").partition(":")
        self.target = host, int(port)
        self.no_upgrade, self.buffered = no_upgrade, buffered
        self.cut_s, self.idle_s = cut_s, idle_s
        self.asked: dict[str, int] = {}
        self.preflights = 0
        self.sent = self.received = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        up_reader, up_writer = await asyncio.open_connection(*self.target)
        self._streams = False
        moved = asyncio.Event()
        tasks = [
            asyncio.create_task(self._up(reader, up_writer, writer, moved)),
            asyncio.create_task(self._down(up_reader, writer, moved)),
        ]
        if self.cut_s is not None:
            tasks.append(asyncio.create_task(asyncio.sleep(self.cut_s)))
        if self.idle_s is not None:
            tasks.append(asyncio.create_task(self._idle(moved)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for one in (writer, up_writer):
                one.close()

    async def _idle(self, moved):
        with contextlib.suppress(TimeoutError):
            while True:
                moved.clear()
                await asyncio.wait_for(moved.wait(), self.idle_s)

    async def _up(self, reader, up_writer, writer, moved):
        while chunk := await reader.read(65536):
            moved.set()
            self.sent += len(chunk)
            self.preflights += chunk.startswith(b"OPTIONS ")
            if found := re.match(rb"(?:GET|POST) (/v1/\w+)", chunk):
                path = found.group(1).decode()
                self.asked[path] = self.asked.get(path, 0) + 1
                if path == "/v1/live" and self.no_upgrade is not None:
                    head = f"HTTP/1.1 {self.no_upgrade} No\r\nContent-Length: 0\r\n\r\n"
                    writer.write(head.encode())
                    await writer.drain()
                    return
            up_writer.write(chunk)
            await up_writer.drain()

    async def _down(self, up_reader, writer, moved):
        kept = b""
        while chunk := await up_reader.read(65536):
            moved.set()
            if self.buffered and (kept or b"text/event-stream" in chunk):
                kept += chunk
                continue
            self.received += len(chunk)
            writer.write(chunk)
            await writer.drain()
        writer.write(kept)
