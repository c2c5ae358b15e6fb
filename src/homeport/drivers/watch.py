"""Waiting for commits: what wakes the consumer of a live query, blocking and on an event loop.

A commit of this engine wakes at once; those of other processes are found by looking at the number
of the last change, which costs a few microseconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from homeport.core.requests import Operation
from homeport.drivers.engine import Engine
from homeport.drivers.steps import head, refuse_closed

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

POLL_S = 0.025
"""How often commits of other processes are looked for."""


class Watch:
    """Wakes the consumer of one live query."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._event = threading.Event()
        self._forget = engine.on_commit(self._event.set)
        if engine.closed:
            refuse_closed(forked=engine.forked)
        self._poll_s = POLL_S if engine.store.multiprocess else None
        self._closed = False

    def wait(self, seen: int, timeout_s: float | None) -> bool:
        """Wait for a commit after change number ``seen``; False when time is up or on close."""
        engine = self._engine
        engine.forbid_inside("Waiting for a live query")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._event.clear()
            if self._closed or engine.closed:
                return False
            if engine.run(head()) != seen:
                return True
            wait_s = self._poll_s
            if deadline is not None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                wait_s = remaining if wait_s is None else min(wait_s, remaining)
            self._event.wait(wait_s)

    def __del__(self) -> None:
        self._forget()

    def close(self) -> None:
        """End the wait of whatever thread is in it."""
        self._closed = True
        self._forget()
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


class AsyncWatch:
    """Wakes the task that consumes one live query."""

    def __init__(self, engine: Engine, run: Callable[[Operation[int]], Awaitable[int]]) -> None:
        self._engine = engine
        self._run = run
        self._bell = _Bell()
        self._forget = engine.on_commit(self._bell.ring)
        if engine.closed:
            refuse_closed(forked=engine.forked)
        self._poll_s = POLL_S if engine.store.multiprocess else None
        self._closed = False

    async def wait(self, seen: int, timeout_s: float | None) -> bool:
        """Wait for a commit after change number ``seen``; False when time is up or on close."""
        from asyncio import get_running_loop, wait  # noqa: PLC0415 - a loop runs

        engine, bell = self._engine, self._bell
        engine.forbid_inside("Waiting for a live query")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            bell.loop = loop = get_running_loop()
            bell.future = future = loop.create_future()
            if self._closed or engine.closed:
                return False
            if await self._run(head()) != seen:
                return True
            wait_s = self._poll_s
            if deadline is not None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                wait_s = remaining if wait_s is None else min(wait_s, remaining)
            await wait((future,), timeout=wait_s)

    def __del__(self) -> None:
        self._forget()

    def close(self) -> None:
        """End the wait of whatever task is in it; from any thread."""
        self._closed = True
        self._forget()
        self._bell.ring()
