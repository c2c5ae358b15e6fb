"""Nodes that answer what no node should: the device waits between its tries and keeps its queue."""

from __future__ import annotations

import time

import pytest

import homeport as hp
from homeport.core import session as machine

from .node import HttpNode, token

wells = hp.Collection("wells")


@pytest.fixture
def node():
    node = HttpNode()
    yield node
    node.stop()


@pytest.fixture
def sync(node, tmp_path):
    with hp.open(tmp_path / "a.db", collections=[wells], durability="relaxed") as db:
        sync = db.sync(node.url, token=token(), live=False)
        db["wells"].put({"id": "w1"})
        yield sync


def tries(node, sync, seconds=1.0):
    before = sync.status().requests
    with pytest.raises(hp.errors.Unreachable):
        sync.now(timeout_s=seconds)
    sync.start()
    time.sleep(0.5)
    status = sync.status()
    assert status.state in ("offline", "syncing") and status.last_error and status.queued == 1
    sync.stop()
    return status.requests - before


@pytest.mark.parametrize("status", [409, 410])
def test_a_node_that_refuses_every_beginning_is_not_hammered(node, sync, status):
    node.status = status
    assert tries(node, sync) < 30
    node.status = None
    sync.now(timeout_s=10)
    assert node.model.state("wells") == {"w1": {"id": "w1"}}


def test_a_node_that_never_answers_a_batch_is_not_hammered(node, sync, monkeypatch):
    monkeypatch.setattr(node.model, "_push", lambda *_: None)
    assert tries(node, sync) < 30
    monkeypatch.undo()
    sync.now(timeout_s=10)
    assert node.model.state("wells") == {"w1": {"id": "w1"}}


def test_r02_rows_of_a_cut_in_pages_are_counted_once(node, sync):
    node.model.page = 10
    node.model.policies["wells"] = ("merge", "delete-wins")
    for n in range(45):
        node.model.write("wells", f"k{n}", {"id": f"k{n}"})
    sync.now(timeout_s=10)
    assert 45 <= sync.status().pulled <= 47


def test_the_back_off_begins_short():
    assert machine.delay_ms(1, 1.0) == 1_000
