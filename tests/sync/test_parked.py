"""What cannot travel now waits, and stands in nobody's way."""

from __future__ import annotations

import pytest

from homeport.core.schema import Collection
from homeport.core.wire import MAX_UNIT_BYTES

from .device import Device
from .model import ModelServer
from .test_exchange import pair, settle


def two_collections():
    server = ModelServer()
    both = (Collection("wells"), Collection("notes"))
    a, b = (Device(server, *both, name=name) for name in "ab")
    a.unit(lambda: a.put({"id": "1", "n": 0}), lambda: a.put({"id": "1", "n": 0}, "notes"))
    settle(a, b)
    return server, a, b


@pytest.mark.parametrize("flying", ["no", "lost request", "lost reply"])
def test_a_unit_of_a_collection_that_is_not_synced_any_more_waits_whole(flying):
    server, a, b = two_collections()
    a.unit(lambda: a.patch("1", mine=1), lambda: a.patch("1", "notes", mine=1))
    a.patch("1", "notes", later=2)
    if flying == "lost request":
        a.ask()
    elif flying == "lost reply":
        a.round(lose=True)
    b.patch("1", theirs=3)
    b.patch("1", "notes", theirs=3)
    b.sync()
    # The program runs on with fewer collections.
    notes = a.synced.pop("notes")
    a.put({"id": "2"})
    for _ in range(4):
        a.round()
    assert a.get("1") == {"id": "1", "n": 0, "mine": 1, "theirs": 3}
    assert a.get("1", "notes") == {"id": "1", "n": 0, "mine": 1, "later": 2}
    assert "2" in server.state("wells")
    # And with all of them again.
    a.synced["notes"] = notes
    settle(a, b)
    assert a.outbox() == [] and not a.dead() and not a.log()
    assert a.all() == b.all() == server.state("wells")
    assert a.all("notes") == b.all("notes") == server.state("notes")
    assert a.get("1", "notes") == {"id": "1", "n": 0, "mine": 1, "later": 2, "theirs": 3}
    assert a.get("1") == {"id": "1", "n": 0, "mine": 1, "theirs": 3}


@pytest.mark.parametrize("policy", ["last-write-wins", "local-wins"])
def test_small_patches_of_large_documents_stay_small(policy):
    server, a, b = pair(policy)
    keys = [f"k{n}" for n in range(6)]
    for key in keys:
        a.put({"id": key, "text": "x" * 900_000, "n": 0})
        a.sync()
    a.unit(*[lambda key=key: a.patch(key, n=1) for key in keys])
    question = a.ask()
    assert question.changes == len(keys)
    assert len(question.body) < MAX_UNIT_BYTES // 2
    settle(a, b)
    assert {d["n"] for d in b.all().values()} == {1} and a.outbox() == []
