"""Aggregates on both stores against a plain model in Python, indexed and not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeport as hp
from homeport.core import evaluate
from homeport.core.aggregate import Measure
from homeport.core.codec import Table
from homeport.core.exact import BUFFER, Exact, expansion
from homeport.core.keys import encode, order
from homeport.core.query import QueryValue
from homeport.core.requests import Aggregate, Put, Write
from homeport.core.schema import Collection, Multi
from homeport.errors import InvalidQuery
from homeport.storage.memory import MemoryStore
from homeport.storage.sqlite import SQLiteStore

# -- against a plain model

NUMBERS = [0, -0.0, 1, 1.0, 0.1, 0.2, 0.3, 1e16, -1e16, 3e15, 2**53, -(2**53), 1e308, -1e308, 5e-324, 2**53 + 2]
scalar = st.one_of(
    st.sampled_from(NUMBERS), st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "a", "b", "\ue000", "\U0001f600"]), st.booleans(), st.none(),
)  # fmt: skip
value = st.one_of(
    scalar, st.sampled_from(NUMBERS), st.lists(scalar, max_size=3), st.dictionaries(st.just("x"), scalar, max_size=1)
)
document = st.fixed_dictionaries({}, optional={"a": value, "b": value, "n": st.fixed_dictionaries({}, optional={"x": value})})
INDEXES: dict[str, list[Any]] = {
    "none": [],
    "all": ["a", "b", "n.x", ("b", "a")],
    "some": [("b", "a")],
    "entries": ["a", Multi("b"), "n.x"],
}
PATHS = ["a", "b", "n.x"]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("aggregates")
    made = []
    for name, indexes in INDEXES.items():
        for kind in ("sqlite", "memory"):
            store: Any = (
                MemoryStore(clock_ms=lambda: 1)
                if kind == "memory"
                else SQLiteStore.open(str(folder / f"{name}.db"), durability="relaxed", clock_ms=lambda: 1)
            )
            table = Table(Collection("docs", indexes=indexes))
            store.define([table])
            made.append((f"{kind}, {name}", store, table, store.session()))
    yield made
    for _, store, _, session in made:
        session.close()
        store.close()


def model_result(measure: Measure, docs: list[dict[str, Any]]) -> Any:
    """What a measure means, said again in other words."""
    if measure.path is None:
        return len(docs)
    values = [evaluate.get_path(doc, measure.path) for doc in docs]
    keys = [v for v in values if encode(v) is not None]
    numbers = [v for v in keys if type(v) in (int, float)]
    match measure.kind:
        case "count":
            return sum(1 for v in values if v is not None and v is not evaluate.MISSING)
        case "sum" | "avg":
            exact = sum(map(Fraction, numbers), Fraction(0))
            if all(type(v) is int for v in numbers):
                total: float = int(exact)
            else:
                try:
                    total = float(exact)
                except OverflowError:
                    total = math.inf if exact > 0 else -math.inf
            if measure.kind == "sum":
                return total
            return total / len(numbers) if numbers else None
        case "min":
            return min(keys, key=lambda v: order(encode(v)), default=None)
        case "max":
            return max(keys, key=lambda v: order(encode(v)), default=None)
        case "count_distinct":
            return len({encode(v) for v in keys})


def model_rows(
    groups: list[str], measures: list[Measure], docs: list[dict[str, Any]], entries: set[str]
) -> list[tuple[Any, Any]]:
    def keys_of(doc: dict[str, Any], path: str) -> list[Any]:
        found = evaluate.get_path(doc, path)
        if path not in entries:
            return [encode(found)]
        inside = {encode(v) for v in found} - {None} if isinstance(found, list) else set()
        return sorted(inside, key=order) or [None]

    members: dict[tuple[Any, ...], list[Any]] = {} if groups else {(): list(docs)}
    for doc in docs if groups else ():
        names: list[tuple[Any, ...]] = [()]
        for path in groups:
            names = [(*name, key) for name in names for key in keys_of(doc, path)]
        for name in names:
            members.setdefault(name, []).append(doc)
    ordered = sorted(members.items(), key=lambda item: [order(key) for key in item[0]])
    return [(name, tuple(model_result(m, found) for m in measures)) for name, found in ordered]


measures = st.lists(
    st.one_of(
        st.just(Measure("count")),
        st.builds(Measure, st.sampled_from(["count", "sum", "avg", "min", "max", "count_distinct"]), st.sampled_from(PATHS)),
    ),
    min_size=1, max_size=4,
)  # fmt: skip
condition = st.none() | st.sampled_from(
    [hp.F.a > 0, hp.F.b == "a", hp.F.n.x.has_type("number"), ~(hp.F.a == 1), hp.F.b.contains(1)]
)


def same_number(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b if type(a) in (int, float) else encode(a) == encode(b)


@settings(max_examples=300)
@given(
    docs=st.lists(document, max_size=12),
    groups=st.just([]) | st.lists(st.sampled_from(PATHS), max_size=2, unique=True),
    elements=st.sets(st.sampled_from(PATHS)),
    wanted=measures,
    where=condition,
    by=st.sampled_from([(), (), (("a", False),), (("n.x", True),)]),
    limit=st.none() | st.integers(0, 5),
    offset=st.sampled_from([0, 0, 2]),
    after=st.sampled_from([None, None, 0, 3]),
)
def test_aggregates_agree_with_a_plain_model(
    sessions: Any, docs: Any, groups: Any, elements: Any, wanted: Any, where: Any, by: Any, limit: Any, offset: Any, after: Any
) -> None:
    docs = [{"id": f"d{i}", **doc} for i, doc in enumerate(docs)]
    # Integers beyond 2**53 come with rows of other programs alone; the codec refuses them here.
    texts = [msgspec.json.encode(doc).decode() for doc in docs]
    matching = [d for d in docs if where is None or evaluate.matches(where, d)]
    matching.sort(key=lambda d: evaluate.sort_key(by, d, d["id"]))
    if limit is not None and not by and not offset:
        limit = None  # it would take any of them
    query = QueryValue(where, by, limit, offset)
    if after is not None and after < len(docs):
        position = tuple(evaluate.get_path(docs[after], p) for p, _ in by)
        position = (*(None if v is evaluate.MISSING else v for v in position), docs[after]["id"])
        query = query.with_after(position)
        behind = evaluate.position_key(by, position)
        matching = [d for d in matching if evaluate.sort_key(by, d, d["id"]) > behind]
    matching = matching[offset : None if limit is None else offset + limit]
    expected = model_rows(groups, wanted, matching, elements)
    for name, _, table, session in sessions:
        session.begin("write")
        try:
            rows = [table.codec.row_of_text(text) for text in texts]
            session.answer(Write([Put(table, rows)]))
            found = session.answer(Aggregate(table, query, groups, wanted, elements))
        finally:
            session.rollback()
        assert [tuple(map(encode, row[0])) for row in found] == [row[0] for row in expected], name
        for (_, got), (_, want) in zip(found, expected, strict=True):
            for m, a, b in zip(wanted, got, want, strict=True):
                same = same_number(a, b) if m.kind in ("sum", "avg") else encode(a) == encode(b)
                assert same, (name, m, a, b)


numbers = st.lists(
    st.one_of(
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([1e308, -1e308, 1.7e308, 5e-324, 0.1]),
    ),
    max_size=60,
)


@given(numbers)
def test_a_sum_is_exact_whatever_its_order(values: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("homeport.core.exact.BUFFER", 7)
        totals = []
        for ordered in (values, sorted(values), sorted(values, key=abs, reverse=True)):
            total = Exact()
            for number in ordered:
                if type(number) is int:
                    total.add_integers([number])
                else:
                    total.add_floats([number])
            totals.append(total.total())
    exact = sum(map(Fraction, values), Fraction(0))
    try:
        expected = int(exact) if all(type(v) is int for v in values) else float(exact)
    except OverflowError:
        expected = math.inf if exact > 0 else -math.inf
    assert totals == [expected] * 3
    assert [type(total) for total in totals] == [type(expected)] * 3


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([0.1] * 10, 1.0),
        ([1e16, 1.0, -1e16], 1.0),
        ([1e308, 1e308, -1e308], 1e308),
        ([1e308, 1e308], math.inf),
        ([2**53, 1.0, 2**53, 2.0], 2.0**54 + 4.0),
        ([2**53, 1, 2**53], 2**54 + 1),
        ([-0.0], 0.0),
        ([True, "5", None, [1], {"x": 1}, 2], 2),
    ],
)
@pytest.mark.parametrize("indexes", [[], ["n"], [("g", "n")]])
@pytest.mark.parametrize("path", [":memory:", "a.db"])
def test_sums_are_rounded_once_on_every_path(tmp_path: Path, path: str, indexes: Any, values: Any, total: Any) -> None:
    docs = hp.Collection("docs", indexes=indexes)
    with hp.open(path if path == ":memory:" else tmp_path / path, collections=[docs], durability="relaxed") as db:
        db[docs].put_many([{"id": f"{i:02}", "g": 1, "n": value} for i, value in enumerate(values)])
        for found in (db[docs].sum("n"), db[docs].group_by("g").sum("n")[1], db[docs].filter(lambda _: True).sum("n")):
            assert (found, type(found)) == (total, type(total))
            assert math.copysign(1, found) == math.copysign(1, total)


def test_an_expansion_is_short_and_nothing_is_lost() -> None:
    many = [0.1 * n for n in range(BUFFER)]
    found = expansion(many)
    assert len(found) <= 4
    assert sum(map(Fraction, found)) == sum(map(Fraction, many))


def test_more_integers_than_sqlite_can_add(tmp_path: Path) -> None:
    docs = hp.Collection("docs", indexes=["n"])
    with hp.open(tmp_path / "a.db", collections=[docs], durability="relaxed") as db:
        db[docs].put_many([{"id": f"{i}", "n": 2**53} for i in range(1_100)])
        assert db[docs].sum("n") == 1_100 * 2**53
        assert db[docs].avg("n") == 2**53


# -- the public face


class Status(Enum):
    ACTIVE = "active"
    SHUT = "shut"


class Grade(IntEnum):
    LOW = 1
    HIGH = 2


class Part(msgspec.Struct, rename="camel"):
    depth_m: float


class Well(msgspec.Struct, rename="camel"):
    id: str
    field_name: str
    depth_m: float | None = None
    part: Part | None = None
    tags: list[str] = []
    spud: datetime | None = None
    day: date | None = None
    status: Status | None = None
    grade: Grade | None = None
    owner: UUID | None = None
    price: Decimal | None = None
    took: timedelta | None = None


OWNER = UUID(int=5)
WELLS = [
    Well("w1", "Brent", 2800.5, Part(10.0), ["oil", "gas"], datetime(2026, 1, 2, tzinfo=UTC), date(2026, 1, 2), Status.ACTIVE, Grade.HIGH, OWNER),
    Well("w2", "Brent", 1500.0, Part(5.0), ["oil"], datetime(2025, 1, 2, tzinfo=UTC), date(2025, 1, 2), Status.SHUT, Grade.LOW),
    Well("w3", "Troll", 900.25, None, [], None, None, Status.ACTIVE, Grade.LOW),
    Well("w4", "Troll"),
]  # fmt: skip


@pytest.fixture(params=["memory", "memory indexed", "file", "file indexed"])
def w(request: Any, tmp_path: Path) -> Iterator[hp.Documents[Well]]:
    indexes = ["depth_m", ("field_name", "depth_m"), "part.depth_m", "spud", "day", "status", "grade", "owner"]
    wells = hp.Collection(
        "wells", Well, indexes=[*indexes, hp.Multi("tags")] if "indexed" in request.param else []
    )
    path = ":memory:" if "memory" in request.param else tmp_path / "a.db"
    with hp.open(path, collections=[wells], durability="relaxed") as db:
        db[wells].put_many(WELLS)
        yield db[wells]


def test_one_number(w: hp.Documents[Well]) -> None:
    assert w.sum("depth_m") == 5200.75
    assert w.avg("depth_m") == 5200.75 / 3
    assert (w.min("depth_m"), w.max("depth_m")) == (900.25, 2800.5)
    assert w.max("part.depth_m") == w.max(hp.F.part.depth_m) == 10.0
    assert w.where(hp.F.field_name == "Brent").sum("depth_m") == 4300.5
    assert w.where(hp.F.field_name == "None").sum("depth_m") == 0
    assert w.where(hp.F.field_name == "None").avg("depth_m") is None
    assert w.where(hp.F.field_name == "None").max("depth_m") is None
    assert w.order_by("-depth_m").limit(2).min("depth_m") == 1500.0
    assert w.order_by("depth_m").offset(1).after(900.25, "w3").sum("depth_m") == 2800.5
    assert w.filter(lambda well: well.id in ("w1", "w4")).sum("depth_m") == 2800.5
    assert w.filter(lambda well: True).order_by("depth_m").limit(1).sum("depth_m") == 900.25
    assert w.sum("grade") == 4


def test_values_come_back_typed(w: hp.Documents[Well]) -> None:
    assert w.max("spud") == datetime(2026, 1, 2, tzinfo=UTC)
    assert w.min("day") == date(2025, 1, 2)
    assert w.max("grade") is Grade.HIGH
    assert w.min("status") is Status.ACTIVE
    assert w.max("owner") == OWNER
    assert w.distinct("status") == [Status.ACTIVE, Status.SHUT]
    assert w.group_by("day").count() == {date(2025, 1, 2): 1, date(2026, 1, 2): 1, None: 2}


def test_several_at_once(w: hp.Documents[Well]) -> None:
    asked = {"n": hp.agg.count(), "deep": hp.agg.count("depth_m"), "max": hp.agg.max(hp.F.spud), "fields": hp.agg.count_distinct("field_name")}
    expected = {"n": 4, "deep": 3, "max": datetime(2026, 1, 2, tzinfo=UTC), "fields": 2}
    assert w.aggregate(**asked) == expected
    assert w.filter(lambda well: True).aggregate(**asked) == expected


def test_groups(w: hp.Documents[Well]) -> None:
    by = w.group_by("field_name")
    assert by.count() == {"Brent": 2, "Troll": 2}
    assert by.sum("depth_m") == {"Brent": 4300.5, "Troll": 900.25}
    assert by.avg("depth_m") == {"Brent": 2150.25, "Troll": 900.25}
    assert by.min("depth_m") == {"Brent": 1500.0, "Troll": 900.25}
    assert by.max("day") == {"Brent": date(2026, 1, 2), "Troll": None}
    assert by.aggregate(n=hp.agg.count(), deepest=hp.agg.max("depth_m")) == [
        {"field_name": "Brent", "n": 2, "deepest": 2800.5},
        {"field_name": "Troll", "n": 2, "deepest": 900.25},
    ]
    assert w.group_by("status", "field_name").count() == {
        (Status.ACTIVE, "Brent"): 1, (Status.ACTIVE, "Troll"): 1, (Status.SHUT, "Brent"): 1, (None, "Troll"): 1,
    }  # fmt: skip
    assert list(w.group_by("depth_m").count()) == [900.25, 1500.0, 2800.5, None]
    assert w.where(hp.F.depth_m > 1000).group_by("field_name").count() == {"Brent": 2}
    assert w.where(hp.F.depth_m > 9000).group_by("field_name").count() == {}
    assert w.filter(lambda well: well.depth_m is not None).group_by("field_name").count() == {"Brent": 2, "Troll": 1}


EACH = hp.agg.each(hp.F.tags)


def test_each_groups_by_the_elements_of_an_array(w: hp.Documents[Well]) -> None:
    assert w.group_by(EACH).count() == {"gas": 1, "oil": 2, None: 2}
    assert w.group_by(EACH).max("depth_m") == {"gas": 2800.5, "oil": 2800.5, None: 900.25}
    assert w.distinct(EACH) == ["gas", "oil"]
    assert w.group_by("field_name", EACH).count() == {
        ("Brent", "gas"): 1, ("Brent", "oil"): 2, ("Troll", None): 2,
    }  # fmt: skip
    assert w.where(hp.F.tags.contains("gas")).distinct(EACH) == ["gas", "oil"]
    assert w.order_by("-depth_m").limit(1).distinct(EACH) == ["gas", "oil"]
    assert w.filter(lambda well: True).group_by(EACH).count() == {"gas": 1, "oil": 2, None: 2}
    assert w.group_by("field_name", EACH).aggregate(n=hp.agg.count())[0] == {"field_name": "Brent", "tags": "gas", "n": 1}
    assert repr(EACH) == "agg.each('tags')"


def test_an_array_is_one_value_whatever_the_indexes(w: hp.Documents[Well]) -> None:
    assert w.group_by("tags").count() == {("oil",): 1, ("oil", "gas"): 1, (): 2}
    assert w.distinct("tags") == [[], ["oil"], ["oil", "gas"]]


def test_no_index_made_later_changes_groups(tmp_path: Path) -> None:
    docs = hp.Collection("docs")
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        d = db[docs]
        d.put_many([{"id": n, "t": v} for n, v in enumerate([["a", "b"], "a", [], ["b", "b", None], None, {"x": 1}, [["a"]]])])

        def asked() -> list[object]:
            return [
                d.group_by("t").count(), d.group_by(hp.agg.each("t")).count(), d.distinct("t"),
                d.distinct(hp.agg.each("t")), d.group_by(hp.agg.each("t"), "id").count(),
            ]  # fmt: skip

        before = asked()
        assert before[1] == {"a": 1, "b": 2, ("a",): 1, None: 4}
        for index in (hp.Multi("t"), "t", ("t", "id")):
            db.create_index(docs, index)
            assert asked() == before, index


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "ü", "a b", "f0", "__class__"])
def test_fields_of_any_name(tmp_path: Path, name: str) -> None:
    docs = hp.Collection("docs")
    for path in (":memory:", tmp_path / "a.db"):
        with hp.open(path, collections=[docs]) as db:
            db[docs].put_many([{"id": "1", name: 5}, {"id": "2", name: {name: 7}}, {"id": "3"}])
            assert (db[docs].sum(name), db[docs].max(f"{name}.{name}"), db[docs].distinct(name)) == (5, 7, [5])


def test_distinct(w: hp.Documents[Well]) -> None:
    assert w.distinct("field_name") == ["Brent", "Troll"]
    assert w.distinct("depth_m") == [900.25, 1500.0, 2800.5]
    assert w.distinct("field_name", "depth_m") == [("Brent", 1500.0), ("Brent", 2800.5), ("Troll", 900.25)]
    assert w.where(hp.F.depth_m > 9000).distinct("field_name") == []


def test_array_values_are_tuples_where_they_name_a_group(tmp_path: Path) -> None:
    docs = hp.Collection("docs")
    with hp.open(":memory:", collections=[docs]) as db:
        db[docs].put_many([{"id": "a", "v": [1, [2]]}, {"id": "b", "v": [1, [2]]}, {"id": "c", "v": {"x": 1}}])
        assert db[docs].group_by("v").count() == {(1, (2,)): 2, None: 1}
        assert db[docs].distinct("v") == [[1, [2]]]
        assert db[docs].max("v") == [1, [2]]


async def test_aggregates_on_a_loop_and_in_a_unit(tmp_path: Path) -> None:
    wells = hp.Collection("wells", Well, indexes=["depth_m"])
    async with hp.open_async(tmp_path / "a.db", collections=[wells]) as db:
        await db[wells].put_many(WELLS)
        assert await db[wells].sum("depth_m") == 5200.75
        assert await db[wells].group_by("field_name").count() == {"Brent": 2, "Troll": 2}

        async def unit(tx: hp.Tx) -> Any:
            await tx[wells].put(Well("w5", "Troll", 1.0))
            return await tx[wells].aggregate(total=hp.agg.sum("depth_m"))

        assert await db.run(unit) == {"total": 5201.75}


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda w: w.sum("depth"), "did you mean 'depth_m'"),
        (lambda w: w.sum("field_name"), "adds numbers, and field_name is a str"),
        (lambda w: w.avg("price"), "decimal"),
        (lambda w: w.min("price"), "stored as text"),
        (lambda w: w.max("took"), "timedelta"),
        (lambda w: w.sum(5), "name of a field"),
        (lambda w: w.sum(""), "name of a field"),
        (lambda w: w.sum("a..b"), "name of a field"),
        (lambda w: w.sum(None), "name of a field"),
        (lambda w: w.aggregate(), "nothing to compute"),
        (lambda w: w.aggregate(n=5), "values of hp.agg"),
        (lambda w: w.group_by(), "at least one field"),
        (lambda w: w.group_by("field"), "did you mean 'field_name'"),
        (lambda w: w.group_by("id", "id"), "twice"),
        (lambda w: w.distinct(), "at least one field"),
        (lambda w: w.group_by("field_name").aggregate(field_name=hp.agg.count()), "two things"),
        (lambda w: hp.agg.sum(5), "name of a field"),
    ],
)
def test_wrong_questions(w: hp.Documents[Well], ask: Any, words: str) -> None:
    with pytest.raises(InvalidQuery, match=words):
        ask(w)


def test_one_statement_where_fields_are_indexed(tmp_path: Path) -> None:
    docs = hp.Collection("docs", indexes=[("f", "n"), hp.Multi("tags")])
    with hp.open(tmp_path / "a.db", collections=[docs], durability="relaxed") as db:
        db[docs].put_many([{"id": f"{i}", "f": i % 3, "n": i / 10, "tags": [i % 2]} for i in range(50)])
        seen: list[str] = []

        def trace(event: Any) -> None:
            seen.append(event["sql"])

        connection = db._driver.engine.session.connection
        import apsw

        connection.trace_v2(apsw.SQLITE_TRACE_STMT, trace)
        for ask in (
            lambda: db[docs].sum("n"),
            lambda: db[docs].group_by("f").aggregate(a=hp.agg.avg("n"), b=hp.agg.max("n")),
            lambda: db[docs].where(hp.F.f == 1).group_by(hp.agg.each("tags")).count(),
            lambda: db[docs].order_by("-f").limit(5).aggregate(a=hp.agg.count("f"), b=hp.agg.sum("n")),
        ):
            seen.clear()
            ask()
            assert len(seen) == 1, seen
            assert "SELECT doc" not in seen[0]


def test_aggregates_of_expired_documents_are_nothing(tmp_path: Path) -> None:
    docs = hp.Collection("docs", indexes=["n"], ttl_s=0.001)
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        db[docs].put({"id": "a", "n": 5})
        import time

        time.sleep(0.01)
        assert (db[docs].sum("n"), db[docs].distinct("n"), db[docs].group_by("m").count()) == (0, [], {})


def test_groups_that_a_dict_would_merge_are_refused(tmp_path: Path) -> None:
    """1 and True are two groups, and one key of a Python dict: a count would be lost in silence."""
    docs = hp.Collection("docs")
    for path in (":memory:", tmp_path / "a.db"):
        with hp.open(path, collections=[docs]) as db:
            db[docs].put_many([{"id": 1, "g": 1}, {"id": 2, "g": True}, {"id": 3, "g": 1.0}])
            with pytest.raises(hp.InvalidQuery, match="aggregate"):
                db[docs].group_by("g").count()
            assert db[docs].group_by("g").aggregate(n=hp.agg.count()) == [{"g": 1, "n": 2}, {"g": True, "n": 1}]
