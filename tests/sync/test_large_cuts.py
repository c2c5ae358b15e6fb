"""R6, R17: a cut of twenty pages is killed at each of them, on both sides, and shown whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import homeport as hp
from homeport.errors import NeedsAuth

ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
PAGES = 20
ROWS = 32 * PAGES
FILL = """
insert into homeport.documents (tenant, collection, key, body)
select 't1', 'wells', 'w' || lpad(n::text, 4, '0'),
    json_build_object('id', 'w' || lpad(n::text, 4, '0'), 'n', 0, 'text', repeat('x', 200))
from generate_series(1, $1) n
"""
SMALL_PAGES = {"page_bytes": 8_000}


def one_page(path: Path, site: Any, last: str = "after") -> list[int]:
    """Documents that were to be seen before and after the page; the process ends by SIGKILL."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sync.one_page", str(path), site.url, site.token(), last],
        cwd=ROOT, env=ENV, stdout=subprocess.PIPE, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    return [int(line) for line in done.stdout.split()]


def truth(site: Any) -> dict[str, Any]:
    rows = site.sql("select key, body from homeport.documents where collection = 'wells'")
    return {row["key"]: json.loads(row["body"]) for row in rows}


def test_r06_r17_device_and_node_end_at_every_page_of_a_large_cut(sites, database_dsn, tmp_path):
    site = sites(database_dsn, **SMALL_PAGES)
    wells = hp.Collection("wells")
    with hp.open(":memory:", collections=[wells]) as db:
        site.sync(db).now(timeout_s=30)  # the development node learns of the collection
    site.sql(FILL, ROWS)
    path = tmp_path / "device.db"
    pages = 0
    while True:
        # Rows of pages that were fetched, and of pages that will be, are changed meanwhile.
        for key in (f"w{pages * 32 - 5:04}", f"w{pages * 32 + 40:04}"):
            site.sql(
                "update homeport.documents set body = jsonb_set(body::jsonb, '{n}', '1')::json"
                " where key = $1", key
            )  # fmt: skip
        site.sql("delete from homeport.documents where key = $1", f"w{pages * 32 + 1:04}")
        before, after = one_page(path, site)
        pages += 1
        assert before == 0
        if after:
            break
        assert pages <= PAGES + 3
        site.restart()
    assert pages >= PAGES
    assert after == len(truth(site))
    with hp.open(path, collections=[wells]) as db:
        assert {doc["id"]: doc for doc in db[wells].all()} == truth(site)
        sync = site.sync(db)
        sync.now(timeout_s=30)
        assert sync.status().pulled == 0  # nothing is fetched a second time
        assert sync.verify().different == 0
        sync.stop()


def test_r06_killed_inside_the_transaction_that_shows_a_cut(sites, database_dsn, tmp_path):
    site = sites(database_dsn, **SMALL_PAGES)
    wells = hp.Collection("wells")
    path = tmp_path / "device.db"
    with hp.open(path, collections=[wells]) as db:
        db[wells].put({"id": "own", "n": 1})
        site.sync(db).now(timeout_s=30)
        db[wells].patch("own", n=2)
    site.sql(FILL, 64)
    shown = [one_page(path, site, "inside")[0] for _ in range(4)]
    assert shown == [1] * 4
    with hp.open(path, collections=[wells]) as db:
        assert db[wells].all() == [{"id": "own", "n": 2}]
        sync = site.sync(db)
        sync.now(timeout_s=30)
        assert {doc["id"]: doc for doc in db[wells].all()} == truth(site)
        assert truth(site)["own"] == {"id": "own", "n": 2}
        sync.stop()


def test_r20_the_token_expires_in_the_middle_of_a_large_cut(
    sites, database_dsn, tmp_path, monkeypatch
):
    site = sites(database_dsn, **SMALL_PAGES)
    wells = hp.Collection("wells")
    with hp.open(":memory:", collections=[wells]) as db:
        site.sync(db).now(timeout_s=30)
    site.sql(FILL, ROWS)
    given: list[str] = []
    used: dict[str, int] = {}
    verify = site.node.auth.verify

    def token() -> str:
        given.append(site.token(ttl_s=600 + len(given)))
        return given[-1]

    def expiring(text: str) -> Any:
        used[text] = used.get(text, 0) + 1
        if used[text] > 6:
            raise NeedsAuth("The token has expired, or is not valid yet.")
        return verify(text)

    monkeypatch.setattr(site.node.auth, "verify", expiring)
    with hp.open(tmp_path / "device.db", collections=[wells]) as db:
        db[wells].put({"id": "mine"})
        sync = db.sync(site.url, token=token, live=False)
        seen: list[str] = []
        sync.on_event(lambda event: seen.append(event.kind))
        status = sync.now(timeout_s=60)
        assert status.queued == status.dead == 0
        assert len(given) >= 4, "it is asked for again, each time"
        assert status.pulled == ROWS + 1, "and the cut goes on where it was"
        assert {doc["id"]: doc for doc in db[wells].all()} == truth(site)
        sync.stop()
