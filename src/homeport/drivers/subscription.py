"""A live query that calls a function: in a thread of its own, or as a task of an event loop."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from homeport.errors import Closed, UsageError

if TYPE_CHECKING:
    from asyncio import Task

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 60.0
"""After an evaluation that failed the next one waits, longer each time."""

_tasks: set[Task[None]] = set()
"""An event loop holds its tasks weakly; these are to live."""


class _Live(Protocol):
    def close(self) -> None: ...


class LiveQuery(_Live, Protocol[C_co]):
    """``homeport.LiveQuery`` or ``Badges``, as far as it is needed here."""

    def next(self) -> C_co | None: ...


class AsyncLiveQuery(_Live, Protocol[C_co]):
    """``homeport.AsyncLiveQuery`` or ``AsyncBadges``, as far as it is needed here."""

    def next(self) -> Awaitable[C_co | None]: ...


class Subscription:
    """A function that is called with every change of a query, or of badges, until ``close`` or the
    end of the database. Made by ``query.subscribe``; nobody has to keep it."""

    def __init__(
        self,
        live: _Live,
        fn: Callable[[Any], object],
        on_error: Callable[[Exception], object] | None,
    ) -> None:
        for called in (fn, on_error):
            if called is not None and not callable(called):
                live.close()
                raise UsageError(f"subscribe() takes functions, not {called!r:.60}.")
        self._live = live
        self._fn = fn
        self._on_error = on_error
        self._ended = threading.Event()

    @property
    def closed(self) -> bool:
        """Is it over?"""
        return self._ended.is_set()

    def close(self) -> None:
        """End it; from any thread, also from the function itself. A call that is running, or just
        beginning in another thread, is not waited for."""
        self._ended.set()
        self._live.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Subscription of {self._live!r}>"

    # -- for the two that run it

    def _failed(self, error: Exception) -> object:
        if self._on_error is None:
            _log("A subscription failed and goes on: %r", self, error)
            return None
        return self._on_error(error)

    def _failed_to_tell(self, error: Exception) -> None:
        _log("on_error of a subscription failed: %r", self, error)


def _log(message: str, subscription: Subscription, error: Exception) -> None:
    import logging  # noqa: PLC0415 - most programs never come here

    logging.getLogger("homeport").error(message, subscription, exc_info=error)


def _pauses() -> Iterator[float]:
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def in_thread(
    live: LiveQuery[C],
    fn: Callable[[C], object],
    on_error: Callable[[Exception], object] | None,
) -> Subscription:
    """Call ``fn`` in a thread of its own."""
    subscription = Subscription(live, fn, on_error)
    threading.Thread(
        target=_run, args=(subscription, live), name="homeport-subscription", daemon=True
    ).start()
    return subscription


def _run(subscription: Subscription, live: LiveQuery[Any]) -> None:
    pauses = _pauses()
    try:
        while not subscription.closed:
            try:
                change = live.next()
                pauses = _pauses()
            except Closed:
                return
            except Exception as error:
                _tell(subscription, error)
                subscription._ended.wait(next(pauses))
                continue
            if change is None or subscription.closed:
                return
            try:
                subscription._fn(change)
            except Exception as error:
                _tell(subscription, error)
    finally:
        subscription.close()


def _tell(subscription: Subscription, error: Exception) -> None:
    try:
        subscription._failed(error)
    except Exception as second:
        subscription._failed_to_tell(second)


def in_task(
    live: AsyncLiveQuery[C],
    fn: Callable[[C], object],
    on_error: Callable[[Exception], object] | None,
) -> Subscription:
    """Call ``fn``, and await what it returns if it is a coroutine function, on the running event
    loop."""
    from asyncio import get_running_loop  # noqa: PLC0415 - whoever runs a loop has loaded it

    try:
        loop = get_running_loop()
    except RuntimeError:
        live.close()
        raise UsageError(
            "subscribe() of an AsyncDatabase was called where no event loop runs.",
            action="Call it inside a coroutine, or use hp.open().",
        ) from None
    subscription = Subscription(live, fn, on_error)
    task = loop.create_task(_run_async(subscription, live), name="homeport-subscription")
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return subscription


async def _run_async(subscription: Subscription, live: AsyncLiveQuery[Any]) -> None:
    from asyncio import sleep  # noqa: PLC0415

    pauses = _pauses()
    try:
        while not subscription.closed:
            try:
                change = await live.next()
                pauses = _pauses()
            except Closed:
                return
            except Exception as error:
                await _tell_async(subscription, error)
                await sleep(next(pauses))
                continue
            if change is None or subscription.closed:
                return
            try:
                await _awaited(subscription._fn(change))
            except Exception as error:
                await _tell_async(subscription, error)
    finally:
        subscription.close()


async def _tell_async(subscription: Subscription, error: Exception) -> None:
    try:
        await _awaited(subscription._failed(error))
    except Exception as second:
        subscription._failed_to_tell(second)


async def _awaited(result: object) -> None:
    if inspect.isawaitable(result):
        await result
