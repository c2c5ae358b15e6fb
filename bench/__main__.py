"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path
from time import monotonic

from rich.console import Console

from bench import docs, peers, report
from bench.cities import DATA, ROOT, SEED, Cities, DataUnavailable
from bench.compare import compare
from bench.contest import Pace
from bench.operations import BY_NAME

SYNC_OPS = ("push", "pull", "latency", "wire", "calls", "clients")
ALL_OPS = (*BY_NAME, *SYNC_OPS)
SIZES = (1_000, 10_000, 100_000, 1_000_000)
QUICK_SIZES = (1_000, 10_000)
QUICK = Pace(rounds=6, sittings=1, loads=1, budget_s=0.3, load_budget_s=5)
MOVED = (10_000, 100_000)
CUT_OFF = "A run that did not come to its end."


def _size(text: str) -> int:
    number, unit = text.strip().lower(), 1
    if number.endswith(("k", "m")):
        unit = 1_000 if number.endswith("k") else 1_000_000
        number = number[:-1]
    return int(float(number) * unit)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Homeport, the same work by hand, and its peers, in one run.",
    )
    parser.add_argument("--sizes", help="documents, such as 1k,100k,1M (default 1k,10k,100k,1M)")
    parser.add_argument("--docs", type=int, help="one size")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds at 1k and 10k: does it run at all?"
    )
    parser.add_argument("--ops", default=",".join(ALL_OPS), help="comma-separated; default: all")
    parser.add_argument(
        "--peers", default=",".join(peers.MODULES), help="comma-separated; default: all"
    )
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="of a peer per operation")
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "latest.json", metavar="FILE")
    parser.add_argument("--cities", type=Path, metavar="FILE", help="cities from a JSON file")
    parser.add_argument(
        "--write-docs", action="store_true", help="write the tables and pictures of docs/ anew"
    )
    parser.add_argument(
        "--from",
        "--from-json",
        dest="earlier",
        type=Path,
        metavar="FILE",
        nargs="?",
        const=ROOT / "bench" / "latest.json",
        help="measure nothing: take the rows of an earlier run (with --write-docs); default: of the "
        "last one",
    )
    options = parser.parse_args(arguments)
    options.ops = [op.strip() for op in options.ops.split(",") if op.strip()]
    for op in options.ops:
        if op not in ALL_OPS:
            parser.error(f"no operation {op!r}; there are: {', '.join(ALL_OPS)}")
    wanted = [name.strip() for name in options.peers.split(",") if name.strip()]
    for name in wanted:
        if name not in peers.MODULES:
            parser.error(f"no peer {name!r}; there are: {', '.join(peers.MODULES)}")
    needed = (peers.REFERENCE, *peers.HELPERS, peers.OURS)
    options.peers = [name for name in peers.MODULES if name in wanted or name in needed]
    if options.sizes:
        options.sizes = sorted(_size(text) for text in options.sizes.split(","))
    elif options.docs is not None:
        options.sizes = [options.docs]
    else:
        options.sizes = list(QUICK_SIZES if options.quick else SIZES)
    if options.sizes[0] < 10:
        parser.error("a size must be 10 or more")
    options.pace = QUICK if options.quick else Pace()
    if options.budget is not None:
        options.pace.budget_s = options.budget
    return options


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    console = Console()
    # A pipe has no width of its own; the tables need this much.
    console.width = max(console.width, 112)
    if options.earlier:
        rows, facts, figures, conditions = report.read(options.earlier)
        report.show(rows, facts, figures, console)
        if options.write_docs:
            docs.write(rows, facts, figures, conditions, ROOT / "docs" / "benchmarks.md")
        return 0
    began = monotonic()
    conditions = report.conditions(options.peers, quick=options.quick)
    console.print(conditions)
    try:
        supply = Cities(options.cities)
    except DataUnavailable as error:
        console.print(str(error), style="red", markup=False)
        return 1
    rows: list[report.Row] = []
    facts: list[report.Facts] = []

    def keep(done: list[report.Row], seen: list[report.Facts]) -> None:
        # A run that is cut off leaves what it has measured, and says what it is.
        report.write(done, seen, [], f"{conditions} **{CUT_OFF}**", options.json)

    if set(options.ops) & set(BY_NAME):
        DATA.mkdir(exist_ok=True)
        # Beside the data and not in the system's temporary folder, which may be in memory: there a
        # durable write would cost nothing.
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=DATA))
        try:
            with console.status("making documents") as status:
                rows, facts = compare(
                    folder,
                    supply,
                    options.sizes,
                    options.peers,
                    [BY_NAME[op] for op in options.ops if op in BY_NAME],
                    options.pace,
                    random.Random(SEED),
                    status.update,
                    keep,
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        # What is measured stays, should the network side fail.
        report.write(rows, facts, [], conditions, options.json)
    figures: list[report.Measure] = []
    wanted = [op for op in SYNC_OPS if op in options.ops]
    if wanted:
        # The network side is loaded by runs that sync.
        from bench import replication

        counts = sorted({min(options.sizes[-1], count) for count in MOVED})
        with console.status("replication") as status:
            moved, figures = replication.measure(
                supply,
                counts[:1] if options.quick else counts,
                wanted,
                status.update,
                quick=options.quick,
                keep=lambda moved, seen: report.write(
                    [*rows, *moved], facts, seen, f"{conditions} **{CUT_OFF}**", options.json
                ),
            )
        rows += moved
    report.show(rows, facts, figures, console)
    report.write(rows, facts, figures, conditions, options.json)
    if options.write_docs:
        docs.write(rows, facts, figures, conditions, ROOT / "docs" / "benchmarks.md")
    console.print(
        f"{monotonic() - began:.0f} s; written: {options.json}", style="dim", markup=False
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
