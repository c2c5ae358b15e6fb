"""Keys of the type that the model declares are taken wherever a key is, and come back as that."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

import homeport as hp
from homeport.errors import InvalidKey


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Text(str):
    __slots__ = ()


class ByUUID(msgspec.Struct):
    id: UUID
    n: int = 0


@dataclasses.dataclass
class ByDate:
    id: date
    n: int = 0


class ByTime(pydantic.BaseModel):
    id: datetime
    n: int = 0


@attrs.define
class ByColor:
    id: Color
    n: int = 0


class ByLevel(msgspec.Struct, rename={"id": "_id"}):
    id: Level
    n: int = 0


class ByText(msgspec.Struct):
    id: str
    n: int = 0


class ByPair(msgspec.Struct):
    id: tuple[int, str]
    n: int = 0


T1, T2 = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
CASES: list[tuple[Any, Any, Any, Any]] = [
    # model, two keys in order, another spelling of the first
    (ByUUID, UUID(int=1), UUID(int=2), str(UUID(int=1))),
    (ByDate, date(2026, 1, 1), date(2026, 1, 2), "2026-01-01"),
    (ByTime, T1, T2, T1.astimezone(timezone(timedelta(hours=5)))),
    (ByTime, T1, T2, "2026-01-01T01:00:00+01:00"),
    (ByColor, Color.BLUE, Color.RED, "blue"),
    (ByLevel, Level.LOW, Level.HIGH, 1),
    (ByText, "a", "b", Text("a")),
    (ByPair, [1, "a"], [1, "b"], (1, "a")),
]


@pytest.fixture(params=["memory", "file"])
def opener(request: Any, tmp_path: Path) -> Any:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    return lambda *collections: hp.open(path, collections=collections, durability="relaxed")


@pytest.mark.parametrize(("model", "one", "two", "other"), CASES)
def test_the_type_of_the_model_goes_in_and_comes_out(opener: Any, model: Any, one: Any, two: Any, other: Any) -> None:
    def doc(key: Any, n: int = 0) -> Any:
        return model(id=tuple(key) if isinstance(key, list) else key, n=n)

    def same(a: Any, b: Any) -> None:
        assert a == b
        assert [type(x) for x in a] == [type(x) for x in b]

    c = hp.Collection("c", model, indexes=["n"])
    with opener(c) as db:
        docs = db[c]
        same([docs.put(doc(one))], [one])
        same(docs.add_many([doc(two)]), [two])
        same(docs.keys(), [one, two])
        same(docs.filter(lambda d: True).keys(), [one, two])
        same(docs.order_by("-id").keys(), [two, one])
        for key in (one, other):
            assert docs.get(key).n == 0
            assert [d.n for d in docs.get_many([key, two])] == [0, 0]
            assert docs.patch(key, n=5).n == 5
            assert docs.update(key, lambda d: doc(d.id, 6)).n == 6
            same(docs.patch_many([(key, {"n": 7})]), [one])
            same([docs.meta(key).key], [one])
            assert docs.where("id").equals(key).count() == 1
            assert docs.where(hp.F.id == key).count() == 1
            assert docs.after(key).count() == 1
            assert docs.delete(key) == 1
            docs.put(doc(one))
            assert docs.delete_many([key, one]) == 1
            docs.put(doc(one))
        with pytest.raises(hp.BulkError) as caught:
            docs.add_many([doc(one)])
        assert caught.value.keys == [None]
        with docs.live() as live:
            next(live)
            docs.delete(one)
            same(next(live).removed, [one])
        same([docs.update(one, lambda d: d, default=doc(one)).id], [docs.get(one).id])


def test_a_key_of_another_type_is_refused_with_the_type_declared(opener: Any) -> None:
    uuids, texts, plain = hp.Collection("u", ByUUID), hp.Collection("t", ByText), hp.Collection("p")
    with opener(uuids, texts, plain) as db:
        with pytest.raises(InvalidKey, match="declares UUID"):
            db[uuids].get(date(2026, 1, 1))
        for docs in (db[texts], db[plain]):
            with pytest.raises(InvalidKey, match="its type is UUID"):
                docs.get(UUID(int=1))
            with pytest.raises(InvalidKey, match="boolean"):
                docs.delete(True)
        with pytest.raises(hp.BulkError) as caught:
            db[uuids].patch_many([(UUID(int=1), {"n": 1}), (date(2026, 1, 1), {"n": 1})])
        assert [type(error) for error in caught.value.failures.values()] == [hp.NotFound, InvalidKey]


def test_after_takes_the_values_of_the_model(opener: Any) -> None:
    class Event(msgspec.Struct):
        id: UUID
        at: datetime

    events = hp.Collection("events", Event, indexes=["at"])
    with opener(events) as db:
        db[events].put_many([Event(UUID(int=n), T1 + timedelta(days=n)) for n in range(4)])
        assert [e.id.int for e in db[events].order_by("at").after(T1 + timedelta(days=1), UUID(int=1))] == [2, 3]
        assert db[events].order_by("-at").after(T1 + timedelta(days=1), UUID(int=1)).keys() == [UUID(int=0)]


async def test_on_a_loop(tmp_path: Path) -> None:
    c = hp.Collection("c", ByUUID)
    async with hp.open_async(tmp_path / "a.db", collections=[c]) as db:
        assert await db[c].put(ByUUID(UUID(int=1))) == UUID(int=1)
        assert await db[c].keys() == [UUID(int=1)]
        found = await db[c].get(UUID(int=1))
        assert found is not None


