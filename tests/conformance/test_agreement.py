"""Every engine gives the reference's answer, indexed or not, whatever the documents hold."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.core import evaluate, selectivity
from homeport.core.codec import Table
from homeport.core.conditions import JSON_TYPES
from homeport.core.query import (
    EMPTY,
    And,
    AnyOf,
    Between,
    Compare,
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
    QueryValue,
    Range,
    Size,
    StartsWith,
)
from homeport.core.requests import Count, Find, Put, Write
from homeport.core.schema import Collection, FullText, Multi
from homeport.errors import InvalidQuery
from homeport.storage import sqlite_choice, sqlite_packing
from homeport.storage.memory import MemoryStore
from homeport.storage.sqlite import SQLiteStore

FIELDS = ["a", "b", "n.x"]
TEXTS = ["", "a", "ab", "A", "é", "e\u0301", "\ue000", "\uffff", "\U0001f600", "\U0010ffff", "Höhe hohe", "two words"]
NUMBERS = [0, -0.0, 1, 1.0, 1.5, -3, 2**53, -(2**53), 1e300, -1e-300, 5e-324]
scalar = st.one_of(st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.booleans(), st.none())
value = st.one_of(
    scalar, st.lists(scalar, max_size=3), st.dictionaries(st.sampled_from("xy"), scalar, max_size=2)
)
document = st.fixed_dictionaries(
    {},
    optional={
        "a": value,
        "b": value,
        "n": st.one_of(scalar, st.fixed_dictionaries({}, optional={"x": value})),
        "t": st.one_of(st.sampled_from(TEXTS), st.lists(st.sampled_from(TEXTS), max_size=3), scalar),
    },
)
path = st.sampled_from([*FIELDS, *FIELDS, "id", "absent.x"])
operand = st.one_of(scalar, st.sampled_from([5, "d0", "\uffff"]), st.lists(scalar, max_size=2))


def build(make: Any) -> Any:
    def attempt(*args: Any) -> Any:
        try:
            return make(*args)
        except InvalidQuery:
            return And(())  # operands without an order are refused; true stands in

    return attempt


inner = st.one_of(
    st.just(And(())),
    st.builds(build(Compare), st.sampled_from(["", "x"]), st.sampled_from(["==", "!=", "<", ">="]), operand),
    st.builds(build(Between), st.just(""), operand, operand, st.booleans(), st.booleans()),
    st.builds(build(Range), st.just(""), operand, operand, st.booleans(), st.booleans()),
    st.builds(AnyOf, st.just(""), st.lists(operand, max_size=3)),
    st.builds(StartsWith, st.just(""), st.sampled_from(TEXTS)),
    st.builds(Missing, st.just("x")),
    st.builds(OfType, st.just(""), st.lists(st.sampled_from(JSON_TYPES), max_size=2)),
)
inside = st.recursive(
    inner,
    lambda items: st.one_of(
        st.builds(And, st.lists(items, max_size=2)),
        st.builds(Or, st.lists(items, max_size=2)),
        st.builds(Not, items),
    ),
    max_leaves=3,
)
leaf = st.one_of(
    st.builds(Element, path, inside),
    st.builds(Size, path, st.integers(0, 3)),
    st.builds(OfType, path, st.lists(st.sampled_from(JSON_TYPES), max_size=2)),
    st.builds(Modulo, path, st.sampled_from([2, -3, 5]), st.integers(-2, 2)),
    st.builds(Pattern, path, st.sampled_from(["", "^a", "[éE]", "b$"]), st.sampled_from(["", "i"])),
    st.builds(build(Compare), path, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), operand),
    st.builds(build(Between), path, operand, operand, st.booleans(), st.booleans()),
    st.builds(AnyOf, path, st.lists(operand, max_size=3)),
    st.builds(StartsWith, path, st.sampled_from(TEXTS)),
    st.builds(Missing, path),
    st.builds(Contains, path, scalar),
    st.builds(Matches, st.just("t"), st.sampled_from(["hohe", "two", '"two words"', "wor*", "!", "a ab"])),
    st.builds(build(Range), path, operand, operand, st.booleans(), st.booleans()),
    st.builds(IgnoreCase, path, st.lists(st.sampled_from(["a", "É"]), max_size=2), st.booleans()),
)
condition = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, max_size=3)),
        st.builds(Or, st.lists(inner, max_size=3)),
        st.builds(Not, inner),
    ),
    max_leaves=5,
)
order = st.lists(
    st.tuples(st.sampled_from([*FIELDS, "id"]), st.booleans()), max_size=2, unique_by=lambda o: o[0]
).map(tuple)

INDEXES: dict[str, list[Any]] = {
    "none": [],
    "single": ["a", "b", "n.x", Multi("a"), FullText("t")],
    "compound": [("a", "b"), ("n.x", "a"), Multi("b"), FullText("t"), FullText("a")],
}
KEYS = ["d0", 5, "\uffff", "\U0001f600", 2.5, ["x", 1], "A", -1]
"""Document keys of every type, for whichever document comes at this place."""


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("agreement")
    made = []
    patch = pytest.MonkeyPatch()
    patch.setattr(sqlite_packing, "pack", packed_always)
    for name, indexes in INDEXES.items():
        for kind in ("sqlite", "memory", *(["packed"] if name == "single" else [])):
            store = (
                MemoryStore(clock_ms=lambda: 1)
                if kind == "memory"
                else SQLiteStore.open(
                    str(folder / f"{kind}-{name}.db"), durability="relaxed", clock_ms=lambda: 1
                )
            )
            way = "gzip" if kind == "packed" else "none"
            table = Table(Collection("docs", indexes=indexes, compression=way))
            store.define([table])
            made.append((f"{kind}, {name}", store, table, store.session()))
    yield made
    for _, store, _, session in made:
        session.close()
        store.close()
    patch.undo()


def packed_always(text: str, way: str) -> str | bytes:
    """Also what is short, and what does not shrink."""
    return text if way == "none" else sqlite_packing.GZIP + gzip.compress(text.encode())


@settings(max_examples=1000)
@given(
    docs=st.lists(document, max_size=8),
    where=st.none() | condition,
    by=order,
    limit=st.none() | st.integers(0, 4),
    offset=st.integers(0, 2),
    after=st.none() | st.integers(0, 7),
)
def test_every_store_answers_as_the_reference(sessions, docs, where, by, limit, offset, after):
    check(sessions, docs, where, by, limit, offset, after)


# What leaves several indexes to choose from: few values, conditions on indexed paths, an order.
few = st.sampled_from([1, 2, 3, "a", None])
crowded = st.fixed_dictionaries(
    {}, optional={"a": few, "b": few | st.lists(few, max_size=2), "n": st.fixed_dictionaries({"x": few})}
)
close = st.one_of(
    st.builds(build(Compare), st.sampled_from(FIELDS), st.sampled_from(["==", "!=", "<", ">="]), few),
    st.builds(Contains, st.just("b"), few),
    st.builds(AnyOf, st.sampled_from(FIELDS), st.lists(few, max_size=2)),
)
crossing = st.one_of(
    st.builds(And, st.lists(close, min_size=2, max_size=3)),
    st.builds(And, st.tuples(close, st.builds(Or, st.tuples(close, close)))),
    close,
)


@pytest.mark.parametrize("walk_rows", [None, 0, 1, 3])
def test_choosing_by_numbers_never_changes_an_answer(sessions, monkeypatch, walk_rows):
    """With every threshold so low that indexes are chosen, cut, turned round and walked."""
    monkeypatch.setattr(sqlite_choice, "SMALL_ROWS", 0)
    monkeypatch.setattr(selectivity, "FEW", -1)
    monkeypatch.setattr(selectivity, "PROBE_ROWS", 3)
    monkeypatch.setattr(selectivity, "INTERSECTED_ROWS", 0)
    monkeypatch.setattr(selectivity, "INTERSECTED_SHARE", 9.0)
    monkeypatch.setattr(selectivity, "OUTSIDE_SHARE", 1.0)
    if walk_rows is not None:
        monkeypatch.setattr(
            selectivity, "_walk", lambda ordered, *_: (ordered[0], walk_rows) if ordered else (None, 0)
        )
    seen: set[str] = set()
    chosen = sqlite_choice.Chooser.choose

    def choose(self, *args):
        choice = chosen(self, *args)
        if choice is not None:
            access = choice.access
            seen.update(["walk"] if choice.walk else [], ["cut"] if choice.beside else [])
            seen.update(["outside"] if access and access.outside else [])
            seen.update(["union"] if access and access.parts else [])
        return choice

    monkeypatch.setattr(sqlite_choice.Chooser, "choose", choose)
    sqlite = [one for one in sessions if one[0].startswith("sqlite")]

    @settings(max_examples=400)
    @given(
        docs=st.lists(crowded, max_size=8),
        where=crossing | condition,
        by=order,
        limit=st.none() | st.integers(0, 4),
        offset=st.integers(0, 2),
    )
    def run(docs, where, by, limit, offset):
        check(sqlite, docs, where, by, limit, offset, None)

    run()
    assert seen >= {"cut", "outside", "union"} | (set() if walk_rows is None else {"walk"})


def check(sessions, docs, where, by, limit, offset, after):
    docs = [{"id": KEYS[i], **doc} for i, doc in enumerate(docs)]
    matching = [d for d in docs if where is None or evaluate.matches(where, d)]
    query = QueryValue(where, by, limit, offset)
    placed = after is not None and after < len(docs)
    if placed:
        position = (*(evaluate.get_path(docs[after], p) for p, _ in by), docs[after]["id"])
        position = tuple(None if v is evaluate.MISSING else v for v in position)
        query = query.with_after(position)
        behind = evaluate.position_key(by, position)
        matching = [d for d in matching if evaluate.sort_key(by, d, d["id"]) > behind]
    matching.sort(key=lambda d: evaluate.sort_key(by, d, d["id"]))
    stop = None if limit is None else offset + limit
    expected = [d["id"] for d in matching[offset:stop]]
    for name, _, table, session in sessions:
        session.begin("write")
        try:
            rows = [table.codec.row(d) for d in docs]
            extras = [table.codec.extras(d) for d in docs] if table.codec.has_extras else None
            session.answer(Write([Put(table, rows, extras)]))
            keys = session.answer(Find(table, query, "keys"))
            if by or offset or placed:
                assert keys == expected, name
            elif limit is None:
                assert sorted(map(repr, keys)) == sorted(map(repr, expected)), name
            else:  # without an order a limit takes any of them
                assert len(keys) == len(expected), name
                assert all(key in [d["id"] for d in matching] for key in keys), name
            assert session.answer(Count(table, query)) == len(expected), name
            chunks = session.answer(Find(table, query, "text"))
            found = [d["id"] for chunk in chunks for d in msgspec.json.decode(chunk)]
            if by or offset or placed:
                assert found == keys, name
            assert len(found) == len(keys), name
        finally:
            session.rollback()


def test_an_update_moves_every_index(sessions):
    """Old entries of multi-entry and full-text indexes go with the text that made them."""
    for name, _, table, session in sessions:
        for doc in (
            {"id": "x", "a": ["old", "both"], "b": ["old"], "t": "old words"},
            {"id": "x", "a": ["both", "new"], "b": 5, "t": ["new", "words"]},
        ):
            session.answer(Write([Put(table, [table.codec.row(doc)], [table.codec.extras(doc)])]))
        def keys(c: Any) -> Any:
            return session.answer(Find(table, EMPTY.and_where(c), "keys"))

        assert keys(Contains("a", "old")) == [], name
        assert keys(Contains("a", "both")) == ["x"], name
        assert keys(Contains("a", "new")) == ["x"], name
        assert keys(Contains("b", "old")) == [], name
        assert keys(Matches("t", "old")) == [], name
        assert keys(Matches("t", "new words")) == ["x"], name
