"""Slow queries are remembered by shape, and advice is as few indexes as serve them all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeport as hp
from homeport.core.advisor import SHAPES_MAX, Need, SlowLog, merged, needs_of, serves
from homeport.core.advisor import _Wish as Wish
from homeport.core.codec import Codec
from homeport.core.explanation import shape_of
from homeport.core.query import EMPTY
from homeport.core.schema import Collection, FullText, Index, Multi

F = hp.F


def query(condition: Any = None, *order: str) -> Any:
    made = EMPTY if condition is None else EMPTY.and_where(condition)
    return made.with_order(*order) if order else made


@pytest.mark.parametrize(
    ("asked", "needs"),
    [
        (query(F.a == 1), [Need(("a",))]),
        (query((F.a == 1) & (F.b > 2)), [Need(("a",), ("b",))]),
        (query((F.b > 2) & (F.a == 1) & (F.c == 3)), [Need(("a", "c"), ("b",))]),
        (query(F.a == 1, "-b"), [Need(("a",), ("b",))]),
        (query((F.a == 1) & (F.b > 2), "c"), [Need(("a",), ("b",))]),
        (query((F.a == 1) & (F.b > 2), "b", "c"), [Need(("a",), ("b", "c"))]),
        (query(F.a == 1, "b", "-c"), [Need(("a",))]),
        (query(None, "b", "c"), [Need((), ("b", "c"))]),
        (query(F.tags.contains("x")), [Need(("tags",), kind="multi")]),
        (query(F.note.matches("x")), [Need(("note",), kind="fulltext")]),
        (query((F.a == 1) | (F.b > 2)), [Need(("a",)), Need((), ("b",))]),
        (query((F.a == 1) | F.b.is_missing()), []),
        (query(~((F.a != 1) & (F.b != 2))), [Need(("a",)), Need(("b",))]),
        (query(F.a != 1), []),
        (query(), []),
    ],
    ids=str,
)
def test_what_a_query_needs(asked: Any, needs: Any) -> None:
    assert needs_of(asked) == needs


@pytest.mark.parametrize(
    ("index", "need", "good"),
    [
        (Index("a", "b"), Need(("b", "a")), True),
        (Index("a", "b"), Need(("a",)), True),
        (Index("a", "b"), Need(("b",)), False),
        (Index("a", "b", "c"), Need(("b", "a"), ("c",)), True),
        (Index("a", "c", "b"), Need(("b", "a"), ("c",)), False),
        (Index("a"), Need((), ("a",)), True),
        (Index("a", sparse=True), Need((), ("a",)), False),
        (Index("a", kind="hash"), Need(("a",)), True),
        (Index("a", "b", kind="hash"), Need(("a",)), False),
        (Multi("a"), Need(("a",)), False),
        (Multi("a"), Need(("a",), kind="multi"), True),
        (FullText("a"), Need(("a",), kind="fulltext"), True),
        (FullText("a"), Need(("a",)), False),
    ],
    ids=str,
)
def test_which_index_serves_a_need(index: Index, need: Need, good: bool) -> None:
    assert serves(index, need) is good


def indexes_for(*needs: Need) -> list[tuple[str, ...]]:
    return [wish.index().fields for wish in merged(Wish(need, 1.0, 1, str(need)) for need in needs)]


def test_prefixes_are_merged() -> None:
    assert indexes_for(Need(("a",)), Need(("a",), ("b",))) == [("a", "b")]
    assert indexes_for(Need(("a", "b")), Need(("b",))) == [("b", "a")]
    assert indexes_for(Need(("a", "b"), ("c",)), Need(("b",)), Need(("b", "a"))) == [("b", "a", "c")]
    assert indexes_for(Need((), ("a",)), Need(("a", "b"))) == [("a", "b")]
    assert indexes_for(Need(("a",)), Need(("b",))) == [("a",), ("b",)]
    assert indexes_for(Need(("a",), ("b",)), Need(("b",), ("a",))) == [("a", "b"), ("b", "a")]


need = st.builds(
    lambda equal, tail: Need(tuple(equal), tuple(path for path in tail if path not in equal)),
    st.lists(st.sampled_from("abcd"), max_size=3, unique=True),
    st.lists(st.sampled_from("abcd"), max_size=2, unique=True),
).filter(lambda one: one.fields)


@given(needs=st.lists(need, max_size=6))
def test_what_is_merged_serves_every_need(needs: list[Need]) -> None:
    found = merged(Wish(need, 1.0, 1, str(need)) for need in needs)
    indexes = [wish.index() for wish in found]
    for need in needs:
        assert any(serves(index, need) for index in indexes)
    assert len(found) <= len(set(needs))
    assert sum(wish.calls for wish in found) == len(needs)


def test_a_shape_has_no_values() -> None:
    shape = shape_of(
        EMPTY.and_where((F.name == "secret") & F.a.any_of([1, 2]) | ~F.b.starts_with("hidden"))
        .with_order("-a").with_limit(7).with_offset(3)
    )  # fmt: skip
    assert shape == "((name == ? and a in (?)) or not b starts with ?) order by -a limit ? offset ?"
    many = EMPTY.and_where((F.a == 1) | (F.a == 2) | (F.a == 3))
    assert shape_of(many) == shape_of(EMPTY.and_where((F.a == 5) | (F.a == 6)))


def test_the_memory_of_slow_queries_is_bounded() -> None:
    log = SlowLog()
    for n in range(SHAPES_MAX + 50):
        log.note("docs", "find", EMPTY.and_where(F[f"f{n}"] == 1), 1_000 + n, 1, 5)
    assert len(log.queries()) == SHAPES_MAX
    assert log.queries()[0].total_ms == 1_000 + SHAPES_MAX + 49, "the most expensive ones are kept"
    log.note("docs", "find", EMPTY.and_where(F.f200 == 2), 10, 4, 9)
    (again,) = (one for one in log.queries() if one.query == "find f200 == ?")
    assert (again.calls, again.rows, again.last_ms, again.worst_ms) == (2, 5, 9, 1200)


def test_advice_is_ranked_by_what_it_saves() -> None:
    codec = Codec(Collection("docs", indexes=["there"]))
    log = SlowLog()
    for _ in range(3):
        log.note("docs", "find", EMPTY.and_where(F.often == 1), 200, 10, 5)
    log.note("docs", "find", EMPTY.and_where(F.rare == 1), 300, 10, 5)
    log.note("docs", "find", EMPTY.and_where(F.nearly_all > 1), 5_000, 990, 5)
    log.note("docs", "find", EMPTY.and_where(F.there == 1), 5_000, 10, 5)
    log.note("docs", "count", EMPTY.and_where(F.id == 1), 5_000, 10, 5)
    log.note("other", "find", EMPTY.and_where(F.x == 1), 5_000, 10, 5)
    found = log.advise("docs", codec, 1_000)
    assert [one.index.fields for one in found] == [("often",), ("rare",), ("nearly_all",)]
    assert found[0].saves_ms == pytest.approx(594)
    assert found[0].calls == 3 and found[0].queries == ["find often == ?"]
    assert str(found[0]) == 'docs: "often" would have saved about 594 ms of 3 slow queries'
    assert log.advise("docs", codec, 0) == []


# -- on databases


def document(n: int) -> dict[str, Any]:
    return {"id": str(n), "a": n % 5, "b": n, "c": n % 7, "tags": [n % 3], "text": f"word{n % 9}"}


@pytest.fixture(params=["file", "memory"])
def place(request: Any, tmp_path: Path) -> Any:
    return ":memory:" if request.param == "memory" else tmp_path / "a.db"


def test_slow_queries_lead_to_advice(place: Any) -> None:
    docs = hp.Collection("docs", indexes=["c"])
    with hp.open(place, collections=[docs], slow_query_ms=0) as db:
        w = db[docs]
        w.put_many(document(n) for n in range(500))
        for n in range(3):
            w.where(F.a == n, F.b > 400).all()
            w.where(F.a == n).order_by("-b").limit(3).all()
            w.where(F.c == n).count()
            w.where(F.tags.contains(n)).keys()
        w.where(F.a == 1).delete()
        w.group_by("a").count()
        slow = {one.query: one for one in db.slow_queries()}
        assert slow["find (a == ? and b > ?)"].calls == 3
        assert slow["find a == ? order by -b limit ?"].rows == 9
        assert slow["count c == ?"].collection == "docs"
        assert {"deletewhere a == ?", "find tags contains ?", "aggregate all"} <= set(slow)
        assert all("400" not in one.query and one.total_ms >= one.worst_ms > 0 for one in slow.values())
        advice = db.advise()
        assert {(one.index.fields, one.index.multi) for one in advice} == {(("a", "b"), False), (("tags",), True)}
        for one in advice:
            db.create_index(one.collection, one.index)
        assert db.advise() == [], "nothing is proposed that exists"


def test_quick_queries_are_not_recorded(place: Any) -> None:
    docs = hp.Collection("docs")
    with hp.open(place, collections=[docs], slow_query_ms=60_000) as db:
        db[docs].put(document(1))
        db[docs].where(F.a == 1).all()
        assert db.slow_queries() == [] and db.advise() == []
    with hp.open(place, collections=[docs], slow_query_ms=None) as db:
        db[docs].where(F.a == 1).all()
        assert db.slow_queries() == []


def test_a_time_limit_that_is_none(tmp_path: Path) -> None:
    for wrong in (-1, "fast", float("nan")):
        with pytest.raises(hp.errors.UsageError):
            hp.open(tmp_path / "a.db", collections=[], slow_query_ms=wrong)  # type: ignore[arg-type]


def test_what_indexes_hold_and_are_used_for(tmp_path: Path) -> None:
    docs = hp.Collection(
        "docs",
        indexes=["a", ("a", "b"), Multi("tags"), FullText("text"), hp.Unique("b"), Index("gone", sparse=True)],
    )
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        w = db[docs]
        w.put_many(document(n) for n in range(3_000))
        stats = {one.name: one for one in db.index_stats()}
        assert {name: (one.entries, one.distinct) for name, one in stats.items()} == {
            "a": (3_000, 5), "a_b": (3_000, 3_000), "tags_m": (3_000, 3), "text_f": (3_000, None),
            "b": (3_000, 3_000), "gone": (0, 0),
        }  # fmt: skip
        assert all(one.complete and one.declared and one.bytes and one.uses == 0 for one in stats.values())
        assert stats["a_b"].bytes > stats["gone"].bytes
        assert stats["a"].bytes == db.size()["docs.a"]
        assert stats["text_f"].bytes == db.size()["docs.text"]
        assert stats["a"].unused and not stats["b"].unused, "a unique index is used by every write"
        for n in range(5):
            w.where(F.a == n, F.b > 100).all()
            w.where(F.tags.contains(n)).count()
        w.where(F.text.matches("word1")).first()
        w.where(F.a == 1).sum("b")
        list(w.order_by("b").limit(700))
        stats = {one.name: one for one in db.index_stats()}
        assert stats["a_b"].uses == 6 and stats["tags_m"].uses == 5 and stats["text_f"].uses == 1
        assert stats["b"].uses > 0 and stats["a"].uses == 0 and stats["gone"].unused
        assert stats["a_b"].last_used_ms > 1_700_000_000_000 and stats["a"].last_used_ms is None
        db.create_index(docs, "c")
        w.where(F.c == 1).all()
        (made,) = (one for one in db.index_stats() if one.name == "c")
        assert (made.declared, made.complete, made.uses, made.entries, made.distinct) == (False, True, 1, 3_000, 7)


def test_usage_outlives_the_texts_that_it_is_kept_by(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("homeport.storage.sqlite_usage.TEXTS_MAX", 5)
    docs = hp.Collection("docs", indexes=["a"])
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        db[docs].put_many(document(n) for n in range(50))
        for limit in range(1, 30):
            db[docs].where(F.a == 1).limit(limit).all()
        (stats,) = db.index_stats()
        assert stats.uses == 29


def test_in_memory_nothing_is_read(place: Any) -> None:
    docs = hp.Collection("docs", indexes=["a", Multi("tags"), FullText("text")])
    with hp.open(":memory:", collections=[docs]) as db:
        db[docs].put_many(document(n) for n in range(30))
        stats = {one.name: one for one in db.index_stats()}
        assert (stats["a"].entries, stats["a"].distinct, stats["a"].bytes, stats["a"].uses) == (30, 5, None, None)
        assert (stats["tags_m"].entries, stats["tags_m"].distinct) == (30, 3)
        assert not stats["a"].unused
        assert db.optimize().done == []


def test_an_optimisation_says_what_it_did(tmp_path: Path) -> None:
    docs = hp.Collection("docs", indexes=["a", FullText("text")])
    path = tmp_path / "a.db"
    with hp.open(path, collections=[docs, hp.Collection("empty")]) as db:
        for start in range(0, 3_000, 100):
            db[docs].put_many(document(n) for n in range(start, start + 100))
        report = db.optimize()
        assert [(one.action, one.target) for one in report.done] == [
            ("analyze", "docs"), ("merge full text", "docs"), ("move the log into the file", "file"),
        ]  # fmt: skip
        assert report.done[1].steps >= 1 and report.seconds >= sum(one.seconds for one in report.done)
        assert str(report).splitlines()[0].startswith("analyze docs: 1 steps, 0.")
        execute = db._driver.engine.store._main().execute  # type: ignore[attr-defined]
        rows = execute("SELECT idx, stat FROM sqlite_stat1 WHERE tbl='c_docs'").fetchall()
        assert dict(rows)["i_docs.a"].startswith("3000 ")
        assert db[docs].where(F.text.matches("word1")).count() == 334
        assert db._driver.engine.store.check() == []  # type: ignore[attr-defined]
    with (
        hp.open(path, collections=[docs], readonly=True) as db,
        pytest.raises(hp.errors.ReadOnly),
    ):
        db.optimize()


async def test_on_an_event_loop(tmp_path: Path) -> None:
    docs = hp.Collection("docs")
    async with hp.open_async(tmp_path / "a.db", collections=[docs], slow_query_ms=0) as db:
        await db[docs].put_many(document(n) for n in range(50))
        await asyncio.gather(*(db[docs].where(F.a == n).all() for n in range(5)))
        (slow,) = db.slow_queries()
        assert slow.calls == 5
        (advice,) = await db.advise()
        assert advice.index.fields == ("a",)
        await db.create_index(docs, advice.index)
        (stats,) = await db.index_stats()
        assert stats.entries == 50 and stats.unused
        assert (await db.optimize()).done[0].action == "analyze"
