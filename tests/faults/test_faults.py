"""A short sample of ``make faults``: every kind once, and bugs that the oracle must notice."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faults import report
from tests.faults.kinds import KINDS
from tests.faults.oracle import check
from tests.faults.run import play
from tests.faults.workload import ACCOUNTS, COUNTERS, NAMES, START, torn
from tests.faults.world import World

PROVES = {
    "disconnect": "r01",
    "cut": "r04",
    "repeat": "r04",
    "SQL": "r09",
    "kill device": "r06",
    "clock": "r21",
    "partition device": "r22",
    "backup": "r14",
    "two programs": "r16",
    "frozen leader": "r16",
    "copied device": "r25",
    "failover": "r11",
}
# PgBouncer is a program of the system, which `make faults` installs; a node behind such a pooler is
# tested in tests/server/test_pooled.py.
PLAIN = [kind for kind, how in KINDS.items() if how.world is World and kind != "frozen leader"]


def name(kind: str) -> str:
    return f"{PROVES.get(kind, 'r24')}-{kind.replace(' ', '-')}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("faults"))
    yield world
    world.close()


@pytest.mark.xdist_group("faults")
@pytest.mark.parametrize("kind", PLAIN, ids=name)
def test_nothing_is_lost_doubled_or_torn(world: World, kind: str) -> None:
    result = play(world, kind, "sample", seconds=1.0)
    assert result.violations == []
    assert result.acknowledged > 20 and result.looks > 5


@pytest.mark.xdist_group("faults-planted")
@pytest.mark.parametrize("kind", ["failover", "frozen leader"], ids=name)
def test_nothing_is_lost_when_another_takes_over(
    tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    world = KINDS[kind].world(tmp_path_factory.mktemp("faults"))
    try:
        result = play(world, kind, "sample", seconds=1.0)
    finally:
        world.close()
    assert result.violations == [] and result.faults
    assert result.acknowledged > 20 and result.looks > 5


@pytest.mark.xdist_group("faults-planted")
@pytest.mark.parametrize(
    ("bug", "kind", "word"),
    [
        ("forgets_batches", "repeat", "by the ledger"),
        ("answers_without_writing", "no fault", "LOST"),
        ("skips_open_transactions", "SQL", "STUCK"),
        # What was torn may also be refused by PostgreSQL before anybody can look at it.
        ("tears_units", "no fault", "by the ledger|STUCK"),
    ],
)
def test_planted_bugs_are_noticed(
    tmp_path_factory: pytest.TempPathFactory, bug: str, kind: str, word: str
) -> None:
    world = World(tmp_path_factory.mktemp(bug), plant=bug)
    try:
        result = play(world, kind, "planted", seconds=3.0, settle_s=5.0)
    finally:
        world.close()
    assert any(one in text for one in word.split("|") for text in result.violations), (
        result.violations
    )


def story() -> tuple[dict[str, list[dict[str, Any]]], dict[str, dict[str, Any]]]:
    """A run in which nothing went wrong: histories, and what is stored in the end."""
    add = {"id": "a-1", "w": "a", "i": 1, "op": "add", "k": "c0", "x": 5}
    more = {"id": "b-1", "w": "b", "i": 1, "op": "add", "k": "c0", "x": 2}
    job = {"id": "a-2", "w": "a", "i": 2, "op": "open"}
    stored: dict[str, dict[str, Any]] = {name: {} for name in NAMES}
    stored["ledger"] = {doc["id"]: doc for doc in (add, more, job)}
    stored["counters"] = {key: {"id": key, "n": 7 if key == "c0" else 0} for key in COUNTERS}
    stored["accounts"] = {key: {"id": key, "n": START} for key in ACCOUNTS}
    stored["jobs"] = {"a-2": {"id": "a-2", "by": "a"}}
    stored["notes"] = {"n0": {"id": "n0", "f0": "a/3"}}
    a = [
        {"p": "opened"},
        {"p": "begin", **add},
        {"p": "done", "i": 1},
        {"p": "begin", **job},
        {"p": "done", "i": 2},
        {"p": "writes", "value": "a/3", "c": "notes", "key": "n0", "f": "f0", "i": 3},
        {"p": "wrote", "value": "a/3", "old": None},
        {"p": "look", "new": ["a-1", "a-2"], "gone": [], "torn": []},
    ]
    b = [
        {"p": "opened"},
        {"p": "look", "new": ["a-1"], "gone": [], "torn": []},
        {"p": "begin", **more},
        {"p": "done", "i": 1},
        {"p": "look", "new": ["b-1"], "gone": [], "torn": []},
        {"p": "look", "new": ["a-2"], "gone": [], "torn": []},
    ]
    return {"a": a, "b": b}, stored


def judged(change: Callable[[Any, Any, Any], None] = lambda *_: None) -> list[str]:
    histories, stored = story()
    views = {"a": copy.deepcopy(stored), "b": copy.deepcopy(stored)}
    change(histories, stored, views)
    return check(histories, stored, views, []).violations


def everywhere(stored: Any, views: Any, change: Callable[[Any], Any]) -> None:
    for one in (stored, *views.values()):
        change(one)


def test_the_oracle_is_content_with_a_good_run() -> None:
    assert judged() == [] and torn(story()[1]) == []


@pytest.mark.parametrize(
    ("word", "change"),
    [
        ("LOST 1", lambda h, s, v: everywhere(s, v, lambda one: one["ledger"].pop("a-1"))),
        ("counters are", lambda h, s, v: everywhere(s, v, lambda one: one["counters"]["c0"].update(n=12))),
        ("are missing", lambda h, s, v: everywhere(s, v, lambda one: one["jobs"].clear())),
        ("open again", lambda h, s, v: everywhere(s, v, lambda one: one["ledger"]["b-1"].update(
            op="close", job="a-2"))),
        ("differs", lambda h, s, v: v["b"]["notes"]["n0"].update(f0="b/1")),
        ("INVENTED", lambda h, s, v: h["b"].__delitem__(2)),
        ("refused", lambda h, s, v: h["a"].append({"p": "failed", "i": 1, "code": "full"})),
        ("without a record", lambda h, s, v: everywhere(s, v, lambda one: one["notes"].clear())),
        ("its own", lambda h, s, v: h["a"][-1].update(new=["a-1"])),
        ("went back", lambda h, s, v: h["b"][-1].update(gone=["a-1"])),
        ("builds on", lambda h, s, v: h["a"][-1].update(new=["a-2", "a-1", "b-1"]) or h["a"].append(
            {"p": "look", "new": [], "gone": ["a-1"], "torn": []}) or h["b"].insert(
            0, {"p": "look", "new": ["b-1"], "gone": [], "torn": []})),
        ("saw: half", lambda h, s, v: h["b"][-1].update(torn=["half"])),
        ("Traceback", lambda h, s, v: h["b"].append({"p": "fault", "message": "Traceback"})),
        ("io", lambda h, s, v: h["b"].append({"p": "error", "code": "io", "message": "disk"})),
    ],
)  # fmt: skip
def test_the_oracle_notices(word: str, change: Any) -> None:
    assert any(word in text for text in judged(change)), judged(change)


def test_the_published_table_is_that_of_the_results() -> None:
    assert report.PAGE.read_text() == report.page()
    assert set(report.POWERSYNC) <= set(KINDS)
