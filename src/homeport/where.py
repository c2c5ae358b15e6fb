"""Dexie's words: what ``where("field")`` and ``or_("field")`` return."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from homeport.core.codec import Codec
from homeport.core.conditions import Condition
from homeport.core.keyrange import WhereClause, many, pairs

if TYPE_CHECKING:
    from homeport.queries import AsyncQuery

T = TypeVar("T")


class AsyncWhere(Generic[T]):
    """Dexie's words behind ``where("field")``. They follow the order of keys through all types:
    numbers < texts < booleans < binary < lists; ``hp.F`` compares within one type.

    On a field with a multi-entry index (``hp.Multi``) they look at the elements of its array, and a
    document with several that fit comes once.
    """

    __slots__ = ("_clause", "_join", "_stored")

    _stored: Callable[[Any], Any]  # the form that documents store, whose order ranges follow

    def __init__(
        self, join: Callable[[Condition], AsyncQuery[T]], field: str, codec: Codec[T]
    ) -> None:
        scope = codec.scope
        entries = codec.has_entries(field)
        self._join = join
        self._clause = WhereClause(field, entries=entries)
        self._stored = (
            partial(scope.element(field).convert, "") if entries else partial(scope.convert, field)
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._clause.path}: equals(), above(), between(), ...>"

    def equals(self, value: Any) -> AsyncQuery[T]:
        return self._join(self._clause.equals(self._stored(value)))

    def not_equal(self, value: Any) -> AsyncQuery[T]:
        """Documents that have the field, with another value."""
        return self._join(self._clause.not_equal(self._stored(value)))

    def above(self, value: Any) -> AsyncQuery[T]:
        return self._join(self._clause.above(self._stored(value)))

    def above_or_equal(self, value: Any) -> AsyncQuery[T]:
        return self._join(self._clause.above_or_equal(self._stored(value)))

    def below(self, value: Any) -> AsyncQuery[T]:
        return self._join(self._clause.below(self._stored(value)))

    def below_or_equal(self, value: Any) -> AsyncQuery[T]:
        return self._join(self._clause.below_or_equal(self._stored(value)))

    def between(
        self, lower: Any, upper: Any, include_lower: bool = True, include_upper: bool = False
    ) -> AsyncQuery[T]:
        """As in Dexie: the lower bound is included, the upper one is not."""
        low, high = self._stored(lower), self._stored(upper)
        return self._join(self._clause.between(low, high, include_lower, include_upper))

    def in_any_range(
        self,
        ranges: Iterable[tuple[Any, Any]],
        include_lowers: bool = True,
        include_uppers: bool = False,
    ) -> AsyncQuery[T]:
        """Inside one of the ``(lower, upper)`` pairs."""
        stored = [(self._stored(low), self._stored(high)) for low, high in pairs(ranges)]
        return self._join(self._clause.in_any_range(stored, include_lowers, include_uppers))

    def any_of(self, *values: Any) -> AsyncQuery[T]:
        return self._join(self._clause.any_of([self._stored(value) for value in many(values)]))

    def none_of(self, *values: Any) -> AsyncQuery[T]:
        """Documents that have the field, with none of these values."""
        return self._join(self._clause.none_of([self._stored(value) for value in many(values)]))

    def starts_with(self, prefix: str) -> AsyncQuery[T]:
        return self._join(self._clause.starts_with(prefix))

    def starts_with_any_of(self, *prefixes: str) -> AsyncQuery[T]:
        return self._join(self._clause.starts_with_any_of(*prefixes))

    def equals_ignore_case(self, value: str) -> AsyncQuery[T]:
        return self._join(self._clause.equals_ignore_case(value))

    def any_of_ignore_case(self, *values: str) -> AsyncQuery[T]:
        return self._join(self._clause.any_of_ignore_case(*values))

    def starts_with_ignore_case(self, prefix: str) -> AsyncQuery[T]:
        return self._join(self._clause.starts_with_ignore_case(prefix))

    def starts_with_any_of_ignore_case(self, *prefixes: str) -> AsyncQuery[T]:
        return self._join(self._clause.starts_with_any_of_ignore_case(*prefixes))
