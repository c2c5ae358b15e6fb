"""What indexes a database has, uses and misses, and keeping them quick."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Any

from homeport.core import operations
from homeport.core.advisor import IndexAdvice
from homeport.core.codec import Table
from homeport.core.indexing import GAP_S
from homeport.core.indexstats import IndexStats, OptimizeReport, OptimizeStep, OptimizeTask
from homeport.core.query import EMPTY
from homeport.runners import AsyncDriver


class AsyncIndexCare:
    """The indexes of one database."""

    def __init__(self, driver: AsyncDriver, tables: Iterable[Table[Any]]) -> None:
        self._driver = driver
        self._store = driver.engine.store
        self._tables = [table for table in tables if not table.system]

    async def stats(self) -> list[IndexStats]:
        """Every index of every collection."""
        found: list[IndexStats] = []
        for table in self._tables:
            found += await self._stats(table)
        return found

    async def _stats(self, table: Table[Any]) -> list[IndexStats]:
        return await self._driver.aside(lambda: self._store.index_stats(table), "index_stats()")

    async def advise(self) -> list[IndexAdvice]:
        """Indexes that the slow queries miss, by the time they would have saved."""
        log, found = self._store.slow.log, list[IndexAdvice]()
        slow = {query.collection for query in log.queries()}
        for table in self._tables:
            if table.name in slow:
                total = await self._driver.run(operations.count(table, EMPTY))
                found += log.advise(table.name, table.usable, total)
        return sorted(found, key=lambda advice: -advice.saves_ms)

    async def optimize(self) -> OptimizeReport:
        """Do what makes reading cheaper, in short steps."""
        begun = monotonic()
        tasks = await self._driver.call(self._store.optimize_tasks, "optimize()")
        done = [await self._perform(task) for task in tasks]
        return OptimizeReport(done, monotonic() - begun)

    async def _perform(self, task: OptimizeTask) -> OptimizeStep:
        steps, seconds, more = 0, 0.0, True
        while more:
            start = monotonic()
            more = await self._driver.call(lambda: self._store.optimize(task), "optimize()")
            seconds += monotonic() - start
            steps += 1
            await self._driver.pause(GAP_S)
        return OptimizeStep(task.action, task.target, steps, seconds)
