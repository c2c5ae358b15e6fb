"""R14 on a real PostgreSQL: a backup of the data directory is put back, and nothing that was
acknowledged is lost."""

from __future__ import annotations

import shutil

import pytest

import homeport as hp
from homeport.server.postgres import Postgres
from tests.e2e.world import Node

wells = hp.Collection("wells", sync=hp.Synced(fields={"visits": hp.Counter()}))


@pytest.mark.parametrize("strategy", ["recover", "discard"])
def test_r14_a_restored_backup_gets_back_what_was_acknowledged(tmp_path, strategy):
    data = tmp_path / "pg"
    server = Postgres.start(data, settings={"fsync": "off"})
    node = None
    try:
        node = Node(server.dsn, tmp_path)
        with (
            hp.open(tmp_path / "a.db", collections=[wells]) as a,
            hp.open(tmp_path / "b.db", collections=[wells]) as b,
        ):
            syncs = [
                db.sync(node.url, token=node.token, live=False, on_reset=strategy) for db in (a, b)
            ]

            def settle() -> None:
                for sync in (*syncs, *syncs, *syncs):
                    sync.now(timeout_s=60)

            a[wells].put_many([{"id": f"w{n}", "visits": 0} for n in range(50)])
            settle()
            node.stop()
            server.stop()
            shutil.copytree(data, tmp_path / "backup")
            server.restart()
            node.start()
            with a.transaction():
                a[wells].patch("w1", visits=1, by="a")
                a[wells].patch("w2", visits=1, by="a")
            b[wells].patch("w1", visits=1)
            b[wells].put({"id": "new", "visits": 7})
            a[wells].delete("w3")
            settle()
            assert a[wells].get("w1") == {"id": "w1", "visits": 2, "by": "a"}

            node.stop()
            server.stop()
            shutil.rmtree(data)
            shutil.copytree(tmp_path / "backup", data)
            server.restart()
            node.start()
            b[wells].patch("w4", visits=5)  # not yet acknowledged
            settle()

            assert a[wells].order_by("id").all() == b[wells].order_by("id").all()
            found = {doc["id"]: doc for doc in a[wells].all()}
            if strategy == "discard":
                assert found == {f"w{n}": {"id": f"w{n}", "visits": 0} for n in range(50)}
                assert list(tmp_path.glob("b.db.unsent-*.ndjson"))
                return
            assert found["w1"] == {"id": "w1", "visits": 2, "by": "a"}
            assert found["w2"] == {"id": "w2", "visits": 1, "by": "a"}
            assert found["new"] == {"id": "new", "visits": 7}
            assert found["w4"] == {"id": "w4", "visits": 5}
            assert "w3" not in found and len(found) == 50
            with hp.open(tmp_path / "c.db", collections=[wells]) as c:
                c.sync(node.url, token=node.token, live=False).now(timeout_s=60)
                assert c[wells].order_by("id").all() == a[wells].order_by("id").all()
            assert all(sync.status().queued == 0 for sync in syncs)
    finally:
        if node is not None:
            node.stop()
        server.stop()
