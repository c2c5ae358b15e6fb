"""Care of a SQLite file: how large what is, moving the log, giving free pages back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

from homeport.core.loading import META_LOAD
from homeport.core.storageinfo import StoreFacts
from homeport.errors import Busy, QuotaExceeded
from homeport.storage import sql
from homeport.storage.sqlite_errors import FAULTS, translate

Execute = Callable[..., Any]

FILES = ("", "-wal", "-shm")
"""A database is one file, and beside it its write-ahead log with an index while it is open."""

CHANGES_LEFT = 100
"""An aggressive clean-up leaves so many rows of the change log; who is further behind, reads its
query anew."""


def sizes(execute: Execute, path: str) -> dict[str, int]:
    """→ bytes: each collection, index and part of the file by name; ``total`` is their sum, and
    what the files take on the disk.

    Outside the collections: ``homeport.changes``, ``homeport.meta``, ``homeport.collections``,
    ``homeport.sqlite_schema``; ``homeport.free``, pages that wait to be used again;
    ``homeport.log``, what the write-ahead log takes beyond the pages that it will become.
    """
    execute("BEGIN").fetchall()
    try:
        rows = execute("SELECT name, pgsize FROM dbstat WHERE aggregate=TRUE").fetchall()
        page = execute("PRAGMA page_size").get
        pages = execute("PRAGMA page_count").get
        free = execute("PRAGMA freelist_count").get
        # Under the snapshot: what is written meanwhile goes to the log.
        total = sum(_file_size(path + end) for end in FILES)
    finally:
        execute("ROLLBACK").fetchall()
    found: dict[str, int] = {}
    for name, size in rows:
        label = sql.label(name)
        found[label] = found.get(label, 0) + size
    unnamed = pages * page - sum(found.values()) - free * page
    if unnamed:
        found["homeport.reserved"] = unnamed  # the page at 1 GB that SQLite locks and never uses
    found["homeport.free"] = free * page
    found["homeport.log"] = total - pages * page
    return {"total": total, **found}


def facts(execute: Execute, path: str, max_bytes: int | None) -> StoreFacts:
    """What there is to say about the file beside sizes."""
    marks = execute(
        "SELECT name, value FROM meta WHERE name>=? AND name<?", (META_LOAD, META_LOAD[:-1] + "/")
    ).fetchall()
    return StoreFacts(
        engine="sqlite",
        engine_version=apsw.sqlite_lib_version(),
        format=execute("PRAGMA user_version").get,
        max_bytes=max_bytes,
        disk_free=shutil.disk_usage(Path(path).absolute().parent).free,
        loads=marks,
    )


def prune(execute: Execute, *, aggressive: bool) -> int:
    """Drop old rows of the change log → how many; inside a write transaction."""
    head: int = execute(sql.CHANGES_HEAD).get
    keep = CHANGES_LEFT if aggressive else sql.CHANGES_KEPT
    before = execute("SELECT count(*) FROM changes").get
    execute(sql.PRUNE_CHANGES, (head - keep,)).fetchall()
    return int(before - execute("SELECT count(*) FROM changes").get)


def shrink(
    connection: apsw.Connection, execute: Execute, path: str, *, aggressive: bool
) -> str | None:
    """Move the log into the file and cut it; aggressive: write the file anew without its free
    pages → why that was not done, or None. Outside transactions."""
    reason = None
    try:
        reason = _vacuum(execute, path) if aggressive else None
        ((busy, _, _),) = execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except FAULTS as error:
        failure = translate(error, path, connection.system_errno)
        if isinstance(failure, QuotaExceeded):
            return "The file was not made smaller: there is no room to work in."
        if not isinstance(failure, Busy):
            raise failure from error
        busy = 1
    if busy and reason is None:
        reason = "The log stays for now: another connection is reading or writing."
    return reason


def move_log(execute: Execute) -> None:
    """Move the log into the file as far as that goes now. Where the disk is full and the file has
    the pages already, the next write finds room at the beginning of the log: deletes above all,
    which need some before they give any."""
    with suppress(apsw.Error):
        execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _vacuum(execute: Execute, path: str) -> str | None:
    page, pages, free = (
        execute(f"PRAGMA {name}").get for name in ("page_size", "page_count", "freelist_count")
    )
    if not free:
        return None
    # The new pages go through a temporary copy in memory or on disk, then through the log.
    needed = 2 * (pages - free) * page
    if shutil.disk_usage(Path(path).absolute().parent).free < needed:
        return f"Writing the file anew needs {needed:,} bytes of free disk."
    execute("VACUUM").fetchall()
    return None


def _file_size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
