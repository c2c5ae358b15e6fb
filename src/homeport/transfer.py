"""Many documents in and out: bulk loads, imports, exports."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from homeport.core.arguments import check_function
from homeport.core.codec import Table
from homeport.core.entries import CHUNK_ROWS, Entries, ExportReport
from homeport.core.loading import Loading, LoadProgress, LoadReport, Phase
from homeport.core.operations import count
from homeport.core.query import QueryValue
from homeport.core.requests import Operation
from homeport.errors import HomeportError
from homeport.ids import new_id
from homeport.interchange.kinds import Place
from homeport.runners import AsyncRunner, State
from homeport.sources import AsyncHands, AsyncItems, AsyncSource

if TYPE_CHECKING:
    from homeport.interchange.files import Input
    from homeport.interchange.formats import Writer
    from homeport.storage.secret import Secret

T = TypeVar("T")
R = TypeVar("R")

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
        self._input: Input | None = None

    async def load(self, documents: AsyncItems[T]) -> LoadReport:
        """Load all documents → what was done."""
        self._runner.forbid_inside("load()")
        source = AsyncSource(documents)
        total = self._options.pop("total", None)
        total = source.size if total is None else total
        loading = Loading(self._table, new_id, total=total, **self._options)
        return await self._load(source, loading)

    async def import_from(
        self,
        place: Place,
        kind: str | None,
        *,
        resume: bool,
        **reading: Any,
    ) -> LoadReport:
        """Load all documents of a file → what was done."""
        from homeport.interchange.formats import open_reader  # noqa: PLC0415 - few programs need it

        self._runner.forbid_inside("import_from()")
        kinds = self._table.codec.kinds_at
        source, reader = await AsyncHands().call(
            open_reader, place, kind, kinds_of=kinds, **reading
        )
        try:
            name = source.fingerprint() if resume else None
            loading = Loading(self._table, new_id, resume=name, file=source.name, **self._options)
            self._input = source
            rows: AsyncSource[Any] = AsyncSource(reader.rows(), waits=True)
            return await self._load(rows, loading)
        finally:
            source.close()

    async def _load(self, source: AsyncSource[Any], loading: Loading[T]) -> LoadReport:
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

    async def _read(self, source: AsyncSource[Any], loading: Loading[T]) -> None:
        run = self._runner.run
        known = await run(loading.start())
        if known:
            loading.skip(await source.skip(known))
        while documents := await source.take(loading.wanted):
            if self._input is None:
                loading.add(documents)
            else:
                loading.add_located(documents)
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
        if self._progress is None:
            return
        progress = loading.progress(monotonic() - self._begun, phase)
        if self._input is not None:
            read, size = self._input.position, self._input.size
            progress = replace(progress, file_bytes=read, file_size=size)
        self._progress(progress)


class AsyncExporter(Generic[T]):
    """One export of one query: a snapshot, read once or twice, written into one file."""

    def __init__(
        self,
        runner: AsyncRunner,
        table: Table[T],
        query: QueryValue,
        progress: Progress | None,
    ) -> None:
        self._runner = runner
        self._table = table
        self._query = query
        self._progress = progress
        self._hands = AsyncHands()

    async def export_to(
        self,
        place: Place,
        kind: str | None,
        *,
        delimiter: str | None,
        secret: Secret | None = None,
    ) -> ExportReport:
        """Write all documents → what was written."""
        from homeport.interchange.formats import open_writer  # noqa: PLC0415 - few programs need it

        begun = monotonic()
        call = self._hands.call
        state = self._runner.held("export_to()")
        try:
            target, writer = await call(
                open_writer,
                place,
                kind,
                key=self._table.codec.key,
                delimiter=delimiter,
                secret=secret,
            )
            try:
                rows = await self._write(state, writer, begun)
                await call(writer.end)
                size = await call(target.commit)
            except BaseException:
                target.abort()
                raise
        finally:
            if state is not None:
                await call(state.end)
        self._tell(LoadProgress(rows, size, 0, monotonic() - begun, rows, "done"))
        return ExportReport(rows, size, monotonic() - begun, target.path)

    async def _write(self, state: State | None, writer: Writer, begun: float) -> int:
        call = self._hands.call
        total = None
        if self._progress is not None and not self._query.predicates:
            total = await self._ask(state, count(self._table, self._query))
        rows = size = 0
        kept: list[list[str]] = []  # of a store that cannot hold still
        for turn in range(1, writer.passes + 1):
            chunk = None if state is None else CHUNK_ROWS
            entries = Entries(self._table, self._query, chunk)
            again = iter(kept)
            while True:
                texts = next(again, None) if kept and turn > 1 else await self._next(state, entries)
                if texts is None:
                    break
                if turn < writer.passes:
                    if state is None:
                        kept.append(texts)
                    await call(writer.see, texts)
                    continue
                await call(writer.write, texts)
                rows += len(texts)
                size += sum(map(len, texts))
                self._tell(LoadProgress(rows, size, 0, monotonic() - begun, total, "writing"))
        return rows

    async def _next(self, state: State | None, entries: Entries[T]) -> list[str] | None:
        """The texts of the next chunk, None at the end."""
        operation = entries.next()
        if operation is None:
            return None
        return entries.texts(await self._ask(state, operation))

    async def _ask(self, state: State | None, operation: Operation[R]) -> R:
        if state is None:
            return await self._runner.run(operation)
        return await self._hands.call(state.run, operation)

    def _tell(self, progress: LoadProgress) -> None:
        if self._progress is not None:
            self._progress(progress)
