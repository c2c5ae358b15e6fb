"""How long a node waits for a client that sends slowly, or nothing at all.

uvicorn bounds the silence between two requests, and neither the head of a request nor its body: a
few thousand sockets that send a byte now and then would hold all that a process may open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

HEAD_S: Final = 15.0
"""From the first moment of a connection, or the first byte of a request, to the end of its head."""
BODY_S: Final = 30.0
BODY_BYTES_PER_S: Final = 2_000
"""A body may take ``BODY_S``, and a second more for each of so many bytes that have come."""


class TooSlow(Exception):
    """A body does not come."""


async def in_time(
    parts: AsyncIterator[bytes], body_s: float = BODY_S, bytes_per_s: float = BODY_BYTES_PER_S
) -> AsyncIterator[bytes]:
    """The parts of a body. Raises ``TooSlow``."""
    deadline = asyncio.get_running_loop().time() + body_s
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                part = await anext(parts)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise TooSlow from error
        deadline += len(part) / bytes_per_s
        yield part


def patient(protocol: Any, head_s: float = HEAD_S) -> Any:
    """uvicorn's HTTP protocol, which ends a connection whose request has no whole head in time."""

    class Patient(protocol):  # type: ignore[misc]  # one of two by what is installed
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._await_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _await_head(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_waiting()
            elif self._head_timer is None:
                loop = asyncio.get_running_loop()
                self._head_timer = loop.call_later(head_s, self._head_missing)

        def _stop_waiting(self) -> None:
            timer, self._head_timer = self._head_timer, None
            if timer is not None:
                timer.cancel()

        def _head_missing(self) -> None:
            self._head_timer = None
            busy = self.cycle is not None and not self.cycle.response_complete
            # As a WebSocket it has another protocol by now.
            if not busy and self.transport.get_protocol() is self:
                self.transport.close()

    return Patient
