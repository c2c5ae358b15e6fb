"""The queue as its user sees it: dead letters are listed, edited, retried, discarded and exported,
what depends on them follows, every document says how it stands, and batching is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import homeport as hp
from homeport.errors import NotFound, UsageError

from .model import ModelServer
from .node import HttpNode, token

TASKS = hp.Collection("tasks", sync=hp.Synced(policy="merge"))


def test_r03_dead_letters_from_refusal_to_the_end(tmp_path: Path) -> None:
    server = ModelServer({"tasks": ("merge", "delete-wins"), "_resolutions": ("merge", "delete-wins")})
    server.reject = lambda change: (
        "too-long" if b"long" in bytes(change.doc) or "long" in str(change.set) else None
    )
    node = HttpNode(server)
    with hp.open(tmp_path / "a.db", collections=[TASKS]) as db:
        sync, tasks = db.sync(node.url, token=token(), live=False), db[TASKS]
        tasks.put_many([{"id": f"k{n}"} for n in range(50)])
        tasks.put({"id": "bad", "title": "too long"})
        assert tasks.badge("bad") == "pending"
        assert sync.now().calls_saved > 90
        [letter] = sync.dead_letters()
        assert (letter.code, letter.at, letter.changes[0]["key"]) == ("too-long", [0], "bad")
        assert tasks.get("bad") is None and server.state("tasks").keys() == {
            f"k{n}" for n in range(50)
        }
        assert (tasks.badge("bad"), tasks.badge("k1")) == ("failed", "synced")
        # exported with what was in it
        assert sync.export(tmp_path / "out.ndjson") == 1
        line = json.loads((tmp_path / "out.ndjson").read_text())
        assert line["kind"] == "dead" and line["changes"][0]["doc"]["title"] == "too long"
        # edited and sent again
        with pytest.raises(UsageError):
            sync.retry(letter.id, documents={"other": {"id": "other"}})
        sync.retry(letter.id, documents={"bad": {"id": "bad", "title": "short"}})
        assert tasks.badge("bad") == "pending" and sync.dead_letters() == []
        sync.now()
        assert server.state("tasks")["bad"]["title"] == "short"
        # dependants follow, in one go, and say on what
        tasks.patch("bad", title="long again")
        with db.transaction():
            tasks.put({"id": "next"})
            tasks.patch("bad", {"title": "longer"})
        tasks.patch("next", n=2)
        sync.now()
        assert [one.code for one in sync.dead_letters()] == ["too-long", "depends", "depends"]
        assert tasks.get("bad")["title"] == "short" and tasks.get("next") is None
        assert tasks.badge("next") == "failed" and sync.status().dead == 3
        for one in sync.dead_letters():
            assert sync.discard(one.id).id == one.id
        with pytest.raises(NotFound):
            sync.discard(one.id)
        assert tasks.badge("bad") == tasks.badge("next") == "synced"
        assert sync.status().queued == 0
    node.stop()
