"""Rows, the table and the JSON file."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import apsw
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


class Row(msgspec.Struct, frozen=True):
    """One measurement: ours against one reference; times are those of one call.

    n: documents in the collection, for push and pull documents moved. durability: None where it
    makes no difference (reads). noise: the reference against itself in the same rounds (1.0 = none).
    """

    op: str
    n: int
    durability: str | None
    ours_us: float
    reference: str
    reference_us: float
    ratio: float
    noise: float | None = None


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
    """A row with its ratio, rounded for people."""
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


def _time(us: float) -> str:
    if us < 1000:
        return f"{us:.1f} µs"
    if us < 1_000_000:
        return f"{us / 1000:.2f} ms"
    return f"{us / 1_000_000:.2f} s"


def _judged(entry: Row) -> tuple[str, str]:
    """→ (wanted, colour of the ratio)"""
    wanted = WANTED.get((entry.op, entry.reference))
    if wanted is None:
        return "", "white"
    if entry.ratio <= wanted:
        return f"≤ {wanted:.2f}", "green"
    return f"≤ {wanted:.2f}", "yellow" if entry.ratio <= wanted + TIE else "red"


def conditions(docs: int) -> str:
    """What a reader must know to judge the figures."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"{docs:,} city documents · Python {platform.python_version()} · "
        f"SQLite {apsw.sqlite_lib_version()} · {os.cpu_count()} cores, load {load:.1f} at the start"
    )


def show(rows: Sequence[Row], title: str, console: Console) -> None:
    """Print the table."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("operation", "", "homeport", "by hand", "reference", "ratio", "wanted", "noise"):
        text = name in ("operation", "", "reference")
        table.add_column(name, justify="left" if text else "right", no_wrap=True)
    for entry in rows:
        wanted, colour = _judged(entry)
        table.add_row(
            entry.op,
            entry.durability or "",
            _time(entry.ours_us),
            _time(entry.reference_us),
            entry.reference,
            f"[{colour}]{entry.ratio:.2f}[/]",
            wanted,
            "" if entry.noise is None else f"{entry.noise:.2f}",
        )
    console.print(table)
    console.print(
        "Ratios: homeport / by hand, medians of interleaved rounds; below 1 homeport is faster. "
        "Noise: the reference against a second copy of itself.\n"
        "push and pull: end-to-end wall time of all documents, device and node and PostgreSQL.",
        style="dim",
    )


def write(rows: Sequence[Row], path: Path) -> None:
    """The rows as a JSON list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(list(rows)), indent=2) + b"\n")
