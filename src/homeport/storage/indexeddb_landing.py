"""The end of something that the engine does, awaited at the price of one turn of the event loop."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from contextvars import Context

R = TypeVar("R")
Callback = Callable[[Any], object]


class Landing(Generic[R]):
    """A future with less to it than asyncio's: of Pyodide's, a result takes three turns of the
    event loop until it is with the task that awaits it (its own bookkeeping, the shield, the task).

    It keeps asyncio's protocol of future-like objects (``_asyncio_future_blocking``), for one that
    a task awaits or ``asyncio.wait`` is given. on_cancel: is called when the task is cancelled,
    which hears of it when this is done, whatever came of it; None = it cannot be hurried.
    """

    _asyncio_future_blocking = False

    def __init__(self, on_cancel: Callable[[], None] | None = None) -> None:
        from asyncio import get_running_loop  # noqa: PLC0415 - a loop runs

        self._loop = get_running_loop()
        self._on_cancel = on_cancel
        self._callbacks: list[tuple[Callback, Context | None]] = []
        self._done = self._cancelled = False
        self._value: Any = None
        self._error: BaseException | None = None

    def get_loop(self) -> AbstractEventLoop:
        return self._loop

    def done(self) -> bool:
        return self._done

    def succeed(self, value: R) -> None:
        """Nothing happens when it is done already; so with ``fail``."""
        self._land(value, None)

    def fail(self, error: BaseException) -> None:
        self._land(None, error)

    def _land(self, value: Any, error: BaseException | None) -> None:
        if self._done:
            return
        self._done, self._value, self._error = True, value, error
        callbacks, self._callbacks = self._callbacks, []
        for callback, context in callbacks:
            self._loop.call_soon(callback, self, context=context)

    def result(self) -> R:
        if self._cancelled:
            from asyncio import CancelledError  # noqa: PLC0415 - a loop runs

            raise CancelledError
        if self._error is not None:
            raise self._error
        value: R = self._value
        return value

    # -- what a task does

    def add_done_callback(self, callback: Callback, *, context: Context | None = None) -> None:
        if self._done:
            self._loop.call_soon(callback, self, context=context)
        else:
            self._callbacks.append((callback, context))

    def remove_done_callback(self, callback: Callback) -> int:
        kept = [one for one in self._callbacks if one[0] != callback]
        removed = len(self._callbacks) - len(kept)
        self._callbacks = kept
        return removed

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - as asyncio calls it
        """→ False: it is done, and nobody waits any more."""
        if self._done:
            return False
        if not self._cancelled:
            self._cancelled = True
            if self._on_cancel is not None:
                self._on_cancel()
        return True

    def __await__(self) -> Generator[Any, None, R]:
        if not self._done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    async def settled(self) -> None:
        """Wait for the end, whatever it is; being cancelled leaves it alone."""
        from asyncio import get_running_loop  # noqa: PLC0415 - a loop runs

        if self._done:
            return
        ended = get_running_loop().create_future()

        def tell(_: object) -> None:
            if not ended.done():
                ended.set_result(None)

        self.add_done_callback(tell)
        await ended
