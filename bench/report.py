"""Rows, the tables of the console and the JSON file."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import apsw
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench import peers
from bench.contest import Result
from bench.operations import BY_NAME


class Row(msgspec.Struct, frozen=True):
    """One measurement: ours beside one other side; times are those of one call.

    n: documents in the collection, for push and pull documents moved. durability: None where it
    makes no difference (reads). *_low_us, *_high_us: the middle half of the rounds. to_raw: the
    reference against apsw by hand. noise: the reference against itself in the same rounds.
    reason: why the reference has no time.
    """

    op: str
    n: int
    durability: str | None
    ours_us: float | None
    reference: str
    reference_us: float | None
    ratio: float | None
    noise: float | None = None
    ours_low_us: float | None = None
    ours_high_us: float | None = None
    reference_low_us: float | None = None
    reference_high_us: float | None = None
    rounds: int | None = None
    to_raw: float | None = None
    reason: str = ""


class Facts(msgspec.Struct, frozen=True):
    """What a peer takes at one size: bytes on disk, memory of a process that works with it, and the
    time of such a process from its first import to its first document."""

    n: int
    side: str
    file_bytes: int
    start_ms: float | None = None
    open_bytes: int | None = None
    work_bytes: int | None = None
    peak_bytes: int | None = None


# What we want of ourselves; "≤ 1.0" for reads of many rows is against the obvious loop by hand.
WANTED = {
    ("get", "raw-apsw"): 1.3,
    ("put", "raw-apsw-bare"): 1.3,
    ("put", "raw-apsw-same-obligations"): 1.15,
    ("bulk_put_200", "raw-apsw-bare"): 1.1,
    ("bulk_put_200", "raw-apsw-same-obligations"): 1.1,
    ("bulk_get_100", "raw-apsw"): 1.0,
    ("range_1000", "raw-apsw"): 1.0,
    ("compound_eq", "raw-apsw"): 1.0,
    ("order_limit", "raw-apsw"): 1.0,
    ("count", "raw-apsw"): 1.0,
    ("load", "raw-apsw-bare"): 1.43,
}
TIE = 0.05
"""Ratios this near to the wanted one are a tie: the reference against itself moves as much."""


def row(
    op: str,
    n: int,
    durability: str | None,
    ours_us: float,
    reference: str,
    reference_us: float,
    noise: float | None = None,
) -> Row:
    """A row of two figures, rounded for people."""
    return Row(
        op=op,
        n=n,
        durability=durability,
        ours_us=round(ours_us, 2),
        reference=reference,
        reference_us=round(reference_us, 2),
        ratio=round(ours_us / reference_us, 3),
        noise=None if noise is None else round(noise, 3),
    )


def rows_of(results: Iterable[Result]) -> list[Row]:
    """Every side of every operation beside ours."""
    groups: dict[tuple[str, int, str | None], dict[str, Result]] = {}
    for result in results:
        groups.setdefault((result.op, result.n, result.durability), {})[result.side] = result
    rows: list[Row] = []
    for (op, n, durability), sides in groups.items():
        ours = _summary(sides.get(peers.OURS))
        raw = _summary(sides.get(peers.REFERENCE))
        again = _summary(sides.pop("again", None))
        for side, result in sides.items():
            if side == peers.OURS:
                continue
            name, theirs = side, _summary(result)
            noise = None
            if side == peers.REFERENCE:
                noise = _ratio(again.us, raw.us)
                if BY_NAME[op].writes:
                    name = "raw-apsw-bare"
            rows.append(
                Row(
                    op=op,
                    n=n,
                    durability=durability,
                    ours_us=ours.us,
                    reference=name,
                    reference_us=theirs.us,
                    ratio=_ratio(ours.us, theirs.us),
                    noise=noise,
                    ours_low_us=ours.low_us,
                    ours_high_us=ours.high_us,
                    reference_low_us=theirs.low_us,
                    reference_high_us=theirs.high_us,
                    rounds=theirs.rounds or None,
                    to_raw=_ratio(theirs.us, raw.us),
                    reason=result.reason,
                )
            )
    return rows


class _Summary(msgspec.Struct, frozen=True):
    us: float | None = None
    low_us: float | None = None
    high_us: float | None = None
    rounds: int = 0


def _summary(result: Result | None) -> _Summary:
    if result is None or not result.samples:
        return _Summary()
    samples = result.samples
    low, middle, high = (
        statistics.quantiles(samples, n=4, method="inclusive")
        if len(samples) > 1
        else (samples[0],) * 3
    )
    return _Summary(round(middle, 3), round(low, 3), round(high, 3), len(samples))


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else round(above / below, 3)


def growth(rows: Sequence[Row]) -> list[tuple[str, str, float, bool]]:
    """→ (operation, durability, exponent of our cost over the number of documents, is it too much).

    The exponent is the slope of log(cost) over log(n) by least squares: 0 = flat, 1 = linear. Point
    operations may not exceed 0.2; a tree that becomes one level deeper stays below.
    """
    points: dict[tuple[str, str], dict[int, float]] = {}
    for entry in rows:
        if entry.op in BY_NAME and entry.ours_us:
            points.setdefault((entry.op, entry.durability or ""), {})[entry.n] = entry.ours_us
    found = []
    for (op, durability), costs in points.items():
        if op == "compound_eq":  # small collections have no group of this size
            costs = {n: cost for n, cost in costs.items() if n >= 100_000}
        if len(costs) < 2:
            continue
        slope = statistics.linear_regression(
            [math.log(n) for n in costs], [math.log(cost) for cost in costs.values()]
        ).slope
        operation = BY_NAME[op]
        limited = operation.point or operation.per_document
        found.append((op, durability, slope, limited and slope > GROWTH_LIMIT))
    return found


GROWTH_LIMIT = 0.2


def time_text(us: float) -> str:
    if us < 10:
        return f"{us:.2f} µs"
    if us < 1000:
        return f"{us:.0f} µs"
    if us < 10_000:
        return f"{us / 1000:.2f} ms"
    if us < 1_000_000:
        return f"{us / 1000:.0f} ms"
    return f"{us / 1_000_000:.2f} s"


def judged(entry: Row) -> tuple[str, str]:
    """→ (wanted, colour of the ratio)"""
    wanted = WANTED.get((entry.op, entry.reference))
    if wanted is None or entry.ratio is None:
        return "", "white"
    if entry.ratio <= wanted:
        return f"≤ {wanted:.2f}", "green"
    return f"≤ {wanted:.2f}", "yellow" if entry.ratio <= wanted + TIE else "red"


def conditions() -> str:
    """What a reader must know to judge the figures."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"Python {platform.python_version()} · SQLite {apsw.sqlite_lib_version()} · "
        f"{os.cpu_count()} cores, load {load:.1f} at the start"
    )


def show(rows: Sequence[Row], facts: Sequence[Facts], console: Console) -> None:
    """Print the tables."""
    for n in sorted({entry.n for entry in rows}):
        table = Table(
            title=f"{n:,} documents", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
        )
        names = ("operation", "", "homeport", "other", "", "ratio", "wanted", "to raw", "noise")
        for name in names:
            text = name in ("operation", "")
            table.add_column(name, justify="left" if text else "right", no_wrap=True)
        for entry in rows:
            if entry.n == n and entry.reference_us is not None and entry.ours_us is not None:
                wanted, colour = judged(entry)
                table.add_row(
                    entry.op,
                    entry.durability or "",
                    time_text(entry.ours_us),
                    time_text(entry.reference_us),
                    entry.reference,
                    f"[{colour}]{entry.ratio:.2f}[/]",
                    wanted,
                    "" if entry.to_raw is None else f"{entry.to_raw:.2f}",
                    "" if entry.noise is None else f"{entry.noise:.2f}",
                )
        console.print(table)
    if facts:
        table = Table(title="size", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for name in ("documents", "side", "file", "start", "memory", "peak"):
            table.add_column(name, justify="left" if name == "side" else "right")
        for fact in facts:
            table.add_row(
                f"{fact.n:,}",
                fact.side,
                bytes_text(fact.file_bytes),
                "" if fact.start_ms is None else f"{fact.start_ms:.0f} ms",
                "" if fact.work_bytes is None else bytes_text(fact.work_bytes),
                "" if fact.peak_bytes is None else bytes_text(fact.peak_bytes),
            )
        console.print(table)
    for op, durability, slope, too_much in growth(rows):
        colour = "red" if too_much else "dim"
        console.print(
            f"growth of {op} {durability}: n^{slope:+.2f}{' – too much' if too_much else ''}",
            style=colour,
        )
    console.print(
        "Ratios: homeport / other, medians of interleaved rounds; below 1 homeport is faster. "
        "To raw: other / apsw by hand. Noise: apsw by hand against a second copy of itself.\n"
        "load and iterate: per document. push and pull: wall time of all documents.",
        style="dim",
    )


def bytes_text(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e8 else f"{count / 1e6:.0f} MB"


def write(rows: Sequence[Row], path: Path) -> None:
    """The rows as a JSON list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(list(rows)), indent=2) + b"\n")
