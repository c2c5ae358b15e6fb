"""A TCP proxy that breaks connections on purpose, between a device and its node."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable


class FaultProxy:
    """Forward to (host, port); ``url`` is what the device is given.

    down: refuse and cut everything, as a pulled cable would (listener closed, connections reset).
    lose_replies: how many further answers are thrown away after the node has written them.
    stall: bytes are taken and kept, nothing is passed on.
    delay_s: latency of each chunk.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.lose_replies = 0
        self.lost = 0
        self.stall = False
        self.delay_s = 0.0
        self.on_request: Callable[[bytes], None] | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.port = 0
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def down(self) -> None:
        if self._listener is not None:
            # shutdown wakes the thread that waits in accept(); close alone would not
            try:
                self._listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Reset every open connection."""
        with self._lock:
            connections, self._connections = self._connections, set()
        for s in connections:
            try:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._connections |= {client, server}
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, request: bool) -> None:
        try:
            while chunk := source.recv(65536):
                if request and self.on_request is not None:
                    self.on_request(chunk)
                while self.stall:
                    time.sleep(0.02)
                if self.delay_s:
                    time.sleep(self.delay_s)
                if not request and self.lose_replies > 0 and chunk.startswith(b"HTTP/1.1 200"):
                    self.lose_replies -= 1
                    self.lost += 1
                    break
                sink.sendall(chunk)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
            with self._lock:
                self._connections.discard(s)

    def close(self) -> None:
        self.stall = False
        self.down()
