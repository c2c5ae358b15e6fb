"""What conditions and orders mean: the reference that every engine has to agree with.

The language-neutral table of cases is ``tests/cases/semantics.json``.

- A dotted path goes through objects only. Where it does not arrive, the field is missing.
- ``<`` and its kin, ``Between``: values of the operand's type only (numbers, texts, booleans,
  binary, arrays), in the order of keys; texts by UTF-16 code units; a boolean is not a number.
- ``==`` and ``AnyOf``: equal keys; null equals null alone; objects, and arrays that are no keys,
  are equal when their JSON is. A missing field equals nothing.
- ``!=`` and ``Not`` match exactly the other documents, those without the field included.
- ``Element`` matches an array with an element that satisfies the inner condition, whose paths begin
  at the element. ``Size``, ``OfType``, ``Modulo`` and ``Pattern`` look at values of one type.
- ``Range`` runs over all types and holds only values that are keys.
- Order: values that are no keys (missing, null, objects) come last in both directions; ties are
  broken by the document key, in the direction of the last column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from homeport.core.conditions import (
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
    Or,
    Pattern,
    Range,
    Size,
    StartsWith,
    bracket,
)
from homeport.core.keys import Encoded, encode, order
from homeport.core.paths import MISSING, get_path
from homeport.core.textquery import holds, parse
from homeport.core.words import text_of, words

__all__ = [
    "MISSING",
    "compile_condition",
    "equal",
    "get_path",
    "matches",
    "position_key",
    "sort_key",
]

Test: TypeAlias = Callable[[Any], bool]
"""Is it true of this document?"""


def matches(condition: Condition, doc: Mapping[str, Any]) -> bool:
    """Does a plain document satisfy a condition?"""
    return compile_condition(condition)(doc)


def compile_condition(condition: Condition, *, inside: bool = False) -> Test:
    """The test of a condition, made once for many documents; ``inside`` an array, where elements
    need not be objects."""
    if isinstance(condition, (And, Or)):
        tests = [compile_condition(item, inside=inside) for item in condition.items]
        every = all if isinstance(condition, And) else any
        return lambda doc: every([test(doc) for test in tests])
    if isinstance(condition, Not):
        inner = compile_condition(condition.item, inside=inside)
        return lambda doc: not inner(doc)
    path: str = condition.path  # type: ignore[attr-defined]
    test = _value_test(condition)
    if not path:
        return test  # the element of an array itself
    if inside or "." in path:
        return lambda doc: test(get_path(doc, path))
    return lambda doc: test(doc.get(path, MISSING))


def _value_test(condition: Condition) -> Test:
    if isinstance(condition, Compare):
        return _compare_test(condition)
    if isinstance(condition, AnyOf):
        equals = [_equal_test(value) for value in condition.values]
        return lambda value: any(test(value) for test in equals)
    if isinstance(condition, Missing):
        return lambda value: value is MISSING
    if isinstance(condition, Contains):
        element = _equal_test(condition.value)
        return lambda value: isinstance(value, (list, tuple)) and any(map(element, value))
    if isinstance(condition, StartsWith):
        prefix = condition.prefix
        return lambda value: isinstance(value, str) and value.startswith(prefix)
    if isinstance(condition, Matches):
        asked = parse(condition.text)
        return lambda value: holds(asked, words(text_of(value)))
    if isinstance(condition, Element):
        inner = compile_condition(condition.item, inside=True)
        return lambda value: isinstance(value, (list, tuple)) and any(map(inner, value))
    if isinstance(condition, (Size, OfType, Modulo, Pattern)):
        return _form_test(condition)
    if isinstance(condition, IgnoreCase):
        return _ignore_case_test(condition)
    if isinstance(condition, Between):
        low, high = encode(condition.low), encode(condition.high)
        assert low is not None
        return _within(low, high, condition.low_open, condition.high_open, bracket(low))
    assert isinstance(condition, Range)
    return _within(
        None if condition.lower is None else encode(condition.lower),
        None if condition.upper is None else encode(condition.upper),
        condition.lower_open,
        condition.upper_open,
        None,
    )


def _form_test(condition: Size | OfType | Modulo | Pattern) -> Test:
    if isinstance(condition, Size):
        size = condition.size
        return lambda value: isinstance(value, (list, tuple)) and len(value) == size
    if isinstance(condition, OfType):
        types = condition.types
        return lambda value: json_type(value) in types
    if isinstance(condition, Modulo):
        divisor, remainder = condition.divisor, condition.remainder
        return lambda value: _leaves(value, divisor) == remainder
    search = condition.compiled().search
    return lambda value: isinstance(value, str) and search(value) is not None


def json_type(value: Any) -> str | None:
    """The name of a plain value's type in JSON, None for a missing field."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (list, tuple)):
        return "array"
    return "object" if isinstance(value, Mapping) else None


def _leaves(value: Any, divisor: int) -> int | None:
    """What is left of a whole number, with its sign; None for everything else."""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    left = abs(value) % abs(divisor)
    return -left if value < 0 else left


def _compare_test(condition: Compare) -> Test:
    op, operand = condition.op, condition.value
    if op == "==":
        return _equal_test(operand)
    if op == "!=":
        equals = _equal_test(operand)
        return lambda value: not equals(value)
    bound = encode(operand)
    assert bound is not None
    kind = bracket(bound)
    if op in ("<", "<="):
        return _within(None, bound, False, op == "<", kind)
    return _within(bound, None, op == ">", False, kind)


def _within(
    low: Encoded | None, high: Encoded | None, low_open: bool, high_open: bool, kind: int | None
) -> Test:
    """Between two encoded keys; with ``kind`` only values of that type."""
    bottom, top = order(low), order(high)

    def test(value: Any) -> bool:
        found = encode(value)
        if found is None or (kind is not None and bracket(found) != kind):
            return False
        here = order(found)
        if low is not None and (here < bottom or (low_open and here == bottom)):
            return False
        return high is None or here < top or (here == top and not high_open)

    return test


def _ignore_case_test(condition: IgnoreCase) -> Test:
    wanted = tuple(value.casefold() for value in condition.values)
    if condition.prefix:
        return lambda value: isinstance(value, str) and value.casefold().startswith(wanted)
    return lambda value: isinstance(value, str) and value.casefold() in wanted


def _equal_test(operand: Any) -> Test:
    if operand is None:
        return lambda value: value is None
    wanted = encode(operand)
    if wanted is None:
        return lambda value: equal(value, operand)
    return lambda value: encode(value) == wanted


def equal(a: Any, b: Any) -> bool:
    """Equality of two plain values, as ``==`` in a condition means it."""
    left, right = encode(a), encode(b)
    if left is not None or right is not None:
        return left == right
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)


class Down:
    """A sort key turned round."""

    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key

    def __lt__(self, other: Down) -> bool:
        return bool(other.key < self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Down) and bool(self.key == other.key)

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"-{self.key!r}"


def sort_key(
    columns: tuple[tuple[str, bool], ...], doc: Mapping[str, Any], key: object
) -> tuple[Any, ...]:
    """Sorts documents as ``order_by`` does. columns: (path, descending); path ``""`` is the
    document key."""
    values = [key if path == "" else get_path(doc, path) for path, _ in columns]
    return position_key(columns, (*values, key))


def position_key(
    columns: tuple[tuple[str, bool], ...], position: tuple[Any, ...]
) -> tuple[Any, ...]:
    """The sort key of a position: the values of the order columns, then the document key."""
    *values, key = position
    out = [_column(encode(value), down) for (_, down), value in zip(columns, values, strict=True)]
    out.append(_column(encode(key), columns[-1][1] if columns else False))
    return tuple(out)


def _column(found: Encoded | None, down: bool) -> tuple[Any, ...]:
    if found is None:
        return (1,)
    return (0, Down(order(found)) if down else order(found))
