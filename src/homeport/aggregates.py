"""Counting, adding and grouping what a selection holds. What the results mean, to the last value
that is no number, is said in ``core.aggregate``."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Generic, TypeVar

from homeport.core import measuring
from homeport.core.aggregate import Measure, measure
from homeport.core.codec import Table
from homeport.core.query import QueryValue
from homeport.core.requests import Operation
from homeport.handles import Handle
from homeport.runners import AsyncRunner

T = TypeVar("T")


class AsyncAggregates(Generic[T]):
    """The aggregates of a selection. Fields are given by name or as ``hp.F.name``."""

    __slots__ = ()

    _runner: AsyncRunner
    _table: Table[T]
    _value: QueryValue

    def sum(self, field: Any) -> Awaitable[int | float]:
        """The sum of the numbers in a field, exact and rounded once; 0 when there are none."""
        asked: Operation[int | float]
        asked = measuring.one_measure(self._table, self._value, "sum", field)
        return self._runner.run(asked)

    def avg(self, field: Any) -> Awaitable[float | None]:
        """The average of the numbers in a field; None when there are none."""
        asked: Operation[float | None]
        asked = measuring.one_measure(self._table, self._value, "avg", field)
        return self._runner.run(asked)

    def min(self, field: Any) -> Awaitable[Any]:
        """The smallest value of a field in the order of keys; None when no document has one."""
        return self._runner.run(measuring.one_measure(self._table, self._value, "min", field))

    def max(self, field: Any) -> Awaitable[Any]:
        """The largest value of a field in the order of keys; None when no document has one."""
        return self._runner.run(measuring.one_measure(self._table, self._value, "max", field))

    def aggregate(self, **measures: Measure) -> Awaitable[dict[str, Any]]:
        """Several aggregates at once, by the names that you give them:
        ``aggregate(n=hp.agg.count(), deepest=hp.agg.max("depth_m"))`` → a dict."""
        return self._runner.run(measuring.named_measures(self._table, self._value, measures))

    def distinct(self, *fields: Any) -> Awaitable[list[Any]]:
        """The different values of a field, or tuples of several, in the order of keys. Documents
        that lack one of the fields are left out; ``hp.agg.each("tags")`` gives the elements of an
        array."""
        names = measuring.group_fields(self._table, fields, "distinct")
        return self._runner.run(measuring.distinct(self._table, self._value, names))

    def group_by(self, *fields: Any) -> AsyncGroups[T]:
        """Group by the values of one or several fields; ask the groups next:
        ``group_by("field").max("depth_m")`` → ``{"Brent": 2810.5, ...}``.

        Documents without a value are the group None, which comes last. An array is one value;
        ``hp.agg.each("tags")`` groups by its elements.
        """
        names = measuring.group_fields(self._table, fields, "group_by")
        return AsyncGroups(self._runner, self._table, self._value, names)


class AsyncGroups(Handle, Generic[T]):
    """Groups of documents: each end gives a dict from the value of the group (a tuple of values
    when several fields were named) to its result, in the order of keys."""

    __slots__ = ("_fields", "_runner", "_table", "_value")

    def __init__(
        self, runner: AsyncRunner, table: Table[T], value: QueryValue, fields: tuple[str, ...]
    ) -> None:
        self._runner = runner
        self._table = table
        self._value = value
        self._fields = fields

    def _one(self, wanted: Measure) -> Awaitable[dict[Any, Any]]:
        asked = measuring.grouped(self._table, self._value, self._fields, wanted)
        return self._runner.run(asked)

    def count(self) -> Awaitable[dict[Any, int]]:
        """How many documents each group has."""
        return self._one(Measure("count"))

    def sum(self, field: Any) -> Awaitable[dict[Any, int | float]]:
        """The sum of the numbers in a field."""
        return self._one(measure("sum", field))

    def avg(self, field: Any) -> Awaitable[dict[Any, float | None]]:
        """The average of the numbers in a field; None where there are none."""
        return self._one(measure("avg", field))

    def min(self, field: Any) -> Awaitable[dict[Any, Any]]:
        """The smallest value of a field; None where there is none."""
        return self._one(measure("min", field))

    def max(self, field: Any) -> Awaitable[dict[Any, Any]]:
        """The largest value of a field; None where there is none."""
        return self._one(measure("max", field))

    def aggregate(self, **measures: Measure) -> Awaitable[list[dict[str, Any]]]:
        """Several aggregates of each group → dicts with the group's fields and the names given:
        ``[{"field": "Brent", "n": 3, "deepest": 2810.5}, ...]``."""
        asked = measuring.grouped_named(self._table, self._value, self._fields, measures)
        return self._runner.run(asked)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._table.name} by {', '.join(self._fields)}>"
