"""Related documents in batched queries, on both stores and both facades."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import apsw
import msgspec
import pytest

import homeport as hp
from homeport.errors import InvalidQuery, NotUnique, UnknownCollection, UsageError


class Refs(msgspec.Struct):
    well_id: str | None = None


class Well(msgspec.Struct):
    id: str
    field: str


class Curve(msgspec.Struct, rename="camel"):
    id: int
    well_id: str | None
    name: str
    refs: Refs = msgspec.field(default_factory=Refs)


class Run(msgspec.Struct):
    id: str
    curve_id: int
    wells: list[str] = []


WELLS = hp.Collection("wells", Well, indexes=["field"])
CURVES = hp.Collection("curves", Curve, indexes=["well_id"])
RUNS = hp.Collection("runs", Run, indexes=[hp.Multi("wells")])


def fill(db: hp.Database) -> None:
    db[WELLS].put_many([Well("w1", "Brent"), Well("w2", "Brent"), Well("w3", "Troll")])
    db[CURVES].put_many(
        [
            Curve(1, "w1", "RHOB", Refs("w2")), Curve(2, "w1", "GR", Refs("w1")), Curve(3, "w2", "GR"),
            Curve(4, "gone", "GR"), Curve(5, None, "NPHI"),
        ]
    )  # fmt: skip
    db[RUNS].put_many([Run("r1", 1, ["w1", "w2"]), Run("r2", 1, ["w2", "w2"]), Run("r3", 3)])


@pytest.fixture(params=["memory", "file"])
def db(request: Any, tmp_path: Path) -> Iterator[hp.Database]:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[WELLS, CURVES, RUNS], durability="relaxed") as db:
        fill(db)
        yield db


def shape(rows: Any) -> Any:
    return [(row.document.id, [curve.id for curve in row.curves]) for row in rows]


def test_one_to_many(db: hp.Database) -> None:
    query = db[WELLS].order_by("id").include(curves="well_id")
    assert shape(query.all()) == [("w1", [1, 2]), ("w2", [3]), ("w3", [])]
    assert shape(query) == shape(query.all())
    first = query.first()
    assert first is not None
    assert first.document == Well("w1", "Brent")
    assert db[WELLS].where(hp.F.field == "None").include(curves="well_id").all() == []
    assert db[WELLS].where(hp.F.field == "None").include(curves="well_id").first() is None
    assert shape([db[WELLS].where(hp.F.field == "Troll").include(curves="well_id").one()]) == [("w3", [])]
    with pytest.raises(NotUnique):
        query.one()
    assert shape(db[WELLS].filter(lambda w: w.id == "w2").include(curves="well_id").all()) == [("w2", [3])]


def test_order_and_condition_of_the_related(db: hp.Database) -> None:
    curves = hp.Many(CURVES, "well_id", order_by="name", where=hp.F.name != "NPHI")
    assert shape(db[WELLS].order_by("id").include(curves=curves).all()) == [("w1", [2, 1]), ("w2", [3]), ("w3", [])]
    curves = hp.Many(CURVES, "well_id", where={"name": "GR"})
    assert shape(db[WELLS].order_by("id").include(curves=curves).all()) == [("w1", [2]), ("w2", [3]), ("w3", [])]


def test_many_to_one_and_nested_paths(db: hp.Database) -> None:
    well = hp.One(WELLS, "well_id")
    rows = db[CURVES].order_by("id").include(well=well, other=hp.One("wells", "refs.well_id")).all()
    assert [row.well and row.well.id for row in rows] == ["w1", "w1", "w2", None, None]
    assert [row.other and row.other.id for row in rows] == ["w2", "w1", None, None, None]
    assert rows[0][well] == Well("w1", "Brent")
    assert rows[0]["well"] is rows[0][well]
    by_ref = db[WELLS].order_by("id").include(curves=hp.Many(CURVES, "refs.well_id")).all()
    assert shape(by_ref) == [("w1", [2]), ("w2", [1]), ("w3", [])]


def test_many_to_many_by_a_multi_entry_field(db: hp.Database) -> None:
    rows = db[WELLS].order_by("id").include(runs="wells").all()
    assert [[run.id for run in row.runs] for row in rows] == [["r1"], ["r1", "r2"], []]


def test_nested(db: hp.Database) -> None:
    runs = hp.Many(RUNS, "curve_id")
    curves = hp.Many(CURVES, "well_id").include(runs=runs)
    rows = db[WELLS].order_by("id").include(curves=curves).all()
    assert [[(c.document.id, [r.id for r in c[runs]]) for c in row[curves]] for row in rows] == [
        [(1, ["r1", "r2"]), (2, [])], [(3, ["r3"])], [],
    ]  # fmt: skip
    row = db[RUNS].order_by("id").include(curve=hp.One(CURVES, "curve_id").include(well=hp.One(WELLS, "well_id"))).first()
    assert row is not None
    assert row.curve.well == Well("w1", "Brent")


def test_one_query_for_each_relation_and_never_one_for_each_document(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[WELLS, CURVES, RUNS], durability="relaxed") as db:
        db[WELLS].put_many([Well(f"w{n:04}", "Brent") for n in range(400)])
        db[CURVES].put_many([Curve(n, f"w{n % 400:04}", "GR") for n in range(1200)])
        db[RUNS].put_many([Run(f"r{n}", n) for n in range(300)])
        seen: list[str] = []
        connection = db._driver.engine.session.connection
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: seen.append(event["sql"]))
        rows = db[WELLS].include(curves=hp.Many(CURVES, "well_id").include(runs="curve_id")).all()
        assert sum(len(c.runs) for row in rows for c in row.curves) == 300
        assert len([sql for sql in seen if sql.startswith(("SELECT id", "SELECT t.doc"))]) == 3, seen
        seen.clear()
        assert len([*db[CURVES].include(well=hp.One(WELLS, "well_id"))]) == 1200
        assert len([sql for sql in seen if sql.startswith(("SELECT id", "SELECT t.doc"))]) <= 2 * 4, seen  # 500 documents a chunk


async def test_on_a_loop_and_in_a_unit(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[WELLS, CURVES, RUNS]) as db:
        await db[WELLS].put(Well("w1", "Brent"))

        async def unit(tx: hp.Tx) -> Any:
            await tx[CURVES].put(Curve(1, "w1", "GR"))
            return shape(await tx[WELLS].include(curves="well_id").all())

        assert await db.run(unit) == [("w1", [1])]
        assert shape([row async for row in db[WELLS].include(curves="well_id")]) == [("w1", [1])]
        assert (await db[WELLS].include(curves="well_id").one()).curves[0].name == "GR"


def test_keys_of_other_types(tmp_path: Path) -> None:
    class Owner(msgspec.Struct):
        id: UUID

    class Item(msgspec.Struct):
        id: str
        owner: UUID | None = None

    owners, items = hp.Collection("owners", Owner), hp.Collection("items", Item)
    for path in (":memory:", tmp_path / "a.db"):
        with hp.open(path, collections=[owners, items]) as db:
            db[owners].put(Owner(UUID(int=1)))
            db[items].put_many([Item("a", UUID(int=1)), Item("b", UUID(int=2)), Item("c")])
            assert [i.id for i in db[owners].include(items="owner").one().items] == ["a"]
            rows = db[items].order_by("id").include(of=hp.One(owners, "owner")).all()
            assert [row.of and row.of.id for row in rows] == [UUID(int=1), None, None]


@pytest.mark.parametrize(
    ("relations", "error", "words"),
    [
        ({}, UsageError, "names what to include"),
        ({"curves": 5}, UsageError, "takes the name of a field"),
        ({"curves": ""}, InvalidQuery, "name of a field"),
        ({"none": "well_id"}, UnknownCollection, "opened with: curves, runs, wells"),
        ({"curves": "welid"}, hp.UnknownField, "welid"),
        ({"curves": "field"}, hp.UnknownField, "hp.One"),
        ({"document": "well_id"}, UsageError, "has that name already"),
        ({"curves": hp.Many(hp.Collection("curves"), "well_id")}, UnknownCollection, "another declaration"),
        ({"x": hp.One(CURVES, "well_id")}, hp.UnknownField, "hp.Many"),
        ({"x": hp.Many(CURVES, "well_id", where=5)}, InvalidQuery, "where="),
        ({"x": hp.Many(CURVES, "well_id", order_by="nam")}, hp.UnknownField, "did you mean 'name'"),
    ],
)  # fmt: skip
def test_wrong_relations(db: hp.Database, relations: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        db[WELLS].include(**relations)


def test_wrong_rows_and_declarations(db: hp.Database) -> None:
    with pytest.raises(UsageError, match="takes a collection"):
        hp.Many(5, "x")  # type: ignore[call-overload]
    row = db[WELLS].order_by("id").include(curves="well_id").all()[0]
    with pytest.raises(AttributeError, match="there are: document, curves"):
        row.runs
    with pytest.raises(UsageError, match="was not included"):
        row["runs"]
    with pytest.raises(UsageError, match="filter"):
        list(db[WELLS].filter(lambda w: True).include(curves="well_id"))
