"""Live queries on real stores: exact differences, never torn, across threads and processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeport as hp
from homeport.core import live as live_module
from homeport.errors import UsageError

PLAIN = hp.Collection("plain", indexes=["n", "group"])
OTHER = hp.Collection("other")
SILENT = hp.Collection("silent", track_changes=False)


@pytest.fixture(params=["memory", "file"])
def db(request: Any, tmp_path: Path) -> Iterator[hp.Database]:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[PLAIN, OTHER, SILENT], durability="relaxed") as db:
        yield db


@pytest.fixture
def file(tmp_path: Path) -> Iterator[hp.Database]:
    with hp.open(tmp_path / "a.db", collections=[PLAIN, OTHER, SILENT], durability="relaxed") as db:
        yield db


def ids(docs: list[Any]) -> list[Any]:
    return [doc["id"] for doc in docs]


def test_added_changed_removed_and_rows(db: hp.Database) -> None:
    db[PLAIN].put_many([{"id": "a", "n": 1}, {"id": "b", "n": 2}, {"id": "z", "n": -1}])
    live = db[PLAIN].where(hp.F.n > 0).order_by("-n").live(timeout_s=1)
    first = next(live)
    assert first.reset
    assert ids(first.added) == ids(first.rows) == ["b", "a"]

    with db.transaction():
        db[PLAIN].put({"id": "c", "n": 3})
        db[PLAIN].patch("a", n=9)
        db[PLAIN].delete("b")
        db[OTHER].put({"id": "x"})
    change = next(live)
    assert (ids(change.added), ids(change.changed), change.removed) == (["c"], ["a"], ["b"])
    assert ids(change.rows) == ["a", "c"]
    assert len(change) == 3
    assert not change.reset

    db[PLAIN].patch("a", n=-5)
    assert next(live).removed == ["a"]
    db[PLAIN].patch("z", n=5)
    assert ids(next(live).added) == ["z"]


def test_what_does_not_touch_the_result_is_not_delivered(db: hp.Database) -> None:
    live = db[PLAIN].where(hp.F.n > 0).live()
    live.next()
    db[PLAIN].put({"id": "a", "n": -1})
    db[OTHER].put({"id": "x"})
    db[PLAIN].delete("a")
    assert live.next(timeout_s=0.05) is None
    db[PLAIN].put({"id": "b", "n": 1})
    db[PLAIN].put({"id": "b", "n": 1})
    assert ids(live.next(timeout_s=1).added) == ["b"]  # type: ignore[union-attr]
    db[PLAIN].put({"id": "b", "n": 1})
    assert live.next(timeout_s=0.05) is None, "written with the same content"


def test_several_commits_come_as_one_change(db: hp.Database) -> None:
    live = db[PLAIN].live()
    live.next()
    for n in range(50):
        db[PLAIN].put({"id": str(n % 5), "n": n})
    change = live.next(timeout_s=1)
    assert change is not None
    assert len(change.added) == 5
    assert {doc["n"] for doc in change.rows} == {45, 46, 47, 48, 49}
    assert live.next(timeout_s=0.02) is None


def test_rows_of_an_earlier_change(db: hp.Database) -> None:
    live = db[PLAIN].live()
    first = live.next()
    db[PLAIN].put({"id": "a"})
    second = live.next(timeout_s=1)
    assert first is not None
    assert second is not None
    with pytest.raises(UsageError, match="earlier change"):
        _ = first.rows
    assert ids(second.rows) == ["a"]
    db[PLAIN].put({"id": "b"})
    live.next(timeout_s=1)
    assert ids(second.rows) == ["a"], "once read, they stay"


def test_iteration_ends_by_timeout_and_close(db: hp.Database) -> None:
    db[PLAIN].put({"id": "a"})
    assert [ids(c.added) for c in db[PLAIN].live(timeout_s=0.05)] == [["a"]]
    live = db[PLAIN].live()
    live.next()
    threading.Timer(0.05, live.close).start()
    started = time.perf_counter()
    assert list(live) == []
    assert time.perf_counter() - started < 2
    with db[PLAIN].live() as again:
        next(again)
    assert list(again) == []


def test_closing_the_database_ends_a_wait(file: hp.Database) -> None:
    live = file[PLAIN].live()
    live.next()
    threading.Timer(0.05, file.close).start()
    assert list(live) == []


def test_a_collection_without_change_rows_is_refused(db: hp.Database) -> None:
    with pytest.raises(UsageError, match="track_changes"):
        db[SILENT].live()


def test_a_live_query_that_is_dropped_is_forgotten(db: hp.Database) -> None:
    engine = db._driver.engine
    before = len(engine._listeners)
    live = db[PLAIN].live()
    live.next()
    assert len(engine._listeners) == before + 1
    del live
    assert len(engine._listeners) == before


@settings(max_examples=250)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("put patch delete delete unit".split()),
            st.integers(0, 11),
            st.integers(0, 5),
        ),
        min_size=5,
        max_size=30,
    ),
    st.sampled_from([None, 0, 1, 3]),
    st.sampled_from(["n", "-n", None]),
    st.sampled_from([None, 2]),
    st.booleans(),
)
def test_a_live_query_is_always_the_query(
    steps: list[tuple[str, int, int]],
    limit: int | None,
    order: str | None,
    offset: int | None,
    predicate: bool,
) -> None:
    """After any writes, the rows equal a fresh query, and the differences lead there."""
    margin, live_module.MARGIN = live_module.MARGIN, 1
    try:
        with hp.open(":memory:", collections=[PLAIN]) as db:
            db[PLAIN].put_many({"id": str(n), "n": n % 6} for n in range(12))
            query = db[PLAIN].where(hp.F.n >= 2)
            if order:
                query = query.order_by(order)
            elif limit is not None or offset:
                query = query.order_by("id")  # without an order a limit may take any rows
            if limit is not None:
                query = query.limit(limit)
            if offset:
                query = query.offset(offset)
            if predicate:
                query = query.filter(lambda doc: doc["n"] != 4)
            live = query.live()
            held: dict[Any, Any] = {}

            def look() -> None:
                change = live.next(timeout_s=0)
                if change is None:
                    return
                for key in change.removed:
                    del held[key]
                for doc in change.added:
                    assert doc["id"] not in held
                    held[doc["id"]] = doc
                for doc in change.changed:
                    assert held[doc["id"]] != doc
                    held[doc["id"]] = doc
                rows = query.all()
                if order or limit is not None or offset:
                    assert change.rows == rows
                assert sorted(ids(change.rows)) == sorted(ids(rows))
                assert held == {doc["id"]: doc for doc in rows}

            look()
            for act, key, n in steps:
                if act == "put":
                    db[PLAIN].put({"id": str(key), "n": n})
                elif act == "delete":
                    db[PLAIN].delete(str(key))
                elif act == "patch" and db[PLAIN].get(str(key)):
                    db[PLAIN].patch(str(key), n=n)
                elif act == "unit":
                    with db.transaction():
                        db[PLAIN].put({"id": str(key), "n": n})
                        db[PLAIN].delete(str(n))
                if (key + n) % 3:
                    look()
                    assert held == {doc["id"]: doc for doc in query.all()}
    finally:
        live_module.MARGIN = margin


def test_snapshots_are_never_torn(file: hp.Database) -> None:
    """Two threads move amounts between documents; every delivered result has the same sum."""
    file[PLAIN].put_many([{"id": str(n), "n": 100, "group": "g"} for n in range(4)])
    stop = threading.Event()

    def move(seed: int) -> None:
        n = seed
        while not stop.is_set():
            n += 1
            a, b = str(n % 4), str((n * 7 + 1) % 4)
            if a == b:
                continue
            with file.transaction():
                file[PLAIN].update(a, lambda doc: {**doc, "n": doc["n"] - 1})
                file[PLAIN].update(b, lambda doc: {**doc, "n": doc["n"] + 1})

    writers = [threading.Thread(target=move, args=(seed,)) for seed in (0, 10_000)]
    live = file[PLAIN].where(hp.F.group == "g").order_by("-n").live(timeout_s=5)
    for writer in writers:
        writer.start()
    snapshots = 0
    end = time.monotonic() + 2
    try:
        for change in live:
            snapshots += 1
            rows = change.rows
            assert sum(doc["n"] for doc in rows) == 400
            assert [doc["n"] for doc in rows] == sorted((doc["n"] for doc in rows), reverse=True)
            if time.monotonic() > end:
                break
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert snapshots > 20


def test_other_processes_are_seen(file: hp.Database) -> None:
    live = file[PLAIN].where(hp.F.n > 0).live()
    live.next()
    program = f"""
import homeport as hp
c = hp.Collection("plain", indexes=["n", "group"])
with hp.open({file.path!r}, collections=[c]) as db:
    db[c].put({{"id": "theirs", "n": 1}})
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    change = live.next(timeout_s=5)
    assert change is not None
    assert ids(change.added) == ["theirs"]


def test_behind_the_log_the_result_is_read_again(file: hp.Database) -> None:
    file[PLAIN].put_many([{"id": str(n), "n": n} for n in range(10)])
    live = file[PLAIN].order_by("n").live()
    live.next()
    # More keys in one transaction than a change row names.
    file[PLAIN].put_many([{"id": f"m{n}", "n": n} for n in range(6000)])
    file[PLAIN].delete("0")
    change = live.next(timeout_s=5)
    assert change is not None
    assert change.reset
    assert len(change.added) == 6000
    assert change.removed == ["0"]
    assert len(change.rows) == 6009


def test_the_cost_of_a_change_does_not_grow_with_the_result(file: hp.Database) -> None:
    file[PLAIN].put_many([{"id": f"k{n}", "n": n} for n in range(20_000)])
    live = file[PLAIN].order_by("n").live()
    live.next()

    def took(change_of: str) -> float:
        best = 1.0
        for n in range(20):
            file[PLAIN].patch(change_of, n=n * 900 + 0.5)
            started = time.perf_counter()
            change = live.next(timeout_s=1)
            best = min(best, time.perf_counter() - started)
            assert change is not None
            assert len(change) == 1
        return best

    # Reading 20,000 rows takes 20 ms and more; one change is far below one.
    assert took("k500") < 0.005


def test_without_an_order_rows_move_in_the_index_and_the_result_stays_exact(
    db: hp.Database,
) -> None:
    # The store answers in the order of the index on n, in which a row moves when n changes.
    docs = db[PLAIN]
    docs.put_many([{"id": str(n), "n": 9 - n} for n in range(10)])
    for live in (docs.where(hp.F.n >= 0).live(), docs.where(hp.F.n >= 0).limit(4).live()):
        live.next()
        for n in range(10):
            docs.patch(str(n), n=(n * 7) % 10 + 0.5)
            docs.delete(str((n * 3) % 10))
            docs.put({"id": str((n * 3) % 10), "n": n})
            change = live.next(timeout_s=0)
            if change is not None:
                assert ids(change.rows)[:4] == sorted(docs.keys())[:4]
        live.close()
