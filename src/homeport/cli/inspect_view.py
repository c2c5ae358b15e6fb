"""Draws what ``inspect`` found."""

from __future__ import annotations

import time
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from homeport.cli.inspect import Findings

SHOWN = 10
"""So many conflicts and dead letters are listed; the rest is counted."""


def show(console: Console, found: Findings) -> None:
    """Print the findings."""
    log = f" + {size(found.wal_bytes)} log" if found.wal_bytes else ""
    console.print(f"[bold]{escape(found.file)}[/]  {size(found.bytes)}{log}, format {found.format}")
    console.print(_collections(found))
    console.print(_replication(found))
    _list(console, "Conflicts that wait for a person", found.conflicts, _conflict)
    _list(console, "Dead letters", found.dead_letters, _dead_letter)
    if found.problems:
        console.print("[bold red]The file is damaged[/]; copy it before anything else:")
        for problem in found.problems:
            console.print(f"  [red]✗[/] {escape(problem)}")
    else:
        console.print("[green]✓[/] The file is healthy.")


def _collections(found: Findings) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("collection")
    table.add_column("documents", justify="right")
    table.add_column("size", justify="right")
    table.add_column("key")
    table.add_column("synced")
    table.add_column("indexes", overflow="fold")
    for item in found.collections:
        indexes = escape(", ".join(item.indexes)) or "[dim]none[/]"
        synced = "yes" if item.synced else "[dim]no[/]"
        table.add_row(
            item.name, f"{item.documents:,}", size(item.bytes), escape(item.key), synced, indexes
        )
    return table


def _replication(found: Findings) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("Bound to", _binding(found.binding))
    queue = found.queue
    waiting = ", ".join(f"{count:,} {name}" for name, count in queue.by_collection.items())
    text = f"{queue.queued:,} changes" + (f" ({waiting})" if waiting else "")
    if queue.oldest_ms is not None:
        text += f", the oldest {age(queue.oldest_ms)} old"
    if queue.in_flight:
        text += ", one batch sent and not answered yet"
    table.add_row("Waiting to be sent", text)
    table.add_row("Settled by policies", f"{found.resolutions:,} recorded")
    table.add_row("Change number", f"{found.changes:,}")
    return table


def _binding(binding: Any) -> str:
    if not binding:
        return "nothing: this file has never synced"
    if isinstance(binding, dict):
        return escape(", ".join(f"{name} {value}" for name, value in binding.items()))
    return escape(str(binding))


def _list(console: Console, title: str, records: list[dict[str, Any]], line: Any) -> None:
    if records:
        console.print(f"[yellow]{title}[/]: {len(records)}")
        for record in records[:SHOWN]:
            console.print(f"  {escape(line(record))}", highlight=False)
        if len(records) > SHOWN:
            console.print(f"  … and {len(records) - SHOWN} more")


def _conflict(record: dict[str, Any]) -> str:
    return f"{record['collection']}/{record['key']}: {record['reason']}"


def _dead_letter(record: dict[str, Any]) -> str:
    documents = ", ".join(
        f"{change['collection']}/{change['key']}" for change in record["changes"][:3]
    )
    return f"{documents}: {record['code']}, {record['message']}"


def size(count: int) -> str:
    """Bytes for people."""
    number = float(count)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def age(then_ms: int) -> str:
    """How long ago, for people."""
    seconds = max(0.0, time.time() - then_ms / 1000)
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} days"
