"""Finds whole HTTP requests in a stream of bytes, to send them a second time."""

from __future__ import annotations

from collections.abc import Iterator

MAX_BYTES = 8_000_000
_WRITING = (b"POST ", b"PUT ", b"PATCH ", b"DELETE ")
_METHODS = (*_WRITING, b"GET ", b"HEAD ", b"OPTIONS ")


class RequestReader:
    """Fed with what a client sends on one connection; yields its writing requests, whole.

    Gives up silently on anything else: another protocol, an upgrade, a body without a length.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._lost = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Requests (POST, PUT, PATCH, DELETE) that are complete with ``piece``."""
        if self._lost:
            return
        self._buffer += piece
        while self._buffer and not self._lost:
            size = self._size()
            if size is None or len(self._buffer) < size:
                return
            request, self._buffer = self._buffer[:size], self._buffer[size:]
            if request.startswith(_WRITING):
                yield request

    def _size(self) -> int | None:
        """Bytes of the first request; None = more of it is needed, or it cannot be known."""
        if len(self._buffer) >= 8 and not self._buffer.startswith(_METHODS):
            self._give_up()
            return None
        head, end, _ = self._buffer.partition(b"\r\n\r\n")
        if not end:
            if len(head) > MAX_BYTES:
                self._give_up()
            return None
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            match name.strip().lower():
                case b"content-length" if value.strip().isdigit():
                    length = int(value)
                case b"transfer-encoding" | b"upgrade":
                    self._give_up()
                    return None
                case _:
                    pass
        if length > MAX_BYTES:
            self._give_up()
            return None
        return len(head) + len(end) + length

    def _give_up(self) -> None:
        self._lost = True
        self._buffer = b""
