"""SQLite's own plan of a query, in the terms of the collection."""

from __future__ import annotations

import re
from typing import Any

from homeport.core.codec import Table
from homeport.core.planner import Explanation, advice, condition_words, conjuncts
from homeport.core.query import QueryValue
from homeport.storage import sql_order
from homeport.storage.sql import Statements
from homeport.storage.sqlite_read import Reads

COUNT_AT_MOST = 10_000
"""Rows counted for the estimate; beyond it the estimate is "at least so many"."""

_INDEX = re.compile(r"USING (?:COVERING )?INDEX (.+?)(?: \(|$)")


def explain(
    reads: Reads, statements: Statements, table: Table[Any], query: QueryValue
) -> Explanation:
    where = reads.where(statements, query)
    columns = sql_order.order_columns(query, statements) if query.order else []
    text = f"FROM {statements.table}" + (f" WHERE {where.sql}" if where.sql else "")
    order = f" ORDER BY {sql_order.order_by(columns)}" if columns else ""
    limit = "" if query.limit is None else f" LIMIT {query.limit}"
    rows = reads.execute(
        f"EXPLAIN QUERY PLAN SELECT doc {text}{order}{limit}", where.params
    ).fetchall()
    lines: list[str] = [row[-1] for row in rows]
    index = next((name for line in lines if (name := _name(line, statements)) is not None), None)
    total: int = reads.execute(f"SELECT count(*) FROM {statements.table}").get
    counted: int = reads.execute(
        f"SELECT count(*) FROM (SELECT 1 {text} LIMIT {COUNT_AT_MOST})", where.params
    ).get
    return Explanation(
        collection=table.name,
        query=query,
        index=index,
        scan=index is None,
        sorts=columns is None or any("TEMP B-TREE FOR ORDER" in line for line in lines),
        checked=[condition_words(item) for item in conjuncts(where.residual)],
        estimated_rows=total if index is None else counted,
        total_rows=total,
        engine=lines,
        advice=advice(query, table.codec),
    )


def _name(line: str, statements: Statements) -> str | None:
    """The index that a line of the plan speaks of, by its declared name."""
    if "VIRTUAL TABLE" in line and statements.text:
        return "full text"
    layout = statements.layout
    match = _INDEX.search(line)
    if match is not None:
        ident = match[1]
        if ident.startswith("sqlite_autoindex"):
            return "id"
        return next((name for name, one in layout.indexes.items() if one[0] == ident), ident)
    return next((n for n, (ident, _) in layout.multi.items() if f"SEARCH {ident} " in line), None)
