"""What the indexes of a SQLite file hold, and the work that makes reading them cheaper."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from homeport.core.indexstats import IndexStats, OptimizeTask
from homeport.storage import sql, sqlite_loading
from homeport.storage.sql import Statements, quote

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.indexes import Index

Execute = Callable[..., Any]

ANALYZED_ROWS = 1_000
"""Entries of each index that ANALYZE looks at: some milliseconds at any size."""

VACUUM_PAGES = 500

ANALYZE = "analyze"
MERGE = "merge full text"
GIVE_BACK = "give back free pages"
MOVE_LOG = "move the log into the file"


def index_stats(
    execute: Execute,
    table: Table[Any],
    statements: Statements,
    uses: dict[str, tuple[int, int]] | None,
) -> list[IndexStats]:
    """Every index of a collection. It reads each index once, from its first entry to its last."""
    layout = statements.layout
    declared = {index.name for index in table.collection.indexes}
    found: list[IndexStats] = []
    for index in statements.codec.indexes:
        complete = index.name not in layout.building
        ident = _ident(index, statements)
        size = entries = distinct = None
        if complete:
            size = _bytes(execute, ident, text=index.kind == "fulltext")
            entries, distinct = _counted(execute, index, statements)
        used = None if uses is None else uses.get(ident, (0, None))
        found.append(
            IndexStats(
                table.name, index.name, index, index.name in declared, complete, size, entries,
                distinct, None if used is None else used[0], None if used is None else used[1],
            )
        )  # fmt: skip
    return found


def _ident(index: Index, statements: Statements) -> str:
    layout = statements.layout
    if index.kind == "fulltext":
        return sql.text_ident(statements.name, layout.text_name)
    if index.name in layout.building:
        return layout.building[index.name].ident
    return (layout.multi if index.multi else layout.indexes)[index.name][0]


def _bytes(execute: Execute, ident: str, *, text: bool) -> int:
    # The tables of FTS5 are named after its own.
    where, given = ("name>=? AND name<?", (ident, f"{ident}_z")) if text else ("name=?", (ident,))
    found: int = execute(
        f"SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE {where} AND aggregate=TRUE", given
    ).get
    return found


def _counted(execute: Execute, index: Index, statements: Statements) -> tuple[int, int | None]:
    """(entries, distinct keys)"""
    if index.kind == "fulltext":
        docsize = quote(sql.text_ident(statements.name, statements.layout.text_name) + "_docsize")
        return execute(f"SELECT count(*) FROM {docsize}").get, None
    if index.multi:
        columns, source = ["k"], statements.multi_of[index.name]
    else:
        columns = [statements.column_of_index[path] for path in index.fields]
        source = statements.table
    names = ", ".join(columns)
    there = " AND ".join(f"{column} IS NOT NULL" for column in columns)
    entries: int
    distinct: int
    entries, distinct = execute(
        f"SELECT coalesce(sum(n), 0), count(*) FROM"
        f" (SELECT count(*) AS n FROM {source} WHERE {there} GROUP BY {names})"
    ).get
    return entries, distinct


# -- optimising


def tasks(execute: Execute, statements: Iterable[Statements]) -> list[OptimizeTask]:
    found: list[OptimizeTask] = []
    for one in statements:
        if execute(f"SELECT 1 FROM {one.table} LIMIT 1").fetchall():
            found.append(OptimizeTask(ANALYZE, one.name))
            if one.text:
                found.append(OptimizeTask(MERGE, one.name))
    if execute("PRAGMA auto_vacuum").get == 2 and execute("PRAGMA freelist_count").get:
        found.append(OptimizeTask(GIVE_BACK, "file"))
    found.append(OptimizeTask(MOVE_LOG, "file"))
    return found


def perform(
    execute: Execute, task: OptimizeTask, statements: Statements | None, changes: Callable[[], int]
) -> bool:
    """One step of a task, inside a write transaction → is there more to do?"""
    if task.action == ANALYZE and statements is not None:
        execute(f"PRAGMA analysis_limit={ANALYZED_ROWS}").fetchall()
        execute(f"ANALYZE {statements.table}").fetchall()
    elif task.action == MERGE and statements is not None and statements.text:
        return sqlite_loading.merge(execute, statements.text, changes)
    elif task.action == GIVE_BACK:
        execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        return bool(execute("PRAGMA freelist_count").get)
    return False
