"""The benchmarks run and write rows of the agreed shape; nothing here looks at the clock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.byhand import PRAGMAS
from bench.operations import BY_NAME
from bench.peers import MODULES
from homeport.storage.sqlite_open import WAL_STOP_PAGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cities(tmp_path: Path) -> Path:
    """Made-up cities in the published form, so that the test needs no network."""
    rows = [
        {
            "name": f"Größe {number}",
            "country": "NO" if number % 2 else "IS",
            "admin1": f"{number % 3:02}",
            "lat": "60.5",
            "lng": "2.25",
            "admin2": "",
        }
        for number in range(40)
    ]
    path = tmp_path / "cities.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_every_peer_answers_rightly_and_gets_a_row(tmp_path: Path, cities: Path) -> None:
    """Answers are proved by the run itself; a wrong one would stand in the row's reason."""
    target = tmp_path / "rows.json"
    local_ops = ",".join(BY_NAME)
    done = run(
        *("--quick", "--docs", "300", "--budget", "0.02", "--ops", local_ops),
        *("--cities", str(cities), "--json", str(target)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(target.read_text(encoding="utf-8"))

    assert {row["op"] for row in rows} == set(BY_NAME)
    for row in rows:
        shape = {"op", "n", "durability", "ours_us", "reference", "reference_us", "ratio"}
        assert shape <= set(row)
        assert row["n"] == 300
        if row["reference_us"] is None:
            assert row["reason"], row
            assert "wrong" not in row["reason"], row
            assert "not installed" not in row["reason"], row
        elif row["ours_us"] is not None:
            assert row["ratio"] == pytest.approx(row["ours_us"] / row["reference_us"], rel=0.02, abs=0.0006)
    puts = {(row["durability"], row["reference"]) for row in rows if row["op"] == "put"}
    by_hand = ("raw-apsw-bare", "raw-apsw-same-obligations")
    assert puts >= {(level, name) for level in ("full", "relaxed") for name in by_hand}
    assert {row["durability"] for row in rows if row["op"] == "get"} == {None}
    peers = set(MODULES) - {"homeport", "again", "raw-apsw-same-obligations"}
    assert {row["reference"] for row in rows if row["op"] == "get"} == peers
    for name in peers:
        assert name in done.stdout


def test_the_reference_has_the_checkpoint_interval_of_the_store() -> None:
    assert PRAGMAS["wal_autocheckpoint"] == WAL_STOP_PAGES


def test_bench_refuses_an_unknown_operation(tmp_path: Path, cities: Path) -> None:
    done = run("--ops", "fly", "--cities", str(cities), "--json", str(tmp_path / "rows.json"))
    assert done.returncode != 0
    assert "no operation 'fly'" in done.stderr
    assert not (tmp_path / "rows.json").exists()


def test_the_documents_are_the_same_in_every_run(cities: Path) -> None:
    from bench.cities import Cities

    first, second = Cities(cities).take(100), Cities(cities).take(100)
    assert first == second
    keys = [city["id"] for city in first]
    assert keys == sorted(keys)
    assert len(set(keys)) == 100


CUT_OFF = """
import sys
from bench import __main__ as program
from bench.contest import Contest
def stopped(self, operations):
    raise KeyboardInterrupt
Contest.writes = stopped
program.main(sys.argv[1:])
"""


def test_a_run_that_is_cut_off_leaves_what_it_has_measured(tmp_path: Path, cities: Path) -> None:
    target = tmp_path / "rows.json"
    given = ["--quick", "--docs", "100", "--budget", "0.01", "--ops", "get,put", "--peers", "sqlite3"]
    given += ["--cities", str(cities), "--json", str(target)]
    cut = subprocess.run([sys.executable, "-c", CUT_OFF, *given], cwd=ROOT, capture_output=True, timeout=100, check=False)
    assert cut.returncode != 0
    rows = json.loads(target.read_text(encoding="utf-8"))
    assert {row["op"] for row in rows} == {"get"}
    assert any(row["reference"] == "sqlite3" and row["ratio"] for row in rows)
    facts = json.loads((tmp_path / "rows.facts.json").read_text(encoding="utf-8"))
    assert "did not come to its end" in facts["conditions"]
    shown = run("--from-json", str(target))
    assert shown.returncode == 0, shown.stderr
    assert "sqlite3" in shown.stdout
