"""Which indexes SQLite really reads: unions, intersections, ranges around a value, and what counting
finds that the rules cannot know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homeport.core.codec import Table
from homeport.core.conditions import IgnoreCase
from homeport.core.evaluate import matches
from homeport.core.explanation import Explanation
from homeport.core.fields import F
from homeport.core.planner import plan
from homeport.core.query import EMPTY, QueryValue
from homeport.core.requests import Count, Find, Put, Write
from homeport.core.schema import Collection, FullText, Multi
from homeport.storage import sqlite_choice
from homeport.storage.memory import MemoryStore
from homeport.storage.sqlite import SQLiteStore

ROWS = 4_000


def document(n: int) -> dict[str, Any]:
    return {
        "id": f"d{n:05}",
        "status": "done" if n % 40 else "open",  # 97.5 % done
        "code": n,
        "kind": n * 7 % 10,  # 400 of each
        "zone": n * 11 % 23,
        "created": n * 13 % ROWS,
        "tags": ["x", f"t{n % 400}"],
        "note": f"word{n % 50} common",
        "name": f"Name{n % 500}",
    }


DOCS = [document(n) for n in range(ROWS)]
INDEXES = ["status", "code", "kind", "zone", "created", Multi("tags"), FullText("note"), ("name", "kind")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SQLiteStore, Table[Any]]]:
    path = tmp_path_factory.mktemp("choice") / "a.db"
    store = SQLiteStore.open(str(path), durability="relaxed", clock_ms=lambda: 1)
    table: Table[Any] = Table(Collection("docs", indexes=INDEXES))
    store.define([table])
    rows = [table.codec.row(doc) for doc in DOCS]
    store.session().answer(Write([Put(table, rows, [table.codec.extras(doc) for doc in DOCS])]))
    yield store, table
    store.close()


def explained(world: Any, query: Any, *, run: bool = False) -> Explanation:
    store, table = world
    query = query if isinstance(query, QueryValue) else EMPTY.and_where(query)
    explanation: Explanation = store.explain(table, query, run=run)
    return explanation


def same_as_the_reference(world: Any, query: Any) -> None:
    store, table = world
    query = query if isinstance(query, QueryValue) else EMPTY.and_where(query)
    expected = [doc["id"] for doc in DOCS if query.where is None or matches(query.where, doc)]
    if query.order:
        memory = MemoryStore(clock_ms=lambda: 1)
        memory.define([table])
        session = memory.session()
        session.answer(Write([Put(table, [table.codec.row(d) for d in DOCS], [table.codec.extras(d) for d in DOCS])]))
        expected = session.answer(Find(table, query, "keys"))
    found = store._main().answer(Find(table, query, "keys"))
    assert len(found) == len(set(found)), "no duplicates"
    if query.order:
        assert found == expected
    else:
        assert sorted(found) == sorted(expected)
    assert store._main().answer(Count(table, query)) == len(expected)


UNIONS = [
    ((F.code == 5) | (F.kind == 3), ["code", "kind"]),
    ((F.code < 9) | F.tags.contains("t7") | (F.id == "d00011"), ["code", "tags_m", "id"]),
    (((F.code < 500) & (F.zone == 2)) | (F.kind == 3), ["code", "kind", "zone"]),
    ((F.code == 5) | F.note.matches("word7"), ["code", "full text"]),
    (~((F.code != 5) & (F.kind != 3)), ["code", "kind"]),
    ((F.code.any_of([1, 2])) | (F.code > 3_990) | (F.name == "Name3"), ["code", "name_kind"]),
]


@pytest.mark.parametrize(("condition", "indexes"), UNIONS, ids=str)
def test_an_alternative_reads_its_indexes(world: Any, condition: Any, indexes: list[str]) -> None:
    explanation = explained(world, condition)
    assert not explanation.scan and set(explanation.indexes) <= set(indexes)
    assert len(explanation.indexes) >= 2
    assert "MULTI-INDEX OR" in explanation.engine
    assert not any(line.startswith("SCAN c_") for line in explanation.engine)
    assert explanation.access.startswith("union of ")
    same_as_the_reference(world, condition)
    same_as_the_reference(world, EMPTY.and_where(condition).with_order("-zone").with_limit(7))


def test_a_branch_that_only_python_decides_is_read_through_the_indexes(world: Any) -> None:
    condition = ((F.code < 30) & IgnoreCase("name", ["NAME3", "name4"])) | (F.kind == 3)
    explanation = explained(world, condition)
    assert "MULTI-INDEX OR" in explanation.engine and not explanation.scan
    assert explanation.checked, "the alternative is looked at again by Python"
    same_as_the_reference(world, condition)
    without = IgnoreCase("name", ["NAME3"]) | (F.kind == 3)
    assert explained(world, without).scan, "a branch without an index is a scan"
    same_as_the_reference(world, without)


def test_statistics_choose_where_the_rules_choose_badly(world: Any, monkeypatch: Any) -> None:
    """The rules prefer an equality to a range; here it holds nearly every document."""
    store, table = world
    query = EMPTY.and_where((F.status == "done") & (F.code.between(100, 110)))
    assert plan(query, table.codec).index == "status", "the rule"
    chosen = explained(world, query, run=True)
    assert chosen.index == "code"
    assert chosen.actual_rows == 11
    same_as_the_reference(world, query)
    monkeypatch.setattr(sqlite_choice, "SMALL_ROWS", ROWS)  # no counting
    ruled = explained(world, query, run=True)
    assert ruled.index == "status"
    assert ruled.actual_rows == 3900
    assert ruled.actual_cost > 300 * chosen.actual_cost
    same_as_the_reference(world, query)


def test_the_same_condition_is_answered_by_another_index_for_another_value(world: Any) -> None:
    for status, index in (("open", "status"), ("done", "kind")):
        query = (F.status == status) & (F.kind == 4)
        assert explained(world, query).index == index
        same_as_the_reference(world, query)


def test_indexes_are_cut_where_both_are_selective(world: Any) -> None:
    query = (F.kind == 4) & (F.zone.any_of([5, 6]))
    explanation = explained(world, query)
    assert explanation.access.startswith("intersection of [index zone: zone in 2 values] and [index kind")
    assert set(explanation.indexes) == {"kind", "zone"}
    same_as_the_reference(world, query)
    same_as_the_reference(world, EMPTY.and_where(query).with_order("-created").with_limit(3))
    assert not explained(world, (F.kind == 4) & (F.status == "done")).access.startswith("intersection")


def test_around_a_value_where_little_is_left(world: Any) -> None:
    for condition in (F.status != "done", ~F.status.starts_with("do"), ~(F.status <= "done")):
        explanation = explained(world, condition)
        assert explanation.index == "status"
        assert "around what is excluded" in explanation.access
        assert explanation.estimated_rows == 100
        same_as_the_reference(world, condition)
    for condition in (F.status != "open", F.kind != 3, ~F.code.between(3, 5)):
        assert explained(world, condition).scan, "a scan is cheaper"
        same_as_the_reference(world, condition)
    narrow = (F.status != "open") & (F.code < 9)
    assert explained(world, narrow).index == "code"
    same_as_the_reference(world, narrow)


def test_an_order_is_walked_when_the_condition_holds_for_most(world: Any) -> None:
    query = EMPTY.and_where(F.status == "done").with_order("-created").with_limit(10)
    explanation = explained(world, query, run=True)
    assert explanation.access.startswith("[index created, in its order] up to ")
    assert explanation.engine[0].startswith("SCAN") or "i_docs.created" in explanation.engine[0]
    assert explanation.actual_rows is not None and explanation.actual_rows < 15
    same_as_the_reference(world, query)
    same_as_the_reference(world, query.with_offset(5))
    rare = EMPTY.and_where(F.status == "open").with_order("-created").with_limit(10)
    assert explained(world, rare).index == "status"
    same_as_the_reference(world, rare)


def test_a_walk_that_finds_too_little_is_given_up(world: Any) -> None:
    """All that matches lies at the far end of the order."""
    query = EMPTY.and_where((F.code >= 2000) & (F.status == "done")).with_order("code").with_limit(9)
    same_as_the_reference(world, query)
    far = EMPTY.and_where((F.status == "done") & (F.created > 3_000)).with_order("created").with_limit(9)
    same_as_the_reference(world, far)
    late = EMPTY.and_where(F.tags.contains("x") & (F.created >= 3_900)).with_order("code").with_limit(90)
    same_as_the_reference(world, late)


def test_what_a_run_measures(world: Any) -> None:
    explanation = explained(world, F.code.between(100, 199), run=True)
    assert (explanation.rows, explanation.actual_rows) == (100, 100)
    assert explanation.estimated_rows == 100
    assert explanation.elapsed_ms is not None and explanation.elapsed_ms > 0
    scan = explained(world, F.missing == 1, run=True)
    assert scan.scan and scan.rows == 0 and scan.actual_rows == ROWS
    assert scan.advice == '"missing"'
    limited = explained(world, EMPTY.and_where(F.code >= 100).with_order("code").with_limit(20), run=True)
    assert (limited.rows, limited.actual_rows) == (20, 20)
    left = EMPTY.and_where((F.code >= 100) & (F.kind == 3) & (F.missing == None)).with_order("code")  # noqa: E711
    assert explained(world, left.with_limit(20), run=True).actual_rows == 400
    some = explained(world, EMPTY.with_limit(20), run=True)
    assert (some.rows, some.actual_rows) == (20, 20)
    python = explained(world, EMPTY.with_predicate(lambda doc: doc["code"] < 5), run=True)
    assert python.rows == ROWS and python.predicates == 1
    assert python.estimated_cost > scan.estimated_cost
