"""The asyncio driver where there are no threads: operations are stepped in place.

For the store in memory under Pyodide, whose operations never wait for anything. An engine that
answers later has a driver of its own (``browser``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from homeport.core.requests import Operation
from homeport.drivers.engine import Engine
from homeport.drivers.snapshots import SnapshotRunner
from homeport.drivers.steps import refuse_block
from homeport.drivers.watch import AsyncWatch

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.explanation import Explanation
    from homeport.core.query import QueryValue
    from homeport.drivers.inline import Transaction

R = TypeVar("R")


class DirectDriver:
    """Runs operations for asyncio code, each when it is awaited."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def run(self, operation: Operation[R]) -> Awaitable[R]:
        return self._run(operation)

    async def _run(self, operation: Operation[R]) -> R:
        return self.engine.run(operation)

    async def call(self, fn: Callable[[], R], what: str) -> R:
        """Run ``fn`` under the lock, outside any transaction."""
        return self.engine.call(fn, what)

    async def aside(self, fn: Callable[[], R], what: str) -> R:
        """Run ``fn``, which only reads."""
        return self.engine.call(fn, what)

    async def pause(self, seconds: float) -> None:
        from asyncio import sleep  # noqa: PLC0415 - a loop runs

        await sleep(seconds)

    async def explain(
        self, table: Table[Any], query: QueryValue, *, run: bool = False
    ) -> Explanation:
        return self.engine.explain(table, query, run=run)

    def cheap(self, *_: object) -> bool:
        """Of no interest here: everything is stepped in place."""
        return False

    def held(self, what: str) -> SnapshotRunner:
        """The newest state, for several operations; ``end`` it."""
        self.engine.forbid_inside(what)
        state = SnapshotRunner(self.engine)
        state.begin()
        return state

    def forbid_inside(self, what: str) -> None:
        self.engine.forbid_inside(what)

    def transaction(self) -> Transaction:
        refuse_block()

    def snapshot(self) -> SnapshotRunner:
        refuse_block("snapshot")

    def watch(self) -> AsyncWatch:
        return AsyncWatch(self.engine, self.run)

    async def close(self) -> None:
        self.engine.close()
