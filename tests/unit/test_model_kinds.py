"""One matrix: five kinds of models, on memory and on a file, the same cases for each."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

import homeport as hp
from homeport.core import writes
from homeport.core.requests import Get, Operation
from homeport.errors import InvalidDocument, UnknownField, ValidationFailed

F = hp.F


class Status(enum.Enum):
    OPEN = "open"
    PLUGGED = "plugged"


class MCurve(msgspec.Struct):
    name: str
    top_m: float = 0.0


class MWell(msgspec.Struct):
    id: str
    depth_m: float
    spud: datetime | None = None
    day: date | None = None
    uid: UUID | None = None
    cost: Decimal | None = None
    status: Status = Status.OPEN
    raw: bytes = b""
    main: MCurve | None = None
    curves: list[MCurve] = []
    tags: list[str] = []
    code: int | str | None = None
    extra: dict[str, int] = {}
    operator: str = msgspec.field(default="", name="operatedBy")


@dataclasses.dataclass
class DCurve:
    name: str
    top_m: float = 0.0


@dataclasses.dataclass
class DWell:
    id: str
    depth_m: float
    spud: datetime | None = None
    day: date | None = None
    uid: UUID | None = None
    cost: Decimal | None = None
    status: Status = Status.OPEN
    raw: bytes = b""
    main: DCurve | None = None
    curves: list[DCurve] = dataclasses.field(default_factory=list)
    tags: list[str] = dataclasses.field(default_factory=list)
    code: int | str | None = None
    extra: dict[str, int] = dataclasses.field(default_factory=dict)
    operator: str = ""


@attrs.define
class ACurve:
    name: str
    top_m: float = 0.0


@attrs.define
class AWell:
    id: str
    depth_m: float
    spud: datetime | None = None
    day: date | None = None
    uid: UUID | None = None
    cost: Decimal | None = None
    status: Status = Status.OPEN
    raw: bytes = b""
    main: ACurve | None = None
    curves: list[ACurve] = attrs.field(factory=list)
    tags: list[str] = attrs.field(factory=list)
    code: int | str | None = None
    extra: dict[str, int] = attrs.field(factory=dict)
    operator: str = ""


class PCurve(pydantic.BaseModel):
    name: str
    top_m: float = 0.0


class PWell(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)

    id: str
    depth_m: float
    spud: datetime | None = None
    day: date | None = None
    uid: UUID | None = None
    cost: Decimal | None = None
    status: Status = Status.OPEN
    raw: bytes = b""
    main: PCurve | None = None
    curves: list[PCurve] = []
    tags: list[str] = []
    code: int | str | None = None
    extra: dict[str, int] = {}
    operator: Annotated[str, pydantic.Field(alias="operatedBy")] = ""


class TCurve(TypedDict):
    name: str
    top_m: NotRequired[float]


class TWell(TypedDict):
    id: str
    depth_m: float
    spud: NotRequired[datetime | None]
    day: NotRequired[date | None]
    uid: NotRequired[UUID | None]
    cost: NotRequired[Decimal | None]
    status: NotRequired[Status]
    raw: NotRequired[bytes]
    main: NotRequired[TCurve | None]
    curves: NotRequired[list[TCurve]]
    tags: NotRequired[list[str]]
    code: NotRequired[int | str | None]
    extra: NotRequired[dict[str, int]]
    operator: NotRequired[str]


class Kind(NamedTuple):
    name: str
    well: Callable[..., Any]
    curve: Callable[..., Any]
    stored_operator: str  # the name in the stored text
    fills: bool  # gives defaults to what a stored document lacks


KINDS = [
    Kind("msgspec", MWell, MCurve, "operatedBy", True),
    Kind("dataclass", DWell, DCurve, "operator", True),
    Kind("attrs", AWell, ACurve, "operator", True),
    Kind("pydantic", PWell, PCurve, "operatedBy", True),
    Kind("typeddict", TWell, TCurve, "operator", False),
]
WHEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
INDEXES = ["depth_m", "spud", "operator", "main.top_m", "status", hp.Multi("tags"), hp.FullText("operator")]


class World(NamedTuple):
    kind: Kind
    open: Callable[[hp.Collection[Any]], hp.Database]
    wells: hp.Collection[Any]
    plain: hp.Collection[Any]
    db: hp.Database

    @property
    def w(self) -> hp.Documents[Any]:
        return self.db[self.wells]


def replace_text(db: hp.Database, text: str) -> None:
    """Store a document as another program would that knows nothing of the model."""
    table = db._tables["wells"]
    codec = table.codec

    def plan() -> Any:
        extras = codec.extras_of_text(text) if codec.has_extras else None
        yield from writes.put_(table, codec.row_of_text(text), extras, "put")

    db._driver.run(Operation(plan(), "write", False, (table,)))


def make(kind: Kind, name: str = "w1", **changes: Any) -> Any:
    return kind.well(**{"id": name, "depth_m": 1000.0, **changes})


def full(kind: Kind, name: str = "w1", **changes: Any) -> Any:
    values = {
        "spud": WHEN,
        "day": date(2026, 3, 2),
        "uid": UUID(int=7),
        "cost": Decimal("10.50"),
        "status": Status.PLUGGED,
        "raw": b"blob",
        "main": kind.curve(name="GR", top_m=12.5),
        "curves": [kind.curve(name="GR", top_m=1.0), kind.curve(name="RES", top_m=2.0)],
        "tags": ["oil", "gas"],
        "code": "x7",
        "extra": {"a": 1},
        "operator": "Statoil Nord",
    }
    return make(kind, name, **{**values, **changes})


def field(doc: Any, name: str) -> Any:
    return doc[name] if isinstance(doc, dict) else getattr(doc, name)


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def kind(request: Any) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(params=["memory", "file"])
def world(request: Any, kind: Kind, tmp_path: Path) -> Iterator[World]:
    path = ":memory:" if request.param == "memory" else str(tmp_path / "a.db")
    wells = hp.Collection("wells", kind.well, indexes=INDEXES)  # type: ignore[type-var]

    def opened(collection: hp.Collection[Any]) -> hp.Database:
        return hp.open(path, collections=[collection], durability="relaxed")

    plain = hp.Collection("wells")
    with opened(wells) as db:
        yield World(kind, opened, wells, plain, db)


def test_every_value_comes_back_as_it_was(world: World) -> None:
    doc = full(world.kind)
    world.w.put(doc)
    back = world.w.get("w1")
    assert back == doc
    assert type(back) is type(doc)
    assert world.w.all() == list(world.w) == [doc]


def test_defaults_fill_what_a_stored_document_lacks(world: World) -> None:
    replace_text(world.db, '{"id": "old", "depth_m": 1.5}')
    doc = world.w.get("old")
    assert doc == make(world.kind, "old", depth_m=1.5)
    assert ("tags" in doc) is False if not world.kind.fills else field(doc, "tags") == []


def test_conditions_take_the_values_that_the_model_gives(world: World) -> None:
    kind, w = world.kind, world.w
    w.put_many([full(kind), make(kind, "w2")])
    for condition in (
        F.spud == WHEN,
        F.spud == WHEN.astimezone(timezone(timedelta(hours=5))),
        F.spud > datetime(2020, 1, 1, tzinfo=UTC),
        F.day == date(2026, 3, 2),
        F.uid == UUID(int=7),
        F.cost == Decimal("10.50"),
        F.status == Status.PLUGGED,
        F.status.any_of([Status.PLUGGED]),
        F.raw == b"blob",
        F.main.top_m > 12,
        F.main == kind.curve(name="GR", top_m=12.5),
        F.curves.has_element(F.name == "RES", F.top_m == 2),
        F.tags.contains("gas"),
        F.code == "x7",
        F.extra.a == 1,
        F.operator == "Statoil Nord",
    ):
        assert w.where(condition).keys() == ["w1"], condition
    assert w.where({"operator": "Statoil Nord"}).keys() == ["w1"]
    assert w.where("operator").starts_with("Stat").keys() == ["w1"]


def test_a_field_that_the_model_lacks_is_named(world: World) -> None:
    for wrong in (lambda: world.w.where(F.depht_m > 1), lambda: world.w.order_by("depht_m"),
                  lambda: world.w.patch("w1", depht_m=1)):  # fmt: skip
        with pytest.raises(UnknownField, match="did you mean 'depth_m'"):
            wrong()


def test_a_renamed_field_is_stored_under_its_name(world: World) -> None:
    world.w.put(full(world.kind))
    world.w.patch("w1", operator="Equinor")
    assert field(world.w.get("w1"), "operator") == "Equinor"
    assert world.w.where(F.operator == "Equinor").order_by("operator").keys() == ["w1"]
    assert world.w.group_by("operator").count() == {"Equinor": 1}
    stored = json.loads(text_of(world.db, "w1"))
    assert stored[world.kind.stored_operator] == "Equinor"


def text_of(db: hp.Database, key: str) -> str:
    table = db._tables["wells"]
    found: str = db._driver.run(Operation(Get(table, key), "read", True, (table,)))
    return found


def test_r15_unknown_fields_survive_every_write(world: World, tmp_path: Path) -> None:
    if world.db.path == ":memory:":
        # A memory store has one set of models for its whole life: what is unknown comes by sync.
        world.db._tables["wells"].keep_unknown = True
    text = (
        '{"id": "w1", "depth_m": 1.0, "new": {"a": [1]}, "main": {"name": "GR", "unit": "API"}}'
    )
    replace_text(world.db, text)
    world.db._tables["wells"].keep_unknown = True
    doc = world.w.get("w1")
    world.w.put(doc)
    world.w.patch("w1", depth_m=2)
    world.w.patch("w1", {"main.top_m": 3.5})

    def deeper(doc: Any) -> Any:
        if isinstance(doc, dict):
            doc["depth_m"] = 3.0
        else:
            doc.depth_m = 3.0
        return doc

    world.w.update("w1", deeper)
    assert world.w.where(F.depth_m == 3).update(deeper) == 1
    stored = json.loads(text_of(world.db, "w1"))
    assert stored["new"] == {"a": [1]}
    assert stored["main"] == {"name": "GR", "unit": "API", "top_m": 3.5}
    assert stored["depth_m"] == 3.0


def test_values_of_another_type_are_refused_with_their_path(world: World) -> None:
    kind, w = world.kind, world.w
    w.put(full(kind))
    for changes, path in (
        ({"depth_m": "deep"}, "depth_m"),
        ({"main.top_m": "deep"}, "main.top_m"),
        ({"curves": [{"name": "GR"}, {"name": 5}]}, "curves[1].name"),
        ({"status": "lost"}, "status"),
    ):
        with pytest.raises(ValidationFailed) as caught:
            w.patch("w1", changes)
        assert caught.value.context["path"] == path
        assert path in caught.value.message
    if kind.name != "pydantic":  # which refuses in its constructor
        with pytest.raises(ValidationFailed, match=r"curves\[0\]\.top_m"):
            w.put(make(kind, "w2", curves=[kind.curve(name="GR", top_m="deep")]))
        with pytest.raises((ValidationFailed, InvalidDocument), match="depth_m"):
            w.put(make(kind, "w2", depth_m="deep"))
    assert w.get("w1") == full(kind)


def test_update_and_ends_are_typed(world: World) -> None:
    kind, w = world.kind, world.w
    w.put_many([full(kind, "w1"), full(kind, "w2", depth_m=2000.0, operator="Equinor Nord")])
    cls = dict if kind.name == "typeddict" else kind.well

    def deeper(doc: Any) -> Any:
        assert type(doc) is cls
        if isinstance(doc, dict):
            return {**doc, "depth_m": doc["depth_m"] + 1}
        doc.depth_m += 1
        return doc

    assert field(w.update("w1", deeper), "depth_m") == 1001
    assert w.where(F.status == Status.PLUGGED).update(deeper) == 2
    live = w.order_by("-depth_m").live()
    first = next(live)
    w.patch("w1", spud=WHEN + timedelta(days=1))
    change = next(live)
    hits = w.search("nord", fields=["operator"])
    page = w.order_by("depth_m").page(1)
    found = [
        w.get("w1"), *w.get_many(["w1"]), w.first(), w.last(), w.where(F.uid == UUID(int=7)).first(),
        *w.all(), *w, *page, *w.order_by("depth_m").page(1, page.next), *first.rows, *change.rows,
        *change.changed, *[hit.document for hit in hits], *w.order_by("spud").limit(1).all(),
    ]  # fmt: skip
    assert {type(doc) for doc in found} == {cls}
    assert len(hits) == 2
    assert w.max("spud") == WHEN + timedelta(days=1)
    assert w.distinct("day") == [date(2026, 3, 2)]
    assert w.group_by("status").count() == {Status.PLUGGED: 2}
    assert w.group_by("raw").count() == {b"blob": 2}
    live.close()


def test_related_documents_are_typed(kind: Kind, tmp_path: Path) -> None:
    wells: Any = hp.Collection("wells", kind.well)
    others: Any = hp.Collection("others", kind.well, indexes=["operator"])
    with hp.open(tmp_path / "a.db", collections=[wells, others]) as db:
        db[wells].put(make(kind, "a"))
        db[others].put_many([make(kind, "b", operator="a"), make(kind, "c", operator="z")])
        row = db[wells].include(others="operator").one()
        assert row.document == make(kind, "a")
        assert row.others == [make(kind, "b", operator="a")]


def test_export_and_import_keep_every_value(world: World, tmp_path: Path) -> None:
    doc = full(world.kind)
    world.w.put_many([doc, make(world.kind, "w2")])
    for name in ("a.ndjson", "a.csv", "a.json"):
        world.w.export_to(tmp_path / name)
        world.w.clear()
        assert world.w.import_from(tmp_path / name).rows == 2
        assert world.w.get("w1") == doc
        assert world.w.get("w2") == make(world.kind, "w2")


# -- documents that do not fit their model


def spoilt(world: World) -> None:
    """Five good documents and two that the model cannot read."""
    world.w.put_many([full(world.kind, f"w{n}", depth_m=100.0 * n) for n in range(1, 6)])
    replace_text(world.db, '{"id": "w2", "depth_m": "deep", "operatedBy": "Nord"}')
    replace_text(world.db, '{"id": "w4", "depth_m": 400, "main": {"name": 5}}')


GOOD = ["w1", "w3", "w5"]


def keys(docs: Any) -> list[str]:
    return [field(doc, "id") for doc in docs]


def test_a_misfit_raises_with_key_and_path(world: World) -> None:
    spoilt(world)
    for ask in (world.w.all, lambda: list(world.w), lambda: world.w.get("w2"),
                lambda: world.w.order_by("id").page(3), lambda: next(world.w.live()).rows[1]):  # fmt: skip
        with pytest.raises(ValidationFailed) as caught:
            ask()
        assert caught.value.context["key"] == "w2"
        assert caught.value.context["path"] == "depth_m"


def test_fitting_leaves_misfits_out_of_everything(world: World) -> None:
    spoilt(world)
    met: list[hp.Misfit] = []
    fit = world.w.order_by("id").fitting(met.append)
    assert keys(fit.all()) == GOOD
    assert [(m.key, m.path) for m in met] == [("w2", "depth_m"), ("w4", "main.name")]
    assert met[0].document["depth_m"] == "deep"
    assert "Misfit('w2', 'depth_m': " in repr(met[0])
    assert keys(fit) == keys(fit.keys() and fit.limit(9)) == GOOD
    assert fit.keys() == GOOD
    assert fit.count() == 3
    assert keys(fit.limit(2).offset(1).all()) == ["w3", "w5"]
    assert field(fit.last(), "id") == "w5"
    assert fit.where(F.id == "w4").first() is None
    assert fit.where(F.id == "w2").exists() is False
    page = fit.page(2)
    assert keys(page) == ["w1", "w3"]
    assert keys(fit.page(2, page.next)) == ["w5"]
    assert keys(hit.document for hit in world.w.fitting().search("nord")) == sorted(GOOD)
    assert fit.filter(lambda doc: field(doc, "depth_m") > 200).keys() == ["w3", "w5"]


def test_a_live_query_without_misfits(world: World) -> None:
    spoilt(world)
    live = world.w.order_by("id").fitting().live()
    assert keys(next(live).rows) == GOOD
    world.w.patch("w2", depth_m=5)  # which mends it
    change = next(live)
    assert keys(change.rows) == ["w1", "w2", "w3", "w5"]
    assert keys(change.added) == ["w2"]
    replace_text(world.db, '{"id": "w1"}')
    change = next(live)
    assert (keys(change.rows), change.removed) == (["w2", "w3", "w5"], ["w1"])
    live.close()


def test_misfits_are_listed_and_can_be_mended(world: World) -> None:
    spoilt(world)
    assert [m.key for m in world.w.misfits()] == ["w2", "w4"]
    assert [m.key for m in world.w.where(F.id > "w2").misfits()] == ["w4"]
    assert world.w.fitting().delete() == 3
    world.w.patch("w2", depth_m=200)
    world.w.delete("w4")
    assert world.w.misfits() == []
    assert keys(world.w.all()) == ["w2"]


async def test_the_same_on_the_async_side(kind: Kind) -> None:
    wells: Any = hp.Collection("wells", kind.well)
    async with hp.open_async(":memory:", collections=[wells]) as db:
        await db[wells].put_many([make(kind, "w1"), make(kind, "w2")])
        table = db._tables["wells"]
        row = table.codec.row_of_text('{"id": "w1"}')
        await db._driver.run(Operation(writes.put_(table, row, None, "put"), "write", False, (table,)))
        assert [m.key for m in await db[wells].misfits()] == ["w1"]
        assert keys([doc async for doc in db[wells].fitting()]) == ["w2"]


@pytest.mark.parametrize("form", ["utf8", "base64", "hex"])
def test_bytes_in_the_form_that_a_pydantic_model_chose(form: Any) -> None:
    class Blob(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(
            ser_json_bytes=form, val_json_bytes="hex" if form == "hex" else form
        )
        id: str
        raw: bytes = b""

    raw = b"\xc3\xa9?>" if form == "utf8" else b"\xff\xfb?"
    blobs: Any = hp.Collection("blobs", Blob, indexes=["raw"])
    with hp.open(":memory:", collections=[blobs]) as db:
        db[blobs].put(Blob(id="b", raw=raw))
        assert db[blobs].get("b").raw == raw
        assert db[blobs].where(F.raw == raw).keys() == ["b"]
        assert db[blobs].where(F.raw.any_of([raw, b"\xff"])).keys() == ["b"]
        assert db[blobs].distinct("raw") == [raw]
        assert db[blobs].patch("b", raw=b"abc").raw == b"abc"
        if form == "utf8":
            with pytest.raises(InvalidDocument, match="ser_json_bytes"):
                db[blobs].put(Blob(id="c", raw=b"\xff"))
