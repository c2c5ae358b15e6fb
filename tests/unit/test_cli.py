"""The command line on real files: what it prints, its exit status, and that it changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import homeport as hp
from homeport.cli.inspect import inspect_file
from homeport.cli.inspect_view import age, show, size
from homeport.errors import CannotOpen, Corrupted, FileTooNew
from tests.users import as_ordinary_user

SRC = Path(__file__).parents[2] / "src"


def run(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "homeport", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SRC), "COLUMNS": "200", **env},
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    wells = hp.Collection(
        "wells", indexes=["depth_m", ("field", "depth_m"), hp.Multi("tags"), hp.FullText("name")]
    )
    path = tmp_path / "field.db"
    with hp.open(str(path), collections=[wells, hp.Collection("notes", key="no")]) as db:
        db["wells"].put_many(
            {"id": f"w{n}", "field": "Brent", "depth_m": n, "tags": ["oil"], "name": f"Well {n}"}
            for n in range(50)
        )
        db["notes"].put({"no": 1, "text": "first"})
    return path


def content(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if not path.name.endswith("-shm")
    }


def test_inspect_tells_what_is_in_a_file_and_changes_nothing(file: Path) -> None:
    before = content(file.parent)
    ran = run("inspect", str(file), "--json", cwd=file.parent)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    facts = {item["name"]: item for item in found["collections"]}
    assert set(facts) == {"wells", "notes"}
    assert facts["wells"]["documents"] == 50
    assert facts["wells"]["bytes"] > facts["notes"]["bytes"] > 0
    assert len(facts["wells"]["indexes"]) == 4
    assert facts["notes"]["key"] == "no"
    assert found["queue"]["queued"] == 0
    assert found["binding"] is None
    assert found["problems"] == []
    assert content(file.parent) == before


def test_inspect_for_people(file: Path) -> None:
    ran = run("inspect", str(file), cwd=file.parent)
    assert ran.returncode == 0, ran.stderr
    assert "wells" in ran.stdout
    assert "never synced" in ran.stdout
    assert "healthy" in ran.stdout


def test_inspect_while_the_file_is_open(file: Path) -> None:
    with hp.open(str(file), collections=[hp.Collection("wells", indexes=["depth_m"])]) as db:
        db["wells"].put({"id": "late", "depth_m": 1})
        facts = {item.name: item for item in inspect_file(file).collections}
        assert facts["wells"].documents == 51


def test_inspect_counts_what_waits_to_be_sent(tmp_path: Path) -> None:
    tasks = hp.Collection("tasks")
    path = tmp_path / "tasks.db"
    with hp.open(str(path), collections=[tasks]) as db:
        sync = db.sync("http://127.0.0.1:9", token="none")
        with pytest.raises(hp.errors.SyncError):
            sync.now(timeout_s=5)
        db[tasks].put({"id": "t1"})
        db[tasks].put({"id": "t2"})
        sync.stop()
    found = inspect_file(path)
    assert found.queue.queued == 2
    assert found.queue.by_collection == {"tasks": 2}
    assert found.queue.oldest_ms is not None
    assert [item.synced for item in found.collections] == [True]
    console = Console(record=True, width=120)
    show(console, found)
    assert "2 changes (2 tasks)" in console.export_text()


def test_r26_inspect_a_missing_file(tmp_path: Path) -> None:
    ran = run("inspect", "nothing.db", cwd=tmp_path)
    assert ran.returncode == 1
    assert "There is no file nothing.db" in ran.stderr
    assert "cannot-open" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CannotOpen):
        inspect_file(tmp_path)


def test_r26_inspect_what_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    with pytest.raises(Corrupted):
        inspect_file(path)
    other = tmp_path / "other.db"
    db = sqlite3.connect(other)
    db.execute("create table t(x)")
    db.commit()
    db.close()
    with pytest.raises(Corrupted, match="not one of Homeport"):
        inspect_file(other)


def test_inspect_a_file_of_a_newer_version(file: Path) -> None:
    db = sqlite3.connect(file)
    db.execute("pragma user_version = 99")
    db.commit()
    db.close()
    with pytest.raises(FileTooNew, match="99"):
        inspect_file(file)
    ran = run("inspect", str(file), cwd=file.parent)
    assert ran.returncode == 1
    assert "file-too-new" in ran.stderr


def test_inspect_shows_what_is_readable_of_a_damaged_file(file: Path) -> None:
    db = sqlite3.connect(file)
    [(root,)] = db.execute("select rootpage from sqlite_schema where name like 'i_wells.depth%'")
    [(page,)] = db.execute("pragma page_size")
    db.close()
    with file.open("r+b") as raw:
        raw.seek((root - 1) * page + page - 200)
        raw.write(b"\xff" * 190)
    ran = run("inspect", str(file), "--json", cwd=file.parent)
    assert ran.returncode == 1
    if ran.stdout:  # readable in parts: the damage is listed
        assert json.loads(ran.stdout)["problems"]
    else:
        assert "corrupted" in ran.stderr


def test_inspect_in_a_folder_that_cannot_be_written() -> None:
    with tempfile.TemporaryDirectory() as parent:  # pytest's own folders are closed to others
        os.chmod(parent, 0o755)
        folder = Path(parent) / "locked"
        folder.mkdir()
        with hp.open(folder / "a.db", collections=[hp.Collection("wells")]) as db:
            db["wells"].put({"id": "w1"})
        assert inspect_file(folder / "a.db").problems == []
        (folder / "a.db").chmod(0o444)
        folder.chmod(0o555)
        try:
            said = as_ordinary_user(lambda: repr(inspect_file(folder / "a.db").problems))
        finally:
            folder.chmod(0o755)
        assert said == "[]"


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    """Without typer the command says what to install, and nothing else."""
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('No typer', name='typer')\n")
    ran = subprocess.run(
        [sys.executable, "-m", "homeport", "inspect", "x"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(SRC)])},
    )
    assert ran.returncode == 1
    assert "pip install 'homeport[cli]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_demo_never_empties_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    ran = run("demo", "--folder", "mine", "--data", "data", cwd=tmp_path)
    assert ran.returncode == 1
    assert "was not made by the demo" in ran.stderr
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep me"


def test_demo_refuses_well_logs_that_are_not_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lasio-0.31.tar.gz").write_bytes(b"something else")
    ran = run("demo", "--data", "data", cwd=tmp_path)
    assert ran.returncode == 1
    assert "not the archive that was expected" in ran.stderr


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (4096, "4.1 kB"), (5_900_000, "5.9 MB")]
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert size(count) == text


def test_ages_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    import homeport.cli.inspect_view as view

    monkeypatch.setattr(view.time, "time", lambda: 1_000_000.0)
    then: Any = 1_000_000_000
    assert age(then - 5_000) == "5 s"
    assert age(then - 600_000) == "10 min"
    assert age(then - 4 * 3_600_000) == "4 h"
    assert age(then - 72 * 3_600_000) == "3 days"
