"""Arrow tables and polars frames on the real packages."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import msgspec
import polars as pl
import pyarrow as pa
import pydantic
import pytest

import homeport as hp
from homeport.core import arrow
from homeport.errors import InvalidDocument


class Status(Enum):
    ON = "on"
    OFF = "off"


class Grade(IntEnum):
    LOW = 1


class Position(msgspec.Struct):
    lat: float
    at: datetime | None = None


class Well(msgspec.Struct, rename={"depth": "depth_m"}):
    id: UUID
    n: int
    depth: float | None = None
    ok: bool = True
    tags: list[str] = []
    position: Position | None = None
    spud: datetime | None = None
    day: date | None = None
    hour: time | None = None
    status: Status = Status.ON
    grade: Grade | None = None
    kind: Literal["a", "b"] = "a"
    price: Decimal | None = None
    extra: dict[str, int] = {}
    either: int | str | None = None


WELLS = hp.Collection("wells", Well, indexes=["n"])
SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("n", pa.int64()), ("depth_m", pa.float64()), ("ok", pa.bool_()),
        ("tags", pa.list_(pa.string())), ("position", pa.struct([("lat", pa.float64()), ("at", pa.string())])),
        ("spud", pa.timestamp("us", tz="UTC")), ("day", pa.date32()), ("hour", pa.time64("us")), ("status", pa.string()),
        ("grade", pa.int64()), ("kind", pa.string()), ("price", pa.string()), ("extra", pa.string()), ("either", pa.string()),
    ]
)  # fmt: skip
T = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
FULL = Well(
    UUID(int=1), 1, 2.5, False, ["x", "y"], Position(60.5, T), T, date(2026, 1, 2), time(3, 4, 5), Status.OFF, Grade.LOW,
    "b", Decimal("1.50"), {"a": 1}, "text",
)  # fmt: skip


@pytest.fixture(params=["memory", "file"])
def opener(request: Any, tmp_path: Path) -> Any:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    return lambda *collections: hp.open(path, collections=collections, durability="relaxed")


def test_the_schema_hangs_on_the_model_and_not_on_the_documents(opener: Any) -> None:
    with opener(WELLS) as db:
        assert db[WELLS].to_arrow().schema == SCHEMA
        db[WELLS].put_many([FULL, Well(UUID(int=2), 2)])
        table = db[WELLS].order_by("n").to_arrow()
        assert table.schema == SCHEMA
        assert db[WELLS].where(hp.F.n == 2).to_arrow().schema == SCHEMA
        first, second = table.to_pylist()
        assert first == {
            "id": str(UUID(int=1)), "n": 1, "depth_m": 2.5, "ok": False, "tags": ["x", "y"],
            "position": {"lat": 60.5, "at": "2026-01-02T03:04:05.000006Z"}, "spud": T, "day": date(2026, 1, 2),
            "hour": time(3, 4, 5), "status": "off", "grade": 1, "kind": "b", "price": "1.50", "extra": '{"a":1}',
            "either": '"text"',
        }  # fmt: skip
        assert second["spud"] is None
        assert second["tags"] == []
        assert db[WELLS].filter(lambda w: w.n == 2).to_arrow().column("n").to_pylist() == [2]


def test_polars(opener: Any) -> None:
    with opener(WELLS) as db:
        db[WELLS].put_many([FULL, Well(UUID(int=2), 2)])
        frame = db[WELLS].order_by("n").to_polars()
        assert isinstance(frame, pl.DataFrame)
        assert frame["n"].to_list() == [1, 2]
        assert frame["spud"].dtype == pl.Datetime("us", "UTC")


def test_plain_documents_get_the_type_that_holds_their_values(opener: Any) -> None:
    plain = hp.Collection("plain")
    with opener(plain) as db:
        db[plain].put_many(
            [{"id": "1", "a": 1, "b": 1, "c": "x", "d": [1]}, {"id": "2", "a": 2.5, "b": None, "c": 5, "e": True}]
        )
        table = db[plain].order_by("id").to_arrow()
        assert dict(zip(table.schema.names, table.schema.types)) == {
            "id": pa.string(), "a": pa.float64(), "b": pa.int64(), "c": pa.string(), "d": pa.string(), "e": pa.bool_(),
        }  # fmt: skip
        assert table.column("c").to_pylist() == ['"x"', "5"]
        assert table.column("d").to_pylist() == ["[1]", None]


def test_many_rows_are_converted_some_at_a_time(opener: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "BATCH_ROWS", 7)
    plain = hp.Collection("plain")
    with opener(plain) as db:
        db[plain].put_many([{"id": f"{n:03}", "n": n} for n in range(50)])
        table = db[plain].order_by("id").to_arrow()
        assert table.column("n").num_chunks == 8
        assert table.column("n").to_pylist() == list(range(50))


class Loose(pydantic.BaseModel):
    id: str
    n: int = 0


@dataclasses.dataclass
class Record:
    id: str
    n: int = 0


def test_other_kinds_of_models(opener: Any) -> None:
    for model in (Loose, Record):
        collection: Any = hp.Collection(model.__name__, model)
        with opener(collection) as db:
            db[collection].put(model(id="a", n=5))
            assert db[collection].to_arrow().to_pylist() == [{"id": "a", "n": 5}]


def test_a_value_that_is_not_of_the_type_is_named(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[hp.Collection("docs")]) as db:
        db["docs"].put({"id": "a", "n": "many"})
    typed = hp.Collection("docs", Record)
    with hp.open(tmp_path / "a.db", collections=[typed]) as db, pytest.raises(InvalidDocument, match="n holds a value"):
        db[typed].to_arrow()


async def test_on_a_loop(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[WELLS]) as db:
        await db[WELLS].put(FULL)
        assert (await db[WELLS].to_arrow()).num_rows == 1
        assert (await db[WELLS].to_polars()).height == 1
