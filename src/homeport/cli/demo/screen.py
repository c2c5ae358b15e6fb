"""What the demo shows while it runs: acts, steps, progress bars and what arrives live."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

Advance = Callable[[int, int], None]


class Screen:
    """Prints to one console from several threads."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._lock = threading.Lock()

    def act(self, number: int, title: str) -> None:
        """A new part of the story."""
        self._print("")
        self._print(f"[bold cyan]{number}[/] [bold]{title}[/]")

    def done(self, text: str) -> None:
        """Something that was done, and holds."""
        self._print(f"  [green]✓[/] {text}")

    def aside(self, text: str) -> None:
        """Something worth knowing."""
        self._print(f"    [dim]{text}[/]")

    def failed(self, text: str) -> None:
        """Something that does not hold."""
        self._print(f"  [bold red]✗ {text}[/]")

    def warn(self, text: str) -> None:
        """Something drastic that is part of the story."""
        self._print(f"  [yellow]⚡[/] {text}")

    def live(self, text: str) -> None:
        """Something that arrived by itself."""
        self._print(f"  [magenta]»[/] [dim]{text}[/]")

    def _print(self, text: str) -> None:
        with self._lock:
            self.console.print(text, highlight=False)

    @contextmanager
    def progress(self, title: str) -> Iterator[Advance]:
        """A bar that goes away when it is done; the step's own line stays."""
        if not self.console.is_terminal:
            yield lambda _done, _total: None
            return
        columns = (
            TextColumn("  [cyan]{task.description}"),
            BarColumn(bar_width=36),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(title, total=None)

            def advance(done: int, total: int) -> None:
                bar.update(task, completed=done, total=max(done, total) or None)

            yield advance
