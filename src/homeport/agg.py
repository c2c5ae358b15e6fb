"""Aggregates to ask for by name: ``aggregate(n=hp.agg.count(), deepest=hp.agg.max("depth_m"))``.

Fields are named as in queries: ``"depth_m"``, ``"position.lat"`` or ``hp.F.position.lat``.
"""

from __future__ import annotations

from homeport.core.aggregate import Each, Measure, measure, path_of

__all__ = ["Each", "Measure", "avg", "count", "count_distinct", "each", "max", "min", "sum"]


def count(field: object = None) -> Measure:
    """How many documents; with a field, those in which it is there and not null."""
    return Measure("count") if field is None else measure("count", field)


def sum(field: object) -> Measure:  # noqa: A001 - hp.agg.sum reads as it should
    """The sum of the numbers, exact and rounded once; 0 when there are none."""
    return measure("sum", field)


def avg(field: object) -> Measure:
    """The sum divided by how many numbers there were; None when there are none."""
    return measure("avg", field)


def min(field: object) -> Measure:  # noqa: A001
    """The smallest value in the order of keys; None when there is none."""
    return measure("min", field)


def max(field: object) -> Measure:  # noqa: A001
    """The largest value in the order of keys; None when there is none."""
    return measure("max", field)


def count_distinct(field: object) -> Measure:
    """How many different values."""
    return measure("count_distinct", field)


def each(field: object) -> Each:
    """For ``group_by`` and ``distinct``: the elements of an array, not the array.
    ``group_by(hp.agg.each("tags"))`` counts a document once in the group of each distinct tag, and
    in None when it has none."""
    return Each(path_of(field, "each()"))
