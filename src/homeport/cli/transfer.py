"""Import and export on the command line: progress, and what is told at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from homeport._blocking.database import Database
from homeport.cli.keys import key_for
from homeport.core.entries import ExportReport
from homeport.core.loading import LoadProgress, LoadReport
from homeport.errors import CannotOpen, UnknownCollection, UsageError
from homeport.opening import open as open_database

STDIO = "-"
SHOWN = 20
"""So many bad lines are listed; the rest is counted."""

Tell = Callable[[LoadProgress], None]


def import_file(
    file: Path,
    collection: str,
    source: str,
    *,
    key: str | None,
    sealing_key: str | bytes | None,
    console: Console,
    **options: Any,
) -> LoadReport:
    """Load a file (``-`` = standard input) into a collection → what was done. key: the key field of
    a new collection. sealing_key: of a sealed source."""
    with _opened(file, collection, key) as db, _bar(console, f"import {source}") as tell:
        place: str | IO[bytes] = sys.stdin.buffer if source == STDIO else source
        report = db[collection].import_from(place, progress=tell, key=sealing_key, **options)
    for line, error in report.failures[:SHOWN]:
        console.print(f"line {line}: {escape(error.message)}", highlight=False)
    if report.failed > SHOWN:
        console.print(f"… and {report.failed - SHOWN:,} more", highlight=False)
    return report


def export_file(
    file: Path, collection: str, target: str, *, where: Any, console: Console, **options: Any
) -> ExportReport:
    """Write a collection, or what a JSON filter leaves of it, into a file (``-`` = standard
    output) → what was written."""
    _present(file)
    with (
        open_database(file, collections=None, readonly=True, key=key_for(file)) as db,
        _bar(console, f"export {target}") as tell,
    ):
        documents = db[_known(db, collection)]
        query = documents.where(*([where] if where else []))
        place: str | IO[bytes] = sys.stdout.buffer if target == STDIO else target
        report: ExportReport = query.export_to(place, progress=tell, **options)
        return report


def types_of(given: list[str]) -> dict[str, Any]:
    """``price=number`` → column and type."""
    types = {}
    for one in given:
        column, found, kind = one.rpartition("=")
        if not found or not column:
            raise UsageError(f"--type takes COLUMN=TYPE, not {one!r}.")
        types[column] = kind
    return types


@contextmanager
def _opened(file: Path, collection: str, key: str | None) -> Iterator[Database]:
    """The file with its own collections, and a new one when it does not have that."""
    from homeport.core.schema import Collection  # noqa: PLC0415

    made: list[Collection[Any]] = []
    secret = key_for(file)
    if file.exists():
        with open_database(file, collections=None, key=secret) as db:
            made = list(db.collections)
    known = next((one for one in made if one.name == collection), None)
    if known is None:
        made.append(Collection(collection, key=key or "id"))
    elif key is not None and key != known.key:
        raise UsageError(f"The key of {collection} is {known.key!r}, not {key!r}.")
    with open_database(file, collections=made, key=secret) as db:
        yield db


def _present(file: Path) -> None:
    if not file.is_file():
        raise CannotOpen(f"There is no file {file}.", action="Check the path.", path=str(file))


def _known(db: Database, collection: str) -> str:
    names = [one.name for one in db.collections]
    if collection not in names:
        raise UnknownCollection(
            f"{db.path} has no collection {collection!r}.",
            action=f"It has: {', '.join(sorted(names)) or 'none'}.",
        )
    return collection


@contextmanager
def _bar(console: Console, what: str) -> Iterator[Tell | None]:
    """A progress bar on a terminal; nothing elsewhere."""
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} documents"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(escape(os.path.basename(what)), total=None, rows=0)  # noqa: PTH119

        def tell(now: LoadProgress) -> None:
            done, total = now.file_bytes, now.file_size
            if total is None or now.phase == "writing":
                done, total = now.rows, now.total
            what = "building indexes" if now.phase == "indexing" else now.phase
            progress.update(task, completed=done, total=total, rows=now.rows, description=what)

        yield tell
