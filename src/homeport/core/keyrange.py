"""Dexie's chain: ``where("depth_m").between(1000, 2000)``.

These words run over the index as Dexie's do: ``above``, ``below`` and ``between`` follow the total
order of keys through all types, and a document without the field is in none of them, not even in
``not_equal`` or ``none_of``. ``F`` compares within one type and negates exactly.

On a field with a multi-entry index they run over its entries, as in Dexie: a document is found when
one element of its array is. It is found once, so Dexie's ``distinct()`` is not needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cmp_to_key
from itertools import pairwise

from homeport.core.arguments import is_unicode
from homeport.core.conditions import (
    And,
    AnyOf,
    Condition,
    Element,
    IgnoreCase,
    Not,
    Or,
    Range,
    StartsWith,
    comparable,
)
from homeport.core.keys import compare
from homeport.core.paths import refuse_dexies
from homeport.errors import InvalidQuery

_IN_ORDER = (str, int, float, bytes, list, tuple)


class WhereClause:
    """The words after ``where("field")``; each returns a condition.

    entries: the field has a multi-entry index, so that they look at the elements of its array.
    """

    __slots__ = ("_at", "_entries", "path")

    def __init__(self, path: str, *, entries: bool = False) -> None:
        if not isinstance(path, str) or not path or "" in path.split("."):
            raise InvalidQuery(
                f"where() takes a field name, a condition or a filter, not {path!r}."
            )
        refuse_dexies(path, "where")
        self.path = path
        self._entries = entries
        self._at = "" if entries else path

    def _made(self, condition: Condition) -> Condition:
        return Element(self.path, condition) if self._entries else condition

    def equals(self, value: object) -> Condition:
        if _unstorable(value):
            return self._made(AnyOf(self._at, ()))
        comparable(value, self.path)
        return self._made(Range(self._at, value, value))

    def not_equal(self, value: object) -> Condition:
        return self.none_of(value)

    def above(self, value: object) -> Condition:
        comparable(value, self.path)
        return self._made(Range(self._at, value, None, lower_open=True))

    def above_or_equal(self, value: object) -> Condition:
        comparable(value, self.path)
        return self._made(Range(self._at, value, None))

    def below(self, value: object) -> Condition:
        comparable(value, self.path)
        return self._made(Range(self._at, None, value, upper_open=True))

    def below_or_equal(self, value: object) -> Condition:
        comparable(value, self.path)
        return self._made(Range(self._at, None, value))

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
        return self._made(Range(self._at, lower, upper, not include_lower, not include_upper))

    def in_any_range(
        self,
        ranges: Iterable[tuple[object, object]],
        include_lowers: bool = True,
        include_uppers: bool = False,
    ) -> Condition:
        """Inside one of the ``(lower, upper)`` pairs."""
        return Or(self.between(lo, hi, include_lowers, include_uppers) for lo, hi in pairs(ranges))

    def any_of(self, *values: object) -> Condition:
        values = tuple(value for value in many(values) if not _unstorable(value))
        for value in values:
            comparable(value, self.path)
        return self._made(AnyOf(self._at, values))

    def none_of(self, *values: object) -> Condition:
        """Every key of the index but these; documents without the field are not in it."""
        values = tuple(value for value in many(values) if not _unstorable(value))
        for value in values:
            comparable(value, self.path)
        if not all(isinstance(value, _IN_ORDER) for value in values):
            # Dates, enums …: their order is that of their stored form, which is not known here.
            return self._made(And((Range(self._at), Not(AnyOf(self._at, values)))))
        ordered = sorted(values, key=cmp_to_key(compare))
        if not ordered:
            return self._made(Range(self._at))
        gaps: list[Condition] = [Range(self._at, None, ordered[0], upper_open=True)]
        gaps += [
            Range(self._at, low, high, lower_open=True, upper_open=True)
            for low, high in pairwise(ordered)
            if compare(low, high)
        ]
        gaps.append(Range(self._at, ordered[-1], None, lower_open=True))
        return self._made(Or(gaps))

    def starts_with(self, prefix: str) -> Condition:
        return self._made(StartsWith(self._at, prefix))

    def starts_with_any_of(self, *prefixes: str) -> Condition:
        return self._made(Or(StartsWith(self._at, prefix) for prefix in _texts(prefixes)))

    def equals_ignore_case(self, value: str) -> Condition:
        """Compared case-folded; looks at every document (no index helps)."""
        return self._made(IgnoreCase(self._at, (value,)))

    def any_of_ignore_case(self, *values: str) -> Condition:
        return self._made(IgnoreCase(self._at, _texts(values)))

    def starts_with_ignore_case(self, prefix: str) -> Condition:
        return self._made(IgnoreCase(self._at, (prefix,), prefix=True))

    def starts_with_any_of_ignore_case(self, *prefixes: str) -> Condition:
        return self._made(IgnoreCase(self._at, _texts(prefixes), prefix=True))

    def __repr__(self) -> str:
        return f"where({self.path!r})"


def _unstorable(value: object) -> bool:
    """A text with a lone surrogate: no document holds it, so nothing equals it."""
    return isinstance(value, str) and not is_unicode(value)


def by_values(values: dict[str, object]) -> Condition:
    """Dexie's ``where({"field": "Brent", "status": "active"})``: all of these are equal."""
    return And(WhereClause(path).equals(value) for path, value in values.items())


def many(values: tuple[object, ...]) -> tuple[object, ...]:
    if len(values) == 1 and isinstance(values[0], (list, tuple, set, frozenset)):
        return tuple(values[0])
    return values


def pairs(ranges: Iterable[tuple[object, object]]) -> list[tuple[object, object]]:
    """The ``(lower, upper)`` pairs; ``InvalidQuery`` for anything else."""
    found = [*ranges] if isinstance(ranges, Iterable) and not isinstance(ranges, str) else None
    if found is None or not all(isinstance(p, (tuple, list)) and len(p) == 2 for p in found):
        raise InvalidQuery(
            f"in_any_range() takes (lower, upper) pairs, not {ranges!r:.60}.",
            action="For example in_any_range([(0, 5), (10, 15)]).",
        )
    return found


def _texts(values: tuple[object, ...]) -> tuple[str, ...]:
    found = many(values)
    for value in found:
        if not isinstance(value, str):
            raise InvalidQuery(f"A text is wanted here, not {value!r:.60}.")
    return found  # type: ignore[return-value]
