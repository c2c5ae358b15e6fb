"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from bench import local, report
from bench.cities import DATA, ROOT, SEED, Cities, DataUnavailable
from bench.measure import measure

SYNC_OPS = ("push", "pull")
ALL_OPS = (*local.OPS, *SYNC_OPS)
MOVED = 10_000


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Homeport against the same work written by hand, in one run.",
    )
    parser.add_argument(
        "--docs", type=int, help="documents in the collection (default 100000, quick 10000)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few rounds on 10,000 documents: does it run at all?"
    )
    parser.add_argument("--ops", default=",".join(ALL_OPS), help="comma-separated; default: all")
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "latest.json", metavar="FILE")
    parser.add_argument("--cities", type=Path, metavar="FILE", help="cities from a JSON file")
    options = parser.parse_args(arguments)
    options.ops = [op.strip() for op in options.ops.split(",") if op.strip()]
    for op in options.ops:
        if op not in ALL_OPS:
            parser.error(f"no operation {op!r}; there are: {', '.join(ALL_OPS)}")
    if options.docs is None:
        options.docs = 10_000 if options.quick else 100_000
    if options.docs < 10:
        parser.error("--docs must be 10 or more")
    return options


def _local(options: argparse.Namespace, supply: Cities, console: Console) -> Iterator[report.Row]:
    DATA.mkdir(exist_ok=True)
    rng = random.Random(SEED)
    # Beside the data and not in the system's temporary folder, which may be in memory: there a
    # durable write would cost nothing.
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=DATA))
    try:
        device = local.Local(folder, supply, options.docs, options.quick, rng)
        with console.status("loading the files"):
            device.load()
        samples: dict[tuple[str, str | None], dict[str, list[float]]] = {}
        for sitting in range(1 if options.quick else local.SITTINGS):
            for case in device.cases(set(options.ops)):
                with console.status(f"{case.op} {case.durability or ''} ({sitting + 1})"):
                    sides = samples.setdefault((case.op, case.durability), {})
                    for side, values in measure(case, rng).items():
                        sides.setdefault(side, []).extend(values)
        for (op, durability), sides in samples.items():
            times = {side: statistics.median(values) for side, values in sides.items()}
            ours_us = times.pop(local.OURS)
            again_us = times.pop(local.AGAIN)
            noise_of = local.BARE if local.BARE in times else local.RAW
            for reference, reference_us in times.items():
                noise = again_us / reference_us if reference == noise_of else None
                yield report.row(
                    op,
                    options.docs,
                    durability,
                    ours_us,
                    reference,
                    reference_us,
                    noise,
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    console = Console()
    # A pipe has no width of its own; the table needs this much.
    console.width = max(console.width, 108)
    title = report.conditions(options.docs)
    try:
        supply = Cities(options.cities)
    except DataUnavailable as error:
        console.print(str(error), style="red", markup=False)
        return 1
    rows: list[report.Row] = []
    if set(options.ops) & set(local.OPS):
        rows += _local(options, supply, console)
    moved = [op for op in SYNC_OPS if op in options.ops]
    if moved:
        from bench import replication

        count = min(options.docs, MOVED)
        with console.status("push and pull"):
            rows += replication.rows(supply, count, moved, quick=options.quick)
    report.show(rows, title, console)
    report.write(rows, options.json)
    console.print(f"written: {options.json}", style="dim", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
