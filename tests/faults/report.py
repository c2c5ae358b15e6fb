"""Writes the table of docs/faults.md from bench/faults.json: ``python -m tests.faults.report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.faults.kinds import KINDS

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "faults.json"
PAGE = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- table: python -m tests.faults.report -->", "<!-- end of table -->"

# What the README of github.com/nurturenature/jepsen-powersync says (commit 026d9c2, figures of July
# 2025, read on 2026-11-21), in its own words where it gives no number.
POWERSYNC = {
    "no fault": "100 % successful",
    "disconnect": "stuck in “a small, fraction of a percent”",
    "stop device": "as disconnect, “significantly smaller frequency”",
    "partition device": "errors in “~30-40% of the tests”",
    "pause device": "100 % successful",
    "kill device": "stuck in “~0.5%”",
}


def table(kinds: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| fault | what it is | runs | failed | lost, doubled, torn | stuck | faults | changes acknowledged"
        " | views checked | settled after, median / longest | PowerSync, by Jepsen |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for name, found in kinds.items():
        stuck, failed = found["stuck"], found["failed"]
        lines.append(
            f"| {name} | {KINDS[name].text} | {found['runs']} | **{failed}** | {failed - stuck} | {stuck}"
            f" | {found['faults']:,} | {found['acknowledged']:,} | {found['views']:,}"
            f" | {found['settled_median_s']:.1f} / {found['settled_most_s']:.1f} s"
            f" | {POWERSYNC.get(name, '')} |"
        )
    total = [sum(one[key] for one in kinds.values()) for key in
             ("runs", "failed", "stuck", "faults", "acknowledged", "views")]  # fmt: skip
    runs, failed, stuck, faults, acknowledged, views = total
    lines.append(
        f"| **all** | | **{runs:,}** | **{failed}** | {failed - stuck} | {stuck} | {faults:,}"
        f" | {acknowledged:,} | {views:,} | | |"
    )
    dates = sorted({one["date"] for one in kinds.values()})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return "\n".join([*lines, "", f"Run on {when}, {_seconds(kinds)} of work under faults each."])


def _seconds(kinds: dict[str, dict[str, Any]]) -> str:
    found = sorted({one["seconds"] for one in kinds.values()})
    return f"{found[0]:g} s" if len(found) == 1 else f"{found[0]:g} to {found[-1]:g} s"


def page() -> str:
    """docs/faults.md as it should be."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    kinds = json.loads(RESULTS.read_text())["kinds"]
    return f"{before}{BEGIN}\n{table(kinds)}\n{END}{after}"


def main() -> None:
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
