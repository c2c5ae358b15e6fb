"""Every combination of kind, unique, multi, compound and sparse: refused with a reason, or the same
answers as the reference on both stores, and used for what it promises and nothing else."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from homeport.core import evaluate
from homeport.core.codec import Table
from homeport.core.fields import F
from homeport.core.keyrange import WhereClause
from homeport.core.planner import plan
from homeport.core.query import EMPTY, QueryValue
from homeport.core.requests import Count, Find, Put, Write
from homeport.core.schema import Collection, Index
from homeport.errors import SchemaError, UniqueViolation
from homeport.storage.memory import MemoryStore
from homeport.storage.sqlite import SQLiteStore

COMBINATIONS = [
    dict(zip(("kind", "unique", "multi", "compound", "sparse"), values))
    for values in itertools.product(("btree", "hash", "fulltext"), *[(False, True)] * 4)
]


def reason(kind: str, unique: bool, multi: bool, compound: bool, sparse: bool) -> str | None:
    """A word of the reason for which a combination is refused."""
    if kind == "fulltext":
        for said, word in ((compound, "one field"), (unique, "unique"), (multi, "multi"), (sparse, "sparse")):
            if said:
                return word
        return None
    return "sparse" if multi and sparse else None


def declared(kind: str, compound: bool, **flags: bool) -> Index:
    fields = ("a", "b") if compound else ("b",) if flags["multi"] else ("a",)
    return Index(*fields, kind=kind, **flags)  # type: ignore[arg-type]


def name(combination: dict[str, Any]) -> str:
    flags = [word for word in ("unique", "multi", "compound", "sparse") if combination[word]]
    return " ".join([combination["kind"], *flags])


REFUSED = [c for c in COMBINATIONS if reason(**c) is not None]
ACCEPTED = [c for c in COMBINATIONS if reason(**c) is None]

# a is unique among the documents that have it (so that unique indexes take all of them), b an array.
DOCUMENTS: list[dict[str, Any]] = [
    {"id": 1, "a": 5, "b": ["x", "y"], "t": "red sand"},
    {"id": 2, "a": 5.5, "b": ["z"], "t": ["red", "sand"]},
    {"id": 3, "a": "5", "b": []},
    {"id": 4, "a": None, "b": None},
    {"id": 5, "b": ["w", 7, True, None, {"o": 1}]},
    {"id": 6, "a": True},
    {"id": 7, "a": [1, 2], "b": "x"},
    {"id": 8, "a": "red sand", "b": [["x"]]},
    {"id": 9},
]
CONDITIONS = [
    F.a == 5, F.a == "5", F.a == True, F.a == None, F.a == [1, 2], F.a != 5, F.a > 5, F.a <= 5.5, F.a.between(1, 6),  # noqa: E711, E712
    F.a.any_of([5, "5", True]), F.a.none_of([5]), F.a.starts_with("r"), F.a.is_missing(), ~F.a.is_missing(),
    WhereClause("a").above(5), WhereClause("a").equals("5"), WhereClause("a").between(0, "z"),
    F.b.contains("x"), F.b.contains(7), F.b.contains(True), F.b.contains(["x"]), F.b.contains(None), F.b == [], F.b == ["z"],
    (F.a == 5) & F.b.contains("x"), (F.a == 5) & F.b.contains("z"), (F.a == 5) & (F.b == ["x", "y"]),
    (F.a == 5) & (F.b != []), (F.a == "5") & (F.b == []), (F.a > 1) & F.b.contains("z"), (F.a == 5) | F.b.contains("w"),
    (F.a == 5.5) & F.b.any_of([["z"], []]), ~(F.a == 5) & F.b.contains("z"), F.a.matches("red"), F.a.matches("red OR x"),
]  # fmt: skip
ORDERS = [(), (("a", False),), (("a", True),), (("b", False), ("a", True))]


@pytest.mark.parametrize("combination", REFUSED, ids=name)
def test_a_combination_that_says_nothing_is_refused_with_its_reason(combination: Any) -> None:
    with pytest.raises(SchemaError) as caught:
        declared(**combination)
    word = reason(**combination)
    assert word is not None and word in caught.value.message
    assert caught.value.action


def test_every_combination_is_decided() -> None:
    assert (len(COMBINATIONS), len(ACCEPTED), len(REFUSED)) == (48, 25, 23)


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path):
    made: Any = (
        MemoryStore(clock_ms=lambda: 1)
        if request.param == "memory"
        else SQLiteStore.open(tmp_path / "a.db", durability="relaxed", clock_ms=lambda: 1)
    )
    yield made
    made.close()


def fill(store: Any, index: Index, documents: list[dict[str, Any]]) -> tuple[Table[Any], Any, Any]:
    table = Table(Collection("docs", indexes=[index]))
    store.define([table])
    session = store.session()
    [result] = session.answer(Write([Put(table, [table.codec.row(doc) for doc in documents])]))
    return table, session, result


@pytest.mark.parametrize("combination", ACCEPTED, ids=name)
def test_answers_do_not_depend_on_the_index(store: Any, combination: Any) -> None:
    table, session, result = fill(store, declared(**combination), DOCUMENTS)
    assert not result.failures
    for condition in CONDITIONS:
        matching = [doc for doc in DOCUMENTS if evaluate.matches(condition, doc)]
        for order in ORDERS:
            for limit, offset in ((None, 0), (2, 1)):
                query = QueryValue(condition, order, limit, offset)
                keys = session.answer(Find(table, query, "keys"))
                ranked = sorted(matching, key=lambda doc: evaluate.sort_key(order, doc, doc["id"]))
                expected = [doc["id"] for doc in ranked]
                if not order and not offset:
                    keys, expected = sorted(keys), sorted(expected)
                stop = None if limit is None else offset + limit
                assert keys == expected[offset:stop], (condition, order)
                assert session.answer(Count(table, query)) == len(keys), condition


@pytest.mark.parametrize("combination", [c for c in ACCEPTED if c["unique"]], ids=name)
def test_a_unique_index_of_any_kind_compares_what_is_there(store: Any, combination: Any) -> None:
    """Two documents that lack a field, or hold null in it, are never twins."""
    table, session, result = fill(store, declared(**combination), DOCUMENTS)
    twin = {"id": 10, "a": 5, "b": ["x"]} if combination["multi"] else {"id": 10, "a": 5, "b": ["x", "y"]}
    other = {"id": 11, "a": 5, "b": ["other"]} if combination["compound"] else {"id": 11, "a": 6, "b": ["o"]}
    lacking = [{"id": 12}, {"id": 13, "a": None}, {"id": 14, "b": None}]
    rows = [table.codec.row(doc) for doc in (twin, other, *lacking)]
    [result] = session.answer(Write([Put(table, rows)]))
    assert {n: type(error) for n, error in result.failures.items()} == {0: UniqueViolation}
    assert result.keys[1:] == [11, 12, 13, 14]


def explained(store: Any, table: Table[Any], condition: Any, *order: str) -> str | None:
    query = EMPTY if condition is None else EMPTY.and_where(condition)
    query = query.with_order(*order) if order else query
    ours, theirs = plan(query, table.codec), store.explain(table, query)
    name = ours.index if ours.kind != "scan" else None
    assert theirs.index == (name and "full text" if ours.kind == "text" else name), (condition, order)
    if order:
        assert theirs.sorts is not ours.ordered, (condition, order)
    index: str | None = theirs.index
    return index


@pytest.mark.parametrize("combination", [c for c in ACCEPTED if not c["multi"] and c["kind"] != "fulltext"], ids=name)
def test_an_index_is_used_for_what_it_promises(tmp_path: Path, combination: Any) -> None:
    """By the rules of the planner and by SQLite alike."""
    index = declared(**combination)
    with_b = combination["compound"]
    hashed, sparse = combination["kind"] == "hash", combination["sparse"]
    store = SQLiteStore.open(tmp_path / "a.db", durability="relaxed", clock_ms=lambda: 1)
    try:
        table, _, _ = fill(store, index, DOCUMENTS)
        whole = (F.a == 5) & (F.b == ["x", "y"]) if with_b else F.a == 5
        choice = F.a.any_of([5, "5"]) & (F.b == []) if with_b else F.a.any_of([5, "5"])
        assert explained(store, table, whole) == index.name
        assert explained(store, table, choice) == index.name
        first = explained(store, table, F.a == 5)
        assert first == (None if hashed and with_b else index.name)
        for part in (F.a > 5, F.a.starts_with("r"), WhereClause("a").above(5)):
            assert explained(store, table, part) == (None if hashed else index.name), part
        for part in (F.a != 5, F.a.is_missing()):
            assert store.explain(table, EMPTY.and_where(part)).index in (None, *(() if sparse or hashed else (index.name,))), part
        assert explained(store, table, None, "a") == (None if hashed or sparse else index.name)
        assert explained(store, table, None, "-a") == (None if hashed or sparse else index.name)
        assert explained(store, table, F.a > 5, "a") == (None if hashed else index.name)
        if with_b:
            assert explained(store, table, F.a == 5, "b") == (None if hashed else index.name)
    finally:
        store.close()


@pytest.mark.parametrize("combination", [c for c in ACCEPTED if c["multi"]], ids=name)
def test_a_multi_entry_index_finds_elements(tmp_path: Path, combination: Any) -> None:
    index = declared(**combination)
    store = SQLiteStore.open(tmp_path / "a.db", durability="relaxed", clock_ms=lambda: 1)
    try:
        table, _, _ = fill(store, index, DOCUMENTS)
        alone = explained(store, table, F.b.contains("x"))
        both = explained(store, table, F.b.contains("x") & (F.a == 5))
        assert (alone, both) == (None if combination["compound"] else index.name, index.name)
        assert explained(store, table, F.b.contains("x") & (F.a > 5)) == alone
    finally:
        store.close()
