"""A query as SQL text: what SQLite can decide exactly, and what Python has to check behind it.

Every condition becomes a pair (SQL, exact). SQL that is not exact finds a superset, and the store
asks ``core.evaluate`` about each row; so an index always narrows the search and never changes the
answer. Comparisons look at one type of key only, which on an untyped column is a range: numbers
below ``''``, text below ``x''``, then booleans, binary and arrays by their type byte.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from homeport.core.conditions import (
    And,
    AnyOf,
    Between,
    Compare,
    Condition,
    Contains,
    Matches,
    Missing,
    Not,
    Or,
    Range,
    StartsWith,
    bracket,
)
from homeport.core.keys import MAX_SAFE_INT, Encoded, encode, prefix_range
from homeport.core.words import terms

if TYPE_CHECKING:
    from homeport.core.query import QueryValue
    from homeport.storage.sql import Statements

MAX_VALUES: Final = 10_000
"""More values than this in one any_of are checked in Python."""

# [low, high) of each type on an untyped column; None = open.
_BRACKETS: Final = (
    (None, "''"),
    ("''", "x''"),
    ("x'01'", "x'02'"),
    ("x'02'", "x'03'"),
    ("x'03'", None),
)
_SIMPLE_NAME: Final = re.compile(r"[A-Za-z0-9_ ]+\Z")


class Pushed:
    """SQL of a condition. sql None: nothing can be said, every row is a candidate."""

    __slots__ = ("exact", "params", "sql")

    def __init__(
        self, sql: str | None, params: tuple[Any, ...] = (), *, exact: bool = True
    ) -> None:
        self.sql = sql
        self.params = params
        self.exact = exact


NOTHING: Final = Pushed(None, exact=False)


class Compiled:
    """A query ready to run.

    where: SQL behind WHERE, or empty. residual: condition that Python checks on each row. order:
    SQL behind ORDER BY, or empty; None means that Python has to sort, and to skip to the position.
    """

    __slots__ = ("order", "params", "residual", "where")

    def __init__(
        self, where: str, params: tuple[Any, ...], residual: Condition | None, order: str | None
    ) -> None:
        self.where = where
        self.params = params
        self.residual = residual
        self.order = order

    @property
    def plain(self) -> bool:
        """SQLite alone answers it."""
        return self.residual is None and self.order is not None


def compile_query(statements: Statements, query: QueryValue, now_ms: int) -> Compiled:
    clauses: list[str] = []
    params: tuple[Any, ...] = ()
    residual: Condition | None = None
    if query.where is not None:
        parts = query.where.items if isinstance(query.where, And) else (query.where,)
        left: list[Condition] = []
        for part in parts:
            pushed = push(statements, part)
            if pushed.sql is not None:
                clauses.append(pushed.sql)
                params += pushed.params
            if not pushed.exact:
                left.append(part)
        if left:
            residual = left[0] if len(left) == 1 else And(left)
    order = order_sql(statements, query)
    if query.after is not None and order is not None:
        sql, values = after_sql(statements, query)
        clauses.append(sql)
        params += values
    if statements.alive:
        clauses.append(statements.alive)
        params += (now_ms,)
    return Compiled(" AND ".join(clauses), params, residual, order)


# -- order and position


def order_columns(statements: Statements, query: QueryValue) -> list[tuple[str, bool]] | None:
    """(column, descending) with the key last; None when a path is no column."""
    if not query.order and query.after is None:
        return []
    columns: list[tuple[str, bool]] = []
    down = False
    for path, down in query.order:  # noqa: B007 (the last direction is used below)
        column = column_of(statements, path)
        if column is None:
            return None
        columns.append((column, down))
        if column == "id":
            return columns
    columns.append(("id", down))
    return columns


def order_sql(statements: Statements, query: QueryValue) -> str | None:
    columns = order_columns(statements, query)
    if columns is None:
        return None
    return ", ".join(
        column + (" DESC" if down else "") + ("" if column == "id" or down else " NULLS LAST")
        for column, down in columns
    )


def after_sql(statements: Statements, query: QueryValue) -> tuple[str, tuple[Any, ...]]:
    """Rows behind a position: for each column, equal before it and beyond in it."""
    assert query.after is not None
    columns = order_columns(statements, query)
    assert columns is not None
    values = [encode(value) for value in query.after]
    if len(columns) < len(values):  # the key itself was ordered by: its position is given twice
        values = values[: len(columns)]
    terms: list[str] = []
    params: list[Any] = []
    for i, (column, down) in enumerate(columns):
        value = values[i]
        if value is None:
            continue  # missing is last in both directions: nothing is beyond it in this column
        same = [f"{name} IS ?" for name, _ in columns[:i]]
        beyond = f"{column}{'<' if down else '>'}?"
        if column != "id":
            beyond = f"({beyond} OR {column} IS NULL)"
        terms.append("(" + " AND ".join([*same, beyond]) + ")")
        params += [*values[:i], value]
    return ("(" + " OR ".join(terms) + ")" if terms else "0", tuple(params))


def column_of(statements: Statements, path: str) -> str | None:
    """The column that holds the encoded value of a path."""
    if not path or path == statements.key:
        return "id"
    return statements.column_of.get(path)


# -- conditions


def push(statements: Statements, condition: Condition) -> Pushed:
    if isinstance(condition, (And, Or)):
        return _combined(statements, condition)
    if isinstance(condition, Not):
        inner = push(statements, condition.item)
        if inner.sql is None or not inner.exact:
            return NOTHING
        return Pushed(f"({inner.sql}) IS NOT TRUE", inner.params)
    if isinstance(condition, Contains):
        return _contains(statements, condition)
    if isinstance(condition, Matches):
        return _matches(statements, condition)
    path = getattr(condition, "path", None)
    if path is None:
        return NOTHING
    column = column_of(statements, path)
    if column is None:
        return _unindexed(condition)
    return _on_column(column, condition)


def _combined(statements: Statements, condition: And | Or) -> Pushed:
    both = isinstance(condition, And)
    items = [push(statements, item) for item in condition.items]
    if not items:
        return Pushed("1" if both else "0")
    known = [item for item in items if item.sql is not None]
    if not known or (not both and len(known) < len(items)):
        return NOTHING
    sql = (" AND " if both else " OR ").join(f"({item.sql})" for item in known)
    params = tuple(value for item in known for value in item.params)
    return Pushed(f"({sql})", params, exact=all(item.exact for item in items))


def _on_column(column: str, condition: Condition) -> Pushed:
    if isinstance(condition, Compare):
        return _compare(column, condition)
    if isinstance(condition, Between):
        low, high = encode(condition.low), encode(condition.high)
        assert low is not None
        assert high is not None
        lower = f"{column}{'>' if condition.low_open else '>='}?"
        upper = f"{column}{'<' if condition.high_open else '<='}?"
        return Pushed(f"{lower} AND {upper}", (low, high))
    if isinstance(condition, AnyOf):
        return _any_of(column, condition)
    if isinstance(condition, StartsWith):
        start, end = prefix_range(condition.prefix)
        if end is None:
            return Pushed(f"{column}>=? AND {column}<x''", (start,))
        return Pushed(f"{column}>=? AND {column}<?", (start, end))
    if isinstance(condition, Range):
        return _range(column, condition)
    if isinstance(condition, Missing):
        return Pushed("0") if column == "id" else Pushed(f"{column} IS NULL", exact=False)
    return NOTHING


def _compare(column: str, condition: Compare) -> Pushed:
    value = encode(condition.value)
    if value is None:  # null, objects and the like stand in no index
        if condition.op == "==":
            return Pushed(f"{column} IS NULL", exact=False)
        return NOTHING
    if condition.op == "==":
        return Pushed(f"{column}=?", (value,))
    if condition.op == "!=":
        return Pushed(f"{column} IS NOT ?", (value,))
    low, high = _BRACKETS[bracket(value)]
    sql = f"{column}{condition.op}?"
    if condition.op in ("<", "<="):
        return Pushed(sql if low is None else f"{sql} AND {column}>={low}", (value,))
    return Pushed(sql if high is None else f"{sql} AND {column}<{high}", (value,))


def _any_of(column: str, condition: AnyOf) -> Pushed:
    values = [encode(value) for value in condition.values]
    if len(values) > MAX_VALUES or any(value is None for value in values):
        return NOTHING
    return Pushed(f"{column} IN ({','.join('?' * len(values))})", tuple(values))


def _range(column: str, condition: Range) -> Pushed:
    clauses: list[str] = []
    params: list[Encoded] = []
    if condition.lower is not None:
        clauses.append(f"{column}{'>' if condition.lower_open else '>='}?")
        params.append(_known(condition.lower))
    if condition.upper is not None:
        clauses.append(f"{column}{'<' if condition.upper_open else '<='}?")
        params.append(_known(condition.upper))
    return Pushed(" AND ".join(clauses) or f"{column} IS NOT NULL", tuple(params))


def _known(value: object) -> Encoded:
    encoded = encode(value)
    assert encoded is not None
    return encoded


def _contains(statements: Statements, condition: Contains) -> Pushed:
    side = statements.multi_single.get(condition.path)
    value = encode(condition.value)
    if side is None or value is None:
        return NOTHING
    return Pushed(f"seq IN (SELECT seq FROM {side} WHERE k=?)", (value,))


def _matches(statements: Statements, condition: Matches) -> Pushed:
    column = statements.text_column.get(condition.path)
    if column is None:
        return NOTHING
    asked = terms(condition.text)
    if not asked:
        return Pushed("0")  # signs alone ask nothing, and nothing is found
    # Words are folded already and joined by spaces, so a phrase of FTS5 is a phrase of ours.
    expression = " AND ".join(
        f'"{" ".join(term.words)}"{" *" if term.prefix else ""}' for term in asked
    )
    return Pushed(
        f"seq IN (SELECT rowid FROM {statements.text} WHERE {statements.text} MATCH ?)",
        (f"{column} : ({expression})",),
    )


# -- fields without an index


def _unindexed(condition: Condition) -> Pushed:
    """Scalar comparisons on the JSON text, where SQLite's answer is exactly ours: numbers in order,
    text and booleans for equality (SQLite's order of text is not UTF-16's)."""
    path = _json_path(condition.path)  # type: ignore[attr-defined]
    if path is None:
        return NOTHING
    kind, value = f"json_type(doc,{path})", f"(doc->>{path})"
    if isinstance(condition, Between):
        if not (_number(condition.low) and _number(condition.high)):
            return NOTHING
        low, high = ">" if condition.low_open else ">=", "<" if condition.high_open else "<="
        sql = f"{_is_number(kind, value)} AND {value}{low}? AND {value}{high}?"
        return Pushed(f"({sql})", (condition.low, condition.high))
    if isinstance(condition, Missing):
        return Pushed(f"{kind} IS NULL")
    if not isinstance(condition, Compare):
        return NOTHING
    operand = condition.value
    negated = condition.op == "!="
    if _number(operand):
        op = "=" if condition.op in ("==", "!=") else condition.op
        sql, params = f"({_is_number(kind, value)} AND {value}{op}?)", (operand,)
    elif condition.op not in ("==", "!="):
        return NOTHING
    elif isinstance(operand, bool):
        sql, params = f"({kind}='{'true' if operand else 'false'}')", ()
    elif operand is None:
        sql, params = f"({kind}='null')", ()
    elif isinstance(operand, str) and encode(operand) is not None and "\x00" not in operand:
        sql, params = f"({kind}='text' AND {value}=?)", (operand,)
    else:
        return NOTHING
    return Pushed(f"{sql} IS NOT TRUE" if negated else sql, params)


def _is_number(kind: str, value: str) -> str:
    """A number that is a key: integers beyond ±2**53 are none."""
    return (
        f"({kind}='real' OR ({kind}='integer' AND {value} BETWEEN -{MAX_SAFE_INT}"
        f" AND {MAX_SAFE_INT}))"
    )


def _number(value: object) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and encode(value) is not None
    )


def _json_path(path: str) -> str | None:
    names = path.split(".")
    if not all(_SIMPLE_NAME.match(name) for name in names):
        return None
    return "'$" + "".join(f'."{name}"' for name in names) + "'"
