"""Encrypted files: no plaintext anywhere beside them, mix-ups are told, the key shows nowhere."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import homeport as hp
from homeport.cli.commands import cli
from homeport.errors import Busy, CannotOpen, Corrupted, KeyRequired, UsageError, WrongKey
from homeport.storage.secret import Secret

NOTES = hp.Collection("notes", indexes=["n", hp.FullText("text"), hp.Unique("code")])
RAW = bytes(range(32))
NOWHERE = "http://127.0.0.1:9"
SECRETS = (b"marzipan", b"notes", b"CREATE TABLE")


def documents(count: int = 300) -> list[dict[str, Any]]:
    return [{"id": f"k{n}", "n": n, "code": f"c{n}", "text": f"marzipan {n}"} for n in range(count)]


def seen(folder: Path) -> list[tuple[str, bytes]]:
    """Secrets that the bytes of any file of the folder show."""
    return [
        (file.name, secret)
        for file in folder.rglob("*")
        if file.is_file()
        for secret in (*SECRETS, RAW, RAW.hex().encode(), b"SQLite format")
        if secret in file.read_bytes()
    ]


@pytest.mark.parametrize("key", ["correct horse", RAW], ids=["passphrase", "bytes"])
def test_no_file_holds_plaintext_at_any_time(tmp_path: Path, key: Any) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[NOTES], key=key, durability="relaxed") as db:
        sync = db.sync(NOWHERE, token="t")
        notes = db[NOTES]
        notes.put_many(documents())
        assert seen(tmp_path) == []  # all of it is in the log now
        db.create_index("notes", "text")
        db.checkpoint()
        with db.snapshot() as then, db.transaction():
            notes.patch("k1", text="marzipan and rum")
            assert then[NOTES].get("k1")["text"] == "marzipan 1"
            assert notes.search("marzipan").total >= 300
        assert [row["id"] for row in notes.order_by("-n").limit(2).all()] == ["k299", "k298"]
        notes.delete_many([f"k{n}" for n in range(100, 200)])
        db.cleanup(aggressive=True)
        assert db.optimize() is not None and db.verify_text() == []
        assert sum(v for k, v in db.size().items() if k != "total") == db.size()["total"]
        with pytest.raises(UsageError, match="encrypted"):
            sync.export(tmp_path / "out.ndjson")
        assert seen(tmp_path) == []
        assert {file.name for file in tmp_path.iterdir()} >= {"a.db", "a.db-wal"}
        assert sync.export(tmp_path / "out.ndjson", plaintext=True) > 0
        assert seen(tmp_path) == [("out.ndjson", b"marzipan"), ("out.ndjson", b"notes")]
        (tmp_path / "out.ndjson").unlink()
    assert seen(tmp_path) == []
    with hp.open(path, collections=None, key=key, readonly=True) as db:
        assert db["notes"].count() == 200


def test_what_is_given_up_stays_in_the_encrypted_file(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[NOTES], key=RAW) as db:
        db.sync(NOWHERE, token="t", on_reset="discard")
        db[NOTES].put_many(documents(3))
        sync = db.sync(NOWHERE, token="t")
        told = []
        sync.on_event(lambda event: told.append(event.kind))
        sync.recover("discard")
        assert len(sync.dead_letters()) == 3 and "kept" in told
        assert seen(tmp_path) == []
        sync.stop()


def test_mixed_up_keys_are_told_and_change_nothing(tmp_path: Path) -> None:
    locked, plain, junk = tmp_path / "locked.db", tmp_path / "plain.db", tmp_path / "junk.db"
    with hp.open(locked, collections=[NOTES], key="right") as db:
        db[NOTES].put_many(documents(3))
    with hp.open(plain, collections=[NOTES]) as db:
        db[NOTES].put_many(documents(3))
    junk.write_bytes(b"not a database at all " * 500)
    before = {file: file.read_bytes() for file in (locked, plain, junk)}
    for path, key, error in (
        (locked, "wrong", WrongKey),
        (locked, RAW, WrongKey),
        (locked, None, KeyRequired),
        (plain, "right", WrongKey),
        (junk, None, Corrupted),
        (junk, "right", WrongKey),
    ):
        for readonly in (False, True):
            with pytest.raises(error) as caught:
                hp.open(path, collections=[NOTES], key=key, readonly=readonly)
            shown = "".join(traceback.format_exception(caught.value))
            assert "right" not in str(caught.value).split() and RAW.hex() not in shown
            assert "wrong" not in str(caught.value).split()
        gc.collect()
    assert {file: file.read_bytes() for file in before} == before
    with hp.open(locked, collections=[NOTES], key="right") as db:
        assert db[NOTES].count() == 3


@pytest.mark.parametrize("wrong", [b"short", "", 7, "\ud800"])
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(UsageError) as caught:
        hp.open(tmp_path / "a.db", collections=[NOTES], key=wrong)
    assert repr(wrong) not in str(caught.value) or wrong in ("", 7)
    assert not list(tmp_path.iterdir())


def test_a_key_is_for_files_and_shows_itself_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="memory"):
        hp.open(":memory:", collections=[NOTES], key="k")
    secret = Secret("correct horse")
    assert "horse" not in repr(secret) + str(secret) + f"{secret!s}"
    with pytest.raises(UsageError):
        __import__("pickle").dumps(secret)
    with hp.open(tmp_path / "a.db", collections=[NOTES], key="correct horse") as db:
        assert "horse" not in repr(db) + repr(db._driver.engine.store.__dict__)


def test_a_passphrase_is_the_same_however_it_is_typed(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[NOTES], key="Gru\u0308n") as db:
        db[NOTES].put({"id": "a", "code": "c"})
    with hp.open(tmp_path / "a.db", collections=[NOTES], key="Gr\u00fcn") as db:
        assert db[NOTES].count() == 1


WRITER = """
import sys, homeport as hp
with hp.open(sys.argv[1], collections=[hp.Collection("notes")], key="k", durability="relaxed") as db:
    for n in range(40):
        db["notes"].update("n", lambda d: {**d, "n": d["n"] + 1}, default={"id": "n", "n": 0})
"""


def test_processes_that_make_one_file_at_once_share_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    running = [subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    with hp.open(path, collections=[hp.Collection("notes")], key="k") as db:
        assert db["notes"].get("n")["n"] == 80


def test_rekey_adds_changes_and_takes_away(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[NOTES]) as db:
        db[NOTES].put_many(documents())
        with pytest.raises(Busy):
            hp.rekey(path, None, "one")
        assert db[NOTES].count() == 300
    for old, new in ((None, "one"), ("one", RAW), (RAW, OTHER), (OTHER, None)):
        with pytest.raises((WrongKey, KeyRequired)):
            hp.rekey(path, bytes(32), new)
        hp.rekey(path, old, new)
        if new is not None:
            assert seen(tmp_path) == []
            with pytest.raises((WrongKey, KeyRequired)):
                hp.open(path, collections=[NOTES], key=old)
        with hp.open(path, collections=[NOTES], key=new) as db:
            assert db[NOTES].count() == 300 and db._driver.engine.store.check() == []
    with pytest.raises(CannotOpen):
        hp.rekey(tmp_path / "none.db", None, "one")


REKEY = """
import sys, homeport as hp
old, new = (bytes.fromhex(key) or None for key in sys.argv[2:])
hp.rekey(sys.argv[1], old, new)
"""
OTHER = bytes(range(32, 64))


@pytest.mark.parametrize(("old", "new"), [(None, RAW), (RAW, OTHER), (RAW, None)])
def test_a_kill_in_the_middle_of_rekey_leaves_a_whole_file(
    tmp_path: Path, old: bytes | None, new: bytes | None
) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[NOTES], key=old, durability="relaxed") as db:
        db[NOTES].put_many([{**d, "code": d["id"], "text": "marzipan " * 200} for d in documents(2000)])
    whole = path.read_bytes()
    killed = 0
    keys = [b"".hex() if key is None else key.hex() for key in (old, new)]
    for wait_s in (0.0, 0.01, 0.03):
        path.write_bytes(whole)
        process = subprocess.Popen([sys.executable, "-c", REKEY, str(path), *keys])
        deadline = time.monotonic() + 20
        journal = tmp_path / "a.db-journal"
        while not journal.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(wait_s)
        killed += process.poll() is None
        process.kill()
        process.wait()
        counts = []
        for key in (old, new):
            try:
                with hp.open(path, collections=[NOTES], key=key) as db:
                    counts.append((db[NOTES].count(), db._driver.engine.store.check()))
            except (WrongKey, KeyRequired):
                continue
        assert counts == [(2000, [])]
        for left in tmp_path.glob("a.db-*"):
            left.unlink()
    assert killed


def test_the_command_line_takes_keys_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = tmp_path / "a.db", CliRunner().invoke
    with hp.open(path, collections=[NOTES]) as db:
        db[NOTES].put_many(documents(3))
    monkeypatch.setenv("HOMEPORT_NEW_KEY", "hex:" + RAW.hex())
    assert run(cli, ["rekey", str(path)]).exit_code == 0
    result = run(cli, ["inspect", str(path)])
    assert isinstance(result.exception, KeyRequired)
    monkeypatch.setenv("HOMEPORT_KEY", "hex:" + RAW.hex())
    assert run(cli, ["inspect", str(path), "--json"]).exit_code == 0
    out = tmp_path / "out.ndjson"
    assert run(cli, ["export", str(path), "notes", str(out)]).exit_code == 0
    assert out.read_text().count("marzipan") == 3
    fresh = tmp_path / "fresh.db"
    assert run(cli, ["import", str(fresh), "notes", str(out)]).exit_code == 0
    assert b"marzipan" not in fresh.read_bytes()
    monkeypatch.setenv("HOMEPORT_KEY", "another")
    assert isinstance(run(cli, ["inspect", str(path)]).exception, WrongKey)
    monkeypatch.setenv("HOMEPORT_KEY", "hex:" + RAW.hex())
    assert run(cli, ["rekey", "--remove", str(path)]).exit_code == 0
    monkeypatch.delenv("HOMEPORT_KEY")
    assert run(cli, ["inspect", str(path)]).exit_code == 0
    assert os.environ.get("HOMEPORT_KEY") is None
