"""Documents with their related ones: what ``include(...)`` returns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, Generic, TypeVar

from homeport.core.codec import Table
from homeport.core.include import IncludedChunks, included, only
from homeport.core.query import QueryValue
from homeport.core.relations import Included, Relation
from homeport.runners import AsyncRunner

T = TypeVar("T")


class AsyncIncluding(Generic[T]):
    """A query whose documents come with what was included: the last step before the end.

    One query for the documents and one for each relation, all of one state.
    """

    __slots__ = ("_relations", "_runner", "_table", "_value")

    def __init__(
        self,
        runner: AsyncRunner,
        table: Table[T],
        value: QueryValue,
        relations: Mapping[str, Relation[Any]],
    ) -> None:
        self._runner = runner
        self._table = table
        self._value = value
        self._relations = relations

    def all(self) -> Awaitable[list[Included[T]]]:
        """The documents with what belongs to them, one snapshot."""
        return self._runner.run(included(self._table, self._value, self._relations))

    async def first(self) -> Included[T] | None:
        """The first, None when nothing matches."""
        value = self._value.with_limit(1)
        found = await self._runner.run(included(self._table, value, self._relations))
        return found[0] if found else None

    async def one(self) -> Included[T]:
        """The only match; raises ``NotFound`` or ``NotUnique``."""
        value = self._value.with_limit(2)
        return only(
            self._table, await self._runner.run(included(self._table, value, self._relations))
        )

    async def __aiter__(self) -> AsyncIterator[Included[T]]:
        """One after another, read in chunks: each chunk is a snapshot of its own, with one query
        for each relation."""
        chunks = IncludedChunks(self._table, self._value, self._relations)
        while (chunk := chunks.next()) is not None:
            for row in chunks.rows(await self._runner.run(chunk)):
                yield row

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._table.name}: {', '.join(self._relations)}>"
