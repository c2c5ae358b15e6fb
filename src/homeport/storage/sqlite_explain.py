"""SQLite's own plan of a query, in the terms of the collection; and what running it costs."""

from __future__ import annotations

import re
from time import perf_counter
from typing import Any

from homeport.core.advisor import advice
from homeport.core.codec import Table
from homeport.core.explanation import Explanation, access_words, condition_words
from homeport.core.operations import position, unfiltered
from homeport.core.planner import Access, accesses, conjuncts
from homeport.core.query import QueryValue
from homeport.core.requests import Find
from homeport.core.spans import normal
from homeport.storage import sql_order
from homeport.storage.sql import Statements
from homeport.storage.sql_query import Where
from homeport.storage.sqlite_read import Reads, position_values

COUNT_AT_MOST = 10_000
"""Entries counted for the estimate; beyond it statistics or a fixed share stand in."""

_INDEX = re.compile(r"USING (?:COVERING )?INDEX (.+?)(?: \(|$)")


class Explainer:
    """Explains one query on one connection."""

    def __init__(
        self, reads: Reads, statements: Statements, table: Table[Any], query: QueryValue
    ) -> None:
        self.reads = reads
        self.statements = statements
        self.table = table
        self.query = query
        self.where: Where = reads.where(statements, query)
        self.columns = sql_order.order_columns(query, statements) if query.order else []
        self.total: int = reads.execute(f"SELECT count(*) FROM {statements.table}").get
        self.lines = self._plan()
        self.names = list(
            dict.fromkeys(name for line in self.lines if (name := self._name(line)) is not None)
        )
        self.access = self._access()
        self.left = () if self.access is None else self.access.left
        if self.access is None and query.where is not None:
            self.left = conjuncts(normal(query.where))
        self.sorts = self.columns is None or any(
            "TEMP B-TREE FOR ORDER" in line for line in self.lines
        )

    def explain(self) -> Explanation:
        choice = self.where.choice
        words = access_words(self.access, None if choice is None else choice.beside)
        if choice is not None and choice.walk is not None:
            words = f"[{access_words(choice.walk)}] up to {choice.walk_rows:,}, else [{words}]"
        elif self.access is None and self.names:
            words = f"index {self.names[0]}, in its order"
        return Explanation(
            collection=self.table.name,
            query=self.query,
            access=words,
            indexes=self.names,
            sorts=self.sorts,
            checked=[condition_words(part) for part in self.left],
            python=self.where.residual is not None,
            estimated_rows=self._estimate(),
            total_rows=self.total,
            engine=self.lines,
            advice=advice(self.query, self.statements.usable),
        )

    def run(self, explanation: Explanation) -> Explanation:
        """The explanation with what really happened."""
        request = Find(self.table, unfiltered(self.query), "entries")
        if not self.query.predicates:
            request = Find(self.table, self.query, "entries")
        start = perf_counter()
        found = self.reads.find(request)
        elapsed_ms = (perf_counter() - start) * 1000
        read = self._read(found)
        return explanation.measured(rows=len(found), actual_rows=read, elapsed_ms=elapsed_ms)

    # -- what SQLite says

    def _plan(self) -> list[str]:
        lines = self._explained(self.where.sql, self.where.params)
        if self.where.choice is not None and self.where.choice.walk is not None:
            first = self._explained(self.where.walk_sql, self.where.walk_params)
            return [*first, *lines]
        return lines

    def _explained(self, sql: str, params: list[Any]) -> list[str]:
        order = f" ORDER BY {sql_order.order_by(self.columns)}" if self.columns else ""
        limit = "" if self.query.limit is None else f" LIMIT {self.query.limit}"
        source = f"FROM {self.statements.table}" + (f" WHERE {sql}" if sql else "")
        text = f"EXPLAIN QUERY PLAN SELECT doc {source}{order}{limit}"
        return [row[-1] for row in self.reads.execute(text, params).fetchall()]

    def _name(self, line: str) -> str | None:
        """The index that a line of the plan speaks of, by its declared name."""
        if "VIRTUAL TABLE" in line and self.statements.text:
            return "full text"
        layout = self.statements.layout
        match = _INDEX.search(line)
        if match is not None:
            ident = match[1]
            if ident.startswith("sqlite_autoindex"):
                return "id"
            return next((name for name, one in layout.indexes.items() if one[0] == ident), ident)
        multi = layout.multi.items()
        return next((n for n, (ident, _) in multi if f"SEARCH {ident} " in line), None)

    def _access(self) -> Access | None:
        """The path that SQLite took, among those that the planner knows."""
        choice = self.where.choice
        if choice is not None:
            return choice.access
        if not self.names:
            return None
        condition = self.query.where
        parts = conjuncts(None if condition is None else normal(condition))
        found = accesses(self.query, parts, self.statements.usable, outside=True)
        if any("MULTI-INDEX OR" in line for line in self.lines):
            return next((access for access in found if access.kind == "union"), None)
        name = self.names[0]
        for access in found:
            if access.index == name or (access.kind == "text" and name == "full text"):
                return access
        return None

    # -- numbers

    def _estimate(self) -> int:
        choice, access, query = self.where.choice, self.access, self.query
        wanted = None if query.limit is None else query.limit + query.offset
        if choice is not None and choice.walk is not None and wanted is not None:
            share = choice.rows / max(self.total, 1)
            return min(choice.walk_rows, round(wanted / max(share, 1e-9)))
        if access is None or not access.uses:
            rows = self.total
        else:
            chooser = self.reads.chooser
            rows = chooser.count(self.statements, access, COUNT_AT_MOST)
            if rows >= COUNT_AT_MOST:
                rows = max(rows, chooser.guess(self.statements, access, self.total))
        if wanted is not None and not self.sorts and not self.left:
            rows = min(rows, wanted)
        return min(rows, self.total)

    def _read(self, found: list[Any]) -> int | None:
        """How many documents were read for this result."""
        query, access, columns, sorts = self.query, self.access, self.columns, self.sorts
        whole = query.limit is None or len(found) < query.limit
        if not whole and self.where.choice is not None and self.where.choice.walk is not None:
            access, sorts = self.where.choice.walk, False
        if not whole and not query.order:
            # Any of the rows will do: which ones were looked at in between, nobody knows.
            return None if self.left else len(found) + query.offset
        entries = self._entries(access)
        if whole or sorts or not columns or query.predicates or not found:
            return entries
        last = query.with_after(position(query, *found[-1]))
        behind, params = sql_order.position(columns, position_values(last, columns))
        return entries - self._entries(access, behind, params)

    def _entries(
        self, access: Access | None, behind: str = "", params: list[Any] | None = None
    ) -> int:
        source = f"SELECT seq FROM {self.statements.table}"
        given: list[Any] = []
        if access is not None and access.uses:
            source, given = self.reads.chooser.rows_of(self.statements, access)
        if behind:
            source = (
                f"SELECT seq FROM {self.statements.table} WHERE seq IN ({source}) AND ({behind})"
            )
        counted: int = self.reads.execute(
            f"SELECT count(*) FROM (SELECT DISTINCT * FROM ({source}))", [*given, *(params or [])]
        ).get
        return counted


def explain(
    reads: Reads, statements: Statements, table: Table[Any], query: QueryValue, *, run: bool
) -> Explanation:
    explainer = Explainer(reads, statements, table, query)
    explanation = explainer.explain()
    return explainer.run(explanation) if run else explanation
