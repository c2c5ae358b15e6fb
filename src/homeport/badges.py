"""Following badges: how documents stand with the server, told when it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any

from homeport.core.arguments import check_seconds
from homeport.core.badges import Badge, BadgeChange, BadgeView
from homeport.core.codec import Table
from homeport.drivers.subscription import Subscription
from homeport.handles import Handle
from homeport.runners import AsyncRunner


class AsyncBadges(Handle):
    """Yields a list of ``BadgeChange`` whenever badges have changed; the first list is every
    document that has another badge than ``synced``.

    Several commits may come as one list, and none is missed: also those of other threads and
    processes, and of the replication. Use it from one thread or task; ``close`` may be called from
    any.
    """

    def __init__(self, runner: AsyncRunner, tables: Iterable[Table[Any]]) -> None:
        self._view = BadgeView(tables)
        self._runner = runner
        self._watch = runner.watch()
        self._closed = False

    @property
    def current(self) -> Mapping[str, Badge]:
        """The badges that are not ``synced``, by ``collection/key``, as of the last list."""
        return self._view.badges

    async def next(self, timeout_s: float | None = None) -> list[BadgeChange] | None:
        """What changed next; None when nothing did for ``timeout_s`` seconds (None waits for ever)
        or it was closed. The first call returns at once. Raises ``TransactionError`` inside a
        transaction."""
        check_seconds(timeout_s, "timeout_s", none=True)
        deadline = None if timeout_s is None else monotonic() + timeout_s
        while not self._closed:
            left_s = None if deadline is None else max(0.0, deadline - monotonic())
            if not await self._watch.wait(self._view.head, left_s, None):
                return None
            first = self._view.head < 0
            changes = self._view.take(await self._runner.run(self._view.refresh()))
            if changes or first:
                return changes
        return None

    def subscribe(
        self,
        fn: Callable[[list[BadgeChange]], object],
        on_error: Callable[[Exception], object] | None = None,
    ) -> Subscription:
        """Call a function with every list, in a thread of its own; of an ``AsyncDatabase`` on the
        running event loop. ``close()`` of the result ends it."""
        return self._watch.follow(self, fn, on_error)

    def close(self) -> None:
        """End the iteration, also one that waits in another thread."""
        self._closed = True
        self._watch.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{', closed' if self._closed else ''}>"

    def __aiter__(self) -> AsyncBadges:
        return self

    async def __anext__(self) -> list[BadgeChange]:
        changes = await self.next()
        if changes is None:
            self.close()
            raise StopAsyncIteration
        return changes

    async def __aenter__(self) -> AsyncBadges:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
