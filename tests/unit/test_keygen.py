"""Keys that are made: UUIDs, IndexedDB's key generator, functions; and models without a key."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeport as hp
from homeport import ids
from homeport.errors import (
    BulkError,
    InvalidKey,
    KeyExists,
    KeysExhausted,
    SchemaError,
    ValidationFailed,
)

Doc = dict[str, Any]
NUMBERED = hp.Collection("numbered", key_generator="autoincrement", indexes=[hp.Unique("name")])


@pytest.fixture(params=["memory", "file"])
def opener(request: Any, tmp_path: Path) -> Callable[..., hp.Database]:
    def open_(*collections: hp.Collection[Any]) -> hp.Database:
        path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
        return hp.open(path, collections=collections, durability="relaxed")

    return open_


@pytest.fixture
def n(opener: Any) -> Iterator[hp.Documents[Doc]]:
    with opener(NUMBERED) as db:
        yield db[NUMBERED]


# -- numbers, as in the specification of IndexedDB, section 2.11 (key generators)


def test_numbers_count_from_one_and_are_in_the_document(n: hp.Documents[Doc]) -> None:
    given_document = {"v": "a"}
    assert n.put(given_document) == 1
    assert given_document == {"v": "a"}, "the caller's document is left alone"
    assert n.add({"v": "b"}) == 2
    assert n.put_many([{"v": "c"}, {"id": None, "v": "d"}]) == [3, 4]
    assert n.get(1) == {"id": 1, "v": "a"}
    assert n.get(4) == {"id": 4, "v": "d"}
    assert [doc["id"] for doc in n] == [1, 2, 3, 4]


def test_an_explicit_number_lifts_the_generator(n: hp.Documents[Doc]) -> None:
    assert n.put({"id": 5}) == 5
    assert n.put({}) == 6
    assert n.put({"id": 7.7}) == 7.7
    assert n.put({}) == 8
    assert n.put({"id": 3}) == 3
    assert n.put({"id": -10}) == -10
    assert n.put({"id": "text"}) == "text"
    assert n.put({"id": [100]}) == [100]
    assert n.put({}) == 9
    assert n.put_many([{}, {"id": 20}, {}, {"id": 15}, {}]) == [10, 20, 21, 15, 22]
    n.update(40, lambda doc: doc, default={"id": 40})
    assert n.put({}) == 41


def test_numbers_of_deleted_documents_are_not_used_again(n: hp.Documents[Doc]) -> None:
    n.put_many([{}, {}, {}])
    n.delete(3)
    assert n.put({}) == 4
    n.clear()
    assert n.put({}) == 5


def test_what_was_rolled_back_never_happened(n: hp.Documents[Doc]) -> None:
    db = n._runner  # type: ignore[attr-defined]
    n.put({"name": "x"})
    with pytest.raises(hp.UniqueViolation):
        n.put({"name": "x"})
    assert n.put({}) == 2
    with pytest.raises(ZeroDivisionError), db.transaction():
        assert n.put({}) == 3
        assert n.put({"id": 100}) == 100
        with db.transaction():
            assert n.put({}) == 101
        _ = 1 / 0
    assert n.put({}) == 3
    with db.transaction():
        assert n.put({}) == 4
        with pytest.raises(ZeroDivisionError), db.transaction():
            assert n.put({}) == 5
            _ = 1 / 0
        assert n.put({}) == 5


def test_a_row_that_fails_leaves_a_gap(n: hp.Documents[Doc]) -> None:
    with pytest.raises(BulkError) as caught:
        n.put_many([{"name": "x"}, {"name": "x"}, {"name": float("nan")}, {"name": "y"}])
    assert caught.value.keys == [1, None, None, 3]
    assert [type(error).__name__ for error in caught.value.failures.values()] == [
        "UniqueViolation", "InvalidDocument",
    ]  # fmt: skip
    assert n.put({}) == 4


def test_the_generator_ends_at_two_to_the_53(n: hp.Documents[Doc]) -> None:
    assert n.put({"id": 2**53 - 1}) == 2**53 - 1
    with pytest.raises(BulkError) as caught:
        n.put_many([{"v": 1}, {"v": 2}, {"id": 7}])
    assert caught.value.keys == [2**53, None, 7]
    assert isinstance(caught.value.failures[1], KeysExhausted)
    with pytest.raises(KeysExhausted, match="uuid7"):
        n.put({"v": 3})
    assert n.put({"id": 8}) == 8, "explicit keys still work"
    assert n.get(2**53) == {"id": 2**53, "v": 1}


def test_numbers_survive_reopening_and_the_change_of_a_declaration(tmp_path: Path) -> None:
    plain = hp.Collection("numbered", sync=False)
    with hp.open(tmp_path / "a.db", collections=[plain]) as db:
        db[plain].put_many([{"id": 7}, {"id": "z"}, {"id": 2.5}])
    with hp.open(tmp_path / "a.db", collections=[NUMBERED]) as db:
        assert db[NUMBERED].put({}) == 8, "it begins behind what is there"
    with hp.open(tmp_path / "a.db", collections=[NUMBERED]) as db:
        assert db[NUMBERED].put({}) == 9
        # A process without the generator stores a number that is not counted.
        with hp.open(tmp_path / "a.db", collections=[plain]) as other:
            other[plain].put_many([{"id": 10, "theirs": True}, {"id": 12, "theirs": True}])
        with pytest.raises(hp.errors.SchemaMismatch):
            db[NUMBERED].put({})  # it took the index away, too
    with hp.open(tmp_path / "a.db", collections=[NUMBERED]) as db:
        assert db[NUMBERED].put({}) == 13, "nothing is written over"
        assert db[NUMBERED].get(10) == {"id": 10, "theirs": True}


def test_threads_and_processes_get_different_numbers(tmp_path: Path) -> None:
    program = f"""
import homeport as hp
c = hp.Collection("numbered", key_generator="autoincrement", indexes=[hp.Unique("name")])
with hp.open({str(tmp_path / "a.db")!r}, collections=[c], durability="relaxed", busy_timeout_s=30) as db:
    for _ in range(100):
        db[c].put({{}})
"""
    with hp.open(
        tmp_path / "a.db", collections=[NUMBERED], durability="relaxed", busy_timeout_s=30
    ) as db:
        others = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
        made: list[Any] = []
        threads = [
            threading.Thread(target=lambda: made.extend(db[NUMBERED].put({}) for _ in range(50)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [other.wait(60) for other in others] == [0, 0]
        assert len(set(made)) == 200
        assert sorted(db[NUMBERED].keys()) == list(range(1, 401))


async def test_numbers_on_the_async_side(tmp_path: Path) -> None:
    import asyncio

    async def two(tx: hp.Tx) -> list[Any]:
        return [await tx[NUMBERED].put({}), await tx[NUMBERED].add({})]

    async with hp.open_async(tmp_path / "a.db", collections=[NUMBERED]) as db:
        made = await asyncio.gather(*(db[NUMBERED].put({}) for _ in range(50)))
        assert sorted(made) == list(range(1, 51))
        assert await db.run(two) == [51, 52]


operations = st.lists(
    st.tuples(st.just("put"), st.none() | st.integers(-3, 30) | st.floats(0, 30) | st.just("t"))
    | st.tuples(st.just("many"), st.lists(st.none() | st.integers(0, 30), max_size=4))
    | st.tuples(st.just("delete"), st.integers(0, 30))
    | st.tuples(st.just("rollback"), st.none()),
    max_size=15,
)


@settings(max_examples=200)
@given(operations)
def test_the_generator_is_that_of_the_specification(steps: list[Any]) -> None:
    with hp.open(":memory:", collections=[NUMBERED]) as db:
        n, current = db[NUMBERED], 1

        def key_for(given_key: Any) -> Any:
            nonlocal current
            if given_key is None:
                current += 1
                return current - 1
            if isinstance(given_key, (int, float)) and given_key >= current:
                current = int(given_key // 1) + 1
            return given_key

        def document(given_key: Any) -> Doc:
            return {} if given_key is None else {"id": given_key}

        for kind, value in steps:
            if kind == "put":
                assert n.put(document(value)) == key_for(value)
            elif kind == "many":
                expected = [key_for(key) for key in value]
                assert n.put_many([document(key) for key in value]) == expected
            elif kind == "delete":
                n.delete(value)
            else:
                with pytest.raises(KeyError), db.transaction():
                    n.put_many([{}, {"id": 500}])
                    raise KeyError


# -- functions


def test_a_function_makes_keys_and_never_writes_over_a_document(opener: Any) -> None:
    counter = itertools.count(1)
    c = hp.Collection("c", key_generator=lambda: f"k{next(counter) // 3}")
    with opener(c) as db:
        assert [db[c].put({"v": n}) for n in range(3)] == ["k0", "k1", "k2"], "each key once"
        with pytest.raises(BulkError) as caught:
            db[c].put_many([{"v": 1}, {"id": "k4", "v": 2}, {"v": 3}, {"v": float("inf")}])
        assert caught.value.keys[:3] == ["k3", "k4", "k5"] or caught.value.keys[:2] == ["k3", "k4"]
        assert db[c].get("k4") == {"id": "k4", "v": 2}

    stuck = hp.Collection("stuck", key_generator=lambda: "same")
    with opener(stuck) as db:
        db[stuck].put({"v": 1})
        with pytest.raises(KeyExists, match="8 keys in a row"):
            db[stuck].put({"v": 2})
        assert db[stuck].all() == [{"id": "same", "v": 1}]


@pytest.mark.parametrize("bad", [None, True, "", b"x", float("nan"), "a\0b"])
def test_what_a_function_returns_must_be_a_key(opener: Any, bad: Any) -> None:
    c = hp.Collection("c", key_generator=lambda: bad)
    with opener(c) as db:
        with pytest.raises(InvalidKey):
            db[c].put({})
        with pytest.raises(BulkError) as caught:
            db[c].put_many([{}, {"id": "given"}])
        assert caught.value.keys == [None, "given"]


def test_an_error_of_the_function_is_the_callers(opener: Any) -> None:
    c = hp.Collection("c", key_generator=lambda: 1 // 0)
    with opener(c) as db:
        with pytest.raises(ZeroDivisionError):
            db[c].put({})
        assert db[c].put({"id": "fine"}) == "fine"


# -- declarations


def test_wrong_declarations() -> None:
    async def coroutine() -> str:
        return "x"

    class Text(msgspec.Struct):
        id: str

    for wrong, words in (
        (dict(key_generator="uuid4"), "uuid7"),
        (dict(key_generator=5), "without arguments"),
        (dict(key_generator=coroutine), "coroutine"),
        (dict(key_generator="autoincrement", sync=hp.Synced()), "every device counts"),
        (dict(key_generator="autoincrement", model=Text), "takes none"),
    ):
        with pytest.raises(SchemaError, match=words):
            hp.Collection("c", **wrong)  # type: ignore[call-overload]
    assert NUMBERED.sync is None, "it stays on the device"
    assert "autoincrement" in repr(NUMBERED)
    assert hp.Collection("c", key_generator=hp.new_id, sync=hp.Synced()).sync is not None


def test_a_schema_that_requires_the_key_is_asked_once_there_is_one(opener: Any) -> None:
    pytest.importorskip("jsonschema")
    schema = {"required": ["id", "v"], "properties": {"v": {"type": "integer"}}}
    for generator in ("uuid7", "autoincrement", hp.new_id):
        c = hp.Collection("c", schema=schema, key_generator=generator)  # type: ignore[call-overload]
        with opener(c) as db:
            db[c].clear()
            db[c].put({"v": 1})
            with pytest.raises(ValidationFailed):
                db[c].put({"v": "one"})
            with pytest.raises(BulkError) as caught:
                db[c].put_many([{"v": 2}, {"w": 3}, {"v": 4}])
            assert list(caught.value.failures) == [1]
            assert db[c].count() == 3


# -- models without a key


class EmptyText(msgspec.Struct):
    name: str
    id: str = ""


class OptionalText(msgspec.Struct):
    name: str
    id: str | None = None


class UnsetText(msgspec.Struct):
    name: str
    id: str | msgspec.UnsetType = msgspec.UNSET


class FrozenText(msgspec.Struct, frozen=True):
    name: str
    id: str = ""


class OptionalUUID(msgspec.Struct):
    name: str
    id: uuid.UUID | None = None


@dataclasses.dataclass
class Data:
    name: str
    id: str | None = None


@dataclasses.dataclass(frozen=True)
class FrozenUUID:
    name: str
    id: uuid.UUID | None = None


@attrs.define
class Attrs:
    name: str
    id: str | None = None


@attrs.frozen
class FrozenAttrs:
    name: str
    id: str | None = None


class Pydantic(pydantic.BaseModel):
    name: str
    id: str | None = None


class PydanticUUID(pydantic.BaseModel):
    name: str
    id: uuid.UUID | None = None


class Typed(TypedDict):
    name: str
    id: NotRequired[str]


MODELS = [
    EmptyText, OptionalText, UnsetText, FrozenText, OptionalUUID, Data, FrozenUUID, Attrs,
    FrozenAttrs, Pydantic, PydanticUUID, Typed,
]  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_models_get_a_uuid(opener: Any, model: Any) -> None:
    c: Any = hp.Collection("c", model, indexes=["name"])
    with opener(c) as db:
        key = db[c].put(model(name="a"))
        more = db[c].put_many([model(name="b"), model(name="c")])
        assert [str(uuid.UUID(str(k))) for k in [key, *more]] == [str(k) for k in [key, *more]]
        found = db[c].get(key)
        stored = found["id"] if isinstance(found, dict) else found.id
        assert stored == key
        assert type(found) is (dict if model is Typed else model)
        assert db[c].where("name").equals("b").keys() == more[:1]
        # Put back, it replaces itself.
        assert db[c].put(found) == key
        assert db[c].count() == 3


class Number(msgspec.Struct):
    name: str
    id: int | None = None


@dataclasses.dataclass(frozen=True)
class FrozenNumber:
    name: str
    id: int | None = None


class PydanticNumber(pydantic.BaseModel):
    name: str
    id: int | None = None


@attrs.define
class AttrsNumber:
    name: str
    id: int | None = None


class TypedNumber(TypedDict):
    name: str
    id: NotRequired[int]


@pytest.mark.parametrize("model", [Number, FrozenNumber, PydanticNumber, AttrsNumber, TypedNumber])
def test_models_get_a_number(opener: Any, model: Any) -> None:
    c: Any = hp.Collection("c", model, indexes=["name", ("name", "id")], key_generator="autoincrement")
    with opener(c) as db:
        first = model(name="a")
        assert db[c].put(first) == 1
        assert db[c].put_many([model(name="b"), model(name="c", id=7), model(name="d")]) == [2, 7, 8]
        found = db[c].get(2)
        assert (found["id"] if isinstance(found, dict) else found.id) == 2
        assert type(found) is (dict if model is TypedNumber else model)
        assert db[c].where({"name": "d", "id": 8}).keys() == [8], "an index on the key knows it"
        assert first == model(name="a"), "only the transaction knows the number"
        # uuid7 has no key for such a model, and says what to do.
        wrong: Any = hp.Collection("w", model)
    with opener(wrong) as db, pytest.raises(InvalidKey, match="autoincrement"):
        db[wrong].put(model(name="a"))


# -- UUIDs


def test_uuids_go_on_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([*([2_000_000_000_000_000_000] * 100), *([1_000_000_000_000_000_000] * 5_000)])
    monkeypatch.setattr(ids.time, "time_ns", lambda: next(times))
    monkeypatch.setattr(ids, "_last", 0)
    made = [hp.new_id() for _ in range(5_100)]
    assert made == sorted(set(made)), "each one later than those before"
    assert {uuid.UUID(one).version for one in made} == {7}


def test_uuids_of_many_threads_are_monotonic_and_different() -> None:
    made: list[list[str]] = []

    def make() -> None:
        made.append([hp.new_id() for _ in range(2_000)])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == sorted(one) for one in made)
    assert len({x for one in made for x in one}) == 16_000
