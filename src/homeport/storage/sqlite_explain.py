"""SQLite's own plan of a query, in the terms of the collection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from homeport.core.planner import Explanation, advice, condition_words, conjuncts
from homeport.storage.sqlquery import compile_query

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.query import QueryValue
    from homeport.storage.sqlite_session import SQLiteSession

_INDEX = re.compile(r"USING (?:COVERING )?INDEX ([^\s(]+)")
COUNT_AT_MOST = 10_000
"""Rows counted for the estimate; beyond it the estimate is "at least so many"."""


def explain(session: SQLiteSession, table: Table[Any], query: QueryValue) -> Explanation:
    st = session.of(table)
    compiled = compile_query(st, query, session.store.clock_ms() if st.alive else 0)
    text = f"FROM {st.table}" + (f" WHERE {compiled.where}" if compiled.where else "")
    ordered = text + (f" ORDER BY {compiled.order}" if compiled.order else "")
    lines = [
        row[3]
        for row in session.execute(
            f"EXPLAIN QUERY PLAN SELECT doc {ordered}", compiled.params
        ).fetchall()
    ]
    names = {ident: name for name, (ident, _, _) in st.layout.indexes.items()}
    names |= {ident: name for name, (ident, _) in st.layout.multi.items()}
    used = [_name(line, names, st.text) for line in lines]
    index = next((name for name in used if name is not None), None)
    total: int = session.execute(f"SELECT count(*) FROM {st.table}").get
    counted = session.execute(
        f"SELECT count(*) FROM (SELECT 1 {text} LIMIT {COUNT_AT_MOST})", compiled.params
    ).get
    checked = (
        []
        if compiled.residual is None
        else [condition_words(c) for c in conjuncts(compiled.residual)]
    )
    return Explanation(
        collection=table.name,
        query=query,
        index=index,
        scan=index is None,
        sorts=compiled.order is None or any("TEMP B-TREE FOR ORDER" in line for line in lines),
        checked=checked,
        estimated_rows=total if index is None else counted,
        total_rows=total,
        engine=lines,
        advice=advice(query, table.codec),
    )


def _name(line: str, names: dict[str, str], text: str) -> str | None:
    if "VIRTUAL TABLE" in line and text:
        return "full text"
    match = _INDEX.search(line)
    if match is not None:
        ident = match[1].strip('"')
        return names.get(ident, "id" if ident.startswith("sqlite_autoindex") else ident)
    for ident, name in names.items():
        if f"SEARCH {ident} " in line:
            return name
    return None
