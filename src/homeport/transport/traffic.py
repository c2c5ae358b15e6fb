"""What goes over the wire, counted where it leaves this process: at the socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from homeport.core.status import Traffic


class Meter:
    """Counts the bytes of one database (``core.status.Traffic`` says what is what)."""

    def __init__(self) -> None:
        self.sent = self.received = 0
        self.packed_sent = self.packed_received = 0
        self.body_sent = self.body_received = 0

    def counted(self) -> Traffic:
        """The figures now."""
        return Traffic(
            self.sent,
            self.received,
            self.packed_sent,
            self.packed_received,
            self.body_sent,
            self.body_received,
        )

    def socket_factory(self) -> Callable[[Any], socket.socket]:
        """For aiohttp's connector: sockets that count."""

        def make(info: Any) -> socket.socket:
            family, kind, protocol, *_ = info
            made = _Counted(family, kind, protocol)
            made.meter = self
            return made

        return make


class _Counted(socket.socket):
    """The selector loop of asyncio moves bytes by these methods and no other."""

    meter: Meter

    def send(self, *arguments: Any) -> int:
        count = super().send(*arguments)
        self.meter.sent += count
        return count

    def sendmsg(self, *arguments: Any) -> int:
        count = super().sendmsg(*arguments)
        self.meter.sent += count
        return count

    def recv(self, *arguments: Any) -> bytes:
        data = super().recv(*arguments)
        self.meter.received += len(data)
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        count = super().recv_into(buffer, nbytes, flags)
        self.meter.received += count
        return count
