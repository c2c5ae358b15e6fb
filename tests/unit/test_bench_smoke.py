"""The benchmarks run and write rows of the agreed shape; nothing here looks at the clock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
        timeout=120,
        check=False,
    )


def test_bench_writes_rows_of_the_agreed_shape(tmp_path: Path, cities: Path) -> None:
    target = tmp_path / "rows.json"
    ops = "get,put,bulk_put_200,bulk_get_100,range_1000,compound_eq,order_limit,count,open"
    done = run(
        "--quick", "--docs", "300", "--ops", ops, "--cities", str(cities), "--json", str(target)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(target.read_text(encoding="utf-8"))

    assert {row["op"] for row in rows} == set(ops.split(","))
    for row in rows:
        assert {"op", "n", "durability", "ours_us", "reference", "reference_us", "ratio"} <= set(row)
        assert row["n"] == 300
        assert row["ours_us"] > 0
        assert row["reference_us"] > 0
        assert row["ratio"] == pytest.approx(row["ours_us"] / row["reference_us"], rel=0.02)
    puts = {(row["durability"], row["reference"]) for row in rows if row["op"] == "put"}
    assert puts == {
        (durability, reference)
        for durability in ("full", "relaxed")
        for reference in ("raw-apsw-bare", "raw-apsw-same-obligations")
    }
    assert {row["durability"] for row in rows if row["op"] == "get"} == {None}
    for row in rows:
        assert row["op"] in done.stdout


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
