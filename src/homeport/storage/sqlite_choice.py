"""Choosing among indexes of SQLite by counting, where the rules leave more than one.

SQLite chooses by averages over a whole index. It cannot see that one value holds half of the table
and another ten rows: with the values at hand that costs a count of at most some thousand entries.
The choice is told to SQLite by hiding the other conditions from its planner (a unary plus), so that
a wrong count can cost time and never an answer. It is made where it may matter only: a query of one
condition never comes here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw

from homeport.core.conditions import And, Compare, Condition, Contains, Element, Matches, Not, Or
from homeport.core.planner import Access, accesses, conjuncts
from homeport.core.query import QueryValue
from homeport.core.selectivity import Choice, choose
from homeport.core.spans import spans_of
from homeport.storage import sql_query
from homeport.storage.sql import Statements
from homeport.storage.sql_order import order_by
from homeport.storage.sql_query import Role, Where

EQUAL_SHARE = 10
RANGE_SHARE = 4
"""Without statistics an equality is taken for a tenth of all rows, an open end for a quarter."""

SMALL_ROWS = 200
"""A table of so few rows is read in any way."""


_ALWAYS = frozenset((Or, Contains, Element, Matches))


def matters(query: QueryValue, where: Condition, statements: Statements) -> bool:
    """Could counting change how this query is read? Asked for every query, so quick. ``where``: its
    condition in normal form."""
    kind = type(where)
    leading = statements.leading
    path: str | None
    sorted_elsewhere = False
    if query.order and query.limit is not None and query.after is None:
        path = query.order[0][0]
        sorted_elsewhere = path in leading and path != getattr(where, "path", None)
    if kind is And:
        usable = 0
        open_end = sorted_elsewhere
        for item in where.items:  # type: ignore[attr-defined]
            inner = type(item)
            if inner is Compare:
                if item.path in leading:
                    usable += 1
                    open_end = open_end or item.op == "!="
            elif inner in _ALWAYS:
                usable += 1
            else:
                path = getattr(item.item if inner is Not else item, "path", None)
                usable += path in leading
                open_end = open_end or inner is Not
        return usable > 1 or (usable == 1 and open_end)
    if kind is Not:
        where = where.item  # type: ignore[attr-defined]
        return getattr(where, "path", None) in leading
    if kind is Compare and where.op == "!=":  # type: ignore[attr-defined]
        return getattr(where, "path", None) in leading
    return sorted_elsewhere


class Chooser:
    """Counts and chooses on one connection."""

    def __init__(self, execute: Callable[..., Any]) -> None:
        self.execute = execute

    def where(self, statements: Statements, query: QueryValue, condition: Condition) -> Where:
        """The SQL of a condition in normal form, with the chosen index."""
        parts = conjuncts(condition)
        choice = self.choose(statements, query, parts)
        return self.written(statements, condition, parts, choice)

    def choose(
        self, statements: Statements, query: QueryValue, parts: tuple[Condition, ...]
    ) -> Choice | None:
        found = accesses(query, parts, statements.usable, outside=True)
        wanted = None if query.limit is None or query.after else query.limit + query.offset
        if not _open(found, sorting=bool(query.order) and wanted is not None):
            return None
        total = self.execute(f"SELECT coalesce(max(seq), 0) FROM {statements.table}").get
        if total <= SMALL_ROWS:
            return None
        return choose(
            found,
            wanted=wanted,
            order=[path for path, _ in query.order],
            total=total,
            count=lambda access, at_most: self.count(statements, access, at_most),
            guess=lambda access: self.guess(statements, access, total),
        )

    def written(
        self,
        statements: Statements,
        condition: Condition,
        parts: tuple[Condition, ...],
        choice: Choice | None,
    ) -> Where:
        if choice is None:
            return sql_query.where(condition, statements)
        access, beside = choice.access, choice.beside
        used = () if access is None else access.uses
        joined = () if beside is None else beside.uses
        roles: dict[int, Role] = {id(part): "hidden" for part in parts}
        for part in used:
            roles.pop(id(part))
            if access is not None and access.outside:
                roles[id(part)] = "outside"
        for part in joined:
            roles[id(part)] = "joined"
        where = sql_query.where(condition, statements, roles)
        where.choice = choice
        if beside is not None:
            text, params = self.rows_of(statements, beside)
            where.sql += f" AND +seq IN ({text})"
            where.params += params
        if choice.walk is not None:
            roles = {id(part): "hidden" for part in parts}
            for part in choice.walk.uses:
                roles.pop(id(part))
            along = sql_query.where(condition, statements, roles)
            where.walk_sql, where.walk_params = along.sql, along.params
        return where

    def rows_of(self, statements: Statements, access: Access) -> tuple[str, list[Any]]:
        """SELECT of the row numbers of a path, from its index alone."""
        if access.kind == "union":
            parts = [self.rows_of(statements, part) for part in access.parts]
            params = [param for _, given in parts for param in given]
            return " UNION ".join(text for text, _ in parts), params
        where = _where_of(statements, access)
        if access.kind in ("multi", "text") and where.sql.startswith("seq IN ("):
            return where.sql.removeprefix("seq IN (").removesuffix(")"), where.params
        return f"SELECT seq FROM {statements.table} WHERE {where.sql}", where.params

    def count(self, statements: Statements, access: Access, at_most: int) -> int:
        """Entries of a path, no further than ``at_most``."""
        if access.kind == "union":
            total = 0
            for part in access.parts:
                total += self.count(statements, part, at_most - total)
                if total >= at_most:
                    break
            return total
        text, params = self.rows_of(statements, access)
        counted: int = self.execute(
            f"SELECT count(*) FROM ({text} LIMIT ?)", [*params, at_most]
        ).get  # fmt: skip
        return counted

    def guess(self, statements: Statements, access: Access, total: int) -> int:
        """Entries of a path that holds too many to be counted."""
        if access.kind == "union":
            parts = sum(self.guess(statements, part, total) for part in access.parts)
            return min(total, parts)
        rows = total
        if access.equal and access.index in statements.layout.indexes:
            rows = self._average(statements, access) or max(1, total // EQUAL_SHARE)
        elif access.equal:
            return max(1, total // EQUAL_SHARE)
        if access.range is not None:
            share = None if access.equal else self._share(statements, access)
            rows = round(rows / RANGE_SHARE if share is None else rows * share)
        return rows

    def _average(self, statements: Statements, access: Access) -> int | None:
        """Rows of one value, by the statistics of the last ANALYZE; None without any."""
        ident = statements.layout.indexes[access.index or ""][0]
        try:
            found = self.execute("SELECT stat FROM sqlite_stat1 WHERE idx=?", (ident,)).get
        except apsw.SQLError:
            return None  # never analysed
        numbers = [word for word in (found or "").split() if word.isdigit()]
        return int(numbers[len(access.equal)]) if len(numbers) > len(access.equal) else None

    def _share(self, statements: Statements, access: Access) -> float | None:
        """The part of an index of numbers that a range covers, by its ends."""
        spans = [
            found.spans[0] for part in access.uses if (found := spans_of(part)) and found.spans
        ]
        bounds = [bound for span in spans for bound in span[:2]]
        if len(spans) < len(access.uses) or any(_beyond_numbers(bound) for bound in bounds):
            return None
        column = statements.column_of[access.range or ""]
        low, high = self.execute(
            f"SELECT (SELECT min({column}) FROM {statements.table} WHERE {column} IS NOT NULL),"
            f" (SELECT max({column}) FROM {statements.table} WHERE {column}<'')"
        ).get
        if not isinstance(low, (int, float)) or high is None or not high > low:
            return None
        start = max(low, *(span.low for span in spans if isinstance(span.low, (int, float))), low)
        end = min(high, *(span.high for span in spans if isinstance(span.high, (int, float))), high)
        return min(1.0, max(0.0, float(end - start) / float(high - low)))


def walked(
    execute: Callable[..., Any],
    statements: Statements,
    query: QueryValue,
    where: Where,
    columns: list[tuple[str, bool]],
    select: str,
) -> list[Any] | None:
    """The result found along the order within the bounds of a walk; None when it lies further."""
    assert where.choice is not None
    walk, walk_rows = where.choice.walk, where.choice.walk_rows
    assert walk is not None
    place = next(n for n, (path, _) in enumerate(query.order) if path not in walk.equal)
    name, down = columns[place]
    along = _where_of(statements, walk)
    keyed = f"{along.sql} AND {name} IS NOT NULL" if along.sql else f"{name} IS NOT NULL"
    end = execute(
        f"SELECT {name} FROM {statements.table} WHERE {keyed}"
        f" ORDER BY {name}{' DESC' if down else ''} LIMIT 1 OFFSET ?",
        [*along.params, walk_rows],
    ).get
    # Without the last value itself: it may be that of all other documents, too.
    bound = f"{name} IS NOT NULL" if end is None else f"{name}{'>' if down else '<'}?"
    found: list[Any] = execute(
        f"SELECT {select} FROM {statements.table} WHERE {where.walk_sql} AND {bound}"
        f" ORDER BY {order_by(columns)} LIMIT {query.limit} OFFSET {query.offset}",
        [*where.walk_params, *([] if end is None else [end])],
    ).fetchall()
    return found if len(found) == query.limit else None


def _where_of(statements: Statements, access: Access) -> Where:
    roles: dict[int, Role] = {id(part): "outside" for part in access.uses if access.outside}
    return sql_query.where(And(access.uses), statements, roles)


def _open(found: list[Access], *, sorting: bool) -> bool:
    """Is there anything to choose? A path that the rules would not take counts as another one."""
    narrowing = [access for access in found if access.uses]
    if not narrowing:
        return False
    if len(narrowing) > 1 or narrowing[0].outside:
        return any(set(map(id, a.uses)) != set(map(id, narrowing[0].uses)) for a in narrowing) or (
            narrowing[0].outside
        )
    return sorting and not narrowing[0].ordered and any(a.kind == "order" for a in found)


def _beyond_numbers(bound: object) -> bool:
    return bound is not None and bound != "" and not isinstance(bound, (int, float))
