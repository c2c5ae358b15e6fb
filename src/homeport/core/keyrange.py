"""Dexie's chain: ``where("depth_m").between(1000, 2000)``.

These words run over the index as Dexie's do: ``above``, ``below`` and ``between`` follow the total
order of keys through all types, and a document without the field is in none of them, not even in
``not_equal`` or ``none_of``. ``F`` compares within one type and negates exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cmp_to_key
from itertools import pairwise

from homeport.core.conditions import (
    And,
    AnyOf,
    Condition,
    IgnoreCase,
    Or,
    Range,
    StartsWith,
    comparable,
)
from homeport.core.keys import compare
from homeport.errors import InvalidQuery


class WhereClause:
    """The words after ``where("field")``; each returns a condition."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        if not isinstance(path, str) or not path or "" in path.split("."):
            raise InvalidQuery(
                f"where() takes a field name, a condition or a filter, not {path!r}."
            )
        self.path = path

    def equals(self, value: object) -> Condition:
        comparable(value, self.path)
        return Range(self.path, value, value)

    def not_equal(self, value: object) -> Condition:
        return self.none_of(value)

    def above(self, value: object) -> Condition:
        comparable(value, self.path)
        return Range(self.path, value, None, lower_open=True)

    def above_or_equal(self, value: object) -> Condition:
        comparable(value, self.path)
        return Range(self.path, value, None)

    def below(self, value: object) -> Condition:
        comparable(value, self.path)
        return Range(self.path, None, value, upper_open=True)

    def below_or_equal(self, value: object) -> Condition:
        comparable(value, self.path)
        return Range(self.path, None, value)

    def between(
        self,
        lower: object,
        upper: object,
        include_lower: bool = True,
        include_upper: bool = False,
    ) -> Condition:
        """As in Dexie: the lower bound is included, the upper one is not."""
        comparable(lower, self.path)
        comparable(upper, self.path)
        return Range(self.path, lower, upper, not include_lower, not include_upper)

    def in_any_range(
        self,
        ranges: Iterable[tuple[object, object]],
        include_lowers: bool = True,
        include_uppers: bool = False,
    ) -> Condition:
        """Inside one of the ``(lower, upper)`` pairs."""
        return Or(self.between(lo, hi, include_lowers, include_uppers) for lo, hi in ranges)

    def any_of(self, *values: object) -> Condition:
        values = many(values)
        for value in values:
            comparable(value, self.path)
        return AnyOf(self.path, values)

    def none_of(self, *values: object) -> Condition:
        """Every key of the index but these; documents without the field are not in it."""
        values = many(values)
        for value in values:
            comparable(value, self.path)
        ordered = sorted(values, key=cmp_to_key(compare))
        if not ordered:
            return Range(self.path)
        gaps: list[Condition] = [Range(self.path, None, ordered[0], upper_open=True)]
        gaps += [
            Range(self.path, low, high, lower_open=True, upper_open=True)
            for low, high in pairwise(ordered)
            if compare(low, high)
        ]
        gaps.append(Range(self.path, ordered[-1], None, lower_open=True))
        return Or(gaps)

    def starts_with(self, prefix: str) -> Condition:
        return StartsWith(self.path, prefix)

    def starts_with_any_of(self, *prefixes: str) -> Condition:
        return Or(StartsWith(self.path, prefix) for prefix in _texts(prefixes))

    def equals_ignore_case(self, value: str) -> Condition:
        """Compared case-folded; looks at every document (no index helps)."""
        return IgnoreCase(self.path, (value,))

    def any_of_ignore_case(self, *values: str) -> Condition:
        return IgnoreCase(self.path, _texts(values))

    def starts_with_ignore_case(self, prefix: str) -> Condition:
        return IgnoreCase(self.path, (prefix,), prefix=True)

    def starts_with_any_of_ignore_case(self, *prefixes: str) -> Condition:
        return IgnoreCase(self.path, _texts(prefixes), prefix=True)

    def __repr__(self) -> str:
        return f"where({self.path!r})"


def by_values(values: dict[str, object]) -> Condition:
    """Dexie's ``where({"field": "Brent", "status": "active"})``: all of these are equal."""
    return And(WhereClause(path).equals(value) for path, value in values.items())


def many(values: tuple[object, ...]) -> tuple[object, ...]:
    if len(values) == 1 and isinstance(values[0], (list, tuple, set, frozenset)):
        return tuple(values[0])
    return values


def _texts(values: tuple[object, ...]) -> tuple[str, ...]:
    found = many(values)
    for value in found:
        if not isinstance(value, str):
            raise InvalidQuery(f"A text is wanted here, not {value!r:.60}.")
    return found  # type: ignore[return-value]
