"""Indexes made on live data: what others do meanwhile, what a kill leaves, what a unique one finds."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeport as hp
from homeport.core.codec import Table
from homeport.core.evaluate import matches
from homeport.core.indexing import FIRST_ROWS, HOLD_S, LEAST_PAGES, MOST_ROWS, IndexProgress, Pace
from homeport.core.query import EMPTY
from homeport.core.integrity import list_integrity
from homeport.core.requests import Delete, Find, Operation, Put, SetMeta, Write
from homeport.errors import DuplicateValues, NotFound, SchemaError, SchemaMismatch, UniqueViolation
from homeport.storage import sqlite_declared, sqlite_schema
from homeport.storage.sqlite import SQLiteStore
from homeport.storage.sqlite_session import SQLiteSession

F = hp.F
ROWS = 6_000
FORMS: list[tuple[Any, Any]] = [
    ("name", F.name == "n7"),
    (("kind", "v"), (F.kind == "k3") & (F.v > 5_000)),
    (hp.Multi("tags"), F.tags.contains("t5")),
    (hp.Index("name", sparse=True), F.name == "n7"),
    (hp.Index("name", kind="hash"), F.name == "n7"),
    (hp.Unique("name"), F.name == "n7"),
    ("deep.x", F.deep.x == 3),
]


def document(n: int) -> dict[str, Any]:
    return {
        "id": f"d{n:05}",
        "v": n,
        "name": f"n{n}",
        "kind": f"k{n % 7}",
        "tags": [f"t{n % 50}", "all"],
        "deep": {"x": n % 11} if n % 3 else None,
    }


def filled(path: Path, rows: int = ROWS, *indexes: Any) -> hp.Collection[Any]:
    docs = hp.Collection("docs", indexes=["v", *indexes])
    with hp.open(path, collections=[docs], durability="relaxed") as db:
        db[docs].put_many(document(n) for n in range(rows))
    return docs


def check(db: hp.Database) -> list[str]:
    return db._driver.engine.store.check()  # type: ignore[attr-defined]


def layout(db: hp.Database) -> Any:
    return db._driver.engine.store.statements["docs"].layout  # type: ignore[attr-defined]


def agrees(db: hp.Database, condition: Any) -> None:
    """A query reads what a scan finds."""
    every = list(db["docs"].all())
    expected = sorted(doc["id"] for doc in every if matches(condition, doc))
    assert sorted(db["docs"].where(condition).keys()) == expected
    assert db["docs"].where(condition).count() == len(expected)


@pytest.mark.parametrize(("form", "condition"), FORMS, ids=lambda one: str(one)[:40])
def test_an_index_is_made_and_used(tmp_path: Path, form: Any, condition: Any) -> None:
    docs = filled(tmp_path / "a.db")
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        before = db["docs"].where(condition).explain().indexes
        index = db.create_index(docs, form)
        assert index.name not in before
        assert isinstance(index, hp.Index)
        explanation = db["docs"].where(condition).explain()
        assert explanation.index == index.name, explanation
        assert check(db) == []
        agrees(db, condition)
        db["docs"].put({**document(7), "id": "later"} if not index.unique else document(90_000))
        db["docs"].patch("d00008", name="n7x", kind="k3", tags=["t5"], v=9_000)
        db["docs"].delete("d00005")
        agrees(db, condition)
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:  # the declaration does not know it
        assert db["docs"].where(condition).explain().index == index.name, "it stays in the file"
        agrees(db, condition)
        assert db.drop_index(docs, form) is True
        assert db.drop_index(docs, form) is False
        assert db["docs"].where(condition).explain().indexes == before
        agrees(db, condition)
        assert check(db) == []


def test_the_file_is_right_after_every_step(tmp_path: Path) -> None:
    """Others write between the steps, behind and before the place where the build is."""
    docs = filled(tmp_path / "a.db")
    rng = random.Random(1)
    seen: list[IndexProgress] = []
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        w = db["docs"]

        def meanwhile(progress: IndexProgress) -> None:
            seen.append(progress)
            if progress.phase != "filling":
                return
            for _ in range(5):
                n = rng.randrange(ROWS)
                w.put({**document(n), "name": f"n{n % 10}", "tags": ["t5"]})
                w.delete(f"d{rng.randrange(ROWS):05}")
            w.put({**document(len(seen)), "id": f"new{len(seen)}"})
            if "name" in layout(db).building:
                assert w.where(F.name == "n7").explain().scan
            assert w.where(F.name == "n3").count() == sum(d["name"] == "n3" for d in w.all())
            if len(seen) % 4 == 0:
                assert check(db) == []

        db.create_index(docs, "name", progress=meanwhile)
        db.create_index(docs, hp.Multi("tags"), progress=meanwhile)
        assert len(seen) > 8
        for condition in (F.name == "n7", F.name > "n3", F.tags.contains("t5")):
            assert not w.where(condition).explain().scan
            agrees(db, condition)
        assert check(db) == []
    fills = [one for one in seen if one.phase == "filling" and one.indexes == ("name",)]
    shares = [one.share for one in fills]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert fills[0].total == ROWS and fills[0].collection == "docs"
    assert seen[-1].phase == "done" and seen[-1].share == 1.0


def test_another_process_keeps_an_index_that_it_does_not_know(tmp_path: Path) -> None:
    """A second database object has its own store and connections, as another process has."""
    docs = filled(tmp_path / "a.db")
    with (
        hp.open(tmp_path / "a.db", collections=[docs]) as one,
        hp.open(tmp_path / "a.db", collections=[docs]) as two,
    ):
        other = two["docs"]
        assert other.where(F.name == "n1").explain().scan

        def meanwhile(_: IndexProgress) -> None:
            other.put({"id": f"o{random.random()}", "name": "other", "v": 1})
            other.patch("d00001", name="moved")
            assert other.where(F.name == "n2").keys() == ["d00002"]

        one.create_index(docs, "name", progress=meanwhile)
        one.create_index(docs, hp.Multi("tags"))
        other.put({"id": "last", "name": "other", "tags": ["t5"]})
        for db in (one, two):
            for condition in (F.name == "other", F.name == "moved", F.tags.contains("t5")):
                agrees(db, condition)
                assert not db["docs"].where(condition).explain().scan
        assert check(two) == []
        # And does without one that is gone, also in what it asks next.
        one.drop_index(docs, "name")
        one["docs"].patch("d00003", name="other")
        assert "d00003" in other.where(F.name == "other").keys()
        agrees(two, F.name == "other")
        other.put({"id": "later", "name": "other"})
        agrees(one, F.name == "other")
        one.create_index(docs, "name")
        agrees(two, F.name == "other")
        assert check(one) == []


def test_a_declaration_of_another_process_is_followed(tmp_path: Path) -> None:
    docs = filled(tmp_path / "a.db")
    newer = hp.Collection("docs", indexes=["v", "name", hp.Multi("tags")])
    with hp.open(tmp_path / "a.db", collections=[docs]) as one:
        with hp.open(tmp_path / "a.db", collections=[newer]) as two:
            one["docs"].put({"id": "x", "name": "mine", "tags": ["mine"]})
            one["docs"].patch("d00001", name="mine")
            assert two["docs"].where(F.name == "mine").explain().index == "name"
            assert sorted(two["docs"].where(F.name == "mine").keys()) == ["d00001", "x"]
            assert two["docs"].where(F.tags.contains("mine")).keys() == ["x"]
            assert one["docs"].where(F.name == "mine").explain().index == "name"
        with hp.open(tmp_path / "a.db", collections=[hp.Collection("docs")]) as three:
            # That declaration has no index at all: they are gone, for everybody.
            assert three["docs"].where(F.v == 5).explain().scan
            one["docs"].put({"id": "y", "v": 5, "name": "mine"})
            assert sorted(one["docs"].where(F.v == 5).keys()) == ["d00005", "y"]
            agrees(one, F.name == "mine")
        assert check(one) == []


def test_a_unique_index_that_is_gone_is_no_small_thing(tmp_path: Path) -> None:
    docs = filled(tmp_path / "a.db", 10, hp.Unique("name"))
    with hp.open(tmp_path / "a.db", collections=[docs]) as one:
        hp.open(tmp_path / "a.db", collections=[hp.Collection("docs", indexes=["v"])]).close()
        with pytest.raises(SchemaMismatch):
            one["docs"].put({"id": "twin", "name": "n1"})


def test_a_snapshot_does_not_read_an_index_that_came_later(tmp_path: Path) -> None:
    """Between two questions of one transaction another process completes an index."""
    docs = filled(tmp_path / "a.db", 3_000)
    stores = [SQLiteStore.open(str(tmp_path / "a.db"), clock_ms=lambda: 1) for _ in range(2)]
    tables: list[Table[Any]] = [Table(docs) for _ in stores]
    for store, table in zip(stores, tables, strict=True):
        store.define([table])
    reader = stores[0].session(readonly=True)
    query = Find(tables[0], EMPTY.and_where(F.name == "n2999"), "keys")
    reader.begin("read")
    assert reader.answer(query) == ["d02999"]
    stores[1].create_index(tables[1], docs.resolved("name"))
    while stores[1].build_step(tables[1], 0.0) is not None:
        assert reader.answer(query) == ["d02999"]
    stores[0].refresh(stores[0]._main().execute)  # another thread of the process has noticed
    assert "name" in stores[0].statements["docs"].layout.indexes
    assert reader.answer(query) == ["d02999"]
    reader.rollback()
    assert reader.answer(query) == ["d02999"]
    reader.begin("read")  # begun, nothing read yet: the snapshot is not taken
    stores[1].drop_index(tables[1], "name")
    assert reader.answer(query) == ["d02999"]
    reader.rollback()
    for store in stores:
        store.close()


KILLED = """
import sys, homeport as hp
path, form = sys.argv[1], sys.argv[2]
docs = hp.Collection("docs", indexes=["v"])
db = hp.open(path, collections=[docs])
def tell(progress):
    print(progress.rows, flush=True)
    if progress.rows > 2000:
        sys.stdin.readline()   # waits for the kill in the middle of a build
db.create_index(docs, hp.Multi("tags") if form == "tags" else form, progress=tell)
"""


@pytest.mark.parametrize("form", ["name", "tags"])
def test_a_build_that_was_killed_is_gone_on_with(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.db"
    docs = filled(path)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), form],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while int(process.stdout.readline()) <= 2_000:
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    condition = F.tags.contains("t5") if form == "tags" else F.name == "n5999"
    with hp.open(path, collections=[docs]) as db:
        assert check(db) == []
        assert list(layout(db).building) == ["tags_m" if form == "tags" else "name"]
        explanation = db["docs"].where(condition).explain()
        assert explanation.scan, "usable only when complete"
        agrees(db, condition)
        db["docs"].put({"id": "between", "name": "n5999", "tags": ["t5"]})
        db["docs"].patch("d00000", name="n5999", tags=["t5"])
        db["docs"].delete("d05999")
        seen: list[IndexProgress] = []
        db.create_index(docs, hp.Multi("tags") if form == "tags" else form, progress=seen.append)
        assert seen[0].rows > 2_000, "not from the beginning"
        assert not db["docs"].where(condition).explain().scan
        agrees(db, condition)
        assert check(db) == []


def test_two_builders_share_the_work(tmp_path: Path) -> None:
    docs = filled(tmp_path / "a.db")
    with (
        hp.open(tmp_path / "a.db", collections=[docs]) as one,
        hp.open(tmp_path / "a.db", collections=[docs]) as two,
    ):
        other: list[IndexProgress] = []

        def begin_too(progress: IndexProgress) -> None:
            if not other and progress.rows < 2_000:
                two.create_index(docs, "name", progress=other.append)

        one.create_index(docs, "name", progress=begin_too)
        assert other and other[0].rows > 0, "it goes on where the first one is"
        for db in (one, two):
            assert db["docs"].where(F.name == "n7").explain().index == "name"
        two.create_index(docs, "name")  # there already: nothing to do
        assert check(one) == []


def test_several_indexes_are_filled_in_one_pass(tmp_path: Path) -> None:
    """A declaration that asks for three reads every document once."""
    filled(tmp_path / "a.db")
    docs = hp.Collection("docs", indexes=["v", "name", ("kind", "v"), hp.Multi("tags")])
    seen: list[IndexProgress] = []
    with hp.open(tmp_path / "a.db", collections=[docs], index_progress=seen.append) as db:
        assert seen[0].indexes == ("name", "kind_v", "tags_m")
        assert layout(db).generation == 1 and not layout(db).building
        for form, condition in (("name", F.name == "n7"), ("kind_v", (F.kind == "k3") & (F.v > 9))):
            assert db["docs"].where(condition).explain().index == form
            agrees(db, condition)
        agrees(db, F.tags.contains("t5"))
        assert check(db) == []


def test_a_small_collection_follows_its_declaration_at_once(tmp_path: Path) -> None:
    filled(tmp_path / "a.db", 100)
    docs = hp.Collection("docs", indexes=["name", hp.Multi("tags")])
    seen: list[IndexProgress] = []
    with hp.open(tmp_path / "a.db", collections=[docs], index_progress=seen.append) as db:
        assert seen == []
        assert db["docs"].where(F.name == "n7").explain().index == "name"
        assert check(db) == []


def test_open_may_leave_large_indexes_for_later(tmp_path: Path) -> None:
    filled(tmp_path / "a.db")
    docs = hp.Collection("docs", indexes=["v", "name"])
    with hp.open(tmp_path / "a.db", collections=[docs], defer_indexes=True) as db:
        assert db["docs"].where(F.name == "n7").explain().scan
        db["docs"].put({"id": "x", "name": "n7"})
        assert sorted(db["docs"].where(F.name == "n7").keys()) == ["d00007", "x"]
        seen: list[IndexProgress] = []
        db.build_indexes(progress=seen.append)
        assert seen[-1].phase == "done"
        assert db["docs"].where(F.name == "n7").explain().index == "name"
        agrees(db, F.name == "n7")
        db.build_indexes()
    with hp.open(tmp_path / "a.db", collections=[docs], readonly=True) as db:
        assert db["docs"].where(F.name == "n7").explain().index == "name"


def test_a_created_index_becomes_a_declared_one_without_work(tmp_path: Path) -> None:
    docs = filled(tmp_path / "a.db")
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        db.create_index(docs, "name")
        before = layout(db)
    newer = hp.Collection("docs", indexes=["v", "name"])
    with hp.open(tmp_path / "a.db", collections=[newer]) as db:
        assert layout(db).indexes == before.indexes
        assert layout(db).generation == before.generation
        with pytest.raises(SchemaError, match="declared"):
            db.drop_index(newer, "name")
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        assert "name" not in layout(db).indexes, "declared, and then no more"


def test_columns_of_dropped_indexes_are_used_again(tmp_path: Path) -> None:
    docs = filled(tmp_path / "a.db", 3_000)
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        for round_ in range(3):
            for form, condition in (("name", F.name == "n7"), ("kind", F.kind == "k3")):
                db.create_index(docs, form)
                db["docs"].put({"id": f"r{round_}{form}", "name": "n7", "kind": "k3"})
                agrees(db, condition)
                db.drop_index(docs, form)
                agrees(db, condition)
        columns = db._driver.engine.store._main().execute("PRAGMA table_info('c_docs')").fetchall()
        assert sum(name.startswith(("k_", "left")) for _, name, *_ in columns) == 2, columns
        assert check(db) == []


# -- unique


def test_documents_that_are_not_unique_are_reported_when_opening(tmp_path: Path) -> None:
    docs = filled(tmp_path / "a.db", 3_000)
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        db["docs"].put_many({"id": f"twin{n}", "name": "n5"} for n in range(2))
        db["docs"].put({"id": "other", "name": "n9"})
    unique = hp.Collection("docs", indexes=["v", hp.Unique("name")])
    for _ in range(2):
        with pytest.raises(DuplicateValues) as caught:
            hp.open(tmp_path / "a.db", collections=[unique])
        assert caught.value.duplicates == [("n5", ["d00005", "twin0", "twin1"]), ("n9", ["d00009", "other"])]
        assert caught.value.context == {"collection": "docs", "index": "name"}
        assert caught.value.code == "duplicate-values"
    plain = hp.Collection("docs", indexes=["v", "name"])
    with hp.open(tmp_path / "a.db", collections=[plain]) as db:
        assert db["docs"].count() == 3_003, "they all stay"
        db["docs"].put({"id": "third", "name": "n9"})
        db["docs"].delete_many(["twin0", "twin1", "third", "other"])
    with hp.open(tmp_path / "a.db", collections=[unique]) as db:
        with pytest.raises(UniqueViolation):
            db["docs"].put({"id": "again", "name": "n5"})
        db["docs"].put({"id": "free", "name": "new"})


def test_a_unique_index_over_duplicates_is_not_made(tmp_path: Path) -> None:
    docs = filled(tmp_path / "a.db", 3_000)
    with (
        hp.open(tmp_path / "a.db", collections=[docs]) as db,
        hp.open(tmp_path / "a.db", collections=[docs]) as two,
    ):
        db["docs"].put({"id": "twin", "name": "n5"})
        with pytest.raises(DuplicateValues) as caught:
            db.create_index(docs, hp.Unique("name"))
        assert caught.value.duplicates == [("n5", ["d00005", "twin"])]
        assert db["docs"].where(F.name == "n5").explain().scan, "gone again"
        two["docs"].put({"id": "triplet", "name": "n5"})
        db["docs"].delete_many(["twin", "triplet"])
        db.create_index(docs, hp.Unique("name"))
        for each in (db, two):
            with pytest.raises(UniqueViolation):
                each["docs"].put({"id": "again", "name": "n5"})
        with pytest.raises(DuplicateValues):
            db.create_index(docs, hp.Multi("tags", unique=True))
        agrees(db, F.tags.contains("t5"))


def test_documents_of_a_synced_collection_are_listed_instead(tmp_path: Path) -> None:
    """The server may hold them: this device cannot refuse to open (rule G)."""
    docs = filled(tmp_path / "a.db", 3_000)
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        db["docs"].put({"id": "twin", "name": "n5"})
        run = db._driver.engine.run  # type: ignore[attr-defined]
        enabled = Write([SetMeta("sync.collections", '["docs"]'), SetMeta("epoch", "90")])
        run(Operation(enabled, "write"))
        with pytest.raises(SchemaError, match="synced"):
            db.create_index(docs, hp.Unique("name"))
    unique = hp.Collection("docs", indexes=["v", hp.Unique("name")])
    for _ in range(2):
        with hp.open(tmp_path / "a.db", collections=[unique]) as db:
            engine = db._driver.engine  # type: ignore[attr-defined]
            listed = engine.run(Operation(list_integrity(engine.store.tables), "read")).conflicts
            assert [(one.keys, one.index) for one in listed] == [(["d00005", "twin"], "name")]
            with pytest.raises(UniqueViolation):
                db["docs"].put({"id": "third", "name": "n5"})
            db["docs"].patch("twin", v=1)


def test_expired_documents_hold_no_value(tmp_path: Path) -> None:
    now = [1_000_000]
    table: Table[Any] = Table(hp.Collection("docs", ttl_s=1))
    store = SQLiteStore.open(str(tmp_path / "a.db"), clock_ms=lambda: now[0])
    store.define([table])
    rows = [table.codec.row({"id": str(n), "name": "same"}) for n in range(2)]
    store.session().answer(Write([Put(table, rows[:1])]))
    now[0] += 2_000
    store._main().answer(Write([Put(table, rows[1:])]))
    store.define([Table(hp.Collection("docs", indexes=[hp.Unique("name")], ttl_s=1))])
    store.close()


# -- in memory, on an event loop, in a transaction


def test_in_memory(tmp_path: Path) -> None:
    docs = hp.Collection("docs", indexes=["v"])
    with hp.open(":memory:", collections=[docs]) as db:
        db["docs"].put_many(document(n) for n in range(50))
        db.create_index(docs, "name")
        db.create_index(docs, hp.Unique("kind", "v"))
        agrees(db, F.name == "n7")
        with pytest.raises(UniqueViolation):
            db["docs"].put({"id": "x", "kind": "k1", "v": 1})
        db["docs"].put({"id": "x", "kind": "k1", "v": 1_000, "tags": ["t1"]})
        with pytest.raises(DuplicateValues) as caught:
            db.create_index(docs, hp.Multi("tags", unique=True))
        assert ("t1", ["d00001", "x"]) in caught.value.duplicates
        assert db.drop_index(docs, hp.Unique("kind", "v")) is True
        db["docs"].put({"id": "y", "kind": "k1", "v": 1})
        db.build_indexes()
        assert db["docs"].where(F.name == "n7").explain().scan


async def test_on_an_event_loop(tmp_path: Path) -> None:
    docs = filled(tmp_path / "a.db")
    async with hp.open_async(tmp_path / "a.db", collections=[docs]) as db:
        written = 0
        building = asyncio.create_task(db.create_index(docs, "name"))
        while not building.done():
            await db["docs"].put({"id": f"w{written}", "name": "n7"})
            written += 1
        await building
        assert written > 3, "others write meanwhile"
        assert (await db["docs"].where(F.name == "n7").explain()).index == "name"
        assert await db["docs"].where(F.name == "n7").count() == written + 1
        def cancel(_: IndexProgress) -> None:
            task.cancel()

        task = asyncio.create_task(db.create_index(docs, "kind", progress=cancel))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await db["docs"].where(F.kind == "k1").count() == 857
        await db.create_index(docs, "kind")
        assert (await db["docs"].where(F.kind == "k1").explain()).index == "kind"
        await db.drop_index(docs, "kind")
        await db.build_indexes()


def test_what_cannot_be(tmp_path: Path) -> None:
    class Named(msgspec.Struct):
        id: str
        name: str

    docs = hp.Collection("docs", Named)
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        with pytest.raises(SchemaError, match="no field"):
            db.create_index(docs, "absent")
        with pytest.raises(hp.UnknownCollection):
            db.create_index("other", "name")
        with db.transaction(), pytest.raises(hp.TransactionError):
            db.create_index(docs, "name")
        db["docs"].put(Named("a", "x"))
        db.create_index(docs, "name")
        assert db["docs"].where(F.name == "x").one() == Named("a", "x")
    with (
        hp.open(tmp_path / "a.db", collections=[docs], readonly=True) as db,
        pytest.raises(hp.errors.ReadOnly),
    ):
        db.create_index(docs, "id")


def test_the_pace_of_a_build() -> None:
    pace = Pace()
    first = pace.rows
    pace.took(HOLD_S / 100, rows=first)
    assert pace.rows == 2 * first, "one quick step proves little"
    for _ in range(20):
        pace.took(pace.rows * 1e-6, rows=pace.rows)
    assert pace.rows == MOST_ROWS
    pages = pace.pages
    pace.took(10 * HOLD_S, rows=pace.rows)
    assert pace.rows == MOST_ROWS // 10, "a slow one counts at once"
    pace.took(5.0, rows=1)
    assert pace.rows == 1
    pace.took(5.0)
    assert pace.rows == 1
    assert pace.pages == pages, "pages are paced by themselves"
    pace.took(HOLD_S / 100, pages=pages)
    assert (pace.rows, pace.pages) == (1, 2 * pages)
    pace.took(5.0, pages=pace.pages)
    assert pace.pages == LEAST_PAGES


def test_a_slow_disk_does_not_make_steps_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a commit waits for is the same for one row and for a thousand."""
    docs = hp.Collection("docs")
    rows: list[int] = []
    now = [0.0]
    took, alone = Pace.took, SQLiteSession.alone

    def noted(self: Pace, *given: Any, **named: Any) -> None:
        took(self, *given, **named)
        rows.append(self.rows)

    @contextmanager
    def slow(self: SQLiteSession) -> Iterator[Any]:
        with alone(self) as execute:
            yield execute
            now[0] += 5 * HOLD_S  # in the commit

    monkeypatch.setattr(Pace, "took", noted)
    monkeypatch.setattr(SQLiteSession, "alone", slow)
    monkeypatch.setattr(sqlite_declared, "perf_counter", lambda: now[0])
    with hp.open(tmp_path / "a.db", collections=[docs], durability="relaxed") as db:
        db["docs"].put_many({"id": n, "a": n} for n in range(4_000))
        db.create_index(docs, "a")
    assert rows and min(rows) > FIRST_ROWS // 5 + 1, "else it went down by five in each step"


# -- any order of steps and writes


step = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 1), st.integers(0, 30), st.integers(0, 3)),
    st.tuples(st.just("delete"), st.integers(0, 1), st.integers(0, 30), st.just(0)),
    st.tuples(st.just("create"), st.integers(0, 1), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("drop"), st.integers(0, 1), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("step"), st.integers(0, 1), st.just(0), st.just(0)),
    st.tuples(st.just("reopen"), st.integers(0, 1), st.integers(0, 2), st.just(0)),
)
KINDS = ["a", hp.Multi("t"), ("b", "a")]
DECLARED: list[list[Any]] = [[], ["a"], [("b", "a"), hp.Multi("t"), "b"]]


@settings(max_examples=80)
@given(steps=st.lists(step, max_size=25))
def test_any_order_of_steps_and_writes(tmp_path_factory: Any, steps: Any) -> None:
    """Two processes with declarations of their own; every answer is that of a scan."""
    path = tmp_path_factory.mktemp("steps") / "a.db"
    stores: list[Any] = [None, None]
    tables: list[Any] = [None, None]

    def reopen(who: int, declared: int) -> None:
        if stores[who] is not None:
            stores[who].close()
        stores[who] = SQLiteStore.open(str(path), durability="relaxed", clock_ms=lambda: 1)
        tables[who] = Table(hp.Collection("docs", indexes=DECLARED[declared]))
        stores[who].define([tables[who]], build=hp_build())

    reopen(0, 0)
    reopen(1, 1)
    docs: dict[str, Any] = {}
    for n in range(12):
        docs[f"k{n}"] = {"id": f"k{n}", "a": n % 3, "b": n % 2, "t": [n % 4, "x"]}
    write(stores[0], tables[0], *docs.values())

    def compare() -> None:
        for each, its in zip(stores, tables, strict=True):
            for condition in (F.a == 1, F.t.contains("x"), (F.b == 1) & (F.a > 0), F.t.contains(1)):
                found = each._main().answer(Find(its, EMPTY.and_where(condition), "keys"))
                assert sorted(found) == sorted(k for k, d in docs.items() if matches(condition, d))

    for what, who, number, value in steps:
        store, table = stores[who], tables[who]
        if what == "put":
            doc = {"id": f"k{number}", "a": value, "b": value % 2, "t": [value, "x"]}
            docs[doc["id"]] = doc
            write(store, table, doc)
        elif what == "delete":
            docs.pop(f"k{number}", None)
            store._main().answer(Write([Delete(table, [f"k{number}"])]))
        elif what == "create":
            store.create_index(table, table.collection.resolved(KINDS[number]))
        elif what == "drop":
            name = table.collection.resolved(KINDS[number]).name
            store.drop_index(table, name)
        elif what == "step":
            store.declared._paces.setdefault("docs", Pace()).rows = 3
            store.build_step(table, 0.0)
        else:
            reopen(who, number)
        compare()
    while stores[0].build_step(tables[0], 0.0) is not None:
        pass
    compare()
    assert stores[0].check() == []
    for store in stores:
        store.close()


def hp_build() -> Any:
    from homeport.core.indexing import Build

    return Build(wait=False)


def write(store: Any, table: Any, *docs: Any) -> None:
    extras = [table.codec.extras(doc) for doc in docs] if table.codec.has_extras else None
    store._main().answer(Write([Put(table, [table.codec.row(doc) for doc in docs], extras)]))


@pytest.fixture(autouse=True)
def large_collections_are_small_here(monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    if "any_order" in request.node.name:
        monkeypatch.setattr(sqlite_schema, "SMALL_ROWS", 0)


def test_a_document_that_is_gone_is_in_no_index(tmp_path: Path) -> None:
    docs = filled(tmp_path / "a.db", 3_000)
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        db.create_index(docs, "name")
        db["docs"].clear()
        assert db["docs"].where(F.name == "n7").keys() == []
        with pytest.raises(NotFound):
            db["docs"].where(F.name == "n7").one()
        assert check(db) == []
