"""A delete meets an edit, on a real node, under each of the two rules and in both orders."""

from __future__ import annotations

import pytest

import homeport as hp
from tests.e2e.world import Node


@pytest.fixture(scope="module")
def node(module_database_dsn: str, tmp_path_factory: pytest.TempPathFactory):
    node = Node(module_database_dsn, tmp_path_factory.mktemp("node"))
    yield node
    node.stop()


@pytest.mark.parametrize("first", ["delete", "edit"])
@pytest.mark.parametrize("rule", ["edit-wins", "delete-wins"])
def test_a_delete_meets_an_edit(tmp_path, node, rule, first):
    name = f"wells_{rule[:4]}_{first}"
    wells = hp.Collection(name, sync=hp.Synced(deletes=rule))
    with (
        hp.open(tmp_path / "a.db", collections=[wells]) as a,
        hp.open(tmp_path / "b.db", collections=[wells]) as b,
    ):
        syncs = [db.sync(node.url, token=node.token, live=False) for db in (a, b)]
        a[wells].put({"id": "w", "depth_m": 1, "field": "Brent"})
        for sync in syncs:
            sync.now()
        deleting, editing = 0, 1
        (a, b)[deleting][wells].delete("w")
        (a, b)[editing][wells].patch("w", {"depth_m": 2})
        order = (deleting, editing) if first == "delete" else (editing, deleting)
        for _ in range(3):
            for at in order:
                syncs[at].now()
        left = {"id": "w", "depth_m": 2, "field": "Brent"} if rule == "edit-wins" else None
        assert a[wells].get("w") == b[wells].get("w") == left
        # both sides are told, and what lost is kept (R23)
        for sync in syncs:
            assert sync.status().queued == 0
            assert [r.key for r in sync.resolutions() if r.collection == name] == ["w"]
            sync.stop()
