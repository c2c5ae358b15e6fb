"""Optimistic updates as users see them: ``db.optimistic`` and ``docs.apply``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import monotonic
from types import TracebackType
from typing import Any

from homeport.core import optimistic
from homeport.core.arguments import check_function, check_seconds
from homeport.core.codec import Table
from homeport.core.context import Event
from homeport.core.layers import Layer
from homeport.core.optimistic import Taken
from homeport.core.requests import Operation, Plan
from homeport.core.units import UnitOperation, unit
from homeport.drivers.alarm import Alarm
from homeport.errors import UsageError
from homeport.handles import Handle
from homeport.runners import AsyncDriver
from homeport.transactions import Tx, Unit

TIMEOUT_S = 60.0
"""An update that nobody commits for so long is rolled back."""


class AsyncOptimisticUpdate(Handle):
    """A change that everybody sees already, and that the server gets with ``commit()`` only.

    As a context manager it is committed at the end of the block, and rolled back when an error
    leaves it.
    """

    def __init__(self, manager: AsyncOptimistic, layer: Layer) -> None:
        self._manager = manager
        self._layer = layer

    @property
    def id(self) -> str:
        """Its name in the file, for ``db.optimistic.get()`` elsewhere or after a restart."""
        return self._layer.id

    @property
    def name(self) -> str:
        """What the program called it."""
        return self._layer.name

    @property
    def documents(self) -> list[str]:
        """``collection/key`` of each document that it changes."""
        return list(self._layer.documents)

    def commit(self) -> Awaitable[Layer]:
        """Make it an ordinary acknowledged write, queued for the server in its place → its record.
        Silent when it is committed already. Raises ``RolledBack`` when it is gone."""
        return self._manager._run(Operation(optimistic.commit(self.id), "write"))

    async def rollback(self) -> Layer:
        """Take it away → its record. What was written or stacked on top of it stays, on the
        documents without it. Silent when it is gone already; raises ``UsageError`` when it is
        committed."""
        await self._manager._take(optimistic.roll_back(self._manager._tables, self.id))
        return await self.status()

    def status(self) -> Awaitable[Layer]:
        """Its record as it is now. Raises ``NotFound`` a day after its end."""
        return self._manager._run(optimistic.one(self.id))

    async def wait(self, timeout_s: float | None = None) -> Layer:
        """Wait until the server has it or it is rolled back → its record; when time is up, the
        record as it is then. Raises ``TransactionError`` inside a transaction."""
        check_seconds(timeout_s, "timeout_s", none=True)
        deadline = None if timeout_s is None else monotonic() + timeout_s
        watch = self._manager._driver.watch()
        try:
            while True:
                layer, head = await self._manager._run(optimistic.with_head(self.id))
                left_s = None if deadline is None else max(0.0, deadline - monotonic())
                if layer.ended or not await watch.wait(head, left_s, None):
                    return layer
        finally:
            watch.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or self.id} of {', '.join(self.documents)}>"

    async def __aenter__(self) -> AsyncOptimisticUpdate:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.commit()
        else:
            await self.rollback()


class AsyncOptimistic(Handle):
    """The optimistic updates of a database: ``db.optimistic``."""

    def __init__(
        self,
        driver: AsyncDriver,
        tables: Mapping[str, Table[Any]],
        tell: Callable[[Event], None],
    ) -> None:
        self._driver = driver
        self._tables = tables
        self._tell = tell
        self._run = driver.run
        self._alarm = Alarm(driver.engine.store.clock_ms, self._expire_now)
        self._alarm.set(getattr(driver.engine, "due_ms", None))

    def apply(
        self,
        fn: Unit[..., Any],
        *args: Any,
        name: str = "",
        timeout_s: float | None = TIMEOUT_S,
    ) -> Awaitable[AsyncOptimisticUpdate]:
        """Run ``async def fn(tx, ...)`` as ``db.run`` does, and show what it wrote without sending
        it → the update, to be committed or rolled back as a whole.

        Args:
            fn: it may read everything, and write to synced collections.
            args: for ``fn``.
            name: for ``list()`` and for people.
            timeout_s: if nobody has committed it by then it is rolled back, and listed in
                ``sync.dead_letters()`` as ``timed-out``; None = it waits for ever, and with it
                every later change of its documents.

        Raises:
            UsageError: it writes to a collection that is not synced on this file.
            TransactionError: inside a transaction.
        """
        work = unit(fn, args, {}, self._tx)
        return self._apply(work, name, timeout_s)

    async def get(self, id: str) -> AsyncOptimisticUpdate:  # noqa: A002 - reads as it should
        """The update with this id, whoever applied it. Raises ``NotFound``."""
        return AsyncOptimisticUpdate(self, await self._run(optimistic.one(id)))

    async def list(self, *, ended: bool = False) -> list[Layer]:
        """The records of all updates that are open or not at the server yet, oldest first.

        ended: also of those that ended in the last 24 hours, with the reason.
        """
        await self._take(optimistic.expire(self._tables))
        return await self._run(Operation(optimistic.all_layers(ended=ended), "read"))

    # -- for this package

    def _one(
        self, table: Table[Any], key: Any, change: Any, default: Any, name: str, timeout_s: Any
    ) -> Awaitable[AsyncOptimisticUpdate]:
        if change is not None and not isinstance(change, Mapping):
            check_function(change, "apply()")
        plain = optimistic.work_of(table, key, change, default)
        return self._apply(plain, name, timeout_s)

    async def _apply(
        self, work: Operation[Any], name: str, timeout_s: float | None
    ) -> AsyncOptimisticUpdate:
        check_seconds(timeout_s, "timeout_s", none=True)
        if not isinstance(name, str):
            raise UsageError(f"name= is a text, not {name!r:.60}.")
        self._driver.forbid_inside("apply()")
        applied: UnitOperation[Layer] = optimistic.applied(work, name=name, timeout_s=timeout_s)
        layer = await self._run(applied)
        self._alarm.set(layer.until_ms)
        return AsyncOptimisticUpdate(self, layer)

    async def _take(self, plan: Plan[Taken]) -> None:
        taking: Operation[Taken] = Operation(plan, "write")
        taken = await self._run(taking)
        self._say(taken.events)
        self._alarm.set(taken.until_ms)

    def _expire_now(self) -> int | None:
        """Called by the alarm, in a thread of its own."""
        late: Operation[Taken] = Operation(optimistic.expire(self._tables), "write")
        taken: Taken = self._driver.engine.run(late)
        self._say(taken.events)
        return taken.until_ms

    def _say(self, events: Iterable[Event]) -> None:
        for event in events:
            self._tell(event)

    def _tx(self, runner: Any) -> Tx:
        return Tx(runner, self._tables)

    def _stop(self) -> None:
        self._alarm.stop()
