"""A query as SQL text: which conditions SQLite can answer exactly, and what Python has to check.

Index columns hold encoded keys, whose order and types are those of ``core/evaluate.py``, so every
comparison of an indexed path is exact. Of paths without an index only what the JSON functions
answer exactly is written as SQL, with a guard for the type. Each piece of SQL is true or not true
for a document, never needed to be "false": negation is written ``IS NOT TRUE``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from homeport.core.conditions import (
    And,
    AnyOf,
    Between,
    Compare,
    Condition,
    Contains,
    Element,
    Matches,
    Missing,
    Not,
    OfType,
    Or,
    Range,
    Size,
    StartsWith,
)
from homeport.core.keys import Encoded, encode, prefix_range
from homeport.core.selectivity import Choice
from homeport.core.spans import Span, spans_of
from homeport.core.textquery import parse
from homeport.storage.sql import Statements
from homeport.storage.sql_indexes import compound_entry, fixed_path
from homeport.storage.sql_json import json_type, unindexed
from homeport.storage.sql_text import match_expression

MAX_PARAMETERS = 10_000  # of one list; longer ones that JSON cannot carry are checked by Python
_LOW = (None, "''", "x'01'", "x'02'", "x'03'")  # by type: number, text, boolean, binary, array
_HIGH = ("''", "x''", "x'02'", "x'03'", "x'04'")


class Where:
    """The SQL of a condition and the part of it that Python has to check on what SQL returns.

    choice: the index that was chosen by counting, if there was a choice (``sqlite_choice``);
    walk_sql, walk_params: the condition as it is written for its walk. match: what the full-text
    table may be asked first, if that is how to read; rest_sql, rest_params: then this is left.
    """

    __slots__ = (
        "choice", "match", "params", "residual", "rest_params", "rest_sql", "sql", "walk_params",
        "walk_sql",
    )  # fmt: skip

    def __init__(self, sql: str, params: list[Any], residual: Condition | None) -> None:
        self.sql = sql
        self.params = params
        self.residual = residual
        self.choice: Choice | None = None
        self.walk_sql = ""
        self.walk_params: list[Any] = []
        self.match = ""
        self.rest_sql = ""
        self.rest_params: list[Any] = []

    def also(self, sql: str, *params: Any) -> None:
        """One more condition, in every form of this one."""
        self.sql = f"{self.sql} AND {sql}" if self.sql else sql
        self.params += params
        if self.walk_sql:
            self.walk_sql += f" AND {sql}"
            self.walk_params += params
        self.rest_sql = f"{self.rest_sql} AND {sql}" if self.rest_sql else sql
        self.rest_params += params


Role = Literal["hidden", "outside", "joined"]
"""How a conjunct is written: so that no index is used for it; as the ranges around an excluded
value; not at all, because it is part of a set of rows that is cut with the others."""


def where(
    condition: Condition | None,
    statements: Statements,
    roles: Mapping[int, Role] | None = None,
) -> Where:
    """Split a condition into SQL and the rest. roles: by the id of a conjunct."""
    if condition is None:
        return Where("", [], None)
    writer = _Writer(statements)
    if type(condition) is Compare and not roles:
        # What most queries are; half of the work below is about several conditions.
        writer.fix((condition,))
        piece = writer.write(condition)
        return Where("", [], condition) if piece is None else Where(piece, writer.params, None)
    items = list(condition.items if isinstance(condition, And) else (condition,))
    writer.fix(items)
    pieces: list[str] = []
    params: list[Any] = []
    rest: list[Condition] = []
    lead = match_at = -1  # the piece that asks the full text and its parameter, if it may lead
    roled = [item for item in items if id(item) in roles] if roles else []
    items = [item for item in items if id(item) not in roles] if roles else items
    entry = compound_entry(items, statements.indexes_multi)
    if entry is not None:
        index, key, items = entry
        pieces.append(f"seq IN (SELECT seq FROM {statements.multi_of[index.name]} WHERE k=?)")
        params.append(key)
    for item in (*items, *roled):
        role = roles.get(id(item)) if roles else None
        if role == "joined":
            continue
        writer.params = []
        piece = writer.outside(item) if role == "outside" else writer.write(item)
        if piece is None:
            rest.append(item)
            writer.params = []
            piece = writer.implied(item)
            if piece is None:
                continue
        if type(item) is Matches and role is None and lead < 0 and len(writer.params) == 1:
            lead, match_at = len(pieces), len(params)
        pieces.append(f"+({piece})" if role == "hidden" else piece)
        params += writer.params
    residual = None if not rest else rest[0] if len(rest) == 1 else And(rest)
    found = Where(" AND ".join(pieces), params, residual)
    if lead >= 0:
        found.match = params[match_at]
        found.rest_sql = " AND ".join(pieces[:lead] + pieces[lead + 1 :])
        found.rest_params = params[:match_at] + params[match_at + 1 :]
    return found


class _Writer:
    """Writes one condition; collects its parameters in order. None = SQLite cannot answer it."""

    def __init__(self, statements: Statements) -> None:
        self.statements = statements
        self.params: list[Any] = []
        self.fixed: frozenset[str] = frozenset()

    def fix(self, items: Sequence[Condition]) -> frozenset[str]:
        """Conditions that hold together: note what they fix → what was fixed before."""
        before = self.fixed
        if self.statements.hashed:
            self.fixed = before | {path for item in items if (path := fixed_path(item)) is not None}
        return before

    def write(self, condition: Condition) -> str | None:
        kind = type(condition)
        if kind is And or kind is Or:
            return self._group(condition)  # type: ignore[arg-type]
        if kind is Not:
            piece = self.write(condition.item)  # type: ignore[attr-defined]
            return None if piece is None else f"(({piece}) IS NOT TRUE)"
        if kind is Matches:
            return self._matches(condition)  # type: ignore[arg-type]
        if kind is Contains:
            return self._contains(condition)  # type: ignore[arg-type]
        if kind is Element:
            return self._element(condition)  # type: ignore[arg-type]
        path: str | None = getattr(condition, "path", None)
        if path is None:
            return None
        column = self.statements.column_of.get(path)
        if column is None:
            return unindexed(condition, path, self.params)
        if path in self.statements.hashed:
            equal = fixed_path(condition)
            fixed = self.fixed if equal is None else self.fixed | {equal}
            if equal is None or self.statements.hashed.refuses(path, fixed):
                piece = self._indexed(condition, path, column)
                return None if piece is None else f"coalesce({piece}, 0)"
        return self._indexed(condition, path, column)

    def _group(self, condition: And | Or) -> str | None:
        joiner, empty = (" AND ", "1") if isinstance(condition, And) else (" OR ", "0")
        pieces: list[str] = []
        before = self.fix(condition.items if isinstance(condition, And) else ())
        try:
            for item in condition.items:
                piece = self.write(item)
                if piece is None:
                    return None
                pieces.append(piece)
        finally:
            self.fixed = before
        return f"({joiner.join(pieces)})" if pieces else empty

    def implied(self, condition: Condition) -> str | None:
        """SQL that is true wherever an alternative is, for one that it cannot decide alone: it
        leads to the rows that Python then looks at. Each branch must have its part of it."""
        if not isinstance(condition, Or):
            return None
        pieces: list[str] = []
        for branch in condition.items:
            start = len(self.params)
            piece = self.write(branch)
            if piece is None:
                del self.params[start:]
                piece = self._implied_by_all(branch)
            if piece is None:
                return None
            pieces.append(piece)
        return f"({' OR '.join(pieces)})" if pieces else "0"

    def _implied_by_all(self, condition: Condition) -> str | None:
        if isinstance(condition, Or):
            return self.implied(condition)
        if not isinstance(condition, And):
            return None
        pieces: list[str] = []
        for item in condition.items:
            start = len(self.params)
            piece = self.write(item)
            if piece is None:
                del self.params[start:]
                piece = self.implied(item)
                if piece is None:
                    del self.params[start:]
                    continue
            pieces.append(piece)
        return f"({' AND '.join(pieces)})" if pieces else None

    def outside(self, condition: Condition) -> str | None:
        """A negation of an indexed path as the ranges that it leaves."""
        inner = condition.item if isinstance(condition, Not) else condition
        k = self.statements.column_of.get(getattr(inner, "path", ""))
        found = None if k is None else spans_of(condition)
        if k is None or found is None:
            return self.write(condition)
        pieces = [self._one_span(k, span) for span in found.spans]
        if found.rest:
            pieces.append(f"{k} IS NULL")
        return f"({' OR '.join(pieces)})" if pieces else "0"

    def _one_span(self, k: str, span: Span) -> str:
        low, high = span.low, span.high
        return self._span(k, low, high, low_open=span.low_open, high_open=span.high_open)

    # -- index columns

    def _indexed(self, condition: Condition, path: str, k: str) -> str | None:
        if isinstance(condition, Compare):
            return self._indexed_compare(condition, path, k)
        if isinstance(condition, Between):
            return self._span(
                k, encode(condition.low), encode(condition.high),
                low_open=condition.low_open, high_open=condition.high_open,
            )  # fmt: skip
        if isinstance(condition, Range):
            return self._span(
                k,
                None if condition.lower is None else encode(condition.lower),
                None if condition.upper is None else encode(condition.upper),
                low_open=condition.lower_open, high_open=condition.upper_open,
            )  # fmt: skip
        if isinstance(condition, AnyOf):
            return self._any_of(condition.values, path, k)
        if isinstance(condition, StartsWith):
            low, high = prefix_range(condition.prefix)
            self.params.append(low)
            if high is None:
                return f"({k}>=? AND {k}<x'')"
            self.params.append(high)
            return f"({k}>=? AND {k}<?)"
        if isinstance(condition, Missing):
            return json_type(path, "IS NULL", f"{k} IS NULL AND ")
        if isinstance(condition, (Size, OfType)):
            return unindexed(condition, path, self.params)
        return None

    def _indexed_compare(self, condition: Compare, path: str, k: str) -> str | None:
        op, encoded = condition.op, encode(condition.value)
        if op in ("==", "!="):
            if encoded is not None:
                self.params.append(encoded)
                return f"{k}=?" if op == "==" else f"{k} IS NOT ?"
            if condition.value is None:
                null = json_type(path, "='null'", f"{k} IS NULL AND ")
                return null if op == "==" or null is None else f"({null} IS NOT TRUE)"
            return None
        assert encoded is not None
        if op in ("<", "<="):
            bottom = _LOW[_bracket(encoded)]
            self.params.append(encoded)
            return f"{k}{op}?" if bottom is None else f"({k}{op}? AND {k}>={bottom})"
        self.params.append(encoded)
        return f"({k}{op}? AND {k}<{_HIGH[_bracket(encoded)]})"

    def _span(
        self, k: str, low: Encoded | None, high: Encoded | None, *, low_open: bool, high_open: bool
    ) -> str:
        if low is None and high is None:
            return f"{k} IS NOT NULL"
        if low == high and type(low) is type(high) and not (low_open or high_open):
            self.params.append(low)
            return f"{k}=?"
        pieces = []
        if low is not None:
            self.params.append(low)
            pieces.append(f"{k}{'>' if low_open else '>='}?")
        if high is not None:
            self.params.append(high)
            pieces.append(f"{k}{'<' if high_open else '<='}?")
        return f"({' AND '.join(pieces)})"

    def _any_of(self, values: Sequence[object], path: str, k: str) -> str | None:
        found = [encode(value) for value in values]
        nulls = [value for value, key in zip(values, found, strict=True) if key is None]
        keys = [key for key in found if key is not None]
        if any(value is not None for value in nulls):
            return None
        piece = self._in(keys, k)
        if piece is None or not nulls:
            return piece
        null = json_type(path, "='null'", f"{k} IS NULL AND ")
        return None if null is None else f"({piece} OR {null})"

    def _in(self, keys: list[Encoded], k: str) -> str | None:
        if len(keys) > 32 and all(type(key) in (str, int) for key in keys):
            self.params.append(msgspec.json.encode(keys).decode())
            return f"{k} IN (SELECT value FROM json_each(?))"
        if len(keys) > MAX_PARAMETERS:
            return None
        self.params += keys
        return f"{k} IN ({','.join('?' * len(keys))})"

    # -- side tables

    def _contains(self, condition: Contains) -> str | None:
        encoded = encode(condition.value)
        if encoded is None:
            return None
        for index in self.statements.indexes_multi:
            if index.fields == (condition.path,):
                self.params.append(encoded)
                side = self.statements.multi_of[index.name]
                return f"seq IN (SELECT seq FROM {side} WHERE k=?)"
        return None

    def _element(self, condition: Element) -> str | None:
        """Entries of a multi-entry index are the elements that are keys, so the inner condition
        must be one that nothing else satisfies."""
        item = condition.item
        if not _of_keys(item):
            return None
        for index in self.statements.indexes_multi:
            if index.fields == (condition.path,):
                piece = self._entry(item)
                side = self.statements.multi_of[index.name]
                return f"seq IN (SELECT seq FROM {side} WHERE {piece})"
        return None

    def _entry(self, item: Condition) -> str | None:
        if isinstance(item, (And, Or)):
            joiner, empty = (" AND ", "1") if isinstance(item, And) else (" OR ", "0")
            pieces = [piece for one in item.items if (piece := self._entry(one)) is not None]
            return f"({joiner.join(pieces)})" if pieces else empty
        return self._indexed(item, "", "k")

    def _matches(self, condition: Matches) -> str | None:
        column = self.statements.text_column.get(condition.path)
        if column is None:
            return None
        asked = parse(condition.text)
        if asked is None:
            return "0"
        self.params.append(match_expression(asked, [column]))
        text = self.statements.text
        return f"seq IN (SELECT rowid FROM {text} WHERE {text} MATCH ?)"


def _of_keys(item: Condition) -> bool:
    """Is it about the element itself, and satisfied by values that are keys alone?"""
    if isinstance(item, (And, Or)):
        # No condition at all is satisfied by every element.
        return bool(item.items) and all(map(_of_keys, item.items))
    if getattr(item, "path", None) != "":
        return False
    if isinstance(item, Compare):
        return item.op != "!=" and encode(item.value) is not None
    if isinstance(item, AnyOf):
        return len(item.values) <= MAX_PARAMETERS and all(
            encode(value) is not None for value in item.values
        )
    return isinstance(item, (Between, Range, StartsWith))


def _bracket(encoded: Encoded) -> int:
    if isinstance(encoded, str):
        return 1
    return encoded[0] + 1 if isinstance(encoded, bytes) else 0
