"""Waiting for commits: what wakes the consumer of a live query, blocking and on an event loop.

A commit of this engine wakes at once, those of other processes when the pulse finds them. Both are
hints: the number of the last change is the truth, and a consumer that nobody wakes looks at it by
itself every two seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from homeport.core.requests import Operation
from homeport.drivers.engine import Engine
from homeport.drivers.steps import head, refuse_closed
from homeport.drivers.subscription import Subscription, in_task, in_thread
from homeport.errors import Busy

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from homeport.drivers.pulse import Pulse
    from homeport.drivers.subscription import AsyncLiveQuery, LiveQuery

C = TypeVar("C")

LOOK_S = 2.0
"""So often a consumer looks without a hint (and can be interrupted, where a wait cannot)."""

ALONE_LOOK_S = 0.1
"""The same where no thread can look for all: in a browser."""


class _Waiting:
    """What both kinds of watches know."""

    def __init__(self, engine: Engine, bell: Callable[[], None]) -> None:
        self._engine = engine
        self._forget = engine.on_commit(bell)
        self._leave: Callable[[], None] | None = None
        self._look_s = LOOK_S
        try:
            if engine.closed:
                refuse_closed(forked=engine.forked)
            if engine.store.multiprocess:
                pulse: Pulse | None = engine.pulse
                if pulse is None:
                    self._look_s = ALONE_LOOK_S
                else:
                    self._leave = pulse.join(bell)
        except BaseException:
            self._forget()
            raise
        self._closed = False

    @property
    def over(self) -> bool:
        """Was the watch or its database closed? Raises ``Closed`` in a forked child."""
        if self._engine.forked:
            refuse_closed(forked=True)
        return self._closed or self._engine.closed

    def _rest(self, until_s: float | None, until_ms: int | None) -> float:
        """How long to wait, in seconds; 0 or less = not at all."""
        look_s = self._look_s
        rest_s = look_s if until_s is None else min(look_s, until_s - time.monotonic())
        if until_ms is not None:
            rest_s = min(rest_s, self._left_s(until_ms))
        return rest_s

    def _left_s(self, until_ms: int) -> float:
        return (until_ms - self._engine.store.clock_ms()) / 1000

    def _end(self) -> None:
        self._closed = True
        self._forget()
        if self._leave is not None:
            self._leave()

    def __del__(self) -> None:
        if hasattr(self, "_closed"):  # else __init__ has tidied up
            self._end()


class Watch(_Waiting):
    """Wakes the consumer of one live query."""

    def __init__(self, engine: Engine) -> None:
        self._event = threading.Event()
        super().__init__(engine, self._event.set)

    def wait(self, seen: int, timeout_s: float | None, until_ms: int | None) -> bool:
        """Wait for a commit after change number ``seen``, or the moment ``until_ms``; False when
        time is up or on close."""
        engine = self._engine
        engine.forbid_inside("Waiting for a live query")
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._event.clear()
            if self.over:
                return False
            if until_ms is not None and self._left_s(until_ms) <= 0:
                return True
            with suppress(Busy):  # a long transaction on the one session that there is
                if engine.run(head()) != seen:
                    return True
            if until_s is not None and until_s <= time.monotonic():
                return False
            self._event.wait(max(0.0, self._rest(until_s, until_ms)))

    def follow(
        self,
        live: LiveQuery[C],
        fn: Callable[[C], object],
        on_error: Callable[[Exception], object] | None,
    ) -> Subscription:
        """Call ``fn`` with every change, in a thread of its own."""
        return in_thread(live, fn, on_error)

    def close(self) -> None:
        """End the wait of whatever thread is in it."""
        self._end()
        self._event.set()


class _Bell:
    """What a commit rings; apart from its watch, so that a forgotten live query is collected."""

    __slots__ = ("future", "loop")

    def __init__(self) -> None:
        self.loop: AbstractEventLoop | None = None
        self.future: Future[None] | None = None

    def ring(self) -> None:
        loop, future = self.loop, self.future
        if loop is None or future is None or future.done():
            return
        try:
            loop.call_soon_threadsafe(_wake, future)
        except RuntimeError:
            self.loop = None  # closed: nobody waits there any more


def _wake(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class AsyncWatch(_Waiting):
    """Wakes the task that consumes one live query."""

    def __init__(self, engine: Engine, run: Callable[[Operation[int]], Awaitable[int]]) -> None:
        self._run = run
        self._bell = _Bell()
        super().__init__(engine, self._bell.ring)

    async def wait(self, seen: int, timeout_s: float | None, until_ms: int | None) -> bool:
        """Wait for a commit after change number ``seen``, or the moment ``until_ms``; False when
        time is up or on close."""
        from asyncio import get_running_loop, wait  # noqa: PLC0415 - a loop runs

        engine, bell = self._engine, self._bell
        engine.forbid_inside("Waiting for a live query")
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            bell.loop = loop = get_running_loop()
            bell.future = future = loop.create_future()
            if self.over:
                return False
            if until_ms is not None and self._left_s(until_ms) <= 0:
                return True
            with suppress(Busy):  # a long transaction on the one session that there is
                if await self._run(head()) != seen:
                    return True
            if until_s is not None and until_s <= time.monotonic():
                return False
            await wait((future,), timeout=max(0.0, self._rest(until_s, until_ms)))

    def follow(
        self,
        live: AsyncLiveQuery[C],
        fn: Callable[[C], object],
        on_error: Callable[[Exception], object] | None,
    ) -> Subscription:
        """Call ``fn`` with every change, on the running event loop."""
        return in_task(live, fn, on_error)

    def close(self) -> None:
        """End the wait of whatever task is in it; from any thread."""
        self._end()
        self._bell.ring()
