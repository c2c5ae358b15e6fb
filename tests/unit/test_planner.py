"""Which index serves a query, and which one would help."""

from __future__ import annotations

from typing import Any

import pytest

from homeport.core.codec import Codec
from homeport.core.fields import F
from homeport.core.planner import Access, Explanation, advice, condition_words, plan, words_of
from homeport.core.query import EMPTY, QueryValue, WhereClause
from homeport.core.schema import Collection, FullText, Index, Multi, Unique

CODEC: Codec[Any] = Codec(
    Collection(
        "wells",
        indexes=[
            "depth",
            ("field", "depth"),
            Unique("name"),
            Multi("tags"),
            FullText("note"),
            Index("code", kind="hash"),
            Index("rare", sparse=True),
        ],
    )
)


def planned(condition: Any = None, *order: str) -> Access:
    query = EMPTY if condition is None else EMPTY.and_where(condition)
    return plan(query.with_order(*order) if order else query, CODEC)


@pytest.mark.parametrize(
    ("condition", "kind", "index", "equal", "range_"),
    [
        (F.depth == 5, "index", "depth", ("depth",), None),
        (F.depth > 5, "index", "depth", (), "depth"),
        (F.depth.between(1, 2), "index", "depth", (), "depth"),
        ((F.field == "Brent") & (F.depth < 9), "index", "field_depth", ("field",), "depth"),
        ((F.depth == 1) & (F.field == "B"), "index", "field_depth", ("field", "depth"), None),
        (F.field == "Brent", "index", "field_depth", ("field",), None),
        (F.name == "x", "index", "name", ("name",), None),
        (F.name.starts_with("x"), "index", "name", (), "name"),
        (F.code == "x", "index", "code_h", ("code",), None),
        (F.rare > 1, "index", "rare", (), "rare"),
        (F.tags.contains("oil"), "multi", "tags_m", ("tags",), None),
        (F.note.matches("dry"), "text", "note", ("note",), None),
        (F.id == "w1", "key", "id", ("id",), None),
        (F.id > "w1", "key", "id", ("id",), None),
        (WhereClause("depth").above(5), "index", "depth", (), "depth"),
    ],
    ids=str,
)
def test_a_condition_finds_its_index(
    condition: Any, kind: str, index: str, equal: Any, range_: Any
) -> None:
    access = planned(condition)
    assert (access.kind, access.index, access.equal, access.range) == (kind, index, equal, range_)
    assert access.left == ()


@pytest.mark.parametrize(
    "condition",
    [
        F.other == 1,
        F.depth != 5,
        ~(F.depth == 5),
        (F.depth == 1) | (F.other == 2),
        F.depth == {"a": 1},
        F.depth.is_missing(),
        F.tags.contains(None),
        F.title.matches("dry"),
        F.code > "x",
        F.code.starts_with("x"),
    ],
    ids=str,
)
def test_what_no_index_serves_is_a_scan(condition: Any) -> None:
    access = planned(condition)
    assert access.kind == "scan"
    assert access.left == (condition,)


def test_what_the_index_does_not_serve_is_left_for_each_row() -> None:
    access = planned((F.depth > 5) & (F.other == 1) & (F.tags.contains("x")))
    assert access.kind in ("multi", "index")
    assert len(access.left) == 2


@pytest.mark.parametrize(
    ("condition", "order", "ordered", "index"),
    [
        (None, ("depth",), True, "depth"),
        (None, ("-depth",), True, "depth"),
        (None, ("field", "depth"), True, "field_depth"),
        (None, ("-field", "-depth"), True, "field_depth"),
        (None, ("field", "-depth"), False, None),
        (F.field == "B", ("depth",), True, "field_depth"),
        (F.field == "B", ("-depth",), True, "field_depth"),
        (F.depth > 5, ("depth",), True, "depth"),
        (F.depth > 5, ("name",), False, None),
        (None, ("rare",), False, None),
        (None, ("code",), False, None),
        (None, ("other",), False, None),
    ],
    ids=str,
)
def test_an_order_is_read_from_an_index(
    condition: Any, order: tuple[str, ...], ordered: bool, index: str | None
) -> None:
    access = planned(condition, *order)
    assert access.ordered == ordered
    if index is not None:
        assert access.index == index


@pytest.mark.parametrize(
    ("query", "helps"),
    [
        (EMPTY, None),
        (EMPTY.and_where(F.depth > 5), None),
        (EMPTY.and_where(F.id == 5).with_order("other"), None),
        (EMPTY.and_where(F.other > 5), '"other"'),
        (EMPTY.and_where((F.other == 1) & (F.more > 2)), "('other', 'more')"),
        (EMPTY.and_where(F.other == 1).with_order("-more"), "('other', 'more')"),
        (EMPTY.with_order("other"), '"other"'),
        (EMPTY.and_where(F.parts.contains(1)), 'hp.Multi("parts")'),
        (EMPTY.and_where(F.title.matches("x")), 'hp.FullText("title")'),
    ],
    ids=str,
)
def test_advice(query: QueryValue, helps: str | None) -> None:
    assert advice(query, CODEC) == helps


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ((F.a == 1) & (F.b > 2), "(a == 1 and b > 2)"),
        ((F.a == 1) | ~F.b.is_missing(), "(a == 1 or not b is missing)"),
        (F.a.any_of([1, 2]), "a in 2 values"),
        (F.a.starts_with("x"), "a starts with 'x'"),
        (F.a.between(1, 2), "a between 1 and 2"),
        (WhereClause("a").above(3), "a in the key range above 3"),
        (WhereClause("a").between(1, 3), "a in the key range from 1 below 3"),
        (WhereClause("a").equals_ignore_case("X"), "a is 'X' ignoring case"),
    ],
    ids=str,
)
def test_conditions_in_words(condition: Any, words: str) -> None:
    assert condition_words(condition) == words


def test_an_explanation_reads_well() -> None:
    query = EMPTY.and_where(F.other > 5).with_order("-depth").with_limit(3)
    explanation = Explanation(
        collection="wells",
        query=query,
        index=None,
        scan=True,
        sorts=True,
        checked=["other > 5"],
        estimated_rows=1200,
        total_rows=1200,
        engine=["SCAN c_wells"],
        advice=advice(query, CODEC),
    )
    text = str(explanation)
    for part in ("wells", words_of(query), "scan of every document", "1,200", "sorts", "other > 5"):
        assert part in text
    assert "<table>" in explanation._repr_html_()


def test_a_full_text_index_serves_no_equality() -> None:
    codec = Codec(Collection("wells", indexes=[FullText("name")]))
    assert advice(EMPTY.and_where(F.name == "Brent-7"), codec) == '"name"'
