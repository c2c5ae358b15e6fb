"""Events of the replication, as an iterator."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from homeport.core.context import Event
from homeport.waiting import AsyncWaiter

EVENTS_KEPT = 10_000
"""Events that an iterator keeps for a slow reader; older ones are dropped first."""


class AsyncEvents:
    """Events of the replication, one by one."""

    def __init__(
        self,
        subscribe: Callable[[Callable[[Event], None]], Callable[[], None]],
        waiter: AsyncWaiter,
    ) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._waiting: Future[Event | None] | None = None
        self._closed = False
        self._waiter = waiter
        self._forget = subscribe(self._put)

    def _put(self, event: Event) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, None
            if waiting is None or not waiting.set_running_or_notify_cancel():
                self._queue.append(event)
                return
        waiting.set_result(event)

    def _next(self) -> Future[Event | None]:
        future: Future[Event | None] = Future()
        with self._lock:
            if self._queue:
                future.set_result(self._queue.popleft())
            elif self._closed:
                future.set_result(None)
            else:
                self._waiting = future
        return future

    def close(self) -> None:
        """End the iteration, also of a reader that waits."""
        self._forget()
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.set_running_or_notify_cancel():
            waiting.set_result(None)

    def __aiter__(self) -> AsyncEvents:
        return self

    async def __anext__(self) -> Event:
        event = await self._waiter.wait(self._next())
        if event is None:
            raise StopAsyncIteration
        return event
