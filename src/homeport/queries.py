"""Queries: immutable, built step by step, asked by their ends (``all``, ``count``, ...)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from homeport.core import operations, writes
from homeport.core.arrow import to_table
from homeport.core.codec import Codec, Table
from homeport.core.conditions import Condition
from homeport.core.keyrange import WhereClause, many
from homeport.core.keys import Key
from homeport.core.query import (
    QueryValue,
    as_condition,
    bind,
    bind_order,
    parse_filter,
    parse_order,
)
from homeport.errors import UsageError
from homeport.livequery import AsyncLiveQuery
from homeport.runners import AsyncRunner

if TYPE_CHECKING:
    from homeport.core.planner import Explanation

T = TypeVar("T")


class AsyncQuery(Generic[T]):
    """Documents of one collection that satisfy conditions, in an order, within a limit.

    ``where`` twice means both; ``order_by`` and ``limit`` twice replace.
    """

    __slots__ = ("_runner", "_table", "_value")

    def __init__(self, runner: AsyncRunner, table: Table[T], value: QueryValue) -> None:
        self._runner = runner
        self._table = table
        self._value = value

    def _with(self, value: QueryValue) -> AsyncQuery[T]:
        return AsyncQuery(self._runner, self._table, value)

    # -- building

    @overload
    def where(self, field: str, /) -> AsyncWhere[T]: ...
    @overload
    def where(self, *conditions: Condition | Mapping[str, Any] | bool) -> AsyncQuery[T]: ...
    def where(self, *conditions: Any) -> Any:
        """Only documents that satisfy these conditions too. Raises ``InvalidQuery`` and
        ``UnknownField`` at once, before anything is read."""
        if len(conditions) == 1 and isinstance(conditions[0], str):
            return AsyncWhere(self, conditions[0], self._table.codec)
        value = self._value
        for given in conditions:
            condition = parse_filter(given) if isinstance(given, Mapping) else given
            value = value.and_where(_bound(condition, self._table))
        return self._with(value)

    def filter(self, predicate: Callable[[T], object]) -> AsyncQuery[T]:
        """Only documents for which a Python function is true.

        It is asked about every document that the conditions leave; ``limit`` counts those that
        pass.
        """
        return self._with(self._value.with_predicate(predicate))

    def order_by(self, *fields: Any) -> AsyncQuery[T]:
        """``"name"`` ascending, ``"-depth_m"`` descending, several for ties. Documents without the
        field come last in both directions; the document key breaks the remaining ties."""
        order = bind_order(parse_order(fields), self._table.codec)
        return self._with(self._value.with_bound_order(order))

    def limit(self, rows: int) -> AsyncQuery[T]:
        """At most so many documents."""
        return self._with(self._value.with_limit(rows))

    def offset(self, rows: int) -> AsyncQuery[T]:
        """Leave out the first so many. Writes in between shift pages: prefer ``after``."""
        return self._with(self._value.with_offset(rows))

    def after(self, *position: Any) -> AsyncQuery[T]:
        """Only what comes behind a position: the values of the ``order_by`` fields of the last
        document seen, then its key."""
        return self._with(self._value.with_after(position))

    def reverse(self) -> AsyncQuery[T]:
        """The opposite order; without ``order_by``, by descending key."""
        return self._with(self._value.reversed())

    # -- asking

    def all(self) -> Awaitable[list[T]]:
        """The documents, one snapshot."""
        return self._runner.run(operations.all_of(self._table, self._value, bounded=self._cheap()))

    def first(self) -> Awaitable[T | None]:
        """The first document, None when nothing matches."""
        operation = operations.first(self._table, self._value, bounded=self._cheap(1))
        return self._runner.run(operation)

    def one(self) -> Awaitable[T]:
        """The only match; raises ``NotFound`` or ``NotUnique``."""
        return self._runner.run(operations.one(self._table, self._value, bounded=self._cheap(2)))

    def count(self) -> Awaitable[int]:
        """How many match."""
        return self._runner.run(operations.count(self._table, self._value))

    def keys(self) -> Awaitable[list[Key]]:
        """The keys of what matches."""
        return self._runner.run(operations.keys_of(self._table, self._value, bounded=self._cheap()))

    def exists(self) -> Awaitable[bool]:
        """Does anything match?"""
        return self._runner.run(operations.exists(self._table, self._value, bounded=self._cheap(1)))

    def explain(self) -> Awaitable[Explanation]:
        """How the query is answered: index, range, what is left to check, and what would help."""
        return self._runner.explain(self._table, self._value)

    async def to_arrow(self) -> Any:
        """The documents as a ``pyarrow.Table``; raises ``MissingDependency`` without pyarrow."""
        documents = await self.all()
        return to_table(self._table.codec.plain(document) for document in documents)

    async def __aiter__(self) -> AsyncIterator[T]:
        """Document by document, read in chunks. Each chunk is a snapshot of its own: a document
        that moves in the order meanwhile may come twice or not at all."""
        chunks = operations.Chunks(self._table, self._value)
        while (chunk := chunks.next()) is not None:
            for document in chunks.documents(await self._runner.run(chunk)):
                yield document

    # -- writing

    def delete(self) -> Awaitable[int]:
        """Delete what matches, in one transaction → how many."""
        return self._runner.run(writes.delete_where(self._table, self._value))

    def patch(self, changes: Mapping[str, Any] | None = None, /, **fields: Any) -> Awaitable[int]:
        """Change the named fields of what matches, in one transaction → how many. If one document
        cannot be changed, none is."""
        wanted = {**(changes or {}), **fields}
        return self._runner.run(writes.patch_where(self._table, self._value, wanted))

    # -- following

    def live(self, *, timeout_s: float | None = None) -> AsyncLiveQuery[T]:
        """Follow the query: iterate over what changes, first the whole result.

        Writes of other threads and processes are seen too. timeout_s ends the iteration when
        nothing changed for so long; None waits for ever.
        """
        return AsyncLiveQuery(self._runner, self._table, self._value, timeout_s)

    def _cheap(self, rows: int | None = None) -> bool:
        value = self._value if rows is None else self._value.with_limit(rows)
        return self._runner.cheap(self._table, value)

    def __contains__(self, item: object) -> bool:
        raise UsageError(
            f"`in` would compare {item!r:.60} with every document of the query.",
            action="Add a condition for it and call exists().",
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._table.name}: {self._value!r}>"


class AsyncWhere(Generic[T]):
    """Dexie's words behind ``where("field")``. They follow the order of keys through all types:
    numbers < texts < booleans < binary < lists; ``hp.F`` compares within one type."""

    __slots__ = ("_clause", "_codec", "_query")

    def __init__(self, query: AsyncQuery[T], field: str, codec: Codec[T]) -> None:
        self._query = query
        self._clause = WhereClause(field)
        self._codec = codec

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._clause.path}: equals(), above(), between(), ...>"

    def _stored(self, value: Any) -> Any:
        """Dates, UUIDs, enums … in the form that documents store: ranges follow its order."""
        return self._codec.convert(self._clause.path, value)

    def equals(self, value: Any) -> AsyncQuery[T]:
        return self._query.where(self._clause.equals(self._stored(value)))

    def not_equal(self, value: Any) -> AsyncQuery[T]:
        """Documents that have the field, with another value."""
        return self._query.where(self._clause.not_equal(self._stored(value)))

    def above(self, value: Any) -> AsyncQuery[T]:
        return self._query.where(self._clause.above(self._stored(value)))

    def above_or_equal(self, value: Any) -> AsyncQuery[T]:
        return self._query.where(self._clause.above_or_equal(self._stored(value)))

    def below(self, value: Any) -> AsyncQuery[T]:
        return self._query.where(self._clause.below(self._stored(value)))

    def below_or_equal(self, value: Any) -> AsyncQuery[T]:
        return self._query.where(self._clause.below_or_equal(self._stored(value)))

    def between(
        self, lower: Any, upper: Any, include_lower: bool = True, include_upper: bool = False
    ) -> AsyncQuery[T]:
        """As in Dexie: the lower bound is included, the upper one is not."""
        low, high = self._stored(lower), self._stored(upper)
        return self._query.where(self._clause.between(low, high, include_lower, include_upper))

    def in_any_range(
        self,
        ranges: Iterable[tuple[Any, Any]],
        include_lowers: bool = True,
        include_uppers: bool = False,
    ) -> AsyncQuery[T]:
        stored = [(self._stored(lower), self._stored(upper)) for lower, upper in ranges]
        condition = self._clause.in_any_range(stored, include_lowers, include_uppers)
        return self._query.where(condition)

    def any_of(self, *values: Any) -> AsyncQuery[T]:
        return self._query.where(
            self._clause.any_of([self._stored(value) for value in many(values)])
        )

    def none_of(self, *values: Any) -> AsyncQuery[T]:
        """Documents that have the field, with none of these values."""
        return self._query.where(
            self._clause.none_of([self._stored(value) for value in many(values)])
        )

    def starts_with(self, prefix: str) -> AsyncQuery[T]:
        return self._query.where(self._clause.starts_with(prefix))

    def starts_with_any_of(self, *prefixes: str) -> AsyncQuery[T]:
        return self._query.where(self._clause.starts_with_any_of(*prefixes))

    def equals_ignore_case(self, value: str) -> AsyncQuery[T]:
        return self._query.where(self._clause.equals_ignore_case(value))

    def any_of_ignore_case(self, *values: str) -> AsyncQuery[T]:
        return self._query.where(self._clause.any_of_ignore_case(*values))

    def starts_with_ignore_case(self, prefix: str) -> AsyncQuery[T]:
        return self._query.where(self._clause.starts_with_ignore_case(prefix))

    def starts_with_any_of_ignore_case(self, *prefixes: str) -> AsyncQuery[T]:
        return self._query.where(self._clause.starts_with_any_of_ignore_case(*prefixes))


def _bound(condition: Any, table: Table[Any]) -> Condition:
    return bind(as_condition(condition), table.codec)
