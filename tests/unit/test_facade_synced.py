"""The same calls on collections that are synced: each write queues itself, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import homeport as hp
from homeport.core import changes
from homeport.core.outbox import OUTBOX
from homeport.core.query import EMPTY
from homeport.core.requests import Find, Operation
from homeport.errors import InvalidKey, QueueFull, UnitTooLarge


class Well(msgspec.Struct):
    id: str
    name: str
    depth_m: float = 0.0


WELLS = hp.Collection("wells", Well, indexes=[hp.Unique("name"), "depth_m"])
PLAIN = hp.Collection("plain", indexes=["n"])
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(params=["memory", "file"])
def db(request: Any, tmp_path: Path) -> Iterator[hp.Database]:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[WELLS, PLAIN], durability="relaxed") as db:
        db.sync(NOWHERE, token="t", max_queue=50)
        yield db


def queue(db: hp.Database) -> list[dict[str, Any]]:
    engine = db._driver.engine
    texts = engine.run(Operation(Find(OUTBOX, EMPTY.with_order("id"), "texts"), "read", True))
    return [msgspec.json.decode(text) for text in texts]


def ops(db: hp.Database) -> list[tuple[str, str]]:
    return [(entry["op"], entry["key"]) for entry in queue(db)]


def test_every_kind_of_write_is_queued(db: hp.Database) -> None:
    plain = db[PLAIN]
    plain.put({"id": "a", "n": 1})
    plain.add({"id": "b", "n": 1})
    plain.put_many([{"id": "c", "n": 1}, {"id": "d", "n": 1}])
    assert ops(db) == [("put", k) for k in "abcd"]
    plain.patch("a", n=2)
    plain.update("b", lambda doc: {**doc, "n": 2})
    plain.patch_many({"c": {"n": 2}})
    plain.where(hp.F.n == 2).patch(m=3)
    plain.delete("d")
    assert plain.delete("none") == 0
    assert plain.where(hp.F.n == 2).delete() == 3
    assert plain.clear() == 0
    assert plain.count() == 0
    kinds = {op for op, _ in ops(db)}
    assert "delete" in kinds


def test_what_fails_is_not_queued(db: hp.Database) -> None:
    wells = db[WELLS]
    wells.put(Well("a", "taken"))
    with pytest.raises(hp.UniqueViolation):
        wells.put(Well("b", "taken"))
    with pytest.raises(hp.KeyExists):
        wells.add(Well("a", "other"))
    with pytest.raises(hp.BulkError) as caught:
        wells.add_many([Well("c", "taken"), Well("d", "free"), Well("a", "x")])
    assert sorted(caught.value.failures) == [0, 2]
    assert caught.value.keys == [None, "d", None]
    with pytest.raises(hp.NotFound):
        wells.patch("none", name="x")
    assert ops(db) == [("put", "a"), ("put", "d")]
    with pytest.raises(InvalidKey):
        db[PLAIN].put({"id": 5})
    assert db[PLAIN].count() == 0


def test_an_error_caught_inside_a_unit_leaves_neither_data_nor_queue(db: hp.Database) -> None:
    async def unit(tx: hp.Tx) -> None:
        await tx[WELLS].put(Well("a", "one"))
        with pytest.raises(hp.UniqueViolation):
            await tx[WELLS].put(Well("b", "one"))
        with pytest.raises(QueueFull):
            await tx[PLAIN].put_many({"id": str(n)} for n in range(60))
        await tx[WELLS].put(Well("c", "three"))

    db.run(unit)
    with db.transaction():
        with pytest.raises(QueueFull):
            db[PLAIN].put_many({"id": str(n)} for n in range(60))
        db[WELLS].put(Well("d", "four"))
    assert sorted(db[WELLS].keys()) == ["a", "c", "d"]
    assert db[PLAIN].count() == 0
    assert [key for _, key in ops(db)] == ["a", "c", "d"]
    units = [entry["unit"] for entry in queue(db)]
    assert units[0] == units[1] != units[2]


def test_single_writes_are_units_of_one(db: hp.Database) -> None:
    db[PLAIN].put_many([{"id": "a"}, {"id": "b"}])
    db[PLAIN].put({"id": "c"})
    assert [entry.get("unit") for entry in queue(db)] == [None, None, None]


def test_r24_a_unit_that_can_never_be_sent_is_refused_as_a_whole(
    db: hp.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_UNIT_CHANGES", 5)
    with pytest.raises(UnitTooLarge), db.transaction():
        for n in range(6):
            db[PLAIN].put({"id": str(n)})
    assert db[PLAIN].count() == 0
    assert queue(db) == []
    with db.transaction():
        for n in range(4):
            db[PLAIN].put({"id": str(n)})
        with pytest.raises(UnitTooLarge):
            db[PLAIN].put_many({"id": f"x{n}"} for n in range(4))
        # What was rolled back does not count.
        db[PLAIN].put({"id": "last"})
    assert sorted(db[PLAIN].keys()) == ["0", "1", "2", "3", "last"]


async def test_groups_keep_their_units_apart(tmp_path: Path) -> None:
    import asyncio

    async with hp.open_async(tmp_path / "a.db", collections=[WELLS, PLAIN]) as db:
        db.sync(NOWHERE, token="t")

        async def unit(tx: hp.Tx, n: int) -> None:
            await tx[PLAIN].put({"id": f"{n}-a"})
            await tx[PLAIN].put({"id": f"{n}-b"})

        jobs: list[Any] = [db.run(unit, n) for n in range(5)]
        jobs += [db[PLAIN].put({"id": f"one-{n}"}) for n in range(5)]
        await asyncio.gather(*jobs)
        find = Operation(Find(OUTBOX, EMPTY.with_order("id"), "texts"), "read", True)
        entries = [msgspec.json.decode(text) for text in db._driver.engine.run(find)]
    by_unit: dict[Any, list[str]] = {}
    for entry in entries:
        by_unit.setdefault(entry.get("unit"), []).append(entry["key"])
    assert len(by_unit.pop(None)) == 5
    assert sorted(by_unit.values()) == [[f"{n}-a", f"{n}-b"] for n in range(5)]


def test_meta_of_a_queued_document(db: hp.Database) -> None:
    db[PLAIN].put({"id": "a"})
    meta = db[PLAIN].meta("a")
    assert meta is not None
    assert meta.sync_status == "pending"
    assert meta.last_sync is None
    assert meta.token is None
    assert meta.device


def test_r15_unknown_fields_of_pulled_documents_survive_a_model_write(db: hp.Database) -> None:
    """The server may send fields that the model does not know; the same file never had another one."""
    from homeport.core.codec import Table
    from homeport.core.requests import Put, Write

    table: Table[Any] = db._tables["wells"]

    def pulled() -> Any:
        text = '{"id":"w","name":"n","depth_m":1.0,"operator":"Equinor"}'
        row = table.codec.row_of_text(text)
        yield Write((Put(table, [row], tokens=[("7", None)]),))

    db._driver.engine.run(Operation(pulled(), "write"))
    db[WELLS].put(Well("w", "m", 2.0))
    db[WELLS].update("w", lambda well: Well("w", "k", well.depth_m))
    db[WELLS].patch("w", depth_m=3.0)
    async def unit(tx: hp.Tx) -> None:
        await tx[WELLS].put(Well("w", "z", 3.0))

    db.run(unit)
    text = db._driver.engine.run(Operation(Find(table, EMPTY, "texts"), "read", True))[0]
    assert msgspec.json.decode(text) == {
        "id": "w", "name": "z", "depth_m": 3.0, "operator": "Equinor"
    }  # fmt: skip
    assert queue(db)[-1]["op"] == "patch"
    assert "operator" not in queue(db)[-1]["set"]
