"""F, the JSON form, Dexie's chain and the query value: what they build and what they refuse."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest

from homeport.core.codec import Codec
from homeport.core.evaluate import matches
from homeport.core.query import (
    EMPTY,
    And,
    AnyOf,
    Between,
    Compare,
    Contains,
    Element,
    F,
    Matches,
    Missing,
    Not,
    Or,
    QueryValue,
    Range,
    StartsWith,
    WhereClause,
    bind,
    bind_order,
    by_values,
    fields,
    parse_filter,
)
from homeport.core.schema import Collection
from homeport.errors import InvalidQuery, UnknownField


class Position(msgspec.Struct, rename="camel"):
    lat_deg: float


class Well(msgspec.Struct, rename="camel"):
    id: str
    depth_m: float
    position: Position
    drilled: datetime | None = None
    uuid: UUID | None = None
    extra: dict[str, Any] = {}


def test_operators_build_the_tree() -> None:
    built = (F.depth_m > 5) & (F.position.lat <= 1) | ~(F["name"] == "x")
    assert built == Or(
        [
            And([Compare("depth_m", ">", 5), Compare("position.lat", "<=", 1)]),
            Not(Compare("name", "==", "x")),
        ]
    )
    assert (F.a != 1) == Compare("a", "!=", 1)
    assert (1 < F.a) == Compare("a", ">", 1)
    assert F.a.between(1, 2, high_open=True) == Between("a", 1, 2, False, True)
    assert F.a.any_of(1, 2) == F.a.any_of([1, 2]) == AnyOf("a", (1, 2))
    assert F.a.none_of("x") == Not(AnyOf("a", ("x",)))
    assert F.a.starts_with("x") == StartsWith("a", "x")
    assert F.a.is_missing() == Missing("a")
    assert F.tags.contains("oil") == Contains("tags", "oil")
    assert F.note.matches("mud") == Matches("note", "mud")
    assert (F["a"]["b"].c == 0) == Compare("a.b.c", "==", 0)
    assert repr(F["a"]["contains"].b) == "F.a.contains.b"
    assert repr(F["a.b"]) == "F.a.b"


def test_conditions_compare_by_value_and_type() -> None:
    assert Compare("a", "==", 1) != Compare("a", "==", True)
    assert Compare("a", "==", 1) != Compare("a", "==", 1.0)
    assert repr(Compare("a", ">", 1)) == "Compare('a', '>', 1)"
    assert ~~Compare("a", "==", 1) == Compare("a", "==", 1)
    assert len((F.a == 1).__and__(F.b == 1).__and__(F.c == 1).items) == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: F.a > 1 and F.b < 2, "and"),
        (lambda: F.a == 1 or F.b == 2, "or"),
        (lambda: not (F.a == 1), "not"),
        (lambda: 1 < F.a < 2, "between"),
        (lambda: bool(F.a), "F.a == True"),
        (lambda: F.a > 1 & F.b < 2, "parentheses"),
        (lambda: F.a == "x" | F.b == "y", "parentheses"),
        (lambda: (F.a == 1) & F.b, "parentheses"),
        (lambda: (F.a == 1) & True, "parentheses"),
        (lambda: ~F.a, "parentheses"),
        (lambda: "x" in F.tags, "contains"),
        (lambda: F.a in [1, 2], "any_of"),
        (lambda: list(F.a), "iterated"),
        (lambda: F.a == F.b, "filter"),
        (lambda: F.a > None, "is_missing"),
        (lambda: F.a < {"b": 1}, "order"),
        (lambda: F.a < float("nan"), "order"),
        (lambda: F.a.between(1, "z"), "two types"),
        (lambda: F.a.starts_with(1), "text"),
        (lambda: F.a.matches(["x"]), "text"),
        (lambda: F[""], "path"),
        (lambda: F["a..b"], "path"),
        (lambda: F[0], "path"),
    ],
)
def test_traps_of_python_are_explained(build: Any, words: str) -> None:
    with pytest.raises(InvalidQuery, match=words):
        build()


def test_fields_are_in_no_set() -> None:
    with pytest.raises(TypeError):
        {F.a}
    with pytest.raises(TypeError):
        {F.a == 1}


def test_fields_of_a_model() -> None:
    w = fields(Well)
    assert (w.depth_m > 5) == Compare("depth_m", ">", 5)
    with pytest.raises(InvalidQuery):
        fields("Well")  # type: ignore[arg-type]


def test_json_form_says_the_same() -> None:
    assert parse_filter({"a": 1}) == (F.a == 1)
    assert parse_filter({"a": 1, "b": {"$gt": 5, "$lte": 9}}) == And(
        [F.a == 1, (F.b > 5), (F.b <= 9)]
    )
    assert parse_filter({"$or": [{"a": 1}, {"b.c": {"$startsWith": "x"}}]}) == (
        (F.a == 1) | F.b.c.starts_with("x")
    )
    assert parse_filter({"a": {"$in": [1]}}) == F.a.any_of(1)
    assert parse_filter({"a": {"x": 1}}) == (F.a == {"x": 1})
    assert parse_filter({}) == And([])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"a": {"$near": 1}}, r"\$near"),
        ({"$xor": []}, r"\$xor"),
        ({"$gt": 5}, r"inside"),
        ({"$or": {"a": 1}}, "list"),
        ({"a": {"$in": 5}}, "list"),
        ({"a": {"$between": [1]}}, "low, high"),
        ({"a": {"$exists": 1}}, "true or false"),
        ({"a": {"$not": 5}}, r"\$ne"),
        ({"a": {"$gt": 5, "b": 1}}, "'b'"),
        ({"a": {"$gt": None}}, "order"),
        ({"a..b": 1}, "path"),
        ({1: 1}, "field name"),
        ([], "object"),
        ({"$and": [5]}, "object"),
        ({"a": {"$gtt": 5}}, r"did you mean '\$gt'"),
        ({"a": {"$elemMach": {}}}, r"did you mean '\$elemMatch'"),
        ({"$ands": []}, r"did you mean '\$and'"),
        ({"a": {"$or": []}}, "beside fields"),
        ({"$where": "1"}, "filter"),
        ({"a": {"$expr": 1}}, "filter"),
        ({"a": {"$text": "x"}}, r"\$match"),
        ({"a": {"$size": -1}}, "whole number"),
        ({"a": {"$size": True}}, "whole number"),
        ({"a": {"$type": "date"}}, "Use one of null"),
        ({"a": {"$type": {}}}, "JSON has none"),
        ({"a": {"$mod": [0, 1]}}, "not 0"),
        ({"a": {"$mod": [2]}}, "divisor, remainder"),
        ({"a": {"$mod": 2}}, "list"),
        ({"a": {"$mod": [2.5, 1]}}, "whole numbers"),
        ({"a": {"$regex": "("}}, "no regular expression"),
        ({"a": {"$regex": 5}}, "a text"),
        ({"a": {"$regex": "x", "$options": "g"}}, "no flag 'g'"),
        ({"a": {"$options": "i"}}, "belongs to"),
        ({"a": {"$all": 5}}, "list"),
        ({"a": {"$elemMatch": 5}}, "element"),
        ({"a": {"$elemMatch": {}}}, "element"),
        ({"a": {"$elemMatch": {"$gt": 5, "b": 1}}}, r"inside a field"),
        ({"a": {"$startsWith": 5}}, "text"),
        ({"a": {"$match": 5}}, "text"),
    ],
)
def test_json_filters_are_refused_by_name(document: Any, words: str) -> None:
    with pytest.raises(InvalidQuery, match=words):
        parse_filter(document)


def test_json_form_and_fields_say_the_same_about_arrays_and_types() -> None:
    for document, condition in (
        ({"a": {"$all": [1, 2]}}, F.a.contains_all(1, 2)),
        ({"a": {"$elemMatch": {"$in": [1, 2]}}}, F.a.contains_any([1, 2])),
        ({"a": {"$elemMatch": {"b": 1, "c": {"$gt": 2}}}}, F.a.has_element(F.b == 1, F.c > 2)),
        ({"a": {"$size": 2}}, F.a.has_size(2)),
        ({"a": {"$type": ["null", "bool"]}}, F.a.has_type("null", "boolean")),
        ({"a": {"$regex": "x", "$options": "i"}}, F.a.regex("x", "i")),
    ):
        built = parse_filter(document)
        docs: list[Any] = [{"a": [1, 2]}, {"a": [2]}, {"a": [{"b": 1, "c": 3}]}, {"a": None}, {"a": "X"}]
        assert [matches(built, doc) for doc in docs] == [matches(condition, doc) for doc in docs]
        assert any(matches(built, doc) for doc in docs)


class Curve(msgspec.Struct, rename="camel"):
    mnemonic: str
    unit_name: str = ""
    logged: datetime | None = None


class Log(msgspec.Struct):
    id: str
    curves: list[Curve] = []
    days: list[datetime] = []
    extra: dict[str, Any] = {}


def test_binding_reaches_into_the_elements_of_arrays() -> None:
    codec = Codec(Collection("logs", Log))
    bound = bind(F.curves.has_element(F.unit_name == "m", F.logged < datetime(2026, 1, 1, tzinfo=timezone.utc)), codec)
    stored = And([Compare("unitName", "==", "m"), Compare("logged", "<", "2026-01-01T00:00:00.000000Z")])
    assert bound == Element("curves", stored)
    text = "2026-01-01T00:00:00+00:00"  # any form of the same moment
    assert bind(F.days.contains(text), codec) == Contains("days", "2026-01-01T00:00:00.000000Z")
    assert bind(F.extra.list.has_element(F.x == 1), codec) == Element("extra.list", And([Compare("x", "==", 1)]))
    with pytest.raises(UnknownField, match="did you mean 'mnemonic'"):
        bind(F.curves.has_element(F.mnemonik == "GR"), codec)


def test_dexies_words() -> None:
    depth = WhereClause("depth_m")
    assert depth.above(5) == Range("depth_m", 5, None, True, False)
    assert depth.below_or_equal(5) == Range("depth_m", None, 5)
    assert depth.between(1, 2) == Range("depth_m", 1, 2, False, True)
    assert depth.between(1, 2, False, True) == Range("depth_m", 1, 2, True, False)
    docs: list[dict[str, Any]] = [{"depth_m": v} for v in (1, 2, 3, "x", None)] + [{}]

    def found(condition: Any) -> list[Any]:
        return [doc.get("depth_m") for doc in docs if matches(condition, doc)]

    assert found(depth.not_equal(2)) == [1, 3, "x"]
    assert found(depth.none_of(1, 3, 3)) == [2, "x"]
    assert found(depth.none_of()) == [1, 2, 3, "x"]
    assert found(depth.in_any_range([(1, 2), (3, 9)])) == [1, 3]
    assert found(depth.starts_with_any_of("x", "y")) == ["x"]
    assert found(depth.equals_ignore_case("X")) == ["x"]
    assert found(by_values({"depth_m": 1})) == [1]
    for make in (lambda: depth.above(None), lambda: depth.any_of(None), lambda: WhereClause("")):
        with pytest.raises(InvalidQuery):
            make()


def test_query_values_are_immutable() -> None:
    first = EMPTY.and_where(F.a == 1)
    both = first.and_where(F.b == 2).with_order("-a", "b").with_order("-a").with_limit(3)
    assert EMPTY == QueryValue()
    assert first.where == (F.a == 1)
    assert both.where == (F.a == 1) & (F.b == 2)
    assert both.order == (("a", True),)
    assert both.with_limit(None).limit is None
    assert both.with_offset(2).with_after((1, "k")).after == (1, "k")
    assert EMPTY.with_order(F.a.b, "-c").order == (("a.b", False), ("c", True))
    assert both.reversed().order == (("a", False),)
    assert EMPTY.reversed().order == (("", True),)
    assert EMPTY.reversed().reversed() == EMPTY
    assert repr(EMPTY.with_limit(2)) == "QueryValue(limit=2)"
    assert repr(EMPTY.with_limit(0)) == "QueryValue(limit=0)"


@pytest.mark.parametrize(
    "build",
    [
        lambda: EMPTY.with_limit(-1),
        lambda: EMPTY.with_limit(True),
        lambda: EMPTY.with_offset(1.5),
        lambda: EMPTY.with_order("a", "-a"),
        lambda: EMPTY.with_order(""),
        lambda: EMPTY.with_order(5),
        lambda: EMPTY.with_order("a").with_after(("x",)),
        lambda: EMPTY.with_predicate("x"),
        lambda: EMPTY.with_predicate(F.a == 1),
        lambda: EMPTY.and_where(True),
    ],
)
def test_refused_query_values(build: Any) -> None:
    with pytest.raises(InvalidQuery):
        build()


def test_binding_checks_names_and_stores_values() -> None:
    codec = Codec(Collection("wells", Well, indexes=["depth_m"]))
    assert bind(F.depth_m > 5, codec) == Compare("depthM", ">", 5)
    assert bind(~F.position.lat_deg.between(1, 2), codec) == Not(Between("position.latDeg", 1, 2))
    assert bind(F.extra.any.thing == 1, codec) == Compare("extra.any.thing", "==", 1)
    assert bind_order((("depth_m", True), ("", False)), codec) == (("depthM", True), ("", False))
    when = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    stored = "2026-01-01T10:00:00.000000Z"
    assert bind(F.drilled == when, codec) == Compare("drilled", "==", stored)
    assert bind(F.drilled >= "2026-01-01T10:00:00Z", codec) == Compare("drilled", ">=", stored)
    assert bind(F.uuid.any_of(UUID(int=1)), codec) == AnyOf("uuid", (str(UUID(int=1)),))
    for bad in (F.depht_m > 5, F.depthM > 5, F.position.lat == 1, F.depth_m.x == 1):
        with pytest.raises(UnknownField):
            bind(bad, codec)
    with pytest.raises(UnknownField, match="no field 'depht_m' in wells; did you mean 'depth_m'"):
        bind((F.id == "a") & (F.depht_m > 5), codec)
    with pytest.raises(UnknownField, match="fields are: depth_m"):
        bind(F.zzz == 5, codec)
