"""``homeport demo`` as a newcomer runs it: real files, real processes, and its own verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from homeport.cli.demo import data, verify
from homeport.cli.demo.logs import PART_SAMPLES, Unreadable, WellLog, read_logs

ROOT = Path(__file__).parents[2]

# One worker: they share the folder of the well logs.
pytestmark = pytest.mark.xdist_group("demo")


@pytest.fixture(scope="module")
def logs() -> Path:
    """Where ``make demo`` keeps them too, so that they are fetched once."""
    folder = ROOT / ".data"
    data.well_log_files(folder)
    return folder


def test_the_well_logs_become_documents(logs: Path) -> None:
    files = data.well_log_files(logs)
    read = list(read_logs(files, logs / "las"))
    good = [log for log in read if isinstance(log, WellLog)]
    bad = [log.name for log in read if isinstance(log, Unreadable)]
    assert len(files) == 107
    assert bad == ["not_a_las_file", "sample_lastcolblanked"]
    curves = [curve for log in good for curve in log.curves]
    assert len({curve.id for curve in curves}) == len(curves) > 900
    assert max(len(curve.samples) for curve in curves) == PART_SAMPLES
    big = next(log for log in good if log.well.id == "1.2/sample_big")
    assert sum(len(c.samples) for c in big.curves if c.mnemonic == "DEPT") == 29_897
    cyrillic = next(log for log in good if log.well.id == "sample_cyrillic_depth_unit")
    assert cyrillic.well.depth_unit == "метер"
    feet = next(log for log in good if log.well.id == "autodepthindex_F")
    assert feet.well.base_m == pytest.approx(30.48)


def test_a_damaged_archive_is_noticed(tmp_path: Path) -> None:
    (tmp_path / data.ARCHIVE).write_bytes(b"")
    with pytest.raises(data.LaunchFailed, match="not the archive"):
        data.well_log_files(tmp_path)


def test_differences_are_found() -> None:
    same = {"wells": verify.digest({"a": {"x": 1.5, "y": None}})}
    reordered = {"wells": verify.digest({"a": {"y": None, "x": 1.5}})}
    other = {"wells": verify.digest({"a": {"x": 1.5, "y": 0}})}
    fewer = {"wells": verify.digest({})}
    assert verify.differences({"A": same, "B": reordered}) == []
    assert len(verify.differences({"A": same, "B": other, "C": fewer, "D": {}})) == 3


def test_the_demo_holds_what_it_promises(tmp_path: Path, logs: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "homeport", "demo", "--json"),
            *("--folder", "files", "--data", str(logs)),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
        timeout=180,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    facts: dict[str, Any] = json.loads(ran.stdout)
    assert facts["wrong"] == []
    assert set(facts["holdings"]) == {"A", "B", "C", "PostgreSQL"}
    assert len({json.dumps(held, sort_keys=True) for held in facts["holdings"].values()}) == 1
    held = facts["holdings"]["PostgreSQL"]
    assert held["wells"]["count"] == 104  # 105 readable files, one well deleted
    assert held["curves"]["count"] == facts["imported"]["curves"]
    assert held["interpretations"]["count"] >= 60
    assert facts["killed"]["kept"] == facts["killed"]["acknowledged"] >= 40
    assert facts["killed"]["half"] == 0
    assert facts["queued"]["A"] > 0
    assert facts["queued"]["B"] > 0
    assert facts["arrived"] > 0
    assert [conflict["key"] for conflict in facts["held"]] == ["1.2/sample_big"]
    policies = {record["policy"] for record in facts["settled"]}
    assert "merge" in policies
    assert all(status["queued"] == 0 for status in facts["traffic"].values())
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "homeport.cli.demo.device" not in left
    assert str(tmp_path) not in left
    for name in ("a", "b", "c"):
        seen = subprocess.run(
            [sys.executable, "-m", "homeport", "inspect", f"files/{name}.db", "--json"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            check=True,
        )
        found = json.loads(seen.stdout)
        assert found["problems"] == []
        assert found["queue"]["queued"] == 0
        assert found["binding"]
