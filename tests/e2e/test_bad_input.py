"""Bad input: each a typed error that says what to do, and nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import homeport as hp
from tests.e2e.world import ENV, ROOT, Node, free_port

WELLS = hp.Collection("wells")


@pytest.fixture(scope="module")
def node(module_database_dsn: str, tmp_path_factory: pytest.TempPathFactory):
    node = Node(module_database_dsn, tmp_path_factory.mktemp("node"))
    yield node
    node.stop()


def says_what_to_do(error: hp.HomeportError) -> None:
    assert error.code and error.message and error.action
    assert str(error).endswith(error.action)


def test_unreachable_server(tmp_path: Path):
    with hp.open(str(tmp_path / "a.db"), collections=[WELLS]) as db:
        sync = db.sync(f"http://127.0.0.1:{free_port()}", token="t")
        db[WELLS].put({"id": "w1"})
        with pytest.raises(hp.errors.Unreachable) as e:
            sync.now(timeout_s=3)
        says_what_to_do(e.value)
        assert sync.status().queued == 1
        assert db[WELLS].get("w1") == {"id": "w1"}


def test_r20_wrong_token_keeps_the_queue(tmp_path: Path, node: Node):
    path = str(tmp_path / "a.db")
    with hp.open(path, collections=[WELLS]) as db:
        sync = db.sync(node.url, token=node.token[:-6] + "AAAAAA")
        db[WELLS].put({"id": "w1-auth"})
        with pytest.raises(hp.errors.NeedsAuth) as e:
            sync.now(timeout_s=10)
        says_what_to_do(e.value)
        assert sync.status().state == "needs-auth"
        assert sync.status().queued == 1
    with hp.open(path, collections=[WELLS]) as db:
        sync = db.sync(node.url, token=node.token)
        sync.now(timeout_s=20)
        assert sync.status().queued == 0


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("nul \x00 inside", "NUL"),
        ("lone \ud800 surrogate", "surrogate"),
        (float("nan"), "NaN"),
        (float("inf"), "inf"),
        (2**53 + 1, "2"),
        ({1, 2}, "set"),
        ({"a.b": 1}, "dot"),
        (b"bytes", "bytes"),
    ],
)
def test_a_document_nobody_can_hold_is_refused_early(tmp_path: Path, value: object, word: str):
    with hp.open(str(tmp_path / "a.db"), collections=[WELLS]) as db:
        db[WELLS].put({"id": "good", "v": 1})
        with pytest.raises(hp.errors.InvalidDocument) as e:
            db[WELLS].put({"id": "bad", "v": value})
        says_what_to_do(e.value)
        assert word.lower() in str(e.value).lower()
        assert db[WELLS].keys() == ["good"]


def test_a_document_too_large_for_the_server_is_refused_before_the_acknowledgement(
    tmp_path: Path, node: Node
):
    with hp.open(str(tmp_path / "a.db"), collections=[WELLS]) as db:
        sync = db.sync(node.url, token=node.token)
        sync.now(timeout_s=20)
        with pytest.raises(hp.HomeportError) as e:
            db[WELLS].put({"id": "big", "v": "x" * 5_000_000})
        says_what_to_do(e.value)
        db[WELLS].put({"id": "small"})
        sync.now(timeout_s=20)
        assert sync.status().queued == 0
        assert sync.status().dead == 0


def test_schema_mismatch(tmp_path: Path):
    path = str(tmp_path / "a.db")
    with hp.open(path, collections=[hp.Collection("wells", key="id")]) as db:
        db["wells"].put({"id": "w1", "uwi": "u1"})
    with pytest.raises(hp.errors.SchemaMismatch) as e:
        hp.open(path, collections=[hp.Collection("wells", key="uwi")])
    says_what_to_do(e.value)
    with hp.open(path, collections=[hp.Collection("wells", key="id")]) as db:
        assert db["wells"].count() == 1


@pytest.mark.parametrize("where", [0, 20, 4096, 9000])
def test_corrupted_file(tmp_path: Path, where: int):
    path = tmp_path / "a.db"
    with hp.open(str(path), collections=[WELLS]) as db:
        db[WELLS].put_many([{"id": f"w{n}", "v": "x" * 100} for n in range(500)])
    data = bytearray(path.read_bytes())
    data[where : where + 600] = os.urandom(600)
    path.write_bytes(bytes(data))
    before = path.read_bytes()
    with pytest.raises(hp.errors.Corrupted) as e:
        with hp.open(str(path), collections=[WELLS]) as db:
            db[WELLS].all()
            db[WELLS].get_many([f"w{n}" for n in range(500)])
            db[WELLS].count()
            raise hp.errors.Corrupted("not touched by this damage")
    says_what_to_do(e.value)
    if where == 0:
        assert path.read_bytes() == before


def test_not_a_database_at_all(tmp_path: Path):
    path = tmp_path / "a.db"
    path.write_text("this is a text file, " * 500)
    with pytest.raises(hp.errors.Corrupted) as e:
        hp.open(str(path), collections=[WELLS])
    says_what_to_do(e.value)
    assert path.read_text().startswith("this is a text file")
    with pytest.raises(hp.errors.CannotOpen):
        hp.open(str(tmp_path), collections=[WELLS])
    with pytest.raises(hp.errors.CannotOpen):
        hp.open(str(tmp_path / "missing" / "a.db"), collections=[WELLS])


READ_ONLY = """
import os, pwd, sys
# everything is loaded first: the interpreter itself may lie where nobody may not read
import homeport as hp, homeport.storage.sqlite
with hp.open(sys.argv[2], collections=[hp.Collection("wells", indexes=["a"])]) as db:
    db["wells"].where(hp.F.a == 1).all()
if os.geteuid() == 0:
    # root may write everywhere: drop to nobody, as an ordinary user would run
    nobody = pwd.getpwnam("nobody"); os.setgroups([]); os.setgid(nobody.pw_gid); os.setuid(nobody.pw_uid)
try:
    db = hp.open(sys.argv[1], collections=[hp.Collection("wells")])
    db["wells"].put({"id": "w2"})
except hp.errors.ReadOnly as e:
    print("read-only", e.action)
except hp.errors.CannotOpen as e:
    print("cannot-open", e.action)
"""


def test_read_only_folder(tmp_path: Path):
    folder = tmp_path / "locked"
    folder.mkdir()
    with hp.open(str(folder / "a.db"), collections=[WELLS]) as db:
        db[WELLS].put({"id": "w1"})
    for f in folder.iterdir():
        f.chmod(0o444)
    folder.chmod(0o555)
    # nobody must be able to walk down to it
    for parent in folder.parents:
        if parent == Path(tempfile.gettempdir()):
            break
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o055)
    for name in ("a.db", "new.db"):
        (tmp_path / "warm.db").unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(folder / name), str(tmp_path / "warm.db")],
            capture_output=True, text=True, env=ENV, cwd=ROOT,
        )
        assert done.stdout.startswith(("read-only", "cannot-open")), done.stdout + done.stderr
    folder.chmod(0o755)


ADD = """
import sys, homeport as hp
with hp.open(sys.argv[1], collections=[hp.Collection("wells")]) as db:
    for _ in range(200):
        db["wells"].update("w", lambda d: {**d, "n": d["n"] + 1})
"""


def test_two_processes_on_one_file_lose_no_update(tmp_path: Path):
    path = str(tmp_path / "a.db")
    with hp.open(path, collections=[WELLS]) as db:
        db[WELLS].put({"id": "w", "n": 0})
        processes = [
            subprocess.Popen([sys.executable, "-c", ADD, path], env=ENV, cwd=ROOT)
            for _ in range(2)
        ]
        assert [p.wait(60) for p in processes] == [0, 0]
        assert db[WELLS].get("w") == {"id": "w", "n": 400}


def test_a_full_queue_refuses_the_write_and_says_so(tmp_path: Path):
    with hp.open(str(tmp_path / "a.db"), collections=[WELLS]) as db:
        sync = db.sync(f"http://127.0.0.1:{free_port()}", token="t", max_queue=10)
        for n in range(10):
            db[WELLS].put({"id": f"w{n}"})
        with pytest.raises(hp.errors.QueueFull) as e:
            db[WELLS].put({"id": "one-too-many"})
        says_what_to_do(e.value)
        assert db[WELLS].get("one-too-many") is None
        assert sync.status().queued == 10


def test_unknown_collection_of_the_database(tmp_path: Path):
    with hp.open(str(tmp_path / "a.db"), collections=[WELLS]) as db:
        with pytest.raises(hp.errors.UnknownCollection) as e:
            db["wels"]
        says_what_to_do(e.value)
        assert "wells" in str(e.value)
