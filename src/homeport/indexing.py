"""Indexes on live data: building them in short steps, between which everybody works."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from homeport.core.arguments import check_function
from homeport.core.codec import Table
from homeport.core.indexes import Index
from homeport.core.indexing import GAP_S, IndexProgress, refused
from homeport.core.schema import IndexForm
from homeport.errors import SchemaError
from homeport.runners import AsyncDriver

Progress = Callable[[IndexProgress], object]


class AsyncIndexBuilder:
    """Makes and completes the indexes of one collection."""

    def __init__(
        self, driver: AsyncDriver, table: Table[Any], progress: Progress | None = None
    ) -> None:
        check_function(progress, "progress=", none=True)
        self._driver = driver
        self._store = driver.engine.store
        self._table = table
        self._progress = progress
        self._begun = monotonic()

    async def create(self, form: IndexForm) -> Index:
        """Make an index → as it is known to the database."""
        table, store = self._table, self._store
        index = table.collection.resolved(form)
        if index.unique and table.synced:
            raise SchemaError(
                f"{table.name} is synced: what the server sends must be watched for duplicates, "
                "which takes a declaration.",
                action="Add the index to indexes=[...] and open the database again.",
            )
        if index not in table.collection.indexes:
            await self._driver.call(lambda: store.create_index(table, index), "create_index()")
        await self.complete()
        return index

    async def drop(self, form: IndexForm) -> bool:
        """Take away an index that no declaration has → was there one?"""
        table, store = self._table, self._store
        index = table.collection.resolved(form)
        if any(one.name == index.name for one in table.collection.indexes):
            raise SchemaError(
                f"{table.name}: the index on {', '.join(index.fields)} is declared.",
                action="Take it out of indexes=[...]; opening the database drops it then.",
            )
        there = await self._driver.call(lambda: store.drop_index(table, index.name), "drop_index()")
        if there and (index.multi or index.kind == "fulltext"):
            # Other full text moves into a table of its own; what was read goes in pieces.
            await self.complete()
        return there

    async def complete(self) -> None:
        """Go on with what is begun until nothing is left. Raises ``DuplicateValues``."""
        table, call, store = self._table, self._driver.call, self._store
        names: tuple[str, ...] = ()

        def step() -> IndexProgress | None:
            return store.build_step(table, monotonic() - self._begun)

        while (progress := await call(step, "create_index()")) is not None:
            names = tuple(dict.fromkeys((*names, *progress.indexes)))
            self._tell(progress)
            await self._driver.pause(GAP_S)
        for index in (*table.usable.indexes, *table.collection.indexes):
            await self._prove(index)
        if names:
            seconds = monotonic() - self._begun
            self._tell(IndexProgress(table.name, names, 1, 1, seconds, "done"))

    async def _prove(self, index: Index) -> None:
        table, store, call, name = self._table, self._store, self._driver.call, index.name
        if not await call(lambda: store.enforce_unique(table, name), "create_index()"):
            return
        self._tell(IndexProgress(table.name, (name,), 0, 0, monotonic() - self._begun, "checking"))
        found = await self._driver.aside(lambda: store.duplicates(table, name), "create_index()")
        if not found:
            await call(lambda: store.settle_unique(table, name, unique=True), "create_index()")
            return
        await call(lambda: store.settle_unique(table, name, unique=False), "create_index()")
        if all(one.name != name for one in table.collection.indexes):
            await call(lambda: store.drop_index(table, name), "create_index()")
        raise refused(table.name, index, found)

    def _tell(self, progress: IndexProgress) -> None:
        if self._progress is not None:
            self._progress(progress)
