"""The reference semantics against the language-neutral table of cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.core.conditions import And, AnyOf, Between, Compare, Condition, Contains, IgnoreCase
from homeport.core.conditions import Missing, Not, Or, Range, StartsWith
from homeport.core.evaluate import MISSING, equal, get_path, matches, position_key, sort_key
from homeport.core.jsonfilter import parse_filter
from homeport.core.keys import compare, encode
from homeport.core.query import parse_order
from homeport.testing.conformance_semantics import condition_of

TABLE = json.loads(
    (Path(__file__).parent.parent / "cases" / "semantics.json").read_text(encoding="utf-8")
)
CASES = [
    pytest.param(group, case, id=f"{group['name']}: {case['name']}")
    for group in TABLE["groups"]
    for case in group["cases"]
]


def run(group: dict[str, Any], case: dict[str, Any]) -> list[str]:
    condition = condition_of(case)
    found = [d for d in group["documents"] if condition is None or matches(condition, d)]
    if "order" not in case:
        return sorted(d["id"] for d in found)
    order = parse_order(case["order"])
    found.sort(key=lambda d: sort_key(order, d, d["id"]))
    if "after" in case:
        position = position_key(order, tuple(case["after"]))
        found = [d for d in found if position < sort_key(order, d, d["id"])]
    start = case.get("offset", 0)
    stop = start + case["limit"] if "limit" in case else None
    return [d["id"] for d in found][start:stop]


def test_the_table_is_large_and_its_names_are_unique() -> None:
    names = [case["name"] for group in TABLE["groups"] for case in group["cases"]]
    assert len(names) >= 120
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("group", "case"), CASES)
def test_semantics(group: dict[str, Any], case: dict[str, Any]) -> None:
    wanted = case["keys"] if "order" in case else sorted(case["keys"])
    assert run(group, case) == wanted


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)
documents = st.fixed_dictionaries({}, optional={"v": plain, "w": plain})
keyed = plain.filter(lambda v: encode(v) is not None)
conditions = st.recursive(
    st.builds(Compare, st.sampled_from(["v", "w.a"]), st.sampled_from(["==", "!="]), plain)
    | st.builds(Compare, st.just("v"), st.sampled_from(["<", "<=", ">", ">="]), keyed)
    | st.builds(AnyOf, st.just("v"), st.lists(plain, max_size=3))
    | st.builds(Contains, st.just("v"), plain)
    | st.builds(StartsWith, st.just("v"), st.text(max_size=1))
    | st.builds(Missing, st.sampled_from(["v", "w", "w.a"]))
    | st.builds(Range, st.just("v"), keyed, keyed, st.booleans(), st.booleans()),
    lambda inner: st.lists(inner, max_size=3).map(And)
    | st.lists(inner, max_size=3).map(Or)
    | inner.map(Not),
    max_leaves=4,
)


@given(conditions, conditions, documents)
def test_conditions_obey_logic(a: Condition, b: Condition, doc: dict[str, Any]) -> None:
    assert matches(~a, doc) is not matches(a, doc)
    assert matches(~(a & b), doc) is matches((~a) | (~b), doc)
    assert matches(~(a | b), doc) is matches((~a) & (~b), doc)
    assert matches(a, doc) is matches(a, json.loads(json.dumps(doc)))


@given(plain, plain)
def test_equality_and_order_agree(a: Any, b: Any) -> None:
    doc = {"v": a}
    assert equal(a, b) is matches(Compare("v", "==", b), doc)
    assert equal(a, a)
    assert equal(a, b) is equal(b, a)
    if encode(b) is not None:
        less, more = Compare("v", "<", b), Compare("v", ">", b)
        hits = [matches(c, doc) for c in (less, Compare("v", "==", b), more)]
        assert sum(hits) <= 1  # other types are in none of the three
        assert (matches(Range("v", b, b), doc)) is equal(a, b)
        if encode(a) is not None:
            above = matches(Range("v", b, lower_open=True), doc)
            assert above is (compare(a, b) > 0)


@given(st.lists(st.tuples(plain, st.integers(0, 9)), max_size=8), st.booleans())
def test_order_puts_no_keys_last_and_is_total(rows: list[tuple[Any, int]], down: bool) -> None:
    order = (("v", down),)
    made = sorted(rows, key=lambda row: sort_key(order, {"v": row[0]}, row[1]))
    flags = [encode(value) is None for value, _ in made]
    assert flags == sorted(flags)
    for (a, ka), (b, kb) in zip(made, made[1:], strict=False):
        if encode(a) is None or encode(b) is None:
            continue
        step = compare(a, b) or compare(ka, kb)
        assert step >= 0 if down else step <= 0


def test_missing_is_not_null() -> None:
    assert get_path({"a": {"b": None}}, "a.b") is None
    assert get_path({"a": {"b": None}}, "a.c") is MISSING
    assert get_path({"a": [1]}, "a.0") is MISSING
    assert not matches(Compare("a", "==", None), {})


def test_bounds_of_two_types_are_refused_by_between() -> None:
    with pytest.raises(Exception, match="mixes two types"):
        Between("v", 1, "z")
