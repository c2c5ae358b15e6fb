"""Live queries on real stores: exact differences, never torn, across threads and processes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
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
from homeport.core import livechange
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


def ids(docs: Any) -> list[Any]:
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


def test_rows_stay_what_they_were(db: hp.Database) -> None:
    live = db[PLAIN].order_by("n").live()
    first = live.next()
    db[PLAIN].put_many({"id": str(n), "n": n} for n in range(2000))
    second = live.next(timeout_s=1)
    db[PLAIN].where(hp.F.n < 1999).delete()
    db[PLAIN].put({"id": "b", "n": 5000})
    third = live.next(timeout_s=1)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.rows == []
    assert second.rows == [{"id": str(n), "n": n} for n in range(2000)]
    assert ids(third.rows) == ["1999", "b"]


def test_rows_are_a_sequence_that_is_read_when_asked(db: hp.Database) -> None:
    docs = [{"id": f"{n:04}", "n": n} for n in range(1500)]
    db[PLAIN].put_many(docs)
    live = db[PLAIN].where(hp.F.n >= 0).order_by("-n").offset(10).limit(1000).live()
    rows = next(live).rows
    wanted = docs[::-1][10:1010]
    assert len(rows) == 1000
    for n in (0, 1, 255, 256, 257, 999, -1, -1000):
        assert rows[n] == wanted[n]
        assert rows.key(n) == wanted[n]["id"]
    for part in (slice(3), slice(250, 260), slice(990, 2000), slice(-3, None), slice(None, None, 300),
                 slice(20, 10), slice(10, 0, -3)):  # fmt: skip
        assert rows[part] == wanted[part]
    assert list(rows) == wanted
    assert rows == wanted
    assert rows != wanted[:-1]
    assert list(reversed(rows))[:2] == wanted[:-3:-1]
    assert rows.keys() == ids(wanted)
    assert wanted[7] in rows
    assert rows.index(wanted[7]) == 7
    for bad in (1000, -1001):
        with pytest.raises(IndexError):
            rows[bad]
        with pytest.raises(IndexError):
            rows.key(bad)
    rows[0]["n"] = "changed"
    assert rows[0] == wanted[0], "each access gives a document of its own"
    assert "<1000 rows" in repr(rows)


def test_only_what_is_asked_is_decoded(file: hp.Database) -> None:
    """A result of 20,000 documents, of which a consumer shows ten."""
    file[PLAIN].put_many({"id": f"k{n}", "n": n} for n in range(20_000))
    live = file[PLAIN].order_by("n").live()
    change = next(live)
    codec, decoded = live._view.table.codec, []
    change._decode = lambda text: decoded.append(text) or codec.decode(text)
    assert [doc["n"] for doc in change.rows[5000:5010]] == list(range(5000, 5010))
    assert len(change.rows) == len(change) == 20_000
    assert len(decoded) == 10


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


QUERIES: dict[str, Any] = {
    "all": lambda d: d.where(),
    "by n": lambda d: d.order_by("n"),
    "by -n": lambda d: d.where(hp.F.n >= 2).order_by("-n"),
    "by two": lambda d: d.order_by("group", "-n"),
    "first 3": lambda d: d.where(hp.F.n >= 2).order_by("n").limit(3),
    "first 0": lambda d: d.order_by("n").limit(0),
    "page": lambda d: d.order_by("-n").offset(2).limit(3),
    "offset": lambda d: d.order_by("n").offset(4),
    "after": lambda d: d.order_by("n").after(2, "5"),
    "after, first 2": lambda d: d.order_by("-n").after(4, "3").limit(2),
    "after key": lambda d: d.where(hp.F.n >= 0).after("3"),
    "python": lambda d: d.filter(lambda doc: doc["n"] != 4).order_by("n"),
    "python, page": lambda d: d.filter(lambda doc: doc["n"] % 2).order_by("-n").offset(1).limit(3),
    "words": lambda d: d.where(hp.F.text.matches("red")).order_by("n").limit(4),
    "tags": lambda d: d.where(hp.F.tags.contains("blue") | (hp.F.n == 0)).order_by("n"),
    "missing": lambda d: d.where(hp.F.group.is_missing()).reverse(),
}  # fmt: skip
RICH = hp.Collection("rich", indexes=["n", "group", hp.Multi("tags"), hp.FullText("text")])
COLOURS = ["red", "blue", "red blue", "green", ""]


def applied(rows: list[Any], change: hp.LiveChange[Any]) -> list[Any]:
    """The rows that the edits of a change make of the rows before it."""
    for edit in change.edits:
        if edit.kind == "remove":
            del rows[edit.row]
        elif edit.kind == "insert":
            rows.insert(edit.row, edit.document)
        elif edit.kind == "move":
            rows.insert(edit.to, rows.pop(edit.row))
        else:
            assert rows[edit.row]["id"] == edit.document["id"], "a row stays the same document"
            rows[edit.row] = edit.document
    return rows


class Follower:
    """What a consumer that applies every change believes to be the result."""

    def __init__(self, query: Any) -> None:
        self.query = query
        self.live = query.live()
        self.held: dict[Any, Any] = {}
        self.rows: list[Any] = []
        self.look()

    def look(self) -> None:
        change = self.live.next(timeout_s=0)
        fresh = self.query.all()
        if change is not None:
            for key in change.removed:
                del self.held[key]
            for doc in change.added:
                assert doc["id"] not in self.held
                self.held[doc["id"]] = doc
            for doc in change.changed:
                assert self.held[doc["id"]] != doc
                self.held[doc["id"]] = doc
            self.rows = applied(self.rows, change)
            assert change.rows == self.rows
        assert self.held == {doc["id"]: doc for doc in fresh}
        if self.query._value.order or self.query._value.after:
            assert self.rows == fresh
        else:
            assert self.rows == sorted(fresh, key=lambda doc: doc["id"])


@pytest.mark.parametrize("kind", ["memory", "file"])
@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("put put patch delete unit bulk where clear swap".split()),
            st.integers(0, 11),
            st.integers(0, 5),
            st.booleans(),
        ),
        min_size=4,
        max_size=16,
    ),
    st.sets(st.sampled_from(sorted(QUERIES)), min_size=1, max_size=4),
)
def test_a_live_query_is_always_the_query(
    kind: str, steps: list[tuple[str, int, int, bool]], names: set[str]
) -> None:
    """After any writes, applying what was delivered gives the rows of a fresh query."""
    margin, live_module.MARGIN = live_module.MARGIN, 1
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = ":memory:" if kind == "memory" else f"{folder}/a.db"
            with hp.open(path, collections=[RICH], durability="relaxed") as db:
                docs = db[RICH]
                docs.put_many(rich(n, n % 6) for n in range(12))
                followers = [Follower(QUERIES[name](docs)) for name in sorted(names)]
                for act, key, n, look in steps:
                    write(db, act, key, n)
                    for follower in followers if look else ():
                        follower.look()
                for follower in followers:
                    follower.look()
        finally:
            live_module.MARGIN = margin


def rich(key: int, n: int) -> dict[str, Any]:
    colours = COLOURS[(key + n) % 5]
    doc = {"id": str(key), "n": n, "text": colours, "tags": colours.split()}
    return doc if n % 3 else {**doc, "group": "ab"[key % 2]}


def write(db: hp.Database, act: str, key: int, n: int) -> None:
    docs = db[RICH]
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
    elif act == "bulk":
        docs.put_many(rich(at, (at * 7 + n) % 6) for at in range(key, key + 6))
    elif act == "where":
        docs.where(hp.F.n == n).delete()
    elif act == "swap":
        docs.where(hp.F.n < n).patch(n=5 - n)
    else:
        docs.clear()


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_edits_lead_from_any_rows_to_any_other(data: Any) -> None:
    """Many rows change their places at once: removals, moves, insertions, changes."""
    places = st.dictionaries(st.integers(0, 30), st.integers(0, 60), max_size=20)
    before, after = data.draw(places), data.draw(places)
    moves, livechange.MOVES_MAX = livechange.MOVES_MAX, data.draw(st.sampled_from([3, 100]))
    try:
        with hp.open(":memory:", collections=[PLAIN]) as db:
            query = db[PLAIN].order_by("n").offset(data.draw(st.integers(0, 3))).limit(15)
            db[PLAIN].put_many({"id": str(k), "n": n} for k, n in before.items())
            live = query.live()
            rows = list(next(live).rows)
            with db.transaction():
                db[PLAIN].put_many({"id": str(k), "n": n} for k, n in after.items())
                db[PLAIN].delete_many([str(k) for k in before if k not in after])
            change = live.next(timeout_s=0)
            if change is not None:
                edits = change.edits
                # In the order in which they are announced; a row that stays is not touched.
                kinds = ["remove", "move", "insert", "change"]
                assert [e.kind for e in edits] == sorted((e.kind for e in edits), key=kinds.index)
                rows = applied(rows, change)
            assert rows == query.all()
    finally:
        livechange.MOVES_MAX = moves


def test_one_row_that_moves_is_one_move(db: hp.Database) -> None:
    db[PLAIN].put_many({"id": str(n), "n": n} for n in range(10))
    live = db[PLAIN].order_by("n").live()
    next(live)
    db[PLAIN].patch("2", n=7.5)
    assert [(e.kind, e.row, e.to) for e in next(live).edits] == [("move", 2, 7), ("change", 7, 7)]
    db[PLAIN].patch("2", n=-1)
    assert [(e.kind, e.row, e.to) for e in next(live).edits] == [("move", 7, 0), ("change", 0, 0)]
    db[PLAIN].patch("5", n=5.5)
    assert [(e.kind, e.row, e.to) for e in next(live).edits] == [("change", 5, 5)]
    with db.transaction():
        db[PLAIN].delete("0")
        db[PLAIN].put({"id": "x", "n": 100})
    assert [(e.kind, e.row) for e in next(live).edits] == [("remove", 1), ("insert", 9)]


def test_a_predicate_that_raises_loses_no_change(db: hp.Database) -> None:
    faulty = [False]

    def pick(doc: Any) -> bool:
        if faulty[0]:
            raise RuntimeError("not now")
        return True

    live = db[PLAIN].filter(pick).order_by("n").limit(3).live()
    next(live)
    db[PLAIN].put({"id": "a", "n": 1})
    faulty[0] = True
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not now"):
            live.next(timeout_s=0)
    faulty[0] = False
    change = live.next(timeout_s=0)
    assert change is not None
    assert ids(change.added) == ["a"]


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
