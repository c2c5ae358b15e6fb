"""`homeport import` and `homeport export` on real files, and files opened by their own account."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

import homeport as hp
from homeport.errors import InvalidKey, UsageError

SRC = Path(__file__).parents[2] / "src"


class Well(msgspec.Struct, rename="camel"):
    id: str
    well_name: str
    depth_m: float = 0.0
    tags: list[str] = []


WELLS = hp.Collection(
    "wells",
    Well,
    indexes=[hp.Unique("well_name"), ("depth_m", "well_name"), hp.Multi("tags"), hp.FullText("well_name")],
)
NOTES = hp.Collection("notes", key="no", key_generator="autoincrement", ttl_s=3600)


def run(*words: str, cwd: Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "homeport", *words],
        capture_output=True, text=True, cwd=cwd, input=stdin,
        env={**os.environ, "PYTHONPATH": str(SRC), "COLUMNS": "200"},
    )  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "field.db"
    with hp.open(path, collections=[WELLS, NOTES]) as db:
        db[WELLS].put_many(Well(f"w{n}", f"Brent-{n}", n, ["oil"]) for n in range(20))
        db[NOTES].put({"text": "first"})
    return path


def test_there_and_back(file: Path, tmp_path: Path) -> None:
    done = run("export", "field.db", "wells", "wells.csv", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "20 documents" in done.stdout
    done = run("import", "new.db", "wells", "wells.csv", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["rows"] == 20
    where = '{"depthM": {"$gte": 18}}'
    done = run("export", "new.db", "wells", "-", "--format", "ndjson", "--where", where, cwd=tmp_path)
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["w18", "w19"]
    done = run("import", "new.db", "wells", "-", "--format", "ndjson", cwd=tmp_path, stdin='{"id":"x"}\n')
    assert done.returncode == 0 and "1 documents" in done.stdout


def test_what_the_program_declared_holds_for_an_import_too(file: Path, tmp_path: Path) -> None:
    (tmp_path / "x.ndjson").write_text(
        '{"id": "a", "wellName": "Brent-7", "tags": ["gas"]}\n'
        '{"id": "b", "wellName": "Troll-1", "tags": ["gas"]}\n'
    )
    done = run("import", "field.db", "wells", "x.ndjson", "--on-error", "collect", cwd=tmp_path)
    assert done.returncode == 1 and "line 1" in done.stderr and "unique" in done.stderr
    assert "1 documents" in done.stdout and "1 failed" in done.stdout
    with hp.open(file, collections=[WELLS, NOTES]) as db:
        assert db[WELLS].get("b") == Well("b", "Troll-1", 0.0, ["gas"])
        assert db[WELLS].where(hp.F.tags.contains("gas")).keys() == ["b"]
        assert db[WELLS].where(hp.F.well_name.matches("troll")).keys() == ["b"]
        assert db[NOTES].get(1) == {"no": 1, "text": "first"}
    done = run("import", "field.db", "wells", "x.ndjson", cwd=tmp_path)
    assert done.returncode == 1 and "line 1" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["export", "none.db", "wells", "x.csv"], "no file"),
        (["export", "field.db", "oils", "x.csv"], "It has: notes, wells"),
        (["export", "field.db", "wells", "x.csv", "--where", "{"], "--where is no JSON"),
        (["export", "field.db", "wells", "x.xls"], "format"),
        (["import", "field.db", "wells", "none.csv"], "No such file"),
        (["import", "field.db", "wells", "x.csv", "--type", "n"], "COLUMN=TYPE"),
        (["import", "field.db", "wells", "x.csv", "--key", "no"], "'id', not 'no'"),
    ],
)
def test_errors_are_sentences(file: Path, tmp_path: Path, words: list[str], says: str) -> None:
    (tmp_path / "x.csv").write_text("id,n\na,1\n")
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr


def test_a_bar_on_a_terminal_and_nothing_elsewhere(file: Path, tmp_path: Path) -> None:
    from homeport.cli.transfer import export_file

    for terminal in (True, False):
        out = io.StringIO()
        console = Console(file=out, force_terminal=terminal, width=120)
        export_file(file, "wells", str(tmp_path / "x.json"), where=None, console=console)
        assert ("20 documents" in out.getvalue()) is terminal


# -- a file that says its collections itself


def test_a_file_is_opened_as_it_was_declared(file: Path) -> None:
    with hp.open(file, collections=None) as db:
        wells, notes = sorted(db.collections, key=lambda c: c.name, reverse=True)
        assert [i.name for i in wells.indexes] == [i.name for i in WELLS.indexes]
        assert [i.unique for i in wells.indexes] == [True, False, False, False]
        assert (notes.key, notes.key_generator, notes.ttl_s) == ("no", "autoincrement", 3600)
        assert db["notes"].put({"text": "second"}) == 2
        with pytest.raises(hp.UniqueViolation):
            db["wells"].put({"id": "x", "wellName": "Brent-1"})
        with pytest.raises(UsageError, match="declarations"):
            db.sync("http://127.0.0.1:9", token="t")
    before = file.read_bytes()
    with hp.open(file, collections=None, readonly=True) as db:
        assert db["wells"].where({"depthM": {"$gt": 17}}).count() == 2
        assert "wellName" in db["wells"].get("w1")
    assert file.read_bytes() == before
    with hp.open(file, collections=[WELLS, NOTES]) as db:
        assert db[WELLS].count() == 20


def test_what_a_file_cannot_know(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    numbered = hp.Collection("numbered", key_generator=lambda: "made")
    strict = hp.Collection("strict", schema={"required": ["n"]})
    with hp.open(path, collections=[numbered, strict]):
        pass
    with hp.open(path, collections=None) as db:
        with pytest.raises(InvalidKey, match="function of its program"):
            db["numbered"].put({"n": 1})
        assert db["numbered"].put({"id": "given"}) == "given"
        with pytest.raises(hp.ValidationFailed):
            db["strict"].put({"id": "a"})
    with pytest.raises(UsageError, match="collections"):
        hp.open(":memory:", collections=None)


async def test_the_same_on_an_event_loop(file: Path) -> None:
    async with hp.open_async(file, collections=None) as db:
        found: Any = await db["wells"].get("w3")
        assert found["wellName"] == "Brent-3"
