"""R13: a device compares itself with the server, and repairs only the part that differs."""

from __future__ import annotations

import time
from typing import Any

import apsw
import pytest

import homeport as hp
from homeport.core.verify import REPAIRED_AT_ONCE, slot_of
from tests.e2e.world import Node

wells = hp.Collection("wells", indexes=["n"])


@pytest.fixture(scope="module")
def node(module_database_dsn: str, tmp_path_factory: pytest.TempPathFactory):
    node = Node(module_database_dsn, tmp_path_factory.mktemp("node"))
    yield node
    node.stop()


@pytest.fixture
def device(node, tmp_path):
    path = tmp_path / "a.db"
    with hp.open(path, collections=[wells]) as db:
        sync = db.sync(node.url, token=node.token, live=False)
        sync.now(timeout_s=30)
        db[wells].clear()
        db[wells].put_many([{"id": f"w{n}", "n": n} for n in range(600)])
        sync.now(timeout_s=30)
        yield db, sync, path


def damage(path: Any, *statements: str) -> None:
    """Somebody, or a failing disk, changes the file behind our back."""
    file = apsw.Connection(str(path))
    for statement in statements:
        file.execute(statement)
        assert file.changes() > 0
    file.close()


def by_key(db: Any) -> dict[str, Any]:
    return {doc["id"]: doc for doc in db[wells].all()}


def test_r13_equal_copies_have_equal_sums(device):
    db, sync, _ = device
    report = sync.verify()
    assert (report.different, report.repaired, report.false_alarms, report.remaining) == (0, 0, 0, 0)
    assert report.documents >= 600


def test_r13_what_differs_is_repaired_and_nothing_else_is_sent(device):
    db, sync, path = device
    right = by_key(db)
    damage(
        path,
        "delete from c_wells where id = 'w7'",
        "update c_wells set tok = '1', doc = replace(doc, '8', '9') where id = 'w8'",
    )
    assert by_key(db) != right
    before = sync.status().pulled
    report = sync.verify()
    slots = {slot_of("w7"), slot_of("w8")}
    assert (report.different, report.repaired, report.remaining) == (len(slots), 2, 0)
    assert by_key(db) == right
    assert db[wells].where(hp.F.n == 7).all() == [{"id": "w7", "n": 7}]
    assert sync.status().pulled - before <= sum(slot_of(key) in slots for key in right) + 5


def test_r13_a_row_that_the_server_does_not_have_goes(device):
    db, sync, path = device
    damage(path, "update c_wells set tok = '5' where id = 'w1'")
    db[wells].put({"id": "fresh", "n": 1})
    damage(path, "update c_wells set id = 'ghost', doc = '{\"id\":\"ghost\",\"n\":2}' where id = 'w2'")
    assert db[wells].get("ghost") == {"id": "ghost", "n": 2}
    report = sync.verify()
    assert report.remaining == 0 and report.repaired == 3
    assert db[wells].get("ghost") is None
    assert db[wells].get("w2") == {"id": "w2", "n": 2}
    assert db[wells].get("fresh") == {"id": "fresh", "n": 1}


def test_r13_the_queue_is_not_touched(device, node):
    db, sync, path = device
    damage(path, "update c_wells set tok = '1' where id in ('w3', 'w4')")
    with db.transaction():
        db[wells].patch("w3", n=-3)
        db[wells].delete("w5")
    # held back: the comparison runs while these wait
    conflict_free = sync.status().queued
    assert conflict_free == 2
    report = sync.verify()
    assert report.remaining == 0
    assert db[wells].get("w3") == {"id": "w3", "n": -3} and db[wells].get("w5") is None
    assert sync.status().queued == 0
    with hp.open(path.with_name("b.db"), collections=[wells]) as other:
        other.sync(node.url, token=node.token, live=False).now(timeout_s=30)
        assert by_key(other) == by_key(db)


def test_r13_more_slots_than_fit_into_one_cut(device):
    db, sync, path = device
    right = by_key(db)
    damage(path, "delete from c_wells where id like 'w1%'")
    report = sync.verify()
    assert report.different > REPAIRED_AT_ONCE and report.remaining == 0
    assert by_key(db) == right


def test_r13_a_file_is_compared_by_itself(node, tmp_path):
    path = tmp_path / "b.db"
    with hp.open(path, collections=[wells]) as db:
        sync = db.sync(node.url, token=node.token, live=False, poll_s=0.1, verify_s=0.2)
        db[wells].put({"id": "mine", "n": 1})
        sync.now(timeout_s=30)
        damage(path, "delete from c_wells where id = 'mine'")
        seen = []
        sync.on_event(lambda event: seen.append(event) if event.kind == "verified" else None)
        sync.start()
        deadline = time.monotonic() + 10
        while not seen and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "1 documents repaired" in seen[0].detail
        assert db[wells].get("mine") == {"id": "mine", "n": 1}
        sync.stop()
    with pytest.raises(hp.errors.UsageError):
        with hp.open(path, collections=[wells]) as db:
            db.sync(node.url, token=node.token, verify_s=0)
