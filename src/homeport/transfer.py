"""Many documents in and out: bulk loads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Generic, TypeVar

from homeport.core.arguments import check_function
from homeport.core.codec import Table
from homeport.core.loading import Loading, LoadProgress, LoadReport, Phase
from homeport.errors import HomeportError
from homeport.ids import new_id
from homeport.runners import AsyncRunner
from homeport.sources import AsyncItems, AsyncSource

T = TypeVar("T")

Progress = Callable[[LoadProgress], object]


class AsyncLoader(Generic[T]):
    """One bulk load of one collection."""

    def __init__(
        self, runner: AsyncRunner, table: Table[T], progress: Progress | None, **options: Any
    ) -> None:
        check_function(progress, "progress=", none=True)
        self._runner = runner
        self._table = table
        self._progress = progress
        self._options = options
        self._begun = 0.0

    async def load(self, documents: AsyncItems[T]) -> LoadReport:
        """Load all documents → what was done."""
        self._runner.forbid_inside("load()")
        source = AsyncSource(documents)
        total = self._options.pop("total", None)
        total = source.size if total is None else total
        loading = Loading(self._table, new_id, total=total, **self._options)
        self._begun = monotonic()
        try:
            await self._read(source, loading)
        except BaseException:
            # The documents that are there must have their indexes; what went wrong is told first.
            with suppress(HomeportError):
                await self._build(loading)
            raise
        await self._build(loading)
        self._tell(loading, "done")
        return loading.report(monotonic() - self._begun)

    async def _read(self, source: AsyncSource[T], loading: Loading[T]) -> None:
        run = self._runner.run
        known = await run(loading.start())
        if known:
            loading.skip(await source.skip(known))
        while documents := await source.take(loading.wanted):
            loading.add(documents)
            if loading.full:
                loading.flushed(await run(loading.flush()))
                self._tell(loading, "loading")
        if loading.waiting:
            loading.flushed(await run(loading.flush()))
            self._tell(loading, "loading")
        if loading.named:
            await run(loading.end())

    async def _build(self, loading: Loading[T]) -> None:
        while await self._runner.run(loading.build()):
            self._tell(loading, "indexing")

    def _tell(self, loading: Loading[T], phase: Phase) -> None:
        if self._progress is not None:
            self._progress(loading.progress(monotonic() - self._begun, phase))
