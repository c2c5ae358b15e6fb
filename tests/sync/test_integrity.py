"""Rule G: what the server sends is stored, also where this device could not have written it, and is
listed until it is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

import homeport as hp
from homeport.core.integrity import list_integrity, prune
from homeport.core.outbox import INTEGRITY
from homeport.core.query import EMPTY
from homeport.core.requests import Count
from homeport.core.schema import Collection
from homeport.errors import UniqueViolation

from .device import Device
from .model import ModelServer
from .node import HttpNode, token

NAMED = Collection("wells", indexes=[hp.Unique("name")])


def devices(collection: Collection[Any], tmp_path: Path | None = None):
    server = ModelServer()
    paths = [None, None] if tmp_path is None else [tmp_path / "a.db", tmp_path / "b.db"]
    return server, *(Device(server, collection, name=n, path=p) for n, p in zip("ab", paths))


def settle(*all_devices: Device) -> None:
    for _ in range(3):
        for device in all_devices:
            device.sync()


def broken(device: Device) -> list[list[str]]:
    found, over = device.read(list_integrity(device.synced))
    if over:
        device.write(prune(device.synced))
        assert device.read(list_integrity(device.synced)) == (found, False)
    return [conflict.keys for conflict in found]


def marks(device: Device) -> int:
    def plan():
        return (yield Count(INTEGRITY, EMPTY))

    return device.read(plan())


def test_rule_g_two_devices_make_one_name_offline_and_both_list_it(tmp_path):
    server, a, b = devices(NAMED, tmp_path)
    a.put({"id": "w1", "name": "X"})
    b.put({"id": "w2", "name": "X"})
    settle(a, b)
    for device in (a, b):
        assert sorted(device.all()) == ["w1", "w2"] and device.outbox() == []
        (conflict,) = device.read(list_integrity(device.synced))[0]
        assert (conflict.kind, conflict.keys, conflict.fields) == ("unique", ["w1", "w2"], ["name"])
        assert "w1, w2" in conflict.reason and conflict.at_ms > 0
        assert [e.kind for e in device.events].count("integrity") == 1
    b.patch("w2", depth=3)  # nothing waits for it
    settle(a, b)
    assert a.get("w2")["depth"] == 3 and broken(a) == broken(b) == [["w1", "w2"]]
    b.patch("w2", name="Y")
    assert broken(b) == [] and marks(b) == 0
    assert broken(a) == [["w1", "w2"]]
    settle(a, b)
    assert broken(a) == [] and marks(a) == 0
    assert [e.kind for e in a.events].count("integrity") == 1
    with pytest.raises(UniqueViolation):
        a.put({"id": "w3", "name": "Y"})


def test_a_cut_that_ends_it_removes_the_mark_without_a_listing():
    server, a, b = devices(NAMED)
    a.put({"id": "w1", "name": "X"})
    b.put({"id": "w2", "name": "X"})
    settle(a, b)
    assert marks(a) and marks(b)
    b.delete("w2")
    settle(b, a)
    assert (marks(a), marks(b)) == (0, 0)


@pytest.mark.parametrize("stored", [False, True])
def test_names_swapped_in_one_cut_are_no_conflict(tmp_path, stored):
    server, a, b = devices(NAMED, tmp_path if stored else None)
    a.put_many([{"id": "w1", "name": "X"}, {"id": "w2", "name": "Y"}])
    settle(a, b)
    a.patch("w1", name="Z")
    a.patch("w2", name="X")
    a.patch("w1", name="Y")
    settle(a, b)
    assert b.get("w1")["name"] == "Y" and b.get("w2")["name"] == "X"
    assert broken(a) == broken(b) == [] and marks(b) == 0
    assert "integrity" not in [e.kind for e in (*a.events, *b.events)]


def test_a_rejected_rename_brings_it_back():
    server, a, b = devices(NAMED)
    a.put({"id": "w1", "name": "X"})
    settle(a, b)
    server.reject = lambda change: "no" if "name" in change.set else None
    a.patch("w1", name="Z")
    a.put({"id": "w2", "name": "X"})
    assert broken(a) == []
    a.sync()
    assert len(a.dead()) == 1 and broken(a) == [["w1", "w2"]]


SHAPES = {
    "compound": (hp.Unique("field", "name"), {"field": "B", "name": 1}, {"field": "B", "name": 2}),
    "multi": (
        hp.Index("tags", multi=True, unique=True), {"tags": ["p", "q"]}, {"tags": ["r"]}
    ),
    "nested": (hp.Unique("at.no"), {"at": {"no": True}}, {"at": {"no": 1}}),
    "list": (hp.Unique("pair"), {"pair": [1, "x"]}, {"pair": [1, "y"]}),
}  # fmt: skip


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_unique_index(tmp_path, shape, stored):
    index, same, other = SHAPES[shape]
    collection = Collection("wells", indexes=[index])
    server, a, b = devices(collection, tmp_path if stored else None)
    a.put({"id": "w1", **same})
    b.put_many([{"id": "w2", **same}, {"id": "w3", **other}, {"id": "w4"}])
    settle(a, b)
    assert broken(a) == broken(b) == [["w1", "w2"]]
    b.put({"id": "w2", "x": 1})
    settle(a, b)
    assert broken(a) == broken(b) == []


def test_many_pairs_are_found_among_many_rows(tmp_path):
    server, a, b = devices(NAMED, tmp_path)
    a.put_many([{"id": f"a{n:04}", "name": f"n{n}"} for n in range(1_300)])
    b.put_many([{"id": f"b{n:04}", "name": f"n{n * 10}"} for n in range(300)])
    settle(a, b)
    expected = [[f"a{n * 10:04}", f"b{n:04}"] for n in range(130)]
    assert sorted(broken(a)) == sorted(broken(b)) == expected


class Well(msgspec.Struct):
    id: str
    depth: int


def test_a_document_that_the_model_cannot_read_is_listed_until_it_fits():
    server = ModelServer()
    a = Device(server, name="a")
    b = Device(server, Collection("wells", Well), name="b")
    a.put({"id": "w1", "depth": "deep"})
    a.put({"id": "w2", "depth": 2})
    settle(a, b)
    (conflict,) = b.read(list_integrity(b.synced))[0]
    assert (conflict.kind, conflict.keys, conflict.index) == ("unreadable", ["w1"], None)
    assert "depth" in conflict.reason and sorted(b.all()) == ["w1", "w2"]
    a.patch("w1", depth=4)
    settle(a, b)
    assert broken(b) == [] and marks(b) == 0


def test_the_handle_lists_counts_and_tells(tmp_path):
    node = HttpNode()
    wells = hp.Collection("wells", indexes=[hp.Unique("name")])
    try:
        with hp.open(tmp_path / "a.db", collections=[wells]) as db:
            told = []
            sync = db.sync(node.url, token=token())
            sync.on_event(told.append)
            db["wells"].put({"id": "w1", "name": "X"})
            node.model.write("wells", "w2", {"id": "w2", "name": "X"})
            status = sync.now(timeout_s=10)
            assert (status.queued, status.integrity, status.conflicts) == (0, 1, 0)
            (conflict,) = sync.integrity()
            assert conflict.keys == ["w1", "w2"]
            assert [e.kind for e in told if e.kind == "integrity"] == ["integrity"]
            db["wells"].patch("w2", {"name": "Y"})
            assert sync.status().integrity == 0 and sync.integrity() == []
            sync.stop()
    finally:
        node.stop()
