"""What the user decides when the server does not know the file any more, and what he can take out
(R3, R14)."""

from __future__ import annotations

import json
import time

import pytest

import homeport as hp
from homeport.errors import CannotOpen, HistoryBroken, InvalidDocument, UsageError

from .node import HttpNode, token
from .test_recovery import Backup

wells = hp.Collection("wells")


@pytest.fixture
def node():
    node = HttpNode()
    yield node
    node.stop()


@pytest.fixture
def db(tmp_path):
    with hp.open(tmp_path / "a.db", collections=[wells], durability="relaxed") as db:
        yield db


def until(condition, timeout_s=8.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def files(tmp_path):
    found = sorted(tmp_path.glob("a.db.unsent-*.ndjson"))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in found]


def test_r14_recover_is_the_default(node, db, tmp_path):
    sync = db.sync(node.url, token=token(), live=False)
    db[wells].put({"id": "w", "n": 1})
    sync.now(timeout_s=10)
    backup = Backup(node.model)
    db[wells].patch("w", n=2)
    sync.now(timeout_s=10)
    backup.restore(node.model)
    db[wells].put({"id": "v"})
    events = []
    sync.on_event(lambda event: events.append(event.kind))
    sync.now(timeout_s=10)
    assert node.model.state("wells") == {"w": {"id": "w", "n": 2}, "v": {"id": "v"}}
    assert {"reset", "recovered"} <= set(events)
    assert files(tmp_path) == []


def test_r14_discard_keeps_a_file_of_what_was_given_up(node, db, tmp_path):
    sync = db.sync(node.url, token=token(), live=False, on_reset="discard")
    db[wells].put({"id": "w", "n": 1})
    db[wells].put({"id": "gone", "n": 1})
    sync.now(timeout_s=10)
    db[wells].patch("w", n=2)
    db[wells].put({"id": "mine", "text": "é"})
    db[wells].delete("gone")
    node.model.epoch += 1
    sync.now(timeout_s=10)
    assert db[wells].get("w") == {"id": "w", "n": 1}
    assert db[wells].get("mine") is None and db[wells].get("gone") == {"id": "gone", "n": 1}
    assert sync.status().queued == 0 and sync.dead_letters() == []
    [lines] = files(tmp_path)
    assert {line["code"] for line in lines} == {"discarded"}
    changes = {change["key"]: change for line in lines for change in line["changes"]}
    assert changes["mine"]["doc"] == {"id": "mine", "text": "é"}
    assert changes["w"]["set"] == {"n": 2} and changes["w"]["old"] == {"n": 1}
    assert changes["gone"]["op"] == "delete"


def test_r14_discard_without_a_place_for_the_file_keeps_the_letters(node):
    with hp.open(":memory:", collections=[wells]) as db:
        sync = db.sync(node.url, token=token(), live=False, on_reset="discard")
        sync.now(timeout_s=10)
        db[wells].put({"id": "mine"})
        node.model.epoch += 1
        sync.now(timeout_s=10)
        assert db[wells].get("mine") is None
        [letter] = sync.dead_letters()
        sync.retry(letter.id)
        assert db[wells].get("mine") == {"id": "mine"}
        sync.now(timeout_s=10)
        assert node.model.state("wells") == {"mine": {"id": "mine"}}


def test_r14_manual_waits_for_a_decision(node, db):
    sync = db.sync(node.url, token=token(), live=False, on_reset="manual", poll_s=0.05)
    db[wells].put({"id": "w", "n": 1})
    sync.start()
    until(lambda: sync.status().queued == 0 and sync.status().state == "idle")
    node.model.epoch += 1
    until(lambda: sync.status().state == "needs-recovery")
    db[wells].patch("w", n=2)
    requests = node.requests
    time.sleep(0.3)
    assert node.requests == requests and sync.status().queued == 1
    with pytest.raises(HistoryBroken):
        sync.now(timeout_s=5)
    for wrong in ("manual", "anything"):
        with pytest.raises(UsageError):
            sync.recover(wrong)
    sync.recover("recover")
    until(lambda: sync.status().queued == 0 and sync.status().state == "idle")
    assert node.model.state("wells")["w"]["n"] == 2


def test_r14_recover_else_export_writes_what_cannot_be_applied(node, db, tmp_path):
    sync = db.sync(node.url, token=token(), live=False, on_reset="recover-else-export")
    db[wells].put_many([{"id": "w", "n": 1}, {"id": "v", "n": 1}, {"id": "u", "n": 1}])
    sync.now(timeout_s=10)
    node.model.reject = lambda change: "no" if change.key in ("u", "v") else None
    db[wells].patch("u", n=5)
    sync.now(timeout_s=10)
    [older] = sync.dead_letters()
    db[wells].patch("v", n=5)
    node.lose = 1000
    with pytest.raises(hp.HomeportError):  # refused, and the answer is lost
        sync.now(timeout_s=0.2)
    node.lose = 0
    node.model.epoch += 1
    db[wells].patch("w", n=2)
    sync.now(timeout_s=10)
    assert db[wells].get("v") == {"id": "v", "n": 1}
    assert node.model.state("wells")["w"]["n"] == 2
    [[line]] = files(tmp_path)
    assert (line["code"], line["changes"][0]["set"]) == ("no", {"n": 5})
    assert sync.dead_letters() == [older]


def test_the_strategy_is_checked(db, node):
    with pytest.raises(UsageError, match="recover-else-export"):
        db.sync(node.url, token=token(), on_reset="forget")


def test_r03_everything_unsent_can_be_exported(node, db, tmp_path):
    sync = db.sync(node.url, token=token(), live=False)
    node.model.reject = lambda change: "no" if change.key == "bad" else None
    db[wells].put({"id": "bad", "n": 1})
    sync.now(timeout_s=10)
    for n in range(1_100):
        db[wells].put({"id": f"w{n}"})
    assert sync.export(tmp_path / "out.ndjson") == 1_101
    lines = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    assert [line["kind"] for line in lines].count("queued") == 1_100
    assert lines[-1]["kind"] == "dead" and lines[-1]["changes"][0]["doc"] == {"id": "bad", "n": 1}
    with pytest.raises(CannotOpen):
        sync.export(tmp_path / "no" / "folder.ndjson")
    assert sync.status().queued == 1_100


def test_r03_a_dead_letter_is_edited_and_sent_again(node, db):
    sync = db.sync(node.url, token=token(), live=False)
    node.model.reject = lambda change: "too-large" if b'"n":1' in bytes(change.doc) else None
    db[wells].put({"id": "a", "n": 1})
    sync.now(timeout_s=10)
    [letter] = sync.dead_letters()
    assert db[wells].get("a") is None
    for wrong, error in (
        ({"b": {"id": "b"}}, UsageError),
        ({"a": {"id": "b"}}, InvalidDocument),
        ({"a": 3}, InvalidDocument),
    ):
        with pytest.raises(error):
            sync.retry(letter.id, wrong)
        assert db[wells].get("a") is None and len(sync.dead_letters()) == 1
    sync.retry(letter.id, {"a": {"id": "a", "n": 2}})
    sync.now(timeout_s=10)
    assert node.model.state("wells") == {"a": {"id": "a", "n": 2}}
    assert sync.dead_letters() == []


def test_the_status_of_a_document_follows_its_changes(node, db):
    w = db[wells]
    w.put({"id": "a"})
    assert w.meta("a").sync_status == "local"
    sync = db.sync(node.url, token=token(), live=False)
    w.put({"id": "b"})
    assert w.meta("b").sync_status == "pending"
    node.lose = 1000  # a single lost answer may be repeated in time
    with pytest.raises(hp.HomeportError):
        sync.now(timeout_s=0.3)
    node.lose = 0
    assert w.meta("b").sync_status in ("processing", "synced")
    sync.now(timeout_s=10)
    assert w.meta("b").sync_status == w.meta("a").sync_status == "synced"
    node.model.reject = lambda change: "no"
    w.patch("a", n=1)
    sync.now(timeout_s=10)
    assert w.meta("a").sync_status == "failed"
    [letter] = sync.dead_letters()
    sync.discard(letter.id)
    assert w.meta("a").sync_status == "synced"
