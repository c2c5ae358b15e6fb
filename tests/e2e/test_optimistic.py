"""Optimistic updates on a real node: stacked on one device while another moves the ground."""

from __future__ import annotations

import pytest

import homeport as hp
from tests.e2e.world import Node

WELLS = hp.Collection("opti_wells", sync=hp.Synced(fields={"visits": hp.Counter()}))


@pytest.fixture(scope="module")
def node(module_database_dsn: str, tmp_path_factory: pytest.TempPathFactory):
    node = Node(module_database_dsn, tmp_path_factory.mktemp("node"))
    yield node
    node.stop()


def test_a_stack_is_rebased_by_cuts_and_only_what_is_committed_arrives(tmp_path, node):
    with (
        hp.open(tmp_path / "a.db", collections=[WELLS]) as a,
        hp.open(tmp_path / "b.db", collections=[WELLS]) as b,
    ):
        here, there = a[WELLS], b[WELLS]
        syncs = [db.sync(node.url, token=node.token, live=False) for db in (a, b)]

        def settle() -> None:
            for sync in (*syncs, *syncs):
                sync.now()

        here.put({"id": "w", "depth_m": 1, "visits": 0})
        settle()
        badges = a.badges()
        assert badges.next() == []
        first = here.apply("w", {"depth_m": 2, "visits": 1})
        second = here.apply("w", {"note": "mine", "visits": 11})
        there.patch("w", field="Brent", visits=100)
        assert badges.next(10) == [("opti_wells", "w", "optimistic", "synced")]
        settle()
        assert there.get("w") == {"id": "w", "depth_m": 1, "visits": 100, "field": "Brent"}
        assert here.get("w") == {
            "id": "w", "depth_m": 2, "visits": 111, "field": "Brent", "note": "mine",
        }  # fmt: skip
        assert here.badge("w") == "optimistic" and syncs[0].status().optimistic == 2
        first.rollback()
        assert here.get("w")["depth_m"] == 1 and here.get("w")["visits"] == 110
        second.commit()
        settle()
        assert here.get("w") == there.get("w") == {
            "id": "w", "depth_m": 1, "visits": 110, "field": "Brent", "note": "mine",
        }  # fmt: skip
        assert second.wait(10).state == "synced"
        assert badges.next(10) == [("opti_wells", "w", "synced", "optimistic")]
        assert syncs[0].status().queued == 0
        badges.close()


def test_what_another_device_deleted_takes_the_update_away(tmp_path, node):
    with (
        hp.open(tmp_path / "a.db", collections=[WELLS]) as a,
        hp.open(tmp_path / "b.db", collections=[WELLS]) as b,
    ):
        here, there = a[WELLS], b[WELLS]
        syncs = [db.sync(node.url, token=node.token, live=False) for db in (a, b)]
        here.put({"id": "gone", "visits": 0})
        syncs[0].now(), syncs[1].now()
        told: list[tuple[str, str, str]] = []
        syncs[0].on_event(lambda event: told.append((event.kind, event.key, event.detail)))
        update = here.apply("gone", {"visits": 1})
        there.delete("gone")
        syncs[1].now(), syncs[0].now()
        assert here.get("gone") is None
        assert update.status().reason == "conflict"
        assert ("rolled-back", "gone", "conflict") in told
        syncs[0].now()  # the record of the conflict
        assert syncs[0].status().queued == 0
