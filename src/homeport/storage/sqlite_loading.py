"""Indexes that a bulk load leaves away and builds behind itself.

The mark of a load is a named value of the file, written in the transaction that drops the indexes.
Whoever opens the file and finds the mark of a process that is gone builds them first; so does a
load that ends, whether well or with an error. Unique indexes stay: each chunk is checked against
them. Side tables stay too, because results come from them, not speed alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from homeport.storage import sql
from homeport.storage.sql import Statements, quote

Execute = Callable[..., Any]

MARK = "loading."
ALIVE_MS = 60_000
"""A load that wrote no chunk for so long counts as gone: its process number may be another's."""

MERGE_PAGES = 250
"""Work of one step of merging the full text behind a load: about 20 ms."""

SORT_KIB = 2_000

_TOKEN = os.urandom(8).hex()


class Mark(msgspec.Struct):
    """Who loads, and when it was last heard of."""

    pid: int
    token: str
    at_ms: int

    @property
    def mine(self) -> bool:
        return (self.pid, self.token) == (os.getpid(), _TOKEN)

    def alive(self, now_ms: int) -> bool:
        if self.mine:
            return True
        # The same number and another token: a container that was started again.
        if self.pid == os.getpid() or now_ms - self.at_ms > ALIVE_MS or sys.platform == "win32":
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass  # another user's process is a process
        return True


def defer(execute: Execute, statements: Statements, now_ms: int) -> bool:
    """Leave the indexes of an empty collection away → are they left away for this process?"""
    name = MARK + statements.name
    mark = _mark(execute, name)
    if mark is None:
        indexes = _deferrable(statements)
        if not indexes or execute(f"SELECT 1 FROM {statements.table} LIMIT 1").fetchall():
            return False
        for ident, _, _ in indexes:
            execute(f"DROP INDEX IF EXISTS {quote(ident)}").fetchall()
    elif not mark.mine:
        return False
    text = msgspec.json.encode(Mark(os.getpid(), _TOKEN, now_ms)).decode()
    execute(sql.SET_META, (name, text)).fetchall()
    return True


def build(execute: Execute, statements: Statements, changes: Callable[[], int]) -> bool:
    """One step of what a load has left to do → is there more? changes: rows changed so far by the
    connection."""
    name = MARK + statements.name
    mark = _mark(execute, name)
    if mark is not None and mark.mine:
        if _build_next(execute, statements):
            return True
        execute(sql.DROP_META, (name,)).fetchall()
    return bool(statements.text) and merge(execute, statements.text, changes)


def _build_next(execute: Execute, statements: Statements) -> bool:
    missing = _missing(execute, statements)
    for ident, columns, sparse in missing[:1]:
        table = sql.table_ident(statements.name)
        cache = execute("PRAGMA cache_size").get
        # SQLite sorts in runs as large as its cache; small ones stay in the processor's: a sixth
        # of the time.
        execute(f"PRAGMA cache_size=-{SORT_KIB}").fetchall()
        try:
            execute(sql.create_index(table, ident, columns, sparse=sparse)).fetchall()
        finally:
            execute(f"PRAGMA cache_size={cache}").fetchall()
    return len(missing) > 1


def merge(execute: Execute, text: str, changes: Callable[[], int]) -> bool:
    before = changes()
    # Below zero: all of it into one b-tree; a single row of several is looked up in each of them.
    execute(f"INSERT INTO {text}({text}, rank) VALUES('merge', -{MERGE_PAGES})").fetchall()
    # As SQLite documents it: fewer than two changed rows, and there was nothing left to merge.
    return changes() - before >= 2


def abandoned(execute: Execute, now_ms: int) -> list[str]:
    """Collections whose load is gone and left indexes unbuilt."""
    rows = execute(
        "SELECT name, value FROM meta WHERE name>=? AND name<?", (MARK, MARK[:-1] + "/")
    ).fetchall()
    return [
        name.removeprefix(MARK)
        for name, text in rows
        if not msgspec.json.decode(text, type=Mark).alive(now_ms)
    ]


def recover(execute: Execute, statements: Iterable[Statements]) -> None:
    """Build all that is missing in these collections; inside a write transaction."""
    for one in statements:
        while _build_next(execute, one):
            pass
        execute(sql.DROP_META, (MARK + one.name,)).fetchall()


def _mark(execute: Execute, name: str) -> Mark | None:
    text = execute(sql.GET_META, (name,)).get
    return None if text is None else msgspec.json.decode(text, type=Mark)


def _deferrable(statements: Statements) -> list[tuple[str, tuple[str, ...], bool]]:
    unique = {index.name for index in statements.unique}
    return [entry for name, entry in statements.layout.indexes.items() if name not in unique]


def _missing(execute: Execute, statements: Statements) -> list[tuple[str, tuple[str, ...], bool]]:
    there = {
        name.lower()
        for (name,) in execute("SELECT name FROM sqlite_schema WHERE type='index'").fetchall()
    }
    return [entry for entry in _deferrable(statements) if entry[0].lower() not in there]
