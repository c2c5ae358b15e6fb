"""Rows, the tables of the console and the JSON file."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from datetime import date
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


class Measure(msgspec.Struct, frozen=True):
    """A figure of replication that is no time of one call: what, of which subject, against what."""

    name: str
    subject: str
    value: float
    unit: str
    reference: str = ""
    reference_value: float | None = None
    ratio: float | None = None
    note: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        subject: str,
        value: float,
        unit: str,
        reference: str = "",
        reference_value: float | None = None,
        note: str = "",
    ) -> Measure:
        """With its ratio, rounded for people."""
        ratio = None if not reference_value else round(value / reference_value, 3)
        known = None if reference_value is None else round(reference_value, 3)
        return cls(name, subject, round(value, 3), unit, reference, known, ratio, note)


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
        ratio=_ratio(ours_us, reference_us),
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
    return None if above is None or below is None else float(f"{above / below:.4g}")


class Growth(msgspec.Struct, frozen=True):
    """Exponents of cost over number of documents, ours and by hand."""

    op: str
    durability: str
    ours: float
    by_hand: float | None
    too_much: bool


def growths(rows: Sequence[Row]) -> list[Growth]:
    """The slope of log(cost) over log(n) by least squares: 0 = flat, 1 = linear.

    Point operations may not exceed 0.2; a tree that becomes one level deeper stays below.
    """
    costs: dict[tuple[str, str], tuple[dict[int, float], dict[int, float]]] = {}
    for entry in rows:
        if entry.op in BY_NAME and entry.reference in ("raw-apsw", "raw-apsw-bare"):
            # small collections have no group of the size that this one looks for
            if entry.op == "compound_eq" and entry.n < 100_000:
                continue
            ours, by_hand = costs.setdefault((entry.op, entry.durability or ""), ({}, {}))
            if entry.ours_us:
                ours[entry.n] = entry.ours_us
            if entry.reference_us:
                by_hand[entry.n] = entry.reference_us
    found = []
    for (op, durability), (ours, by_hand) in costs.items():
        slope = _slope(ours)
        if slope is not None:
            limited = BY_NAME[op].point or BY_NAME[op].per_document
            too_much = limited and slope > GROWTH_LIMIT
            found.append(Growth(op, durability, slope, _slope(by_hand), too_much))
    return found


def _slope(costs: dict[int, float]) -> float | None:
    if len(costs) < 2:
        return None
    return statistics.linear_regression(
        [math.log(n) for n in costs], [math.log(cost) for cost in costs.values()]
    ).slope


GROWTH_LIMIT = 0.2
BUSY = 1.0
"""A load above this at the start says that the machine has other work."""


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


def conditions(names: Sequence[str], *, quick: bool) -> str:
    """What a reader must know to judge the figures: when, where, and which versions."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    caution = ""
    if quick or load > BUSY:
        what = "A quick run" if quick else "A run beside other work"
        caution = f" **{what}: to be measured anew on a quiet machine.**"
    known = []
    for name in names:
        try:
            peer = peers.load(name)
        except ImportError:
            continue
        if name not in (peers.OURS, *peers.HELPERS, "homeport-async"):
            known.append(f"{peer.title.removesuffix(' by hand')} {peer.version()}")
    return (
        f"Measured on {date.today().isoformat()}: {os.cpu_count()} cores, load {load:.1f} at the "
        f"start, Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()} (apsw), "
        f"{', '.join(known)}.{caution}"
    )


def show(
    rows: Sequence[Row], facts: Sequence[Facts], figures: Sequence[Measure], console: Console
) -> None:
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
    if figures:
        table = Table(title="replication", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for name in ("figure", "of", "homeport", "reference", "", "ratio"):
            table.add_column(name, justify="left" if name in ("figure", "of", "") else "right")
        for figure in figures:
            table.add_row(
                figure.name,
                figure.subject,
                f"{figure.value:g} {figure.unit}".strip(),
                "" if figure.reference_value is None else f"{figure.reference_value:g}",
                figure.reference or figure.note,
                "" if figure.ratio is None else f"{figure.ratio:.2f}",
            )
        console.print(table)
    for slope in growths(rows):
        by_hand = "" if slope.by_hand is None else f" (by hand n^{slope.by_hand:+.2f})"
        console.print(
            f"growth of {slope.op} {slope.durability}: n^{slope.ours:+.2f}{by_hand}"
            f"{' – too much' if slope.too_much else ''}",
            style="red" if slope.too_much else "dim",
        )
    console.print(
        "Ratios: homeport / other, medians of interleaved rounds; below 1 homeport is faster. "
        "To raw: other / apsw by hand. Noise: apsw by hand against a second copy of itself.\n"
        "load and iterate: per document. push and pull: wall time of all documents.",
        style="dim",
    )


def bytes_text(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e8 else f"{count / 1e6:.0f} MB"


def write(
    rows: Sequence[Row],
    facts: Sequence[Facts],
    figures: Sequence[Measure],
    text: str,
    path: Path,
) -> None:
    """The rows as a JSON list, and beside them, in ``*.facts.json``, what is no time of one call."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = {"conditions": text, "facts": list(facts), "replication": list(figures)}
    for place, content in ((path, list(rows)), (path.with_suffix(".facts.json"), beside)):
        whole = place.with_name(f"{place.name}.part")
        whole.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
        whole.replace(place)  # never half of one


def read(path: Path) -> tuple[list[Row], list[Facts], list[Measure], str]:
    """What ``write`` wrote."""
    rows = msgspec.json.decode(path.read_bytes(), type=list[Row])
    beside = msgspec.json.decode(path.with_suffix(".facts.json").read_bytes())
    return (
        rows,
        msgspec.convert(beside["facts"], list[Facts]),
        msgspec.convert(beside["replication"], list[Measure]),
        beside["conditions"],
    )
