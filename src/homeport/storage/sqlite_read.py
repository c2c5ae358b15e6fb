"""The reads of a SQLite session: by key, by query, counts, change log, named values.

Every statement runs on the one kept cursor of the session and is read to its end or reset: APSW
3.54.0 leaks cursors when two are alive, and each leaked one slows all later statements.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

import apsw

from homeport.core.evaluate import Test, compile_condition, position_key, sort_key
from homeport.core.keys import Encoded, encode, encode_key
from homeport.core.models import decode_object
from homeport.core.query import QueryValue
from homeport.core.requests import (
    Count,
    Find,
    Get,
    GetMany,
    Meta,
    RowInfo,
    TxInfo,
)
from homeport.core.spans import normal
from homeport.storage import sql, sql_order, sql_query
from homeport.storage.sql import Statements
from homeport.storage.sql_text import source_of
from homeport.storage.sqlite_choice import Chooser, matters, walked
from homeport.storage.sqlite_keys import json_list, public, publics

if TYPE_CHECKING:
    from homeport.storage.sqlite_declared import Declarations

CHUNK = 1_000  # documents in one JSON text
LARGE_KNOWN = 256

_SELECT = {"texts": "doc", "text": "doc", "keys": "id", "entries": "id, doc"}


class Reads:
    """Answers to the reading requests.

    pinned: in a transaction, which keeps the statements that it began with (held). version: of the
    file, as far as changes of declarations were looked for.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        execute: Callable[..., Any],
        declared: Declarations,
        clock_ms: Callable[[], int],
    ) -> None:
        self.connection = connection
        self.execute = execute
        self.declared = declared
        self.held = declared.statements
        self.pinned = False
        self.version = -1
        self.clock_ms = clock_ms
        self.tx: TxInfo | None = None
        self.query = declared.usage.querying(execute)
        self.chooser = Chooser(execute)
        self._large: set[str] = set()  # conditions that matched more than one chunk the last time

    def known(self, name: str) -> Statements:
        """The statements of a collection: the newest, unless a transaction is open."""
        if not self.pinned:
            # Moves when a statement of this connection has noticed a commit of another one.
            version = self.connection.data_version()
            if version != self.version:
                self.version = version
                self.declared.publish(self.execute)
            self.held = self.declared.statements
        return self.held[name]

    # -- by key

    def get(self, request: Get) -> str | None:
        statements = self.declared.statements[request.table.name]
        key = request.key
        if type(key) is not str or not key.isascii() or not key:
            key = encode_key(key)  # type: ignore[assignment]
        if not statements.expiring:
            text: str | None = self.execute(statements.get, (key,)).get
        else:
            text = self.execute(statements.get, (key, self.now())).get
        if text is None and type(key) is str and "\x00" in key:
            encode_key(key)  # refused, as elsewhere; who finds something does not pay for the look
        return text

    def get_many(self, request: GetMany) -> list[str | None]:
        statements = self.declared.statements[request.table.name]
        keys = [
            key if type(key) is str and key.isascii() and key else encode_key(key)
            for key in request.keys
        ]
        listed = json_list(keys)
        if listed is None or "\\u0000" in listed:
            keys = [encode_key(key) for key in request.keys]  # which refuses NUL
        now = () if not statements.expiring else (self.now(),)
        if listed is None:
            return [self.execute(statements.get, (key, *now)).get for key in keys]
        return [text for (text,) in self.execute(statements.get_many, (listed, *now)).fetchall()]

    def now(self) -> int:
        """The clock that hides expired rows: the stamp of the running write, else the present."""
        return self.clock_ms() if self.tx is None else self.tx.stamp_ms

    # -- by query

    def find(self, request: Find) -> list[Any]:
        statements = self.known(request.table.name)
        form = request.form
        rows = self._rows(statements, request.query, form)
        if form == "text":
            return rows
        if form == "texts":
            return [text for (text,) in rows]
        if form == "keys":
            return publics([key for (key,) in rows])
        return list(zip(publics([key for key, _ in rows]), [text for _, text in rows], strict=True))

    def _rows(self, statements: Statements, query: QueryValue, form: str) -> list[Any]:
        where = self.where(statements, query)
        placed = query.order or query.offset or query.after is not None
        columns = sql_order.order_columns(query, statements) if placed else []
        if where.residual is None and columns is not None:
            return self._by_sql(statements, query, form, where, columns)
        rows = self.by_python(statements, query, where, columns, "id, doc")
        if form == "texts":
            return [(text,) for _, text in rows]
        if form == "keys":
            return [(key,) for key, _ in rows]
        return chunks([text for _, text in rows]) if form == "text" else rows

    def where(self, statements: Statements, query: QueryValue) -> sql_query.Where:
        """The condition of a query, with what hides expired rows."""
        condition = query.where if query.where is None else normal(query.where)
        if condition is not None and matters(query, condition, statements):
            where = self.chooser.where(statements, query, condition)
        else:
            where = sql_query.where(condition, statements)
        if statements.expiring:
            where.also(statements.alive, self.now())
        return where

    def _by_sql(
        self,
        statements: Statements,
        query: QueryValue,
        form: str,
        where: sql_query.Where,
        columns: list[tuple[str, bool]],
    ) -> list[Any]:
        if query.after is not None:
            rows = self._after(statements, query, _SELECT[form], where, columns)
            return chunks([text for (text,) in rows]) if form == "text" else rows
        if where.walk_sql and columns:
            near = walked(self.query, statements, query, where, columns, _SELECT[form])
            if near is not None:
                return chunks([text for (text,) in near]) if form == "text" else near
        limit = query.limit
        source, params = source_of(statements, where, streaming=limit is not None and not columns)
        order = f" ORDER BY {sql_order.order_by(columns)}" if columns else ""
        if form == "text" and not query.offset and (limit is None or limit <= CHUNK):
            one = self._one_text(source, order, params, limit)
            if one is not None:
                return one
        text = f"SELECT {_SELECT[form]} {source}{order}"
        if limit is not None or query.offset:
            text += f" LIMIT {-1 if limit is None else limit} OFFSET {query.offset}"
        found: list[Any] = self.query(text, params).fetchall()
        return chunks([text for (text,) in found]) if form == "text" else found

    def _one_text(
        self, source: str, order: str, params: list[Any], limit: int | None
    ) -> list[str] | None:
        """The whole result as one JSON text, made by SQLite; None when it does not fit into one."""
        if limit is None:
            if source in self._large:
                return None
            inner = f"SELECT doc {source}{order} LIMIT {CHUNK + 1}"
            total, body = self.query(
                f"SELECT count(*), '['||group_concat(doc)||']' FROM ({inner})", params
            ).get
            if total <= CHUNK:
                return [] if body is None else [body]
            if len(self._large) >= LARGE_KNOWN:
                self._large.clear()
            self._large.add(source)
            return None
        # The limit is written out: SQLite that knows it sorts a tenth faster.
        inner = f"SELECT doc {source}{order} LIMIT {limit}"
        one = self.query(f"SELECT '['||group_concat(doc)||']' FROM ({inner})", params).get
        return [] if one is None else [one]

    def _after(
        self,
        statements: Statements,
        query: QueryValue,
        select: str,
        where: sql_query.Where,
        columns: list[tuple[str, bool]],
    ) -> list[Any]:
        """Behind a position; rows without the first column come last, by a second statement."""
        values = position_values(query, columns)
        behind, behind_params = sql_order.position(columns, values)
        name, down = columns[0]
        phases: list[tuple[str, list[Any]]] = []
        if name == "id" or query.offset:
            phases.append((behind, behind_params))
        elif values[0] is None:
            phases.append((f"{name} IS NULL AND {behind}", behind_params))
        else:
            start = f"{name}{'<=' if down else '>='}? AND {behind}"
            phases += [(start, [values[0], *behind_params]), (f"{name} IS NULL", [])]
        if len(phases) > 1 and not self.connection.in_transaction:
            self.execute("BEGIN").fetchall()
            try:
                return self._phases(statements, query, select, where, columns, phases)
            finally:
                self.execute("COMMIT").fetchall()
        return self._phases(statements, query, select, where, columns, phases)

    def _phases(
        self,
        statements: Statements,
        query: QueryValue,
        select: str,
        where: sql_query.Where,
        columns: list[tuple[str, bool]],
        phases: list[tuple[str, list[Any]]],
    ) -> list[Any]:
        rows: list[Any] = []
        for condition, params in phases:
            rest = -1 if query.limit is None else query.limit - len(rows)
            both = f"{where.sql} AND {condition}" if where.sql else condition
            rows += self.query(
                f"SELECT {select} FROM {statements.table} WHERE {both}"
                f" ORDER BY {sql_order.order_by(columns)} LIMIT ? OFFSET ?",
                [*where.params, *params, rest, query.offset],
            ).fetchall()
            if query.limit is not None and len(rows) >= query.limit:
                break
        return rows

    def by_python(
        self,
        statements: Statements,
        query: QueryValue,
        where: sql_query.Where,
        columns: list[tuple[str, bool]] | None,
        select: str,
    ) -> list[Any]:
        """Rows whose last two columns are id and doc, filtered and, without ``columns``, sorted
        by Python."""
        text = f"SELECT {select} FROM {statements.table}"
        params = where.params
        conditions = [where.sql] if where.sql else []
        if query.after is not None and columns:
            behind, more = sql_order.position(columns, position_values(query, columns))
            conditions.append(behind)
            params = [*params, *more]
        if conditions:
            text += f" WHERE {' AND '.join(conditions)}"
        if columns:
            text += f" ORDER BY {sql_order.order_by(columns)}"
        test = compile_condition(where.residual) if where.residual is not None else None
        end = None if query.limit is None else query.offset + query.limit
        if end == 0:
            return []
        if columns is not None:
            found = self._matching(text, params, test, end)
            return found[query.offset :] if query.offset else found
        order = query.order
        start = None if query.after is None else position_key(order, query.after)
        keyed = []
        try:
            for row in self.query(text, params):
                doc = decode_object(row[-1])
                if test is not None and not test(doc):
                    continue
                place = sort_key(order, doc, public(row[-2]))
                if start is None or start < place:
                    keyed.append((place, row))
        finally:
            self.reset()
        if end is not None:
            keyed = nsmallest(end, keyed, key=lambda one: one[0])
        else:
            keyed.sort(key=lambda one: one[0])
        return [row for _, row in keyed[query.offset :]]

    def _matching(
        self, text: str, params: list[Any], test: Test | None, end: int | None
    ) -> list[Any]:
        found: list[Any] = []
        try:
            for row in self.query(text, params):
                if test is None or test(decode_object(row[-1])):
                    found.append(row)
                    if len(found) == end:
                        break
        finally:
            self.reset()
        return found

    def reset(self) -> None:
        """Let go of a statement that was not read to its end; an open one would keep old pages of
        the log from being moved into the file."""
        self.execute("SELECT 1").fetchall()

    def matching(self, statements: Statements, query: QueryValue) -> list[Any]:
        """(key, seq, text) of the rows of a query, for their deletion."""
        where = self.where(statements, query)
        placed = query.order or query.offset or query.after is not None
        columns = sql_order.order_columns(query, statements) if placed else []
        rows = self.by_python(statements, query, where, columns, "seq, id, doc")
        return [(key, seq, text) for seq, key, text in rows]

    def count(self, request: Count) -> int:
        statements = self.known(request.table.name)
        query = request.query
        if query.after is not None:
            return len(self._rows(statements, query, "keys"))
        where = self.where(statements, query)
        if where.residual is not None:
            unordered = QueryValue(None, (), query.limit, query.offset)
            return len(self.by_python(statements, unordered, where, [], "id, doc"))
        if where.match and not where.rest_sql:  # every row of the full text is a document
            source = f"FROM {statements.text} WHERE {statements.text} MATCH ?"
            params = [where.match]
        else:
            source, params = source_of(statements, where, streaming=True)
        total: int
        if query.limit is None:
            # Of all rows any index tells the number.
            ask = self.query if params else self.execute
            total = ask(f"SELECT count(*) {source}", params).get
        else:
            total = self.query(
                f"SELECT count(*) FROM (SELECT 1 {source} LIMIT ?)",
                [*params, query.limit + query.offset],
            ).get
        return max(0, total - query.offset)

    # -- named values

    def meta(self, request: Meta) -> str | TxInfo | RowInfo | None:
        if request.name == "tx":
            return self.tx
        if request.name == "row" and request.table is not None:
            statements = self.known(request.table.name)
            key = encode_key(request.key)
            now = () if not statements.expiring else (self.now(),)
            rows = self.execute(statements.row, (key, *now)).fetchall()
            return RowInfo(*rows[0]) if rows else None
        value: str | None = self.execute(sql.GET_META, (request.name,)).get
        return value


def chunks(texts: list[str]) -> list[str]:
    """Documents as JSON array texts of at most ``CHUNK`` each."""
    return [f"[{','.join(texts[start : start + CHUNK])}]" for start in range(0, len(texts), CHUNK)]


def position_values(query: QueryValue, columns: list[tuple[str, bool]]) -> list[Encoded | None]:
    """The encoded values of a position, one for each SQL order column."""
    assert query.after is not None
    values = [encode(value) for value in query.after]
    return values[: len(columns)]
