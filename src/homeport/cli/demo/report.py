"""The last page of the demo: what happened, in figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from homeport.cli.demo.story import Facts


def show(console: Console, facts: Facts, folder: Path) -> None:
    """Print the report."""
    good = not facts.wrong
    verdict = Text(
        "Everybody holds the same." if good else "Something differs; see the lines marked ✗ above.",
        style="bold green" if good else "bold red",
    )
    console.print()
    console.print(
        Panel(
            Group(
                verdict,
                Text(""),
                _holdings(facts),
                Text(""),
                _conflicts(facts),
                Text(""),
                _figures(facts),
            ),
            title=f"[bold]Homeport demo[/] · {facts.seconds:.0f} s",
            border_style="green" if good else "red",
            padding=(1, 2),
        )
    )
    console.print(_next(folder), highlight=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="left" if number == 0 else "default")
    return table


def _holdings(facts: Facts) -> Table:
    collections = list(next(iter(facts.holdings.values()), {}))
    table = _table("Who holds what (documents, SHA-256)", "", *collections)
    for holder, holding in facts.holdings.items():
        cells = (f"{holding[c].count:,} · {holding[c].sha256[:8]}" for c in collections)
        table.add_row(holder, *cells)
    return table


def _conflicts(facts: Facts) -> Table:
    table = _table("Conflicts, and how each was settled", "document", "policy", "outcome")
    for record in facts.settled:
        table.add_row(_short(record["document"]), record["policy"], record["outcome"])
    for conflict in facts.held:
        name = _short(f"{conflict['collection']}/{conflict['key']}")
        table.add_row(name, "left to a person", f"decided on device {conflict['device']}")
    return table


def _short(name: str) -> str:
    """Keys made by ``new_id`` are long; their tails differ."""
    collection, _, key = name.partition("/")
    return f"{collection}/…{key[-6:]}" if len(key) > 20 else name


def _figures(facts: Facts) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    for device, online in facts.online.items():
        table.add_row(f"{device}, online → offline", _speeds(online, facts.offline[device]))
    queued = ", ".join(f"{count} on {name}" for name, count in facts.queued.items())
    table.add_row("Queued while offline", f"{queued}; drained in {facts.drain_s:.1f} s")
    killed = facts.killed
    table.add_row(
        "B killed",
        f"{killed['kept']} of {killed['acknowledged']} acknowledged writes kept, "
        f"{killed['half']} of 3 open",
    )
    table.add_row("First sync of B", f"{facts.first_sync_s:.1f} s")
    table.add_row("Seen live on A", f"{facts.arrived} documents, without asking")
    for device, status in facts.traffic.items():
        table.add_row(f"Traffic of {device}", _traffic(status))
    return table


def _speeds(online: dict[str, float], offline: dict[str, float]) -> str:
    names = (("get", "read"), ("query", "query"), ("put", "write"))
    return (
        ", ".join(
            f"{label} {online[f'{key}_us']:.0f} → {offline[f'{key}_us']:.0f}"
            for key, label in names
        )
        + " µs"
    )


def _traffic(status: dict[str, Any]) -> str:
    changes = status["pushed"] + status["pulled"]
    saved = int(100 * (1 - status["requests"] / changes)) if changes else 0
    return (
        f"{status['pushed']:,} up, {status['pulled']:,} down in {status['requests']:,} calls "
        f"[dim](batching: −{saved} %)[/]"
    )


def _next(folder: Path) -> str:
    return (
        f"\n  The files are in [bold]{folder}[/]: a.db, b.db, c.db and the logs.\n\n"
        f"  Try next\n"
        f"    homeport inspect {folder}/a.db\n"
        "    homeport serve --dev\n"
        "    docs/guides/getting-started.md\n"
    )
