"""R10, R14, R18, R20, R25 at the user's level: what becomes of queued edits when permission, history
or identity change while the device is away."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import Any

import pytest

import homeport as hp
from homeport.errors import NeedsAuth, WrongUser
from homeport.server.rules import Claims, ServerCollection

from .site import settle

PLANS = hp.Collection("plans")
seen: dict[str, list[str]] = {}
readonly: set[str] = set()


def buckets(claims: Claims, fetch: Any) -> list[str]:
    return seen.get(claims.subject, ["north", "south"])


def may_write(claims: Claims, old: Any, new: Any) -> bool | str:
    return claims.subject not in readonly or "You may only read."


@pytest.fixture
def site(sites, database_dsn):
    seen.clear()
    readonly.clear()
    rules = {"bucket": lambda doc: doc["region"], "buckets": buckets, "write": may_write}
    return sites(database_dsn, [ServerCollection("plans", **rules)])


@pytest.fixture
def pair(site, tmp_path):
    """Ann, who may do everything, and Bob."""
    with (
        hp.open(tmp_path / "ann.db", collections=[PLANS]) as one,
        hp.open(tmp_path / "bob.db", collections=[PLANS]) as two,
    ):
        ann, bob = site.sync(one), site.sync(two, "bob")
        one[PLANS].put_many([{"id": k, "region": r} for k, r in (("n", "north"), ("s", "south"))])
        settle(ann, bob)
        yield one[PLANS], ann, two[PLANS], bob
        ann.stop()
        bob.stop()


def test_r10_permission_lost_offline_with_queued_edits(pair, tmp_path):
    plans, ann, his, bob = pair
    his.patch("n", note="his")
    his.put({"id": "new", "region": "north"})
    his.patch("s", note="south")
    seen["bob"] = ["south"]
    settle(bob, ann)
    assert {doc["id"]: doc for doc in his.all()} == {
        "s": {"id": "s", "region": "south", "note": "south"}
    }
    letters = {letter.changes[0]["key"]: letter for letter in bob.dead_letters()}
    assert {key: letter.code for key, letter in letters.items()} == {
        "n": "not-visible",
        "new": "forbidden",
    }
    assert plans.get("n") == {"id": "n", "region": "north"} and plans.get("new") is None
    # Everything is there to be taken out, with its content.
    lines = bob.export(tmp_path / "out.ndjson")
    text = (tmp_path / "out.ndjson").read_text()
    assert lines == len([json.loads(line) for line in text.splitlines()]) == 2
    assert '"his"' in text and '"new"' in text
    # Permission is back: rows that are old are sent, and the edits can be made again.
    seen["bob"] = ["north", "south"]
    bob.now(timeout_s=30)
    assert his.get("n") == {"id": "n", "region": "north"}
    for letter in letters.values():
        bob.retry(letter.id)
    settle(bob, ann)
    assert plans.get("n")["note"] == "his" and plans.get("new") is not None
    assert bob.dead_letters() == [] and bob.status().queued == 0


def test_a_right_to_write_that_was_lost_rolls_back_and_says_why(pair):
    plans, ann, his, bob = pair
    his.patch("n", note="his")
    readonly.add("bob")
    settle(bob, ann)
    (letter,) = bob.dead_letters()
    assert (letter.code, letter.message) == ("forbidden", "You may only read.")
    assert his.get("n") == plans.get("n") == {"id": "n", "region": "north"}
    readonly.clear()
    bob.retry(letter.id)
    settle(bob, ann)
    assert plans.get("n")["note"] == "his"


def test_r20_another_user_sends_nothing_and_the_queue_stays(pair, site, tmp_path):
    plans, ann, his, bob = pair
    his.patch("n", note="his")
    bob.stop()
    with hp.open(tmp_path / "bob.db", collections=[PLANS]) as db:
        other = site.sync(db, "eve")
        with pytest.raises(WrongUser):
            other.now(timeout_s=10)
        assert (other.status().state, other.status().queued) == ("wrong-user", 1)
        other.stop()
    ann.now(timeout_s=30)
    assert "note" not in plans.get("n")
    bob.now(timeout_s=30)
    ann.now(timeout_s=30)
    assert plans.get("n")["note"] == "his"


def test_r20_an_expired_token_without_a_function_keeps_everything(pair, site, tmp_path):
    _, _, his, bob = pair
    bob.stop()
    with hp.open(tmp_path / "bob.db", collections=[PLANS]) as db:
        old = db.sync(site.url, token=site.token("bob", ttl_s=-60), live=False)
        db[PLANS].patch("n", note="later")
        with pytest.raises(NeedsAuth):
            old.now(timeout_s=10)
        assert (old.status().state, old.status().queued) == ("needs-auth", 1)
        assert db[PLANS].get("n")["note"] == "later" and old.dead_letters() == []
        old.stop()
    assert bob.now(timeout_s=30).queued == 0


@pytest.mark.parametrize("how", ["horizon", "marker"])
def test_r14_r18_away_for_too_long_or_history_broken(pair, site, how):
    plans, ann, his, bob = pair
    his.patch("n", mine=1)
    his.put({"id": "new", "region": "south"})
    plans.patch("n", theirs=1)
    plans.delete("s")
    ann.now(timeout_s=30)
    if how == "marker":
        site.sql("delete from homeport.markers")
    else:
        for _ in range(2):
            pruned = site.node.feed.prune(0.0)
            asyncio.run_coroutine_threadsafe(pruned, site.loop).result(20)
    events: list[str] = []
    bob.on_event(lambda event: events.append(event.kind))
    settle(bob, ann)
    assert "reset" in events
    assert {doc["id"]: doc for doc in his.all()} == {doc["id"]: doc for doc in plans.all()}
    assert plans.get("n") == {"id": "n", "region": "north", "mine": 1, "theirs": 1}
    assert sorted(plans.keys()) == ["n", "new"] and bob.status().queued == 0


def test_r25_a_copied_file_takes_an_identity_of_its_own(pair, site, tmp_path):
    plans, ann, his, bob = pair
    bob.stop()
    shutil.copy(tmp_path / "bob.db", tmp_path / "copy.db")
    for end in ("-wal", "-shm"):
        if (tmp_path / f"bob.db{end}").exists():
            shutil.copy(tmp_path / f"bob.db{end}", tmp_path / f"copy.db{end}")
    his.patch("n", first=1)
    bob.now(timeout_s=30)
    with hp.open(tmp_path / "copy.db", collections=[PLANS]) as db:
        second = site.sync(db, "bob")
        db[PLANS].patch("n", second=2)
        db[PLANS].put({"id": "copy", "region": "north"})
        settle(second, bob, ann)
        expected = {"id": "n", "region": "north", "first": 1, "second": 2}
        for collection in (db[PLANS], his, plans):
            assert collection.get("n") == expected and collection.get("copy") is not None
        assert second.status().queued == 0 and second.dead_letters() == []
        second.stop()


def test_a_collection_that_is_sent_again_leaves_the_queue_alone(pair, site):
    """A generation: everything of one collection comes again, in one cut."""
    plans, ann, his, bob = pair
    his.patch("n", mine=1)
    site.sql("update homeport.collections set generation = generation + 1 where name = 'plans'")
    site.sql("delete from homeport.documents where key = 's'")
    settle(bob, ann)
    assert {doc["id"]: doc for doc in his.all()} == {
        "n": {"id": "n", "region": "north", "mine": 1}
    } == {doc["id"]: doc for doc in plans.all()}
