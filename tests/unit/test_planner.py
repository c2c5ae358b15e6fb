"""Which index serves a query, and which one would help."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from homeport.core.codec import Codec
from homeport.core.fields import F
from homeport.core.advisor import advice
from homeport.core.explanation import Explanation, access_words, condition_words, words_of
from homeport.core.planner import Access, plan
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


def explanation(**changes: Any) -> Explanation:
    query = EMPTY.and_where(F.other > 5).with_order("-depth").with_limit(3)
    given: dict[str, Any] = {
        "collection": "wells",
        "query": query,
        "access": access_words(plan(query, CODEC)),
        "indexes": [],
        "sorts": True,
        "checked": ["other > 5"],
        "python": False,
        "estimated_rows": 1200,
        "total_rows": 1200,
        "engine": ["SCAN c_wells"],
        "advice": advice(query, CODEC),
    }
    return Explanation(**{**given, **changes})


def test_an_explanation_reads_well() -> None:
    found = explanation(access="scan of every document")
    text = str(found)
    for part in (
        "wells", words_of(found.query), "scan of every document", "1,200", "sorts", "other > 5",
        "1,560 estimated",
    ):
        assert part in text
    assert "ran" not in text
    found.measured(rows=3, actual_rows=1200, elapsed_ms=12.3456)
    assert "1,560 actual" in str(found)
    assert "12.346 ms, 3 documents, 1,200 read" in str(found)


def test_an_explanation_as_data() -> None:
    found = explanation().measured(rows=3, actual_rows=None, elapsed_ms=1.5)
    data = msgspec.json.decode(msgspec.json.encode(found.to_dict()))
    assert data["scan"] is True and data["index"] is None and data["rows"] == 3
    assert data["actual_rows"] is None and data["elapsed_ms"] == 1.5
    assert data["query"] == "other > 5 order by -depth limit 3"
    assert set(data) == set(Explanation.__slots__)


def test_an_explanation_in_a_notebook_is_escaped() -> None:
    html = explanation(
        collection="<b>", checked=["a == '<script>alert(1)</script>'"], engine=["a & b"]
    )._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert "<caption>&lt;b&gt;</caption>" in html and "a &amp; b" in html


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (F.depth > 5, "index depth: depth > 5"),
        ((F.depth > 5) & (F.depth < 9), "index depth: depth > 5 and depth < 9"),
        ((F.depth == 5) | (F.name == "x"), "union of [index depth: depth == 5] + [index name: name == 'x']"),
        (F.note.matches("dry"), "full text: note matches 'dry'"),
        (F.id == "w1", "document key: id == 'w1'"),
        (F.other == 1, "scan of every document"),
    ],
    ids=str,
)
def test_a_path_in_words(condition: Any, words: str) -> None:
    assert access_words(planned(condition)) == words


@pytest.mark.parametrize(
    ("condition", "indexes", "left"),
    [
        ((F.depth == 1) | (F.name == "a"), ["depth", "name"], 0),
        ((F.depth > 9) | F.tags.contains("x") | (F.id == 3), ["depth", "tags_m", "id"], 0),
        (((F.depth == 1) & (F.other == 2)) | (F.name == "a"), ["depth", "name"], 1),
        ((F.depth == 1) | ((F.name == "a") | F.note.matches("b")), ["depth", "name", "note"], 0),
        (~((F.depth != 1) & (F.name != "a")), ["depth", "name"], 0),
        ((F.other == 5) & ((F.depth == 1) | (F.name == "a")), ["depth", "name"], 1),
    ],
    ids=str,
)
def test_an_alternative_is_a_union_of_indexes(condition: Any, indexes: Any, left: int) -> None:
    access = planned(condition)
    assert access.kind == "union"
    assert [part.index for part in access.parts] == indexes
    assert len(access.left) == left


def test_one_index_is_preferred_to_a_union_by_the_rules() -> None:
    assert planned((F.code == "x") & ((F.depth == 1) | (F.name == "a"))).index == "code_h"


def test_a_full_text_index_serves_no_equality() -> None:
    codec = Codec(Collection("wells", indexes=[FullText("name")]))
    assert advice(EMPTY.and_where(F.name == "Brent-7"), codec) == '"name"'
