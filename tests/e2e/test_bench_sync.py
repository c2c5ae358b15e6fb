"""Push and pull of the benchmarks run on a real node; nothing here looks at the clock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_bench_moves_documents_through_a_real_node(tmp_path: Path) -> None:
    cities = tmp_path / "cities.json"
    city = {"name": "Bø", "country": "NO", "admin1": "01", "lat": "59.4", "lng": "9.1"}
    cities.write_text(json.dumps([city] * 5), encoding="utf-8")
    target = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--docs", "60", "--ops", "push,pull"]
        + ["--cities", str(cities), "--json", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(target.read_text(encoding="utf-8"))
    assert [(row["op"], row["n"], row["durability"], row["reference"]) for row in rows] == [
        ("push", 60, "full", "asyncpg-unnest-500"),
        ("pull", 60, "full", "asyncpg-paging"),
    ]
    assert all(row["ours_us"] > 0 and row["reference_us"] > 0 for row in rows)


def test_bench_measures_latency_bytes_statements_and_clients(tmp_path: Path) -> None:
    cities = tmp_path / "cities.json"
    city = {"name": "Bø", "country": "NO", "admin1": "01", "lat": "59.4", "lng": "9.1"}
    cities.write_text(json.dumps([city] * 5), encoding="utf-8")
    target = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--docs", "60"]
        + ["--ops", "latency,wire,calls,clients"]
        + ["--cities", str(cities), "--json", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(target.with_suffix(".facts.json").read_text(encoding="utf-8"))
    figures = {figure["name"]: figure["value"] for figure in found["replication"]}
    assert figures["latency p50"] <= figures["latency p99"]
    assert figures["bytes to push a new document"] > 0
    assert figures["bytes to pull an edit of a field"] > 0
    # A queue that is sent at once needs fewer statements and requests than one for each change.
    assert 0 < figures["statements per change, queued offline"] < 1
    assert 0 < figures["requests per change, queued offline"] < 1
    assert figures["until all have it"] > 0
    assert figures["node's processor time per pull"] >= 0
