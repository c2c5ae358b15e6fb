"""Keys against a plain model of IndexedDB's order, and against SQLite's own comparison."""

from __future__ import annotations

import math
import sys
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.core.keys import (
    MAX_ARRAY_DEPTH,
    MAX_SAFE_INT,
    compare,
    decode,
    encode,
    encode_key,
    order,
    prefix_range,
)
from homeport.errors import InvalidKey

numbers = st.integers(-MAX_SAFE_INT, MAX_SAFE_INT) | st.floats(allow_nan=False)
# Where UTF-16 and code points disagree, and what the rewriting uses.
edges = st.sampled_from(
    ["\x00", "\x01", "a", "\ud7ff", "\ue000", "\ufffe", "\uffff", "\U00010000", "😀"]
    + ["\U0010fffe", "\U0010ffff"]
)
texts = st.text(max_size=4) | st.text(edges, max_size=5)
keys = st.recursive(
    numbers | texts | st.booleans() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


def model_key(value: Any) -> tuple[Any, ...]:
    """IndexedDB's order, said plainly."""
    if isinstance(value, bool):
        return (2, value)
    if isinstance(value, (int, float)):
        return (0, value)
    if isinstance(value, str):
        raw = value.encode("utf-16-be")
        return (1, [raw[i : i + 2] for i in range(0, len(raw), 2)])
    if isinstance(value, bytes):
        return (3, value)
    return (4, [model_key(item) for item in value])


def sign(a: Any, b: Any) -> int:
    return (a > b) - (a < b)


@given(keys, keys)
def test_order_is_that_of_indexeddb(a: Any, b: Any) -> None:
    wanted = sign(model_key(a), model_key(b))
    assert compare(a, b) == wanted
    assert sign(order(encode(a)), order(encode(b))) == wanted


@given(texts, texts)
def test_texts_sort_by_utf16_units(a: str, b: str) -> None:
    wanted = sign(a.encode("utf-16-be"), b.encode("utf-16-be"))
    left, right = encode(a), encode(b)
    assert isinstance(left, str) and isinstance(right, str)
    assert sign(left.encode(), right.encode()) == wanted
    inside, other = encode([a]), encode([b])
    assert sign(inside, other) == wanted


@given(st.lists(keys, max_size=12))
def test_sqlite_sorts_encoded_keys_the_same_way(values: list[Any]) -> None:
    cursor = apsw.Connection(":memory:").cursor()
    cursor.execute("create table t(k, n)")
    cursor.executemany("insert into t values(?,?)", [(encode(v), n) for n, v in enumerate(values)])
    found = [values[n] for (n,) in cursor.execute("select n from t order by k, n").fetchall()]
    assert found == sorted(values, key=model_key)


@given(keys)
def test_decode_is_the_inverse(value: Any) -> None:
    encoded = encode(value)
    assert encoded is not None
    back = decode(encoded)
    assert back == value
    assert type(back) is type(value) or isinstance(value, float)
    assert encode(back) == encoded


@given(keys, keys)
def test_equal_encodings_are_equal_keys(a: Any, b: Any) -> None:
    assert (encode(a) == encode(b)) is (model_key(a) == model_key(b))


@given(texts, texts)
def test_prefix_range(prefix: str, text: str) -> None:
    low, high = prefix_range(prefix)
    encoded = encode(text)
    assert isinstance(encoded, str)
    inside = encoded >= low and (high is None or encoded < high)
    assert inside is text.startswith(prefix)


@given(texts, texts)
def test_longer_texts_with_the_prefix_are_inside(prefix: str, rest: str) -> None:
    low, high = prefix_range(prefix)
    encoded = encode(prefix + rest)
    assert isinstance(encoded, str)
    assert encoded >= low
    assert high is None or encoded < high
    if high is not None:
        high.encode()  # a bound has to be storable


def test_extremes_of_doubles() -> None:
    rising = [
        -math.inf, -sys.float_info.max, -(2.0**53), -1.5, -sys.float_info.min, -5e-324, 0,
        5e-324, sys.float_info.min, 1, 1.0000000000000002, 2.0**53, sys.float_info.max, math.inf,
    ]  # fmt: skip
    assert [compare(a, b) for a, b in zip(rising, rising[1:], strict=False)] == [-1] * 13
    nested = [[value] for value in rising]
    assert sorted(reversed(nested), key=lambda v: order(encode(v))) == nested


def test_minus_zero_is_zero() -> None:
    assert encode(-0.0) == encode(0) == encode(0.0)
    assert math.copysign(1, encode(-0.0)) == 1  # type: ignore[arg-type]
    assert encode([-0.0]) == encode([0])


@pytest.mark.parametrize(
    "value",
    [None, {}, {"a": 1}, math.nan, 2**53 + 1, -(2**53) - 1, "\ud800", [None], [1, {}], [math.nan]]
    + [object(), {1}, ["\udfff"]],
)
def test_what_is_no_key(value: object) -> None:
    assert encode(value) is None
    with pytest.raises(InvalidKey):
        encode_key(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "empty"),
        ("a\x00b", "NUL"),
        (True, "boolean"),
        (math.inf, "finite"),
        (2**60, "2\\*\\*53"),
        (b"x", "bytes"),
        (None, "missing"),
        (["a", ["\ud800"]], "surrogate"),
    ],
)
def test_refused_document_keys_name_the_reason(value: object, reason: str) -> None:
    with pytest.raises(InvalidKey, match=reason):
        encode_key(value)


def test_document_keys() -> None:
    assert encode_key("w1") == "w1"
    assert encode_key("größe") == "größe"
    assert encode_key(7) == 7
    assert decode(encode_key(["a", 1, [2.5]])) == ["a", 1, [2.5]]


def test_arrays_nest_to_a_limit() -> None:
    value: Any = 1
    for _ in range(MAX_ARRAY_DEPTH):
        value = [value]
    assert decode(encode(value)) == value  # type: ignore[arg-type]
    assert encode([value]) is None
    loop: list[Any] = []
    loop.append(loop)
    assert encode(loop) is None
