"""Fields that their class writes in a form of its own: a value in a query goes the same way.

Kinds of classes: pydantic with a field serializer, an annotated one, one for the whole model, a
dataclass, a TypedDict and a pydantic dataclass inside. msgspec Structs, dataclasses, attrs classes
and TypedDicts have no such hooks; for them the same cases run over the usual forms.
"""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest
from pydantic import PlainSerializer, WrapSerializer, field_serializer, field_validator
from typing_extensions import TypedDict  # which pydantic asks for before Python 3.12

import homeport as hp
from homeport.errors import InvalidKey, InvalidQuery

F = hp.F
DAYS = [datetime(2020, 1, n, 12, tzinfo=timezone(timedelta(hours=n))) for n in range(1, 7)]


class FieldSerializer(pydantic.BaseModel):
    id: str
    d: datetime

    @field_serializer("d")
    def write(self, value: datetime) -> float:
        return value.timestamp()


class Annotation(pydantic.BaseModel):
    id: str
    d: Annotated[datetime, PlainSerializer(lambda v: v.timestamp())]


class Wrapped(pydantic.BaseModel):
    id: str
    d: Annotated[datetime | None, WrapSerializer(lambda v, write: f"at {write(v)}")] = None

    @field_validator("d", mode="before")
    @classmethod
    def read(cls, value: Any) -> Any:
        return value.removeprefix("at ") if isinstance(value, str) else value

    @field_serializer("d")
    def write(self, value: datetime) -> str:
        return "at " + value.astimezone(UTC).isoformat()


class Iso(pydantic.BaseModel):
    id: str
    d: datetime

    @field_serializer("*")
    def write(self, value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else value


class WholeModel(pydantic.BaseModel):
    id: str
    d: datetime

    @pydantic.model_serializer(mode="wrap")
    def write(self, handler: Any) -> dict[str, Any]:
        form: dict[str, Any] = handler(self)
        if "d" in form:
            form["d"] = datetime.fromisoformat(form["d"]).timestamp()
        return form


class Seconds(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_temporal="seconds")
    id: str
    d: datetime


class Renamed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    id: str
    d: Annotated[datetime, pydantic.Field(alias="when"), PlainSerializer(lambda v: v.timestamp())]


class MUsual(msgspec.Struct):
    id: str
    d: datetime


@dataclasses.dataclass
class DUsual:
    id: str
    d: datetime


@attrs.define
class AUsual:
    id: str
    d: datetime


class TUsual(TypedDict):
    id: str
    d: datetime


class PUsual(pydantic.BaseModel):
    id: str
    d: datetime


CLASSES: list[Any] = [
    FieldSerializer, Annotation, Wrapped, Iso, WholeModel, Seconds, Renamed,
    MUsual, DUsual, AUsual, TUsual, PUsual,
]  # fmt: skip


@pytest.fixture(params=["memory", "file", "memory-indexed", "file-indexed"])
def place(request: Any, tmp_path: Path) -> tuple[str, list[Any]]:
    name, _, indexed = request.param.partition("-")
    return ":memory:" if name == "memory" else str(tmp_path / "a.db"), ["d"] if indexed else []


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__)
def docs(request: Any, place: tuple[str, list[Any]]) -> Iterator[hp.Documents[Any]]:
    path, indexes = place
    things: Any = hp.Collection("things", request.param, indexes=indexes)
    with hp.open(path, collections=[things], durability="relaxed") as db:
        db[things].put_many([request.param(id=f"k{n}", d=day) for n, day in enumerate(DAYS)])
        yield db[things]


def when(doc: Any) -> datetime:
    found: datetime = doc["d"] if isinstance(doc, dict) else doc.d
    return found


def test_every_operator_takes_the_value_of_the_field(docs: hp.Documents[Any]) -> None:
    day = DAYS
    where = docs.where
    # Its hour is earlier than that of the day before, but the point in time is not.
    assert [when(doc) for doc in docs.order_by("d").all()] == sorted(day)
    for condition, found in (
        (F.d == day[2], [2]),
        (F.d == day[2].astimezone(UTC), [2]),
        (F.d != day[2], [0, 1, 3, 4, 5]),
        (F.d < day[2], [0, 1]),
        (F.d <= day[2], [0, 1, 2]),
        (F.d > day[3], [4, 5]),
        (F.d >= day[3], [3, 4, 5]),
        (F.d.between(day[1], day[3]), [1, 2, 3]),
        (F.d.between(day[1], day[3], low_open=True, high_open=True), [2]),
        (F.d.any_of(day[0], day[5], datetime(1999, 1, 1, tzinfo=UTC)), [0, 5]),
        (F.d.none_of([day[0], day[5]]), [1, 2, 3, 4]),
        (~(F.d == day[0]) & (F.d < day[2]), [1]),
        ((F.d == day[0]) | (F.d > day[4]), [0, 5]),
        ({"d": day[4]}, [4]),
        ({"d": {"$gt": day[1], "$lte": day[3]}}, [2, 3]),
        ({"d": {"$in": [day[1], day[2]]}}, [1, 2]),
        ({"d": {"$nin": [day[1], day[2]]}}, [0, 3, 4, 5]),
    ):
        assert where(condition).order_by("d").keys() == [f"k{n}" for n in found], condition
        assert where(condition).count() == len(found), condition
    for query, found in (
        (where("d").equals(day[2]), [2]),
        (where("d").not_equal(day[2]), [0, 1, 3, 4, 5]),
        (where("d").above(day[3]), [4, 5]),
        (where("d").below_or_equal(day[1]), [0, 1]),
        (where("d").between(day[1], day[3]), [1, 2]),
        (where("d").any_of(day[1], day[3]), [1, 3]),
        (where("d").none_of(day[1], day[3]), [0, 2, 4, 5]),
        (where("d").in_any_range([(day[0], day[1]), (day[3], day[5])]), [0, 3, 4]),
        (where({"d": day[3]}), [3]),
        (where(F.d > day[0]).order_by("-d").after(day[4], "k4").limit(2).reverse().reverse(), [3, 2]),
        (docs.order_by("d").after(day[1], "k1"), [2, 3, 4, 5]),
        (docs.order_by("-d").after(day[1], "k1"), [0]),
    ):
        assert sorted(query.keys()) == sorted(f"k{n}" for n in found)
    page = docs.order_by("d").page(2)
    seen = [*page]
    while page.next is not None:
        page = docs.order_by("d").page(2, page.next)
        seen += page
    assert [when(doc) for doc in seen] == day
    assert [doc for doc in docs.order_by("-d")] == seen[::-1]


def test_values_come_back_as_the_field_declares_them(docs: hp.Documents[Any]) -> None:
    assert docs.min("d") == DAYS[0]
    assert docs.max("d") == DAYS[5]
    assert sorted(docs.distinct("d")) == DAYS
    assert docs.group_by("d").count() == dict.fromkeys(DAYS, 1)
    docs.patch("k0", d=DAYS[5])
    assert docs.where(F.d == DAYS[5]).order_by("d").keys() == ["k0", "k5"]
    docs.where(F.d == DAYS[5]).patch(d=DAYS[1])
    assert docs.where(F.d == DAYS[1]).count() == 3


def test_a_form_without_the_order_of_the_values_is_refused(place: tuple[str, list[Any]]) -> None:
    class Day(pydantic.BaseModel):
        id: str
        d: Annotated[date, PlainSerializer(lambda v: v.strftime("%d.%m.%Y"))]

        @field_validator("d", mode="before")
        @classmethod
        def read(cls, value: Any) -> Any:
            return datetime.strptime(value, "%d.%m.%Y").date() if isinstance(value, str) else value

    path, indexes = place
    days: Any = hp.Collection("days", Day, indexes=indexes)
    first, second = date(2019, 12, 31), date(2020, 1, 1)
    with hp.open(path, collections=[days]) as db:
        w = db[days]
        w.put_many([Day(id="a", d=first), Day(id="b", d=second)])
        assert w.where(F.d == first).keys() == ["a"]
        assert w.where(F.d == "31.12.2019").keys() == ["a"]  # its stored form stays what it is
        assert w.where(F.d.any_of(second)).keys() == ["b"]
        assert w.where("d").equals(second).keys() == ["b"]
        assert w.where(F.d != second).keys() == ["a"]
        for ask in (
            lambda: w.where(F.d > first).keys(),
            lambda: w.where(F.d.between(first, second)).keys(),
            lambda: w.where("d").above(first).keys(),
            lambda: w.order_by("d").keys(),
            lambda: w.max("d"),
        ):
            with pytest.raises(InvalidQuery, match="does not follow in the order"):
                ask()


def test_a_whole_class_that_needs_all_its_fields_is_refused() -> None:
    class Whole(pydantic.BaseModel):
        id: str
        d: datetime

        @pydantic.model_serializer
        def write(self) -> dict[str, Any]:
            return {"id": self.id, "d": self.d.timestamp()}

    class OtherKey(pydantic.BaseModel):
        id: str

        @pydantic.model_serializer
        def write(self) -> dict[str, Any]:
            return {"id": self.id + "!"}

        @field_validator("id", mode="before")
        @classmethod
        def read(cls, value: str) -> str:
            return value.removesuffix("!")

    whole: Any = hp.Collection("whole", Whole, indexes=["d"])
    other: Any = hp.Collection("other", OtherKey)
    with hp.open(":memory:", collections=[whole, other]) as db:
        db[whole].put(Whole(id="a", d=DAYS[0]))
        assert db[whole].get("a").d == DAYS[0]
        assert db[whole].keys() == ["a"]
        with pytest.raises(InvalidQuery, match="Whole.d"):
            db[whole].where(F.d == DAYS[0]).keys()
        with pytest.raises(InvalidKey, match="whole class"):
            db[other].put(OtherKey(id="a"))


def test_what_the_class_cannot_write_is_refused(place: tuple[str, list[Any]]) -> None:
    class Both(pydantic.BaseModel):
        id: str
        n: int
        d: datetime

        @field_serializer("d")
        def write(self, value: datetime) -> str:
            return f"{value.astimezone(UTC).isoformat()}/{self.n}"

        @field_validator("d", mode="before")
        @classmethod
        def read(cls, value: Any) -> Any:
            return value.partition("/")[0] if isinstance(value, str) else value

    path, indexes = place
    both: Any = hp.Collection("both", Both, indexes=indexes)
    with hp.open(path, collections=[both]) as db:
        db[both].put(Both(id="a", n=1, d=DAYS[0]))
        for value in (DAYS[0], UUID(int=3), [1], object()):
            with pytest.raises(InvalidQuery, match="Both.d"):
                db[both].where(F.d == value).keys()
        assert db[both].where(F.d == None).keys() == []  # noqa: E711


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(pydantic.BaseModel):
    at: datetime
    name: str = ""

    @field_serializer("at")
    def write(self, value: datetime) -> float:
        return value.timestamp()


@pydantic.dataclasses.dataclass
class PydanticData:
    at: Annotated[datetime, PlainSerializer(lambda v: v.timestamp())]


@dataclasses.dataclass
class Data:
    at: Annotated[datetime, PlainSerializer(lambda v: v.timestamp())]
    for_h: timedelta = timedelta(0)


class Dict(TypedDict):
    at: Annotated[datetime, PlainSerializer(lambda v: v.timestamp())]


Stamp = Annotated[datetime, PlainSerializer(lambda v: v.timestamp())]


class Rich(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")
    id: str
    n: int = 0
    cost: Decimal = Decimal(0)
    color: Color = Color.RED
    span: timedelta = timedelta(0)
    raw: bytes = b""
    host: ipaddress.IPv4Address = ipaddress.IPv4Address("0.0.0.0")  # noqa: S104
    point: Point | None = None
    pydantic_data: PydanticData | None = None
    data: Data | None = None
    dict_: Dict | None = None
    stamps: list[Stamp] = []
    days: set[Stamp] = set()
    named: dict[str, Stamp] = {}
    points: list[Point] = []
    again: Rich | None = None
    code: str = ""

    @field_serializer("n")
    def write_n(self, value: int) -> str:
        return f"{value + 50_000:05}"  # so that texts sort as numbers do, below 0 too

    @field_validator("n", mode="before")
    @classmethod
    def read_n(cls, value: Any) -> Any:
        return int(value) - 50_000 if isinstance(value, str) else value

    @field_serializer("cost")
    def write_cost(self, value: Decimal) -> float:
        return float(value)

    @field_serializer("color")
    def write_color(self, value: Color) -> int:
        return [*Color].index(value)

    @field_validator("color", mode="before")
    @classmethod
    def read_color(cls, value: Any) -> Any:
        return [*Color][value] if isinstance(value, int) else value

    @field_serializer("code")
    def write_code(self, value: str) -> str:
        return value[::-1]

    @field_validator("code", mode="before")
    @classmethod
    def read_code(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        return value[::-1] if info.mode == "json" else value


RICH: dict[str, Any] = {
    "n": 7, "cost": Decimal("10.5"), "color": Color.BLUE, "span": timedelta(days=1, seconds=5),
    "raw": b"\xff?", "host": ipaddress.IPv4Address("10.0.0.1"), "point": Point(at=DAYS[0], name="p"),
    "pydantic_data": PydanticData(at=DAYS[0]), "data": Data(at=DAYS[0], for_h=timedelta(hours=30)),
    "dict_": {"at": DAYS[0]}, "stamps": [DAYS[0], DAYS[1]], "days": {DAYS[0], DAYS[1]},
    "named": {"one": DAYS[0]}, "points": [Point(at=DAYS[0]), Point(at=DAYS[1])], "code": "abc",
    "again": Rich(id="in", n=12),
}  # fmt: skip


@pytest.mark.parametrize(
    "indexes",
    [
        [],
        ["n", "cost", "color", "span", "raw", "host", "point.at", "pydantic_data.at", "data.at",
         "dict_.at", "again.n", "named.one", "code", hp.Multi("stamps"), hp.Multi("days"),
         ("cost", "n"), hp.FullText("code")],
    ],
    ids=["plain", "indexed"],
)  # fmt: skip
@pytest.mark.parametrize("where", ["memory", "file"])
def test_fields_of_every_depth_and_type(where: str, indexes: list[Any], tmp_path: Path) -> None:
    if indexes:  # durations have no order in their usual form
        indexes = [one for one in indexes if one != "span"]
    rich: Any = hp.Collection("rich", Rich, indexes=indexes)
    path = ":memory:" if where == "memory" else str(tmp_path / "a.db")
    with hp.open(path, collections=[rich]) as db:
        w = db[rich]
        w.put_many([Rich(id="a", **RICH), Rich(id="b")])
        assert w.get("a") == Rich(id="a", **RICH)
        for condition in (
            *(F[name] == value for name, value in RICH.items() if name not in ("days",)),
            *(F[name].any_of([value]) for name, value in RICH.items() if name not in ("days",)),
            F.n == "50007",
            F.n > 5,
            F.n.between(6, 8),
            F.cost == 10.5,
            F.cost > 10,
            F.cost >= Decimal("10.5"),
            F.host == "10.0.0.1",
            F.span == "P1DT5S",
            F.point.at == DAYS[0],
            F.point.at > datetime(2019, 1, 1, tzinfo=UTC),
            F.point.name == "p",
            F.pydantic_data.at == DAYS[0],
            F.data.at == DAYS[0],
            F.data.for_h == timedelta(hours=30),
            F.dict_.at == DAYS[0],
            F.stamps.contains(DAYS[1]),
            F.stamps.contains_any(DAYS[1], DAYS[3]),
            F.stamps.contains_all(DAYS[1], DAYS[0]),
            F.days.contains(DAYS[1]),
            F.named.one == DAYS[0],
            F.points.has_element(F.at == DAYS[1]),
            F.again.n == 12,
        ):
            assert w.where(condition).keys() == ["a"], condition
        if indexes:  # Dexie's words look at the entries of a multi-entry index
            assert w.where("stamps").any_of(DAYS[1]).keys() == ["a"]
        else:
            with pytest.raises(InvalidQuery, match="Rich.stamps"):
                w.where("stamps").any_of(DAYS[1])
        assert w.order_by("-n").keys() == w.order_by("-cost").keys() == ["a", "b"]
        assert set(w.distinct("color")) == {Color.RED, Color.BLUE}
        assert w.max("cost") == Decimal("10.5")
        w.patch("b", n=7, code="xyz", color=Color.BLUE, stamps=[DAYS[4]], span=timedelta(days=2))
        assert w.get("b") == Rich(
            id="b", n=7, code="xyz", color=Color.BLUE, stamps=[DAYS[4]], span=timedelta(days=2)
        )
        assert w.where(F.n == 7, F.code == "xyz").keys() == ["b"]
        assert w.where(F.stamps.contains(DAYS[4])).keys() == ["b"]
        page = w.order_by("code").page(1)
        assert [doc.id for doc in w.order_by("code").page(1, page.next)] == ["b"]
        assert w.order_by("code").after("abc", "a").keys() == ["b"]  # "cba" < "zyx"


def test_a_key_in_a_form_of_its_own(tmp_path: Path) -> None:
    class Row(pydantic.BaseModel):
        id: int
        n: int = 0

        @field_serializer("id")
        def write(self, value: int) -> str:
            return f"{value:06}"

    class Turned(pydantic.BaseModel):
        id: Annotated[str, PlainSerializer(lambda v: v + "!")]

        @field_validator("id", mode="before")
        @classmethod
        def read(cls, value: str, info: pydantic.ValidationInfo) -> str:
            return value.removesuffix("!") if info.mode == "json" else value

    rows: Any = hp.Collection("rows", Row)
    turned: Any = hp.Collection("turned", Turned)
    for path in (":memory:", str(tmp_path / "a.db")):
        with hp.open(path, collections=[rows, turned]) as db:
            w = db[rows]
            assert w.put(Row(id=7, n=1)) == 7
            assert w.get(7) == w.get("000007") == Row(id=7, n=1)
            assert w.keys() == w.where(F.id == 7).keys() == [7]
            assert w.get_many([7, 8]) == [Row(id=7, n=1), None]
            assert w.delete(7) == 1
            assert w.keys() == []
            with pytest.raises(InvalidKey, match="serializer"):
                db[turned].put(Turned(id="ab"))
