"""The result cache: the same answers as without one, whoever writes; never the same object twice
unless nobody can change it; no more bytes than were given."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeport as hp
from homeport.core import resultcache
from homeport.core.operations import all_of, count, get
from homeport.core.operations import first as first_of
from homeport.core.requests import GetMany
from homeport.core.sharing import Sharing, is_immutable
from homeport.drivers.engine import Engine
from homeport.errors import Closed, UsageError, ValidationFailed

DOCS = hp.Collection("docs", indexes=["n", "group", hp.Multi("tags"), hp.FullText("text")])
OTHER = hp.Collection("other")
BRIEF = hp.Collection("brief", indexes=["n"], ttl_s=0.2)
SILENT = hp.Collection("silent", track_changes=False)
ALL = [DOCS, OTHER, BRIEF, SILENT]


def opened(path: Any, mb: float = 4, collections: Any = ALL) -> hp.Database:
    return hp.open(path, collections=collections, durability="relaxed", result_cache_mb=mb)


@pytest.fixture(params=["memory", "file"])
def db(request: Any, tmp_path: Path) -> Iterator[hp.Database]:
    with opened(":memory:" if request.param == "memory" else tmp_path / "a.db") as db:
        yield db


@pytest.fixture
def file(tmp_path: Path) -> Iterator[hp.Database]:
    with opened(tmp_path / "a.db") as db:
        yield db


def hits(db: hp.Database, read: Callable[[], Any]) -> tuple[Any, int]:
    """What a read gives, and by how many hits."""
    before = db.cache_stats().hits
    return read(), db.cache_stats().hits - before


def uncached(db: hp.Database, operation: Any) -> Any:
    """The answer of the engine below the cache."""
    return Engine.run(db._driver.engine, operation)


# -- what is answered from memory


def test_repeated_reads_are_hits(db: hp.Database) -> None:
    docs = db[DOCS]
    docs.put_many({"id": str(n), "n": n} for n in range(20))
    query = docs.where(hp.F.n >= 5).order_by("-n").limit(3)
    reads: list[Callable[[], Any]] = [
        lambda: docs.get("3"),
        lambda: docs.get("nothing"),
        lambda: docs.get("nothing", 7),
        query.all,
        query.first,
        query.keys,
        query.count,
        query.exists,
        docs.where(hp.F.n == 4).one,
        lambda: docs.where(hp.F.n >= 5).order_by("-n").limit(3).all(),
        docs.all,
    ]
    fresh = [read() for read in reads]
    for _ in range(3):
        for read, wanted in zip(reads, fresh, strict=True):
            assert hits(db, read) == (wanted, 1)
    stats = db.cache_stats()
    assert stats.misses == len(reads) - 2, "an equal query, and another default, are the same read"
    assert (stats.evictions, stats.invalidations) == (0, 0)
    assert stats.entries == len(reads) - 2
    assert 0 < stats.bytes < stats.max_bytes == 4 * 1024 * 1024


def test_without_a_cache_there_are_no_hits(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[DOCS]) as db:
        db[DOCS].put({"id": "a"})
        for _ in range(3):
            db[DOCS].get("a")
        assert db.cache_stats() == hp.CacheStats()
    for wrong in (-1, float("nan"), float("inf"), "4"):
        with pytest.raises(UsageError, match="result_cache_mb"):
            hp.open(tmp_path / "a.db", collections=[DOCS], result_cache_mb=wrong)  # type: ignore[arg-type]


def test_equal_in_python_is_not_equal_in_a_query(db: hp.Database) -> None:
    docs = db[DOCS]
    docs.put_many([{"id": "a", "n": 1}, {"id": "b", "n": True}, {"id": "c", "n": 0}, {"id": "d", "n": False}])
    for _ in range(3):
        assert docs.where(hp.F.n == 1).keys() == ["a"]
        assert docs.where(hp.F.n == True).keys() == ["b"]  # noqa: E712
        assert docs.where(hp.F.n == 1.0).keys() == ["a"]
        assert docs.where(hp.F.n == 0).keys() == ["c"]
        assert docs.where(hp.F.n.any_of([False])).keys() == ["d"]
        assert docs.where(hp.F.n.any_of([0])).keys() == ["c"]


def test_what_is_not_kept(db: hp.Database) -> None:
    db[SILENT].put({"id": "a"})
    db[DOCS].put_many([{"id": "a", "n": 1}, {"id": ["x", 1], "n": 2}, {"id": 7, "n": 3}])
    for _ in range(3):
        assert hits(db, lambda: db[SILENT].get("a")) == ({"id": "a"}, 0)
        assert hits(db, db[SILENT].all) == ([{"id": "a"}], 0)
        assert hits(db, lambda: db[DOCS].get(["x", 1])) == ({"id": ["x", 1], "n": 2}, 0)
        assert hits(db, lambda: db[DOCS].get(7)) == ({"id": 7, "n": 3}, 0)
        assert hits(db, lambda: db[DOCS].filter(lambda doc: doc["n"] > 2).keys()) == ([7], 0)
        assert hits(db, db[DOCS].order_by("n").keys) == (["a", ["x", 1], 7], 0)
        assert hits(db, lambda: [doc["n"] for doc in db[DOCS]])[1] == 0
    with pytest.raises(hp.errors.InvalidKey):
        db[DOCS].get(None)  # type: ignore[arg-type]


def test_aggregates_and_searches_are_answered_from_memory(db: hp.Database) -> None:
    docs = db[DOCS]
    docs.put_many({"id": str(n), "n": n % 5, "text": f"red w{n % 7}", "tags": ["a", "b"]} for n in range(40))
    query = docs.where(hp.F.n >= 2)
    reads: list[Callable[[], Any]] = [
        lambda: query.sum("n"),
        lambda: query.avg("n"),
        lambda: query.sum("w"),
        lambda: docs.group_by("n").count(),
        lambda: docs.group_by(hp.agg.each("tags")).aggregate(n=hp.agg.count(), top=hp.agg.max("n")),
        lambda: docs.group_by("tags").count(),
        lambda: docs.distinct("n"),
        lambda: found(docs.search("red w3")),
        lambda: found(query.search("red w3", limit=3)),
        lambda: found(query.search("red w3", {"text": 0.5}, candidates=7)),
        lambda: found(query.offset(1).search("w3")),
    ]
    kept = [True] * len(reads)
    kept[5] = False  # its groups are arrays, which a receiver could change
    fresh = [read() for read in reads]
    for _ in range(3):
        for read, wanted, hit in zip(reads, fresh, kept, strict=True):
            assert hits(db, read) == (wanted, int(hit))
    fresh[3][0] = "spoilt"
    docs.search("red w3")[0].document["n"] = "spoilt"
    assert docs.group_by("n").count() == dict.fromkeys(range(5), 8)
    assert {hit.document["n"] for hit in docs.search("red w3")} <= {0, 1, 2, 3, 4}
    db[OTHER].put({"id": "x"})
    assert [hits(db, read)[1] for read in reads] == [int(hit) for hit in kept], "another collection"
    docs.put({"id": "far", "n": 0})
    assert [hits(db, read)[1] for read in reads] == [0] * len(reads), "any document may have a part in it"
    with opened(":memory:" if db.path == ":memory:" else str(db.path) + "2", 0.002) as small:
        small[DOCS].put_many({"id": str(n), "n": n} for n in range(500))
        for _ in range(2):
            assert hits(small, lambda: len(small[DOCS].group_by("n").count())) == (500, 0)
        assert small.cache_stats().bytes <= small.cache_stats().max_bytes


# -- what drops it


def test_a_write_drops_what_it_changes_and_nothing_else(db: hp.Database) -> None:
    docs = db[DOCS]
    docs.put_many({"id": str(n), "n": n} for n in range(20))
    low, high = docs.where(hp.F.n < 5).order_by("n"), docs.where(hp.F.n >= 15).order_by("n")
    few = docs.where(hp.F.n >= 0).order_by("n").limit(3)

    def warm() -> None:
        for read in (low.all, high.keys, few.all, low.count, lambda: docs.get("1"), lambda: docs.get("16")):
            read()
            read()

    warm()
    docs.patch("2", text="changed")  # one that is in low and few
    assert hits(db, lambda: docs.get("1"))[1] == 1
    assert hits(db, lambda: docs.get("16"))[1] == 1
    assert hits(db, high.keys) == (["15", "16", "17", "18", "19"], 1)
    assert hits(db, low.all)[1] == 0
    assert low.all()[2] == {"id": "2", "n": 2, "text": "changed"}
    assert hits(db, few.all)[1] == 0
    assert hits(db, low.count) == (5, 0), "a number does not tell what it counted"
    warm()
    docs.put({"id": "new", "n": 10})  # in none of them, but it matches few
    assert hits(db, low.all)[1] == 1
    assert hits(db, high.keys)[1] == 1
    assert hits(db, few.all)[1] == 0
    warm()
    docs.patch("new", n=16.5)  # it comes into high
    assert hits(db, high.keys) == (["15", "16", "new", "17", "18", "19"], 0)
    warm()
    db[OTHER].put({"id": "x"})
    for read in (low.all, high.keys, few.all, low.count, lambda: docs.get("1")):
        assert hits(db, read)[1] == 1, "another collection"
    docs.delete("1")
    assert hits(db, lambda: docs.get("1")) == (None, 0)
    assert [doc["id"] for doc in low.all()] == ["0", "2", "3", "4"]
    assert db.cache_stats().invalidations > 4


def test_a_page_depends_on_what_stands_in_front_of_it(db: hp.Database) -> None:
    docs = db[DOCS]
    docs.put_many({"id": str(n), "n": n} for n in range(9))
    page = docs.order_by("n").offset(3).limit(2)
    for _ in range(2):
        assert page.keys() == ["3", "4"]
    docs.delete("0")
    assert page.keys() == ["4", "5"]
    rest = docs.where(hp.F.n > 2).order_by("n").offset(1)
    rest.all()
    docs.patch("3", n=-1)
    assert [doc["id"] for doc in rest.all()] == ["5", "6", "7", "8"]


@pytest.mark.parametrize("kept", ["nothing", "an old answer"])
def test_a_commit_in_the_middle_of_a_read_is_not_lost(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program commits right behind each request that a read makes, once each."""
    with opened(tmp_path / "a.db") as db, hp.open(tmp_path / "a.db", collections=ALL) as other:
        docs, theirs = db[DOCS], other[DOCS]
        theirs.put_many({"id": str(n), "n": n} for n in range(5))
        query = docs.where(hp.F.n < 3).order_by("n")
        main = db._driver.engine._main
        answer, armed = main.answer, [False]

        def interrupted(request: Any) -> Any:
            found = answer(request)
            if armed[0]:
                theirs.put_many([{"id": "1", "n": theirs.count() / 1000}, {"id": f"x{time.time_ns()}", "n": 9}])
            return found

        monkeypatch.setattr(main, "answer", interrupted)
        for read in (lambda: docs.get("1"), query.all, query.count, query.first, docs.count):
            for _ in range(4):
                if kept == "an old answer":
                    read()
                    theirs.put({"id": f"far{time.time_ns()}", "n": 1000})
                armed[0] = True
                read()
                armed[0] = False
                assert docs.get("1") == theirs.get("1")
                assert query.all() == theirs.where(hp.F.n < 3).order_by("n").all()
                assert (query.count(), docs.count()) == (theirs.where(hp.F.n < 3).count(), theirs.count())


def test_what_is_found_in_the_middle_of_commits_was_true_at_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two documents matches at any time; another program changes which, in front of and
    behind each request that a read makes."""
    with opened(tmp_path / "a.db") as db, hp.open(tmp_path / "a.db", collections=ALL) as other:
        docs, theirs = db[DOCS], other[DOCS]
        turn, armed = [0], [False]

        def toggle() -> None:
            turn[0] += 1
            theirs.put_many({"id": key, "n": (turn[0] + n) % 2} for n, key in enumerate("tu"))

        toggle()
        query = docs.where(hp.F.n == 0)
        main = db._driver.engine._main
        answer = main.answer

        def between(request: Any) -> Any:
            if armed[0]:
                toggle()
            found = answer(request)
            if armed[0]:
                toggle()
            return found

        monkeypatch.setattr(main, "answer", between)
        for n in range(40):
            armed[0] = bool(n % 3)
            for read in (query.keys, lambda: [doc["id"] for doc in query.all()]):
                assert len(read()) == 1
            assert query.count() == 1
            if n % 2:
                theirs.put({"id": f"far{n}", "n": 9})


def test_an_answer_is_confirmed_for_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the changed documents are looked at, the one that would belong leaves and another
    comes: the old answer was true before the call, never during it."""
    with opened(tmp_path / "a.db") as db, hp.open(tmp_path / "a.db", collections=ALL) as other:
        theirs, query = other[DOCS], db[DOCS].where(hp.F.n == 0)
        theirs.put_many([{"id": "t", "n": 1}, {"id": "u", "n": 1}])
        for _ in range(2):
            assert query.keys() == []
        theirs.put({"id": "t", "n": 0})
        main = db._driver.engine._main
        answer = main.answer

        def swapped(request: Any) -> Any:
            if isinstance(request, GetMany):
                theirs.put_many([{"id": "t", "n": 1}, {"id": "u", "n": 0}])
            return answer(request)

        monkeypatch.setattr(main, "answer", swapped)
        assert query.keys() in (["t"], ["u"])


def test_an_answer_is_given_up_after_many_changes(db: hp.Database) -> None:
    docs = db[DOCS]
    docs.put_many({"id": str(n), "n": n} for n in range(5))
    query = docs.where(hp.F.n < 3).order_by("n")
    query.all()
    for n in range(10):
        docs.put({"id": f"far{n}", "n": 100 + n})
    assert hits(db, query.all)[1] == 1
    docs.put_many({"id": f"more{n}", "n": 100 + n} for n in range(40))
    assert hits(db, query.all)[1] == 0
    assert hits(db, query.all)[1] == 1
    for n in range(resultcache.CHECKED_KEYS * 10):
        docs.put({"id": f"many{n}", "n": 100 + n})
        docs.get("0")
    room = db._driver.engine.cache.rooms["docs"]
    assert sum(len(keys) for _, keys in room.changed) <= 9 * resultcache.CHECKED_KEYS
    assert not room.answers, "what nobody asked for meanwhile"
    assert query.keys() == ["0", "1", "2"]


def test_inside_a_transaction_its_own_writes_are_seen_and_rolled_back(db: hp.Database) -> None:
    docs = db[DOCS]
    docs.put_many([{"id": "a", "n": 1}, {"id": "b", "n": 2}])
    query = docs.where(hp.F.n > 0).order_by("n")
    for _ in range(2):
        docs.get("a"), query.keys()
    seen_outside: list[Any] = []
    with pytest.raises(ZeroDivisionError), db.transaction():
        docs.patch("a", n=50)
        docs.delete("b")
        docs.put({"id": "c", "n": 3})
        for _ in range(3):
            assert hits(db, lambda: docs.get("a")) == ({"id": "a", "n": 50}, 0)
            assert docs.get("b") is None
            assert query.keys() == ["c", "a"]
        with pytest.raises(KeyError), db.transaction():
            docs.put({"id": "a", "n": 60})
            assert docs.get("a")["n"] == 60
            raise KeyError
        assert docs.get("a")["n"] == 50
        if db.path != ":memory:":  # there another thread waits for the one session
            thread = threading.Thread(
                target=lambda: seen_outside.append((docs.get("a"), query.keys(), docs.get("c")))
            )
            thread.start()
            thread.join()
        raise ZeroDivisionError
    for _ in range(3):
        assert docs.get("a") == {"id": "a", "n": 1}
        assert docs.get("c") is None
        assert query.keys() == ["a", "b"]
    assert seen_outside in ([], [({"id": "a", "n": 1}, ["a", "b"], None)])


def test_expired_documents_are_not_there(db: hp.Database) -> None:
    docs = db[BRIEF]
    docs.put_many([{"id": "a", "n": 1}, {"id": "b", "n": 2}])
    query = docs.where(hp.F.n > 0).order_by("n")
    reads = [lambda: docs.get("a"), query.keys, query.count, lambda: docs.get("none")]
    for read in reads:
        read()
        assert hits(db, read)[1] == 1
    end = time.monotonic() + 10
    while docs.get("a") is not None:
        gone = {key for key in ("a", "b") if uncached(db, get(docs._table, key, None)) is None}
        assert not gone & set(query.keys())
        assert time.monotonic() < end
    while query.count():
        assert time.monotonic() < end
    assert docs.get("b") is None
    assert hits(db, query.count) == (0, 1), "that nothing is there is remembered, too"


def test_a_clock_that_is_set_back(tmp_path: Path) -> None:
    collection = hp.Collection("c", ttl_s=10.0)
    for path in (":memory:", tmp_path / "a.db"):
        with opened(path, collections=[collection]) as db:
            offset_ms = [0]
            store = db._driver.engine.store
            clock = store.clock_ms

            def shifted(clock: Any = clock, offset_ms: Any = offset_ms) -> int:
                return clock() + offset_ms[0]

            store.clock_ms = shifted
            main = db._driver.engine._main
            if hasattr(main, "reads"):
                main.reads.clock_ms = shifted
            db[collection].put({"id": "a"})
            for _ in range(2):
                assert db[collection].count() == 1
            offset_ms[0] = 11_000
            for _ in range(2):
                assert db[collection].count() == 0
                assert db[collection].get("a") is None
            offset_ms[0] = 0
            assert db[collection].count() == 1
            assert db[collection].get("a") == {"id": "a"}


def test_a_write_that_passes_by_homeport_is_seen(file: hp.Database) -> None:
    """It leaves no change row, so everything is dropped: the commits are counted against the rows."""
    docs = file[DOCS]
    docs.put_many({"id": str(n), "n": n} for n in range(5))
    query = docs.order_by("n")
    for _ in range(2):
        docs.get("3"), query.all()
    shell = sqlite3.connect(file.path)
    shell.execute("""UPDATE c_docs SET doc=replace(doc, '"n":3', '"n":33') WHERE id='3'""")
    shell.commit()
    assert docs.get("3") == {"id": "3", "n": 33}
    assert query.all()[3] == {"id": "3", "n": 33}
    # Its commit and one of ours between two looks.
    shell.execute("""UPDATE c_docs SET doc=replace(doc, '"n":33', '"n":34') WHERE id='3'""")
    shell.commit()
    docs.put({"id": "9", "n": 9})
    assert docs.get("3") == {"id": "3", "n": 34}
    shell.close()


# -- nobody can spoil it


class Plain(msgspec.Struct):
    id: str
    n: int
    tags: list[str] = []
    more: dict[str, int] = {}
    maybe: list[int] | None = None


class Deep(msgspec.Struct):
    id: str
    parts: list[Plain] = []
    anything: Any = None


class Frozen(msgspec.Struct, frozen=True):
    id: str
    n: int
    tags: tuple[str, ...] = ()


class FrozenWithList(msgspec.Struct, frozen=True):
    id: str
    tags: list[str] = []


class Free(msgspec.Struct, dict=True):
    id: str
    n: int = 0


@dataclasses.dataclass
class Data:
    id: str
    tags: list[str]


@dataclasses.dataclass(frozen=True)
class FrozenData:
    id: str
    tags: tuple[str, ...]


@attrs.define
class Attrs:
    id: str
    tags: list[str]


class Typed(TypedDict):
    id: str
    tags: list[str]


class Pydantic(pydantic.BaseModel):
    id: str
    tags: list[str]
    inner: dict[str, list[int]] = {}


class FrozenPydantic(pydantic.BaseModel, frozen=True):
    id: str
    tags: tuple[str, ...]


def dirty(value: Any) -> None:
    """Change whatever can be changed, at every depth."""
    if isinstance(value, dict):
        for inner in value.values():
            dirty(inner)
        value["spoilt"] = True
        value.pop("n", None)
    elif isinstance(value, list):
        for inner in value:
            dirty(inner)
        value.append("spoilt")
    elif isinstance(value, tuple):
        for inner in value:
            dirty(inner)
    else:
        names = getattr(value, "__struct_fields__", None) or list(getattr(value, "__dict__", {}))
        names = names or [field.name for field in getattr(type(value), "__attrs_attrs__", ())]
        for name in names:
            dirty(getattr(value, name))
        for name in names:
            if name != "id":
                try:
                    setattr(value, name, "spoilt")
                except (AttributeError, ValueError, pydantic.ValidationError):
                    pass


MODELS: list[tuple[Any, Any]] = [
    (None, {"id": "a", "n": 1, "flat": True}),
    (None, {"id": "a", "n": 1, "tags": ["x", 1], "none": None}),
    (None, {"id": "a", "tags": [["x"], {"k": []}]}),
    (None, {"id": "a", "deep": {"er": [{"n": [1, {}]}]}, "tags": [["x"]]}),
    (Plain, Plain("a", 1, ["x"], {"k": 1})),
    (Plain, Plain("a", 1, maybe=[1])),
    (Deep, Deep("a", [Plain("p", 1, ["x"])], {"any": [1]})),
    (Frozen, Frozen("a", 1, ("x",))),
    (FrozenWithList, FrozenWithList("a", ["x"])),
    (Free, Free("a", 1)),
    (Data, Data("a", ["x"])),
    (FrozenData, FrozenData("a", ("x",))),
    (Attrs, Attrs("a", ["x"])),
    (Typed, {"id": "a", "tags": ["x"]}),
    (Pydantic, Pydantic(id="a", tags=["x"], inner={"k": [1]})),
    (FrozenPydantic, FrozenPydantic(id="a", tags=("x",))),
]


@pytest.mark.parametrize(("model", "document"), MODELS, ids=[f"{n}-{getattr(m[0], '__name__', 'dict')}" for n, m in enumerate(MODELS)])
def test_a_reader_that_changes_what_it_got_spoils_nobody_elses(model: Any, document: Any, tmp_path: Path) -> None:
    collection = hp.Collection("c", model)
    for path in (":memory:", tmp_path / "a.db"):
        with opened(path, collections=[collection]) as db, hp.open(":memory:", collections=[collection]) as plain:
            for one in (db, plain):
                one[collection].put(document)
            wanted = plain[collection].get("a")
            c = db[collection]
            reads: list[Callable[[], Any]] = [
                lambda: c.get("a"), c.first, c.where(hp.F.id == "a").one, lambda: c.all()[0],
                lambda: c.order_by("id").all()[0], lambda: c.where(hp.F.id == "a").limit(5).all()[0],
            ]  # fmt: skip
            for read in reads:
                for _ in range(4):  # the miss, the first hit, and those that copy
                    got = read()
                    assert got == wanted
                    assert type(got) is type(wanted)
                    dirty(got)
                    assert read() == wanted
            for _ in range(3):
                rows, keys = c.all(), c.keys()
                rows.append("spoilt")
                keys.append("spoilt")
            assert (c.all(), c.keys()) == ([wanted], ["a"])
            assert db.cache_stats().hits > 20


def test_what_nobody_can_change_is_shared(tmp_path: Path) -> None:
    collection = hp.Collection("c", Frozen)
    with opened(tmp_path / "a.db", collections=[collection]) as db:
        c = db[collection]
        c.put_many(Frozen(str(n), n, ("x",)) for n in range(3))
        c.get("1")
        assert c.get("1") is c.get("1")
        c.all()
        rows, again = c.all(), c.all()
        assert rows is not again
        assert all(a is b for a, b in zip(rows, again, strict=True))


def test_which_types_are_immutable() -> None:
    class Names(msgspec.Struct, frozen=True):
        id: str
        other: Names | None = None
        parts: tuple[Frozen, ...] = ()

    class Holds(msgspec.Struct, frozen=True):
        id: str
        part: Plain

    class Kept(pydantic.BaseModel, frozen=True):
        id: str
        _cache: dict[str, int] = pydantic.PrivateAttr(default_factory=dict)

    class Open(pydantic.BaseModel, frozen=True, extra="allow"):
        id: str

    globals()["Names"] = Names
    for immutable in (Frozen, FrozenData, FrozenPydantic, Names, str, int | None, tuple[int, ...]):
        assert is_immutable(immutable), immutable
    for mutable in (Plain, Holds, FrozenWithList, Data, Attrs, Typed, Pydantic, Kept, Open, list[int],
                    dict[str, int], bytearray, Any, tuple[list[int], ...]):  # fmt: skip
        assert not is_immutable(mutable), mutable
    del globals()["Names"]
    assert Sharing(None).copies({"a": {"b": 1}}) is None
    assert Sharing(Deep).copies(Deep("a")) is None
    assert Sharing(Free).copies(Free("a")) is None


def test_a_document_that_does_not_fit_its_model_is_told_every_time(tmp_path: Path) -> None:
    loose, strict = hp.Collection("c"), hp.Collection("c", Frozen)
    with hp.open(tmp_path / "a.db", collections=[loose]) as db:
        db[loose].put({"id": "a", "n": "not a number"})
    with opened(tmp_path / "a.db", collections=[strict]) as db:
        for _ in range(3):
            with pytest.raises(ValidationFailed):
                db[strict].get("a")
            with pytest.raises(ValidationFailed):
                db[strict].all()


# -- no more than it was given


def test_it_keeps_to_its_bytes_and_forgets_what_is_not_used(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db", mb=1) as db:
        docs = db[DOCS]
        docs.put_many({"id": f"{n:05}", "n": n, "text": "x" * 300} for n in range(6000))
        for n in range(6000):
            docs.get(f"{n:05}")
            docs.get("00007")
        stats = db.cache_stats()
        assert stats.bytes <= stats.max_bytes == 1024 * 1024
        assert stats.evictions > 4000
        assert stats.entries < 2000
        assert hits(db, lambda: docs.get("00007"))[1] == 1, "used all the time"
        assert hits(db, lambda: docs.get("00100"))[1] == 0
        assert hits(db, lambda: docs.get("05999"))[1] == 1
        # More than its share of the whole is not kept at all.
        assert len(docs.all()) == 6000
        assert hits(db, docs.all)[1] == 0
        assert db.cache_stats().bytes <= 1024 * 1024


def test_the_bytes_it_counts_are_about_those_it_takes(tmp_path: Path) -> None:
    for collection, document in (
        (hp.Collection("c", indexes=["n"]), lambda n: {"id": f"{n:05}", "n": n, "name": f"name {n}", "tags": ["a", "b"]}),
        (hp.Collection("c", Frozen, indexes=["n"]), lambda n: Frozen(f"{n:05}", n, ("a", "b"))),
    ):
        path = tmp_path / f"{type(document(0)).__name__}.db"
        with opened(path, mb=64, collections=[collection]) as db:
            c = db[collection]
            c.put_many(document(n) for n in range(4_000))
            queries = [c.where(hp.F.n.between(n, n + 99)).order_by("n") for n in range(0, 4_000, 100)]
            gc.collect()
            tracemalloc.start()
            for _ in range(3):
                for n in range(0, 4_000, 2):
                    c.get(f"{n:05}")
                for query in queries:
                    query.all()
            gc.collect()
            taken = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            counted = db.cache_stats().bytes
            assert db.cache_stats().entries == 2040
            assert 0.6 < counted / taken < 1.8, (counted, taken)


def test_what_was_dropped_takes_nothing(db: hp.Database) -> None:
    docs = db[DOCS]
    for n in range(2000):
        docs.put({"id": "a", "n": n})
        docs.get("a")
        docs.where(hp.F.n >= 0).all()
    cache = db._driver.engine.cache
    assert cache.stats().entries == 2
    assert cache.stats().bytes < 4000
    assert len(cache._clock) < 200
    docs.clear()
    assert (docs.get("a"), docs.where(hp.F.n >= 0).all()) == (None, [])
    assert cache.stats().entries == 2


# -- whoever writes


READS: dict[str, Callable[[Any], Any]] = {
    "get": lambda d: [d.get(str(n)) for n in range(12)],
    "all": lambda d: sorted(map(repr, d.all())),
    "by n": lambda d: d.order_by("n").all(),
    "first 3": lambda d: d.where(hp.F.n >= 2).order_by("n").limit(3).all(),
    "page": lambda d: d.order_by("-n").offset(2).limit(3).all(),
    "after": lambda d: d.order_by("n").after(2, "5").keys(),
    "count": lambda d: d.where(hp.F.n.between(1, 3)).count(),
    "exists": lambda d: d.where(hp.F.n == 5).exists(),
    "first": lambda d: d.order_by("-n").first(),
    "words": lambda d: d.where(hp.F.text.matches("red")).order_by("n").all(),
    "tags": lambda d: d.where(hp.F.tags.contains("blue") | (hp.F.n == 0)).order_by("n").keys(),
    "missing": lambda d: d.where(hp.F.group.is_missing()).reverse().keys(),
    "any": lambda d: d.where(hp.F.n.any_of([1, 4])).order_by("group", "n").all(),
    "sum": lambda d: (d.sum("n"), d.where(hp.F.n > 1).avg("n"), d.order_by("-n").limit(2).max("n")),
    "groups": lambda d: (d.group_by("group").count(), d.group_by(hp.agg.each("tags"), "n").aggregate(top=hp.agg.max("text"))),
    "distinct": lambda d: (d.distinct("n"), d.where(hp.F.n < 4).distinct("tags"), d.min("tags")),
    "search": lambda d: found(d.search("red OR gre*", limit=4)),
    "search 2": lambda d: found(d.where(hp.F.n >= 2).search("blue -red", {"text": 2.0})),
}  # fmt: skip


def found(hits: Any) -> Any:
    return [(hit.key, hit.score, hit.document, hit.snippet()) for hit in hits], hits.total, hits.capped


COLOURS = ["red", "blue", "red blue", "green", ""]


def rich(key: int, n: int) -> dict[str, Any]:
    colours = COLOURS[(key + n) % 5]
    doc = {"id": str(key), "n": n, "text": colours, "tags": colours.split()}
    return doc if n % 3 else {**doc, "group": "ab"[key % 2]}


def write(db: hp.Database, act: str, key: int, n: int) -> None:
    docs = db[DOCS]
    if act == "put":
        docs.put(rich(key, n))
    elif act == "delete":
        docs.delete(str(key))
    elif act == "patch":
        if docs.get(str(key)):
            docs.patch(str(key), n=n)
    elif act == "unit":
        with db.transaction():
            docs.put(rich(key, n))
            docs.delete(str(n))
            db[OTHER].put({"id": str(key)})
    elif act == "rollback":
        try:
            with db.transaction():
                docs.put(rich(key, n + 1))
                docs.where(hp.F.n == n).delete()
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
    elif act == "bulk":
        docs.put_many(rich(at, (at * 7 + n) % 6) for at in range(key, key + 6))
    elif act == "where":
        docs.where(hp.F.n == n).delete()
    elif act == "silent":
        db[SILENT].put({"id": str(key)})
    elif act == "other":
        db[OTHER].put({"id": str(key), "n": n})
    elif act == "many":
        docs.put_many(rich(at, at % 6) for at in range(100, 100 + 8 * key))
    else:
        docs.clear()


ACTS = "put put put patch delete unit rollback bulk where silent other many clear".split()
STEPS = st.lists(
    st.tuples(
        st.sampled_from(ACTS),
        st.integers(0, 11),
        st.integers(0, 5),
        st.integers(0, 1),  # who writes
        st.booleans(),  # is it read then?
    ),
    min_size=3,
    max_size=20,
)
NAMES = st.sets(st.sampled_from(sorted(READS)), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None)
@given(STEPS, NAMES, st.sampled_from([0.003, 0.02, 4]))
def test_cached_reads_are_reads(steps: list[Any], names: set[str], mb: float) -> None:
    """Two connections with caches and one without, on one file: all say the same at any time."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/a.db"
        with opened(path, mb) as one, opened(path, mb) as two, opened(path, 0) as plain:
            writers = [one, two]
            one[DOCS].put_many(rich(n, n % 6) for n in range(12))
            for act, key, n, who, look in steps:
                write(writers[who], act, key, n)
                for name in names if look else ():
                    wanted = READS[name](plain[DOCS])
                    assert READS[name](one[DOCS]) == wanted, name
                    assert READS[name](two[DOCS]) == wanted, name
            for name, read in READS.items():
                for _ in range(2):
                    assert read(one[DOCS]) == read(two[DOCS]) == read(plain[DOCS]), name


@settings(max_examples=60, deadline=None)
@given(STEPS, NAMES)
def test_cached_reads_of_memory_are_reads(steps: list[Any], names: set[str]) -> None:
    with opened(":memory:") as db, opened(":memory:", 0) as plain:
        for act, key, n, _, look in steps:
            for one in (db, plain):
                write(one, act, key, n)
            for name in names if look else ():
                assert READS[name](db[DOCS]) == READS[name](plain[DOCS]), name


FRESH = """
import ctypes, mmap, os, sys
import homeport as hp
docs = hp.Collection("docs")
path, shared = sys.argv[1:]
with hp.open(path, collections=[docs], durability="relaxed") as db, open(shared, "r+b") as file:
    memory = mmap.mmap(file.fileno(), 16)
    told, stop = ctypes.c_int64.from_buffer(memory), ctypes.c_int64.from_buffer(memory, 8)
    n = 0
    while not stop.value:
        n += 1
        with db.transaction():
            db[docs].put({"id": "a", "n": n})
            db[docs].put({"id": "b", "n": n})
        told.value = n  # from now on, who sees less is stale
        if n % 7 == 0:
            for _ in range(2000): pass
    del told, stop
    memory.close()
"""


def test_never_stale_while_another_process_writes(tmp_path: Path) -> None:
    """The writer says in shared memory what it has committed; a reader that then sees less has been
    given an old answer."""
    import ctypes
    import mmap

    path, shared = str(tmp_path / "a.db"), tmp_path / "shared"
    shared.write_bytes(bytes(16))
    docs = hp.Collection("docs")
    with opened(path, collections=[docs]) as db, shared.open("r+b") as handle:
        db[docs].put_many([{"id": "a", "n": 0}, {"id": "b", "n": 0}])
        memory = mmap.mmap(handle.fileno(), 16)
        told, stop = ctypes.c_int64.from_buffer(memory), ctypes.c_int64.from_buffer(memory, 8)
        process = subprocess.Popen([sys.executable, "-c", FRESH, path, str(shared)])
        stale: list[Any] = []

        def read() -> None:
            c = db[docs]
            everything = c.order_by("n")
            end = time.monotonic() + 2.5
            rounds = 0
            while time.monotonic() < end and not stale:
                rounds += 1
                least = told.value
                a = c.get("a")["n"]
                b = c.get("b")["n"]
                rows = [doc["n"] for doc in everything.all()]
                if not least <= a <= b <= rows[0] == rows[1]:
                    stale.append((least, a, b, rows))
            assert rounds > 100

        try:
            while not told.value:
                time.sleep(0.01)
            readers = [threading.Thread(target=read) for _ in range(2)]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
        finally:
            stop.value = 1
            process.wait(30)
        assert not stale
        assert told.value > 100
        assert db.cache_stats().hits > 100
        del told, stop
        memory.close()


def test_never_stale_among_threads(db: hp.Database) -> None:
    docs = db[DOCS]
    docs.put_many([{"id": "a", "n": 0}, {"id": "b", "n": 0}])
    told, stop, stale = [0], threading.Event(), []

    def writing() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            with db.transaction():
                docs.put({"id": "a", "n": n})
                docs.put({"id": "b", "n": n})
            told[0] = n
            if n % 5 == 0:
                time.sleep(0.0005)

    def reading() -> None:
        query = docs.where(hp.F.n >= 0).order_by("id")
        while not stop.is_set():
            least = told[0]
            a, b, rows = docs.get("a")["n"], docs.get("b")["n"], [doc["n"] for doc in query.all()]
            if not least <= a <= b <= rows[0] == rows[1]:
                stale.append((least, a, b, rows))
                return

    threads = [threading.Thread(target=writing), *(threading.Thread(target=reading) for _ in range(3))]
    for thread in threads:
        thread.start()
    time.sleep(1.5)
    stop.set()
    for thread in threads:
        thread.join()
    assert not stale
    assert told[0] > 50
    assert db.cache_stats().hits > 50


async def test_on_an_event_loop(tmp_path: Path) -> None:
    async with hp.open_async(
        tmp_path / "a.db", collections=ALL, durability="relaxed", result_cache_mb=16
    ) as db:
        docs = db[DOCS]
        await docs.put_many({"id": str(n), "n": n, "text": "x" * 100} for n in range(3000))
        small, large = docs.where(hp.F.n < 3).order_by("n"), docs.where(hp.F.n >= 0).order_by("n")
        for _ in range(4):
            assert (await docs.get("7"))["n"] == 7
            assert await small.keys() == ["0", "1", "2"]
            assert await large.count() == 3000
            assert len(await large.all()) == 3000
            assert await asyncio.gather(*(docs.get(str(n)) for n in range(5))) == [
                {"id": str(n), "n": n, "text": "x" * 100} for n in range(5)
            ]
        stats = db.cache_stats()
        assert stats.hits == 3 * 9
        assert stats.misses == 9
        rows = await large.all()
        rows[0]["n"] = "spoilt"
        assert (await large.all())[0]["n"] == 0

        async def unit(tx: hp.Tx) -> Any:
            await tx[DOCS].patch("0", n=2.5)
            return await tx[DOCS].get("0"), await tx[DOCS].where(hp.F.n < 3).order_by("n").keys()

        inside = await db.run(unit)
        assert inside == ({"id": "0", "n": 2.5, "text": "x" * 100}, ["1", "2", "0"])
        assert await small.keys() == ["1", "2", "0"]
        assert (await docs.get("0"))["n"] == 2.5


# -- the end


def test_a_closed_database_answers_nothing(tmp_path: Path) -> None:
    for path in (":memory:", tmp_path / "a.db"):
        db = opened(path)
        docs = db[DOCS]
        docs.put({"id": "a"})
        for _ in range(3):
            docs.get("a"), docs.all()
        db.close()
        for read in (lambda: docs.get("a"), docs.all, docs.count):
            with pytest.raises(Closed):
                read()
        assert db.cache_stats().hits > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_is_told(file: hp.Database) -> None:
    docs = file[DOCS]
    docs.put({"id": "a"})
    for _ in range(3):
        docs.get("a"), docs.all()

    def child(sink: Any) -> None:
        told = []
        for read in (lambda: docs.get("a"), docs.all):
            try:
                told.append(repr(read()))
            except BaseException as error:  # noqa: BLE001
                told.append(type(error).__name__)
        sink.send(told)

    context = multiprocessing.get_context("fork")
    source, sink = context.Pipe()
    process = context.Process(target=child, args=(sink,))
    # A thread that holds the guard at the moment of the fork is not in the child.
    with file._driver.engine.guard, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    assert source.poll(20), "the child waits for a thread that is not there"
    assert source.recv() == ["Closed", "Closed"]
    process.join(20)
    assert docs.get("a") == {"id": "a"}


def test_where_commits_cannot_be_noticed_there_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from homeport.storage import sqlite_stamp

    monkeypatch.setattr(sqlite_stamp, "stamp_of", lambda *_: None)
    with pytest.raises(UsageError, match="out of reach"):
        opened(tmp_path / "a.db")
    with opened(tmp_path / "a.db", 0) as db:
        db[DOCS].put({"id": "a"})


def test_a_file_that_is_read_only(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[DOCS]) as writer:
        writer[DOCS].put({"id": "a", "n": 1})
        with hp.open(tmp_path / "a.db", collections=[DOCS], readonly=True, result_cache_mb=1) as db:
            for _ in range(3):
                assert db[DOCS].get("a") == {"id": "a", "n": 1}
                assert db[DOCS].count() == 1
            writer[DOCS].put({"id": "a", "n": 2})
            assert db[DOCS].get("a") == {"id": "a", "n": 2}
            assert db.cache_stats().hits == 4


def test_the_operations_below_the_cache_are_the_same(db: hp.Database) -> None:
    docs = db[DOCS]
    docs.put_many(rich(n, n % 6) for n in range(12))
    query = docs.where(hp.F.n > 1).order_by("n").limit(4)
    for _ in range(3):
        table = docs._table
        assert query.all() == uncached(db, all_of(table, query._value))
        assert query.count() == uncached(db, count(table, query._value))
        assert query.first() == uncached(db, first_of(table, query._value))
        assert docs.get("3") == uncached(db, get(table, "3", None))
