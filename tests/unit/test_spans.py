"""Conditions as ranges of keys, and negations moved to where ranges can answer them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.core import evaluate
from homeport.core.conditions import And, AnyOf, Between, Compare, Not, Or, Range, StartsWith
from homeport.core.fields import F
from homeport.core.keys import encode, order
from homeport.core.spans import Span, Spans, normal, spans_of
from homeport.errors import InvalidQuery

VALUES = [
    None, -1, 0, -0.0, 1.5, 5, 2**53, float("inf"), "", "a", "ab", "b", "\ue000", "\U0001f600", "\U0010ffff",
    True, False, [], [1], ["a"], [[]], {}, {"x": 1},
]  # fmt: skip
operand = st.sampled_from([v for v in VALUES if encode(v) is not None])


def build(make: Any) -> Any:
    def attempt(*args: Any) -> Any:
        try:
            return make(*args)
        except InvalidQuery:
            return Range("a")

    return attempt


leaf = st.one_of(
    st.builds(Compare, st.just("a"), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), operand),
    st.builds(build(Between), st.just("a"), operand, operand, st.booleans(), st.booleans()),
    st.builds(Range, st.just("a"), st.none() | operand, st.none() | operand, st.booleans(), st.booleans()),
    st.builds(StartsWith, st.just("a"), st.sampled_from(["", "a", "\U0010ffff", "\ud800"])),
    st.builds(AnyOf, st.just("a"), st.lists(operand, max_size=4)),
)
condition = st.recursive(
    leaf | leaf.map(lambda c: Compare("b", "==", 1)),
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, max_size=3)),
        st.builds(Or, st.lists(inner, max_size=3)),
        st.builds(Not, inner),
    ),
    max_leaves=5,
)


def holds(spans: Spans, value: Any) -> bool:
    key = encode(value)
    if key is None:
        return spans.rest
    here = order(key)
    for span in spans.spans:
        if span.low is not None and (here < order(span.low) or (span.low_open and here == order(span.low))):
            continue
        if span.high is not None and (here > order(span.high) or (span.high_open and here == order(span.high))):
            continue
        return True
    return False


@given(condition=leaf, turned=st.integers(0, 2))
def test_spans_say_what_the_condition_says(condition: Any, turned: int) -> None:
    for _ in range(turned):
        condition = Not(condition)
    spans = spans_of(condition)
    assert spans is not None
    for value in VALUES:
        assert holds(spans, value) == evaluate.matches(condition, {"a": value}), value
    assert holds(spans, evaluate.MISSING) == evaluate.matches(condition, {})
    places = [order(span.low) for span in spans.spans if span.low is not None]
    assert places == sorted(places), "in ascending order"
    for one, two in zip(spans.spans, spans.spans[1:], strict=False):
        assert one.high is not None and two.low is not None
        assert order(one.high) <= order(two.low)
        assert order(one.high) < order(two.low) or one.high_open or two.low_open, "disjoint"


@given(condition=condition)
def test_the_normal_form_is_equivalent_and_has_negations_at_its_leaves(condition: Any) -> None:
    made = normal(condition)
    for value in VALUES:
        for doc in ({"a": value}, {"a": value, "b": 1}, {}):
            assert evaluate.matches(made, doc) == evaluate.matches(condition, doc)

    def look(part: Any) -> None:
        if isinstance(part, Not):
            assert not isinstance(part.item, (Not, And, Or))
            assert getattr(part.item, "op", None) != "!="
        for item in getattr(part, "items", ()):
            look(item)

    look(made)
    assert normal(made) is made, "nothing left to move"


@pytest.mark.parametrize(
    "condition", [F.a == None, F.a.is_missing(), F.a.any_of([1, None]), F.a == {"x": 1}, F.t.matches("x")]  # noqa: E711
)
def test_what_keys_alone_do_not_decide(condition: Any) -> None:
    assert spans_of(condition) is None
    assert spans_of(~condition) is None


def test_not_equal_is_two_ranges_and_what_is_no_key() -> None:
    assert spans_of(F.a != 5) == Spans((Span(None, 5, False, True), Span(5, None, True, False)), rest=True)
