"""Keys, ranges and cursors are exactly IndexedDB's, on every engine: a plain model, and IndexedDB's
own comparison (``indexedDB.cmp``, ``IDBKeyRange``, cursors) as an oracle that shares no code with us.

Ours goes further in one place: booleans are keys, between texts and binary. It refuses what cannot be
stored everywhere: half surrogate pairs, arrays nested more than 32 deep, integers beyond 2**53.
"""

from __future__ import annotations

import json
import random
import re
import struct
import subprocess
from functools import cmp_to_key
from pathlib import Path
from typing import Any

import pytest

import homeport as hp
from homeport.core import keys
from homeport.core.conditions import Range
from homeport.core.evaluate import matches
from homeport.core.keys import MAX_SAFE_INT, compare, encode, encode_key, order
from homeport.errors import InvalidKey
from tests.portable import pyodide

SEED = 20261121

NUMBERS = [
    0.0, -0.0, 1.0, -1.0, 0.1, 5e-324, -5e-324, 2.2250738585072014e-308, 2.225073858507201e-308,
    -2.2250738585072014e-308, 1.7976931348623157e308, -1.7976931348623157e308, 2.0**53, 2.0**53 - 1,
    -(2.0**53), 1 - (2.0**53), 2.0**31, 2.0**32, 2.0**63, 1e21, 1e-7, 1.0000000000000002, 123456789.5,
]  # fmt: skip
SPECIAL = [float("inf"), float("-inf")]
UNITS = [
    "", "\x00", "\x01", "0", "A", "Z", "a", "z", "\x7f", "\x80", "ß", "é", "e\u0301", "\u07ff", "\u0800",
    "\ud7ff", "\ue000", "\ue001", "\uf8ff", "\ufdd0", "\ufeff", "\ufffd", "\ufffe", "\uffff", "\U00010000",
    "\U00010001", "\U0001f600", "\U000fffff", "\U00100000", "\U0010fffe", "\U0010ffff",
]  # fmt: skip


def number(rng: random.Random) -> float:
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(NUMBERS)
    if kind < 0.75:
        return float(rng.randint(-20, 20)) / rng.choice([1, 2, 4])
    while True:
        found = struct.unpack(">d", rng.randbytes(8))[0]
        if found == found and abs(found) != float("inf"):
            return found


def text(rng: random.Random, *, json_only: bool = False) -> str:
    found = "".join(rng.choice(UNITS) for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 5])))
    return found.replace("\x00", "\x01") if json_only else found  # no document holds NUL


def value(rng: random.Random, depth: int = 0, *, json_only: bool = False) -> Any:
    kind = rng.random()
    if kind < 0.35:
        return number(rng)
    if kind < 0.75 or (depth >= 3 and json_only):
        return text(rng, json_only=json_only)
    if kind < 0.82 and not json_only:
        # Not empty: the oracle takes an empty buffer for a detached one.
        return rng.randbytes(rng.choice([1, 1, 2, 4]))
    if kind < 0.84 and not json_only:
        return rng.choice(SPECIAL)
    if depth >= 3:
        return number(rng)
    return [value(rng, depth + 1, json_only=json_only) for _ in range(rng.choice([0, 1, 1, 2, 3]))]


def invalid(rng: random.Random) -> Any:
    bad = rng.choice([None, {}, float("nan")])
    return bad if rng.random() < 0.5 else [value(rng), bad]


def form(value: Any) -> dict[str, Any]:
    """A value as the oracle reads it."""
    if value is None:
        return {"x": "null"}
    if isinstance(value, dict):
        return {"x": "object"}
    if isinstance(value, (int, float)):
        return {"n": struct.pack(">d", value).hex()}
    if isinstance(value, str):
        raw = value.encode("utf-16-be")
        return {"t": [raw[i] << 8 | raw[i + 1] for i in range(0, len(raw), 2)]}
    if isinstance(value, bytes):
        return {"b": list(value)}
    return {"a": [form(item) for item in value]}


def ask(**question: Any) -> dict[str, Any]:
    asked = {"values": [], "pairs": [], "ranges": [], "documents": [], "cursors": [], **question}
    done = subprocess.run(
        [str(pyodide.NODE), str(Path(__file__).parent / "oracle.mjs")],
        input=json.dumps(asked), capture_output=True, text=True, timeout=120, cwd=pyodide.ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout)


def sign(a: Any, b: Any) -> int:
    return (a > b) - (a < b)


def model(a: Any, b: Any) -> int:
    """The comparison of the IndexedDB standard, step by step, with our booleans in it."""
    def kind(value: Any) -> int:
        if isinstance(value, bool):
            return 2
        return {float: 0, int: 0, str: 1, bytes: 3, list: 4}[type(value)]

    if kind(a) != kind(b):
        return sign(kind(a), kind(b))
    if isinstance(a, str):
        return sign(a.encode("utf-16-be"), b.encode("utf-16-be"))
    if isinstance(a, list):
        for one, two in zip(a, b, strict=False):
            found = model(one, two)
            if found:
                return found
        return sign(len(a), len(b))
    return sign(a, b)


def test_pairs_of_keys_compare_as_indexeddb_compares_them() -> None:
    rng = random.Random(SEED)
    values = [*NUMBERS, *SPECIAL, *UNITS, *(value(rng) for _ in range(1_200))]
    ranked = sorted(range(len(values)), key=cmp_to_key(lambda i, j: model(values[i], values[j])))
    pairs = list(zip(ranked, ranked[1:], strict=False))  # neighbours are where mistakes show
    pairs += [(rng.randrange(len(values)), rng.randrange(len(values))) for _ in range(30_000)]
    found = ask(values=list(map(form, values)), pairs=pairs)["pairs"]
    for (i, j), theirs in zip(pairs, found, strict=True):
        a, b = values[i], values[j]
        assert compare(a, b) == theirs == model(a, b), (a, b)
        assert sign(order(encode(a)), order(encode(b))) == theirs, (a, b)
        # Bytewise inside arrays, as a BLOB.
        assert sign(encode([a]), encode([b])) == theirs, (a, b)
        assert (encode(a) == encode(b)) is (theirs == 0), (a, b)


def test_the_oracle_finds_a_wrong_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts by code points instead of UTF-16 units, which is what SQLite and Python do by themselves."""
    monkeypatch.setattr(keys, "_SPECIAL", re.compile("(?!)"))
    with pytest.raises(AssertionError):
        test_pairs_of_keys_compare_as_indexeddb_compares_them()
    with pytest.raises(AssertionError):
        test_ranges_hold_what_indexeddbs_hold()


def test_booleans_are_keys_between_texts_and_binary() -> None:
    rng = random.Random(SEED + 1)
    values = [value(rng) for _ in range(300)] + [True, False, [True], [False], ["\uffff"], b"", [b""]] * 10
    for _ in range(20_000):
        a, b = rng.choice(values), rng.choice(values)
        assert compare(a, b) == model(a, b), (a, b)


def test_the_same_values_are_keys() -> None:
    rng = random.Random(SEED + 2)
    values = [*(value(rng) for _ in range(500)), *(invalid(rng) for _ in range(300)), [[], [[]]], [[None]]]
    theirs = ask(values=list(map(form, values)))["valid"]
    for one, valid in zip(values, theirs, strict=True):
        assert (encode(one) is not None) is valid, one


def test_where_ours_differ() -> None:
    assert encode(True) is not None
    for refused in ("\ud800", "a\udfff", ["\ud800"], 2**53 + 1, -(2**53) - 1, 10**400):
        assert encode(refused) is None, refused
    assert encode(2.0**60) is not None
    assert encode(MAX_SAFE_INT) is not None
    deep: Any = "x"
    for _ in range(33):
        deep = [deep]
    assert encode(deep) is None
    # Document keys also have to be JSON, readable and writable by PostgreSQL.
    for refused in ("", "\x00", "a\x00", float("inf"), True, b"x", [float("-inf")], [True]):
        with pytest.raises(InvalidKey):
            encode_key(refused)


def bounds(rng: random.Random, values: list[Any]) -> list[Any]:
    """A range as IndexedDB takes it: in order, each end open or closed or absent."""
    low, high = sorted((rng.choice(values), rng.choice(values)), key=cmp_to_key(model))
    kind = rng.random()
    low, high = (None if kind < 0.15 else low), (None if kind > 0.85 else high)
    return [low, high, rng.random() < 0.5, rng.random() < 0.5]


def question(range_: list[Any]) -> list[Any]:
    low, high, low_open, high_open = range_
    return [None if low is None else form(low), None if high is None else form(high), low_open, high_open]


def test_ranges_hold_what_indexeddbs_hold() -> None:
    rng = random.Random(SEED + 3)
    values = [value(rng) for _ in range(250)]
    ranges = [bounds(rng, values) for _ in range(400)]
    # Ends that are equal, or the wrong way round: IndexedDB refuses them, ours hold nothing.
    ranges += [[one, one, a, b] for one in values[:25] for a in (False, True) for b in (False, True)]
    found = ask(values=list(map(form, values)), ranges=[question(r) for r in ranges])["ranges"]
    for (low, high, low_open, high_open), theirs in zip(ranges, found, strict=True):
        condition = Range("v", low, high, low_open, high_open)
        ours = [n for n, one in enumerate(values) if matches(condition, {"v": one})]
        if theirs == "all":
            theirs = list(range(len(values)))
        assert ours == ([] if theirs == "DataError" else theirs), (low, high, low_open, high_open)


DIRECTIONS = ["next", "prev", "nextunique", "prevunique"]


@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "scanned"])
@pytest.mark.parametrize("place", ["file", "memory"])
def test_cursors_walk_as_indexeddbs_do(place: str, indexed: bool, tmp_path: Path) -> None:
    """Both directions, ranges with ends of every kind, pages continued by position; and every
    value once, as the unique directions give it."""
    rng = random.Random(SEED + 4)
    values = [value(rng, json_only=True) for _ in range(90)]
    values += [rng.choice(values) for _ in range(60)]  # ties
    names = rng.sample(range(10_000), len(values))
    ranges = [[None, None, False, False], *(bounds(rng, values) for _ in range(60))]
    asked = [(one, direction) for one in ranges for direction in DIRECTIONS]
    found = ask(
        values=list(map(form, values)),
        documents=[(key, n) for n, key in enumerate(names)],
        cursors=[(question(one), direction) for one, direction in asked],
    )["cursors"]
    docs = hp.Collection("docs", indexes=["v"] if indexed else [])
    path = ":memory:" if place == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[docs], durability="relaxed") as db:
        documents = db[docs]
        documents.put_many({"id": key, "v": one} for key, one in zip(names, values, strict=True))
        documents.put_many([{"id": 20_000}, {"id": 20_001, "v": None}, {"id": 20_002, "v": {"a": 1}}])
        by_key = dict(zip(names, values, strict=True))
        for (range_, direction), theirs in zip(asked, found, strict=True):
            down = direction.startswith("prev")
            query = documents.where(Range("v", *range_)).order_by("-v" if down else "v")
            ours = query.keys()
            pages: list[Any] = []
            while True:
                page = (query.after(by_key[pages[-1]], pages[-1]) if pages else query).limit(7).keys()
                pages += page
                if len(page) < 7:
                    break
            assert pages == ours
            assert query.reverse().keys() == ours[::-1]
            assert query.count() == len(ours)
            if direction.endswith("unique"):
                # Of equal values IndexedDB gives the document with the lowest key, in both directions.
                best: dict[Any, Any] = {}
                for key in ours:
                    name = encode(by_key[key])
                    best[name] = min(key, best.get(name, key))
                ours = list(best.values())
                if direction == "nextunique":
                    distinct = documents.where(Range("v", *range_)).distinct("v")
                    assert list(map(encode, distinct)) == list(best)
            assert ours == ([] if theirs == "DataError" else theirs), (range_, direction)
