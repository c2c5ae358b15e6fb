"""``python -m tests.faults``: many runs of every kind, and a table of what came out."""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults import report
from tests.faults.kinds import KINDS
from tests.faults.run import Result, play
from tests.faults.world import World

SECONDS = 3.0


def many(kind: str, seeds: list[str], seconds: float, keep: str | None) -> list[Result]:
    """Runs of one kind, one after the other in one world. Runs in a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="homeport-faults-"))
    folder.chmod(0o711)  # PostgreSQL and PgBouncer do not run as root
    out: list[Result] = []
    world: World | None = None
    try:
        for seed in seeds:
            if world is None:
                try:
                    world = KINDS[kind].world(folder / f"world-{seed}")
                except Exception as error:
                    why = [f"no world: {type(error).__name__}: {error}"]
                    out.append(Result(kind, seed, why, 0, 0, 0, {}, 0.0, 0.0))
                    say(out[-1])
                    continue
            result = play(world, kind, seed, seconds)
            out.append(result)
            say(result)
            name = f"t{kind}/{seed}".replace("/", "-")
            if result.violations:
                if keep:
                    shutil.copytree(
                        world.folder / name,
                        Path(keep) / name,
                        dirs_exist_ok=True,
                    )
                    shutil.copy(world.shared / "node.log", Path(keep) / name)
                world.close()  # the next run shall not suffer from what this one found
                world = None
            else:
                shutil.rmtree(world.folder / name, ignore_errors=True)
    finally:
        if world is not None:
            world.close()
        shutil.rmtree(folder, ignore_errors=True)
    return out


def say(result: Result) -> None:
    text = f"{result.kind:20} {result.seed:>6}  {result.seconds:5.1f} s"
    text += f"  {result.acknowledged:4} acknowledged, settled after {result.settled_s:5.2f} s"
    print(text, *result.violations, sep="\n    VIOLATED ", flush=True)


def summary(results: list[Result]) -> dict[str, Any]:
    """The figures of a kind."""
    settled = sorted(r.settled_s for r in results if not r.violations) or [0.0]
    faults: Counter[str] = Counter()
    for result in results:
        faults.update(result.faults)
    return {
        "runs": len(results),
        "failed": sum(bool(r.violations) for r in results),
        "lost": sum(any("LOST" in v for v in r.violations) for r in results),
        "stuck": sum(any("STUCK" in v for v in r.violations) for r in results),
        "faults": sum(faults.values()),
        "by_fault": dict(sorted(faults.items())),
        "changes": sum(r.operations for r in results),
        "acknowledged": sum(r.acknowledged for r in results),
        "views": sum(r.looks for r in results),
        "settled_median_s": round(statistics.median(settled), 2),
        "settled_most_s": round(settled[-1], 2),
        "violations": [
            {"seed": r.seed, "text": r.violations[:5]} for r in results if r.violations
        ],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="of each kind")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only this one")
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of work under faults")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="worlds at once")
    parser.add_argument("--write", type=Path, help="results as JSON; kinds not run are kept")
    parser.add_argument(
        "--publish", action="store_true", help="write bench/faults.json and docs/faults.md"
    )
    parser.add_argument(
        "--raw", type=Path, help="a line for each run is added here; runs that it holds count too"
    )
    parser.add_argument("--keep", help="folder for the files of runs that failed")
    options = parser.parse_args()
    kinds = options.kind or list(KINDS)
    seeds = [str(n) for n in range(options.seed, options.seed + options.runs)]
    results: dict[str, list[Result]] = {kind: [] for kind in KINDS}
    if options.raw and options.raw.exists():
        for line in options.raw.read_text().splitlines():
            old = Result(*json.loads(line))
            results[old.kind].append(old)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        size = max(1, min(20, -(-len(seeds) // options.jobs)))
        jobs = [
            pool.submit(many, kind, seeds[n : n + size], options.seconds, options.keep)
            for kind in kinds
            for n in range(0, len(seeds), size)
        ]
        for job in concurrent.futures.as_completed(jobs):
            for result in job.result():
                results[result.kind].append(result)
                if options.raw:
                    with options.raw.open("a") as file:
                        file.write(json.dumps(result) + "\n")
            if options.publish or options.write:
                write(options.write or report.RESULTS, results, options.seconds)
            if options.publish:
                report.main()
    print()
    for kind, found in results.items():
        if not found:
            continue
        figures = summary(found)
        print(f"{kind:20} {figures['failed']:3} of {figures['runs']} runs failed,"
              f" {figures['acknowledged']} changes acknowledged, {figures['faults']} faults")
    return int(any(r.violations for found in results.values() for r in found))


def write(path: Path, results: dict[str, list[Result]], seconds: float) -> None:
    """Figures of the kinds that were run; those of others stay as they were."""
    old = json.loads(path.read_text()) if path.exists() else {"kinds": {}}
    new = {kind: summary(found) for kind, found in results.items() if found}
    kinds = {**old["kinds"], **{kind: {"date": time.strftime("%Y-%m-%d"), "seconds": seconds, **figures}
                                for kind, figures in new.items()}}
    ordered = {kind: kinds[kind] for kind in KINDS if kind in kinds}
    path.write_text(json.dumps({"kinds": ordered}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
