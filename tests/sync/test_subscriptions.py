"""R10: a device fetches some buckets only; rows come and go in one cut, and no edit is lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import homeport as hp
from homeport.errors import UnknownCollection, UsageError
from homeport.server.rules import Claims, ServerCollection

from .site import settle

PLANS = hp.Collection("plans")
seen: dict[str, list[str]] = {}
"""Buckets by user."""


def buckets(claims: Claims, fetch: Any) -> list[str]:
    return seen.get(claims.subject, ["north", "south", "east"])


DECLARED = [
    ServerCollection("plans", bucket=lambda document: document["region"], buckets=buckets),
    ServerCollection("notes"),
]


@pytest.fixture
def site(sites, database_dsn):
    seen.clear()
    return sites(database_dsn, DECLARED)


@pytest.fixture
def opened(tmp_path, site):
    """Makes devices: database and replication."""
    made: list[Any] = []

    def make(name: str, user: str = "ann", **options: Any) -> tuple[Any, Any, Any]:
        db = hp.open(tmp_path / f"{name}.db", collections=[PLANS, hp.Collection("notes")])
        sync = site.sync(db, user, **options)
        made.extend((sync, db))
        return db, db["plans"], sync

    yield make
    for one in made:
        (one.stop if hasattr(one, "stop") else one.close)()


def fill(plans: Any, sync: Any) -> None:
    regions = ("north", "south", "east")
    plans.put_many([{"id": f"{r}{n}", "region": r, "n": n} for r in regions for n in range(3)])
    sync.now(timeout_s=30)


def test_r10_buckets_are_added_and_removed_at_run_time(opened):
    _, all_plans, writer = opened("a")
    fill(all_plans, writer)
    db, plans, sync = opened("b")
    sync.subscribe("plans", ["north"])
    sync.now(timeout_s=30)
    assert plans.keys() == ["north0", "north1", "north2"]
    assert sync.subscriptions() == {"plans": ["north"]}
    # What changes elsewhere does not come, and is not counted.
    before = sync.status().pulled
    all_plans.patch("south0", n=9)
    db["notes"].put({"id": "x"})
    settle(writer, sync)
    assert plans.get("south0") is None
    assert sync.status().pulled - before <= 1  # its own note
    sync.subscribe(PLANS, ["south"])
    sync.now(timeout_s=30)
    assert plans.count() == 6 and plans.get("south0")["n"] == 9
    assert sync.verify().different == 0
    states: list[int] = []
    with Watching(plans, states):
        sync.unsubscribe("plans", ["north"])
        sync.now(timeout_s=30)
    assert set(states) <= {6, 3}  # all of it goes in one step
    assert plans.keys() == ["south0", "south1", "south2"]
    assert sync.verify().different == 0
    sync.unsubscribe("plans")
    sync.now(timeout_s=30)
    assert plans.count() == 0 and sync.subscriptions() == {"plans": []}
    sync.subscribe("plans", None)
    sync.now(timeout_s=30)
    assert plans.count() == 9 and sync.subscriptions() == {}
    # From everything, one is taken away.
    sync.unsubscribe("plans", ["east"])
    sync.now(timeout_s=30)
    assert sync.subscriptions() == {"plans": ["north", "south"]} and plans.count() == 6


def test_the_choice_is_kept_in_the_file_and_checked(opened, site):
    db, _, sync = opened("a")
    sync.subscribe("plans", ["north"])
    assert site.sync(db).subscriptions() == {"plans": ["north"]}
    for wrong in ("north", [3]):
        with pytest.raises(UsageError):
            sync.subscribe("plans", wrong)
    with pytest.raises(UnknownCollection):
        sync.subscribe("planes", ["north"])


def test_r10_edits_of_a_row_that_leaves_are_sent_and_not_lost(opened):
    _, all_plans, writer = opened("a")
    fill(all_plans, writer)
    _, plans, sync = opened("b")
    sync.subscribe("plans", ["north", "south"])
    sync.now(timeout_s=30)
    # The slice is given up while edits of it wait.
    plans.patch("north0", mine=1)
    plans.patch("north1", mine=1)
    sync.unsubscribe("plans", ["north"])
    assert plans.get("north0")["mine"] == 1
    settle(sync, writer)
    assert all_plans.get("north0")["mine"] == all_plans.get("north1")["mine"] == 1
    assert plans.keys() == ["south0", "south1", "south2"]
    assert (sync.status().dead, sync.status().conflicts, sync.status().queued) == (0, 0, 0)
    assert sync.resolutions() == []
    # A row is moved out of the slice by somebody else while edits of it wait.
    plans.patch("south0", mine=2)
    all_plans.patch("south0", region="east", theirs=1)
    all_plans.patch("south1", region="east")
    settle(writer, sync, writer)
    moved = {"id": "south0", "region": "east", "n": 0, "mine": 2, "theirs": 1}
    assert all_plans.get("south0") == moved
    assert plans.keys() == ["south2"] and sync.dead_letters() == []
    # Both changed the same field of it: the ordinary rule decides, with the row at hand.
    plans.patch("south2", n=70)
    plans.patch("south2", note="x")
    all_plans.patch("south2", region="east", n=80)
    settle(writer, sync, writer)
    assert all_plans.get("south2") == {"id": "south2", "region": "east", "n": 70, "note": "x"}
    assert [(r.key, r.fields) for r in writer.resolutions()] == [("south2", ["n"])]
    assert plans.keys() == [] and sync.status().queued == 0


def test_rows_that_are_moved_by_this_device_or_made_elsewhere_go(opened):
    _, all_plans, writer = opened("a")
    fill(all_plans, writer)
    db, plans, sync = opened("b")
    sync.subscribe("plans", ["north"])
    sync.now(timeout_s=30)

    plans.put({"id": "new", "region": "south"})
    plans.patch("north0", region="south")
    assert plans.get("new") is not None
    with db.transaction():
        plans.patch("north1", region="south")
        plans.put({"id": "unit", "region": "east"})
    settle(sync, writer)
    assert plans.keys() == ["north2"]
    found = {doc["id"]: doc["region"] for doc in all_plans.all()}
    assert found["new"] == found["north0"] == found["north1"] == "south" and found["unit"] == "east"
    # And come back.
    all_plans.patch("new", region="north")
    settle(writer, sync)
    assert sorted(plans.keys()) == ["new", "north2"]
    assert sync.verify().different == 0
    # A delete outside of the slice is heard of as one inside.
    all_plans.delete("new")
    all_plans.delete("south1")
    settle(writer, sync)
    assert plans.keys() == ["north2"]


def test_r10_a_subscription_asks_and_the_rules_decide(opened):
    seen["bob"] = ["north"]
    _, all_plans, writer = opened("a")
    fill(all_plans, writer)
    _, plans, sync = opened("b", "bob")
    sync.subscribe("plans", ["north", "south"])
    sync.now(timeout_s=30)
    assert plans.keys() == ["north0", "north1", "north2"]
    seen["bob"] = ["south"]
    plans.patch("north0", mine=1)
    sync.now(timeout_s=30)
    # Taken away by the rules, not given up: the edit is a dead letter with its reason.
    assert plans.keys() == ["south0", "south1", "south2"]
    (letter,) = sync.dead_letters()
    assert letter.code in ("not-visible", "forbidden")
    # A row that is moved out of sight says nothing about where it is.
    all_plans.patch("south0", region="east")
    settle(writer, sync)
    assert sorted(plans.keys()) == ["south1", "south2"]


def test_r14_a_reset_keeps_what_waits_outside(opened, site):
    _, all_plans, writer = opened("a")
    fill(all_plans, writer)
    _, plans, sync = opened("b")
    sync.subscribe("plans", ["north", "south"])
    sync.now(timeout_s=30)
    plans.patch("north0", mine=1)
    sync.unsubscribe("plans", ["north"])
    site.sql("delete from homeport.markers")
    sync.now(timeout_s=30)
    writer.now(timeout_s=30)
    assert all_plans.get("north0")["mine"] == 1
    assert plans.keys() == ["south0", "south1", "south2"] and sync.dead_letters() == []


def test_r17_a_new_slice_in_pages_is_resumed_and_shown_whole(sites, database_dsn, tmp_path):
    site = sites(database_dsn, DECLARED, page_bytes=2_000)
    path = tmp_path / "b.db"
    with hp.open(tmp_path / "a.db", collections=[PLANS]) as one:
        writer = site.sync(one)
        text = "x" * 200
        one["plans"].put_many(
            [{"id": f"s{n:03}", "region": "south", "t": text} for n in range(120)]
        )
        one["plans"].put({"id": "n", "region": "north"})
        writer.now(timeout_s=30)
        writer.stop()
    with hp.open(path, collections=[PLANS]) as db:
        sync = site.sync(db)
        sync.subscribe("plans", ["north"])
        sync.now(timeout_s=30)
        sync.subscribe("plans", ["south"])
        # Some pages, then the program ends.
        rounds = sync._pump.rounds
        for _ in range(2):
            sync._pump.submit(lambda: rounds.exchange(pull=True)).result(20)
        assert db["plans"].count() == 1 and sync.status().rows
        assert db["plans"].get("n") == {"id": "n", "region": "north"}
        sync.stop()
    with hp.open(path, collections=[PLANS]) as db:
        sync = site.sync(db)
        before = sync.status().rows
        assert before
        sync.now(timeout_s=30)
        assert db["plans"].count() == 121
        assert sync.status().pulled <= 121 - before
        sync.stop()


class Watching:
    """Counts the documents at every commit."""

    def __init__(self, plans: Any, states: list[int]) -> None:
        self.plans, self.states = plans, states
        self.over = False

    def __enter__(self) -> None:

        def look() -> None:
            while not self.over:
                self.states.append(self.plans.count())

        self.thread = threading.Thread(target=look)
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.over = True
        self.thread.join()


def test_r10_more_edits_than_one_batch_holds_leave_with_their_rows(opened):
    """What is not in the batch of the very exchange in which the rows leave waits for its turn."""
    _, all_plans, writer = opened("a")
    all_plans.put_many([{"id": f"n{n:03}", "region": "north", "n": n} for n in range(620)])
    all_plans.put({"id": "s", "region": "south"})
    writer.now(timeout_s=60)
    _, plans, sync = opened("b")
    sync.subscribe("plans", ["north", "south"])
    sync.now(timeout_s=60)
    plans.patch_many({f"n{n:03}": {"mine": n} for n in range(620)})
    # The last ones are moved away by somebody else, one with a clash, before they are sent.
    for n in (617, 618, 619):
        all_plans.patch(f"n{n:03}", region="east", **({"mine": -1} if n == 619 else {}))
    writer.now(timeout_s=60)
    sync.unsubscribe("plans", ["north"])
    settle(sync, writer)
    assert sync.dead_letters() == [] and sync.status().queued == 0
    found = {doc["id"]: doc.get("mine") for doc in all_plans.all()}
    assert [found[f"n{n:03}"] for n in range(620)] == list(range(620))
    assert plans.keys() == ["s"]


def test_r10_edits_of_rows_that_others_move_away_wait_their_turn(opened):
    _, all_plans, writer = opened("a")
    all_plans.put_many([{"id": f"n{n:03}", "region": "north", "n": n} for n in range(620)])
    writer.now(timeout_s=60)
    _, plans, sync = opened("b")
    sync.subscribe("plans", ["north"])
    sync.now(timeout_s=60)
    plans.patch_many({f"n{n:03}": {"mine": n} for n in range(620)})
    for n in (617, 618, 619):
        all_plans.patch(f"n{n:03}", region="east", **({"mine": -1} if n == 619 else {}))
    settle(writer, sync, writer)
    assert sync.dead_letters() == [] and sync.status().queued == 0
    found = {doc["id"]: doc for doc in all_plans.all()}
    assert [found[f"n{n:03}"]["mine"] for n in range(620)] == list(range(620))
    assert found["n618"]["region"] == "east" and plans.count() == 617
