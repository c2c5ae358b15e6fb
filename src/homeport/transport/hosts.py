"""Where replication runs, and how it reaches the store.

On a thread of its own with an event loop, the same for both facades; storage is reached through the
engine (blocking calls of well under a millisecond, waiting at most for the write lock). A browser
has no threads: there it is tasks of the page's loop, and the engine answers later.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias, TypeVar

from homeport.core.requests import Operation
from homeport.drivers.engine import Engine

R = TypeVar("R")

Work: TypeAlias = Coroutine[Any, Any, R]

Perform: TypeAlias = Callable[[Operation[Any]], Coroutine[Any, Any, Any]]
"""Runs an operation of the store → its result."""


def performer(engine: Engine) -> Perform:
    """Operations of an engine that answers at once."""

    async def perform(operation: Operation[R]) -> R:
        return engine.run(operation)

    return perform


def at_once(work: Coroutine[Any, Any, R]) -> R:
    """Step a coroutine that waits for nothing but an engine that answers at once → its value."""
    try:
        work.send(None)
    except StopIteration as done:
        value: R = done.value
        return value
    work.close()
    raise AssertionError("It waited for something else.")


async def aside(fn: Callable[[], R]) -> R:
    """Call what may block: on a thread, where there are threads."""
    if sys.platform == "emscripten":
        return fn()
    return await asyncio.to_thread(fn)


def plain(function: Callable[[], R]) -> Callable[[], R]:
    """A function of the user's; in a browser also one of JavaScript."""
    if sys.platform == "emscripten":
        from homeport.transport import tabs  # noqa: PLC0415 - of a browser

        return tabs.plain(function)
    return function


class Host(Protocol):
    """What the worker of a replication asks for."""

    perform: Perform

    @property
    def running(self) -> bool:
        """Is there something to be ended?"""
        ...

    def begin(self, operation: Operation[Any]) -> None:
        """Run what has to stand before anything else."""
        ...

    def submit(self, work: Callable[[], Coroutine[Any, Any, R]]) -> Future[R]:
        """Run a coroutine of the worker. From any thread."""
        ...

    def task(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Run it beside the worker, until ``leave``. From the worker."""
        ...

    def inside(self) -> bool:
        """Does the worker call?"""
        ...

    def call(self, fn: Callable[[], object]) -> None:
        """Call ``fn`` as the worker, soon. From any thread; silent when it is over."""
        ...

    async def cancel(self) -> None:
        """End all tasks but the caller's."""
        ...

    async def leave(self) -> None:
        """The worker is done. From the worker, at its end."""
        ...


class ThreadHost:
    """A daemon thread with its own event loop; started on first use. ``entered`` is called first on
    each new loop."""

    def __init__(self, engine: Engine, entered: Callable[[], None]) -> None:
        self.perform = performer(engine)
        self._engine = engine
        self._entered = entered
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._thread_id = 0
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        return self._loop is not None

    def begin(self, operation: Operation[Any]) -> None:
        self._engine.run(operation)

    def submit(self, work: Callable[[], Coroutine[Any, Any, R]]) -> Future[R]:
        return asyncio.run_coroutine_threadsafe(work(), self._ensure())

    def _ensure(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                # Not the policy's: the bytes of its sockets are counted (transport.traffic).
                loop = asyncio.SelectorEventLoop()
                ready = threading.Event()
                self._thread = threading.Thread(
                    target=self._main, args=(loop, ready), name="homeport-sync", daemon=True
                )
                self._thread.start()
                ready.wait()
                self._loop = loop
            return self._loop

    def _main(self, loop: asyncio.AbstractEventLoop, ready: threading.Event) -> None:
        self._thread_id = threading.get_ident()
        asyncio.set_event_loop(loop)
        self._entered()
        loop.call_soon(ready.set)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(self.cancel())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def task(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        return asyncio.get_running_loop().create_task(work)

    def inside(self) -> bool:
        return threading.get_ident() == self._thread_id

    def call(self, fn: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closing
                loop.call_soon_threadsafe(fn)

    async def cancel(self) -> None:
        # Nothing else runs on this loop.
        await _cancel({t for t in asyncio.all_tasks() if t is not asyncio.current_task()})

    async def leave(self) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            self._loop = None
        loop.call_later(0.01, loop.stop)  # after the caller has its answer


class PageHost:
    """Tasks of the loop that runs already."""

    def __init__(self, perform: Perform, entered: Callable[[], None]) -> None:
        self.perform = perform
        self._entered = entered
        self._tasks: set[asyncio.Task[Any]] = set()
        self._first: asyncio.Task[Any] | None = None
        self._running = False

    @property
    def running(self) -> bool:
        return self._running

    def begin(self, operation: Operation[Any]) -> None:
        # Begun at once: the engine queues transactions, so whatever is written next finds it done.
        loop = asyncio.get_running_loop()
        eagerly = getattr(asyncio, "eager_task_factory")  # noqa: B009 - of Python 3.12
        self._first = eagerly(loop, self.perform(operation))

    def submit(self, work: Callable[[], Coroutine[Any, Any, R]]) -> Future[R]:
        if not self._running:
            self._running = True
            self._entered()
        future: Future[R] = Future()
        task = self.task(self._after_first(work))

        def done(task: asyncio.Task[R]) -> None:
            if task.cancelled():
                future.cancel()
                future.set_running_or_notify_cancel()
            elif (error := task.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())

        task.add_done_callback(done)
        return future

    async def _after_first(self, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        if self._first is not None:
            await asyncio.shield(self._first)
        return await work()

    def task(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        task = asyncio.get_running_loop().create_task(_marked(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def inside(self) -> bool:
        return _INSIDE.get()

    def call(self, fn: Callable[[], object]) -> None:
        if self._running:
            asyncio.get_running_loop().call_soon(fn)

    async def cancel(self) -> None:
        await _cancel({task for task in self._tasks if task is not asyncio.current_task()})

    async def leave(self) -> None:
        self._running = False


_INSIDE: ContextVar[bool] = ContextVar("homeport-replicating", default=False)


async def _marked(work: Coroutine[Any, Any, R]) -> R:
    _INSIDE.set(True)
    return await work


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
