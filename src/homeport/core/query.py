"""The immutable query value, and its binding to a model; everything about queries is found here.

The tree of conditions is ``core/conditions.py``; ``F``, the JSON form and Dexie's chain, which all
build it, are ``core/fields.py``, ``core/jsonfilter.py`` and ``core/keyrange.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from homeport.core.arguments import is_coroutine_function
from homeport.core.conditions import (
    OPERATORS,
    And,
    AnyOf,
    Between,
    Compare,
    Condition,
    Contains,
    Element,
    IgnoreCase,
    Matches,
    Missing,
    Modulo,
    Not,
    OfType,
    Operator,
    Or,
    Pattern,
    Range,
    Size,
    StartsWith,
    as_condition,
    bracket,
    comparable,
)
from homeport.core.fields import F, Field, Fields, fields
from homeport.core.jsonfilter import parse_filter
from homeport.core.keyrange import WhereClause, by_values
from homeport.core.paths import refuse_dexies
from homeport.errors import InvalidQuery

if TYPE_CHECKING:
    from homeport.core.codec import Codec
    from homeport.core.scope import Scope

__all__ = [
    "EMPTY",
    "OPERATORS",
    "And",
    "AnyOf",
    "Between",
    "Compare",
    "Condition",
    "Contains",
    "Element",
    "F",
    "Field",
    "Fields",
    "IgnoreCase",
    "Matches",
    "Missing",
    "Modulo",
    "Not",
    "OfType",
    "Operator",
    "Or",
    "Order",
    "Pattern",
    "QueryValue",
    "Range",
    "Size",
    "StartsWith",
    "WhereClause",
    "as_condition",
    "bind",
    "bind_order",
    "bind_position",
    "bracket",
    "by_values",
    "comparable",
    "fields",
    "parse_filter",
    "parse_order",
]

LARGEST: Final = 2**53

Order: TypeAlias = "tuple[tuple[str, bool], ...]"
"""(path, descending), first column first."""


def parse_order(specs: Iterable[object]) -> Order:
    """``"-depth_m"``, ``"name"`` or fields of ``F`` → order columns."""
    order: list[tuple[str, bool]] = []
    for spec in specs:
        text = getattr(spec, "_path", spec)
        if not isinstance(text, str) or not text.strip("-+"):
            raise InvalidQuery(
                f"order_by() takes field names such as 'name' or '-depth_m', not {spec!r}."
            )
        path = text[1:] if text[0] in "-+" else text
        if text is spec:
            refuse_dexies(path, "order_by")
        if path in (name for name, _ in order):
            raise InvalidQuery(f"order_by() names {path!r} twice.")
        order.append((path, text[0] == "-"))
    return tuple(order)


class QueryValue:
    """What is asked, as a value: every method returns a new one.

    order: (path, descending). after: keyset position, the values of the order columns and then
    the document key. predicates: Python functions over decoded documents, evaluated by the facade.
    """

    __slots__ = ("after", "limit", "offset", "order", "predicates", "where")

    def __init__(
        self,
        where: Condition | None = None,
        order: Order = (),
        limit: int | None = None,
        offset: int = 0,
        after: tuple[Any, ...] | None = None,
        predicates: tuple[Callable[[Any], object], ...] = (),
    ) -> None:
        self.where = where
        self.order = order
        self.limit = limit
        self.offset = offset
        self.after = after
        self.predicates = predicates

    def and_where(self, condition: Condition) -> QueryValue:
        condition = as_condition(condition)
        both = condition if self.where is None else And((self.where, condition))
        return QueryValue(both, self.order, self.limit, self.offset, self.after, self.predicates)

    def or_where(self, condition: Condition) -> QueryValue:
        """What is asked so far, and the documents that satisfy this instead."""
        condition = as_condition(condition)
        both = condition if self.where is None else Or((self.where, condition))
        return QueryValue(both, self.order, self.limit, self.offset, self.after, self.predicates)

    def with_order(self, *specs: object) -> QueryValue:
        """Replaces the order: ``"name"`` ascending, ``"-depth_m"`` descending."""
        order = parse_order(specs)
        return QueryValue(self.where, order, self.limit, self.offset, self.after, self.predicates)

    def with_bound_order(self, order: Order) -> QueryValue:
        return QueryValue(self.where, order, self.limit, self.offset, self.after, self.predicates)

    def with_limit(self, limit: int | None) -> QueryValue:
        """Replaces the limit; None = no limit."""
        limit = None if limit is None else _natural(limit, "limit")
        return QueryValue(self.where, self.order, limit, self.offset, self.after, self.predicates)

    def with_offset(self, offset: int) -> QueryValue:
        offset = _natural(offset, "offset")
        return QueryValue(self.where, self.order, self.limit, offset, self.after, self.predicates)

    def with_after(self, after: tuple[Any, ...] | None) -> QueryValue:
        """Continue behind a row: the values of its order columns, then its document key."""
        if after is not None and len(after) != len(self.order) + 1:
            raise InvalidQuery(
                f"A position has the {len(self.order)} values of the order and the document key, "
                f"not {len(after)} values.",
                action="Call order_by() first, then after().",
            )
        return QueryValue(self.where, self.order, self.limit, self.offset, after, self.predicates)

    def with_predicate(self, predicate: Callable[[Any], object]) -> QueryValue:
        if isinstance(predicate, Condition) or not callable(predicate):
            raise InvalidQuery(
                f"filter() takes a function of the document, not {predicate!r:.60}.",
                action="Use where() for conditions.",
            )
        if is_coroutine_function(predicate):
            raise InvalidQuery(
                "filter() takes a plain function: what a coroutine function returns is true for "
                "every document.",
                action="Write def in place of async def.",
            )
        return QueryValue(
            self.where, self.order, self.limit, self.offset, self.after,
            (*self.predicates, predicate),
        )  # fmt: skip

    def reversed(self) -> QueryValue:
        """The opposite order; without an order, by descending document key (path ``""``)."""
        order = tuple((path, not down) for path, down in self.order) or (("", True),)
        if self.order == (("", True),):
            order = ()
        return QueryValue(self.where, order, self.limit, self.offset, self.after, self.predicates)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueryValue) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        given = [
            f"{name}={value!r}"
            for name in ("where", "order", "limit", "offset", "after", "predicates")
            if (value := getattr(self, name)) is not None and value != getattr(EMPTY, name)
        ]
        return f"QueryValue({', '.join(given)})"


EMPTY: Final = QueryValue()


def _natural(value: object, what: str) -> int:
    if type(value) is not int or value < 0:
        raise InvalidQuery(f"{what}() takes a whole number from 0, not {value!r}.")
    return min(value, LARGEST)  # beyond what any collection holds, and any engine counts


def bind(condition: Condition, codec: Codec[Any]) -> Condition:
    """The condition with stored paths and stored values: names are checked against the model
    (``UnknownField``), attribute names become stored names, Python values their JSON form."""
    return _bind(condition, codec.scope)


def _bind(condition: Condition, scope: Scope) -> Condition:
    if isinstance(condition, Compare):
        path = condition.path
        stored = scope.check_path(path)
        if condition.op not in {"==", "!="}:
            scope.check_ordered(path)
        value = scope.convert(path, condition.value)
        if value is condition.value and stored == path:
            return condition
        return Compare(stored, condition.op, value)
    if isinstance(condition, (And, Or)):
        return type(condition)(_bind(item, scope) for item in condition.items)
    if isinstance(condition, Not):
        return Not(_bind(condition.item, scope))
    path = condition.path  # type: ignore[attr-defined]
    stored = scope.check_path(path)
    if isinstance(condition, Between):
        scope.check_ordered(path)
        low, high = scope.convert(path, condition.low), scope.convert(path, condition.high)
        return Between(stored, low, high, condition.low_open, condition.high_open)
    if isinstance(condition, Range):
        if not condition.is_equality:
            scope.check_ordered(path)
        lower, upper = (
            None if bound is None else scope.convert(path, bound)
            for bound in (condition.lower, condition.upper)
        )
        return Range(stored, lower, upper, condition.lower_open, condition.upper_open)
    if isinstance(condition, AnyOf):
        return AnyOf(stored, (scope.convert(path, value) for value in condition.values))
    if isinstance(condition, Contains):
        return Contains(stored, scope.element(path).convert("", condition.value))
    if isinstance(condition, Element):
        return Element(stored, _bind(condition.item, scope.element(path)))
    # The others hold nothing that needs a stored form; their slots are their arguments.
    rest = [getattr(condition, name) for name in condition.__slots__[1:]]
    bound: Condition = type(condition)(stored, *rest)  # type: ignore[call-arg]
    return bound


def bind_position(order: Order, position: tuple[Any, ...], codec: Codec[Any]) -> tuple[Any, ...]:
    """A position as a program gives it: Python values of the order columns, then the key."""
    values: list[Any] = []
    for n, value in enumerate(position):
        path = order[n][0] if n < len(order) else ""
        if path in ("", codec.key) and (value is not None or n >= len(order)):
            values.append(codec.keys.into(value))
        else:
            values.append(codec.scope.stored_value(codec.scope.stored_node(path), value))
    return tuple(values)


def bind_order(order: Order, codec: Codec[Any]) -> Order:
    """Order columns with stored paths; ``""`` stays the document key."""
    bound: list[tuple[str, bool]] = []
    for path, down in order:
        stored = codec.check_path(path) if path else ""
        if path:
            codec.scope.check_ordered(path)
        bound.append((stored, down))
    return tuple(bound)
