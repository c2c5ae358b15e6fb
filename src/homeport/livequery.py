"""Following a query: an iterator of what changes."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

from homeport.core.arguments import check_seconds
from homeport.core.codec import Table
from homeport.core.live import View
from homeport.core.livechange import LiveChange
from homeport.core.query import QueryValue
from homeport.drivers.subscription import Subscription
from homeport.handles import Handle
from homeport.runners import AsyncRunner

T = TypeVar("T")


class AsyncLiveQuery(Handle, Generic[T]):
    """Yields a ``LiveChange`` whenever the result has changed; the first is the whole result.

    Nothing is computed in advance: a slow consumer gets several commits as one change, and costs
    nothing meanwhile. Use it from one thread or task; ``close`` may be called from any.
    """

    def __init__(
        self,
        runner: AsyncRunner,
        table: Table[T],
        query: QueryValue,
        timeout_s: float | None = None,
    ) -> None:
        check_seconds(timeout_s, "timeout_s", none=True)
        self._view = View(table, query)
        self._runner = runner
        self._watch = runner.watch()
        self._timeout_s = timeout_s
        self._closed = False

    async def next(self, timeout_s: float | None = None) -> LiveChange[T] | None:
        """The next change; None when there was none for ``timeout_s`` seconds (None waits for ever)
        or the live query was closed. Raises ``TransactionError`` inside a transaction."""
        check_seconds(timeout_s, "timeout_s", none=True)
        deadline = None if timeout_s is None else monotonic() + timeout_s
        while not self._closed:
            left_s = None if deadline is None else max(0.0, deadline - monotonic())
            if not await self._watch.wait(self._view.head, left_s, self._view.until_ms):
                return None
            step = await self._runner.run(self._view.refresh(bounded=True))
            if step is None:
                step = await self._runner.run(self._view.refresh())
            if step is not None and (change := self._view.take(step)) is not None:
                return change
        return None

    def subscribe(
        self,
        fn: Callable[[LiveChange[T]], object],
        on_error: Callable[[Exception], object] | None = None,
    ) -> Subscription:
        """Let a function have the changes from now on; see ``Query.subscribe``."""
        return self._watch.follow(self, fn, on_error)

    def close(self) -> None:
        """End the iteration, also one that waits in another thread."""
        self._closed = True
        self._watch.close()

    def __repr__(self) -> str:
        ended = ", closed" if self._closed else ""
        return f"<{type(self).__name__} on {self._view.table.name}{ended}>"

    def __aiter__(self) -> AsyncLiveQuery[T]:
        return self

    async def __anext__(self) -> LiveChange[T]:
        change = await self.next(self._timeout_s)
        if change is None:
            self.close()
            raise StopAsyncIteration
        return change

    async def __aenter__(self) -> AsyncLiveQuery[T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
