"""Conditions on one path as ranges of keys, so that an index can answer their negation too.

A condition that depends on nothing but the key of its value is a set of spans of the total order,
and says whether values that are no keys (missing, null, objects) satisfy it. The set can be turned
round: "not 5" is what lies below 5, what lies above it, and what is no key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from homeport.core.conditions import (
    And,
    AnyOf,
    Between,
    Compare,
    Condition,
    Not,
    Or,
    Range,
    StartsWith,
    bracket,
)
from homeport.core.keys import Encoded, encode, order, prefix_range

# The ends of the types in the order of keys: number, text, boolean, binary, array.
BOTTOM: Final[tuple[Encoded | None, ...]] = (None, "", b"\x01", b"\x02", b"\x03")
TOP: Final[tuple[Encoded, ...]] = ("", b"", b"\x02", b"\x03", b"\x04")

SPANS_MAX: Final = 32
"""More ranges than this are no way to read an index."""


class Span(NamedTuple):
    """low to high in encoded keys; None = no end; open = without the bound itself."""

    low: Encoded | None = None
    high: Encoded | None = None
    low_open: bool = False
    high_open: bool = False

    @property
    def point(self) -> bool:
        return self.low is not None and self.low == self.high


class Spans(NamedTuple):
    """Disjoint spans in ascending order, and whether values that are no keys belong to them."""

    spans: tuple[Span, ...]
    rest: bool = False

    def inverted(self) -> Spans:
        """Exactly the other values."""
        gaps: list[Span] = []
        low: Encoded | None = None
        low_open = False
        for span in self.spans:
            if span.low is not None:
                gaps.append(Span(low, span.low, low_open, not span.low_open))
            if span.high is None:
                return Spans(_real(gaps), not self.rest)
            low, low_open = span.high, not span.high_open
        gaps.append(Span(low, None, low_open, False))
        return Spans(_real(gaps), not self.rest)


def common(left: Spans, right: Spans) -> Spans:
    """The values that belong to both."""
    found = [_overlap(a, b) for a in left.spans for b in right.spans]
    return Spans(_real(found), left.rest and right.rest)


def _overlap(a: Span, b: Span) -> Span:
    low, low_open = a.low, a.low_open
    if low is None or (b.low is not None and (order(b.low), b.low_open) > (order(low), low_open)):
        low, low_open = b.low, b.low_open
    high, high_open = a.high, a.high_open
    if high is None or (
        b.high is not None and (order(b.high), not b.high_open) < (order(high), not high_open)
    ):
        high, high_open = b.high, b.high_open
    return Span(low, high, low_open, high_open)


def spans_of(condition: Condition) -> Spans | None:
    """The ranges of a condition on one path; None when keys alone do not decide it."""
    if isinstance(condition, Not):
        inner = spans_of(condition.item)
        return None if inner is None else inner.inverted()
    if isinstance(condition, Compare):
        return _compared(condition)
    if isinstance(condition, Between):
        low, high = encode(condition.low), encode(condition.high)
        return Spans(_real([Span(low, high, condition.low_open, condition.high_open)]))
    if isinstance(condition, Range):
        low = None if condition.lower is None else encode(condition.lower)
        high = None if condition.upper is None else encode(condition.upper)
        return Spans(_real([Span(low, high, condition.lower_open, condition.upper_open)]))
    if isinstance(condition, StartsWith):
        start, end = prefix_range(condition.prefix)
        return Spans(_real([Span(start, TOP[1] if end is None else end, False, True)]))
    if isinstance(condition, AnyOf):
        if len(condition.values) > SPANS_MAX:
            return None
        keys = [encode(value) for value in condition.values]
        if None in keys:
            return None  # null is no key, yet it equals itself
        points = {order(key): Span(key, key) for key in keys}
        return Spans(tuple(points[place] for place in sorted(points)))
    return None


def _compared(condition: Compare) -> Spans | None:
    key = encode(condition.value)
    if key is None:
        return None
    op, kind = condition.op, bracket(key)
    if op in ("==", "!="):
        equal = Spans((Span(key, key),))
        return equal if op == "==" else equal.inverted()
    if op in ("<", "<="):
        return Spans(_real([Span(BOTTOM[kind], key, False, op == "<")]))
    return Spans(_real([Span(key, TOP[kind], op == ">", True)]))


def _real(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Those that can hold a key."""
    return tuple(span for span in spans if not _empty(span))


def _empty(span: Span) -> bool:
    if span.low is None or span.high is None:
        # Nothing lies below the lowest end of all, and no key is beyond the highest.
        return False
    low, high = order(span.low), order(span.high)
    return low > high or (low == high and (span.low_open or span.high_open))


_INNER: Final = frozenset((And, Or, Not))


def normal(condition: Condition) -> Condition:
    """The same condition with every negation at its leaf, where ranges can answer it. Returns the
    very object that was given when there is nothing to move."""
    kind = type(condition)
    if kind is And or kind is Or:
        items: tuple[Condition, ...] = condition.items  # type: ignore[attr-defined]
        for item in items:
            if type(item) in _INNER:
                break
        else:
            return condition
        made = tuple([normal(item) for item in items])
        if all(new is old for new, old in zip(made, items, strict=True)):
            return condition
        return And(made) if kind is And else Or(made)
    if kind is not Not:
        return condition
    inner: Condition = condition.item  # type: ignore[attr-defined]
    if isinstance(inner, Not):
        return normal(inner.item)
    if isinstance(inner, Compare) and inner.op == "!=":
        return Compare(inner.path, "==", inner.value)
    if isinstance(inner, And):
        return Or(normal(Not(item)) for item in inner.items)
    if isinstance(inner, Or):
        return And(normal(Not(item)) for item in inner.items)
    return condition
