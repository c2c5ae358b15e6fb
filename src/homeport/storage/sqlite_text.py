"""Ranked full text of a SQLite session. The order is that of ``core/ranking.py``: FTS5 finds the
documents and says what occurs in them, its own ``bm25()`` is not asked.

(``bm25()`` visits every document of every word to learn how common it is: 350 ms for a word of half
a million. Here that is counted up to a limit, and so is what is ranked.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apsw
import msgspec

from homeport.core.evaluate import compile_condition
from homeport.core.keys import order
from homeport.core.models import decode_object
from homeport.core.planner import plan
from homeport.core.query import QueryValue
from homeport.core.ranking import FREQUENCY_MAX, PREFIX_WORDS, Score, Statistics, TextSearch, ranked
from homeport.core.textquery import Asked, Either, Every, Term, terms
from homeport.core.textrequests import Found, Search, Vocabulary
from homeport.errors import InvalidQuery
from homeport.storage.sql import Statements
from homeport.storage.sql_query import Where
from homeport.storage.sql_text import match_expression
from homeport.storage.sqlite_keys import public
from homeport.storage.sqlite_read import Reads

FEW = 2_000
"""Up to so many documents of another index are looked up in the full text one by one."""

SCORE = "homeport_score"
_encode_json = msgspec.json.Encoder().encode


class Texts:
    """Answers searches on one connection."""

    def __init__(self, connection: apsw.Connection, reads: Reads) -> None:
        self.reads = reads
        self.execute: Callable[..., Any] = reads.execute
        self.ask: Callable[[apsw.FTS5ExtensionApi], Any] = _nothing
        self._connection = connection
        self._ready = False

    def search(self, request: Search) -> Found:
        if not self._ready:
            # FTS5 calls it for each row that is found, with what occurs there.
            self._connection.register_fts5_function(SCORE, self._called)
            self._ready = True
        statements = self._known(request)
        index = SQLiteText(self, statements, request.search, request.query)
        offset = request.query.offset
        end = None if request.limit is None else offset + request.limit
        try:
            found = ranked(index, request.search, end)
        finally:
            self.ask = _nothing
        best = found.best[offset:]
        documents = index.documents([seq for _, seq in best])
        entries = [(*documents[seq], score) for score, seq in best]
        return Found(entries, found.total, capped=found.capped)

    def vocabulary(self, request: Vocabulary) -> list[tuple[str, int]]:
        words = self._known(request).vocabulary
        return self.execute(  # type: ignore[no-any-return]
            f"SELECT term, doc FROM {words} WHERE term>=? AND term<? LIMIT ?",
            (request.low, request.high, request.limit),
        ).fetchall()

    def _known(self, request: Search | Vocabulary) -> Statements:
        statements = self.reads.known(request.table.name)
        asked = request.search.weights if isinstance(request, Search) else statements.text_column
        for path in asked or ("words",):
            if path not in statements.text_column:
                raise InvalidQuery(
                    f"{path} of {statements.name} has no full-text index any more: another process "
                    "took it away, or is making it anew."
                )
        return statements

    def _called(self, api: apsw.FTS5ExtensionApi, *_: Any) -> Any:
        return self.ask(api)


class SQLiteText:
    """``core.ranking.TextIndex`` on FTS5, for one search."""

    def __init__(
        self, texts: Texts, statements: Statements, search: TextSearch, query: QueryValue
    ) -> None:
        self.fields: Sequence[str] = tuple(statements.text_column)
        self.execute = texts.execute
        self._api: apsw.FTS5ExtensionApi | None = None
        self._texts = texts
        self._statements = statements
        columns = statements.text_column
        self._columns = [columns[path] for path in search.weights]
        self._where = texts.reads.where(statements, query)
        self._few = self._selective(query)

    def _selective(self, query: QueryValue) -> bool:
        """Do the other conditions leave so few documents that those are asked for their words?"""
        access = plan(QueryValue(query.where), self._statements.usable)
        if access.kind not in ("key", "index", "multi") or not self._where.sql:
            return False
        inner = f"SELECT 1 FROM {self._statements.table} WHERE {self._where.sql} LIMIT {FEW + 1}"
        found: int = self.execute(f"SELECT count(*) FROM ({inner})", self._where.params).get
        return found <= FEW

    # -- facts

    def statistics(self) -> Statistics:
        api = self._api
        assert api is not None
        return Statistics(api.row_count, [*map(api.column_total_size, range(len(self.fields)))])

    def frequency(self, word: str) -> int:
        text = self._statements.text
        found: int = self.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM {text} WHERE {text} MATCH ? LIMIT ?)",
            (f'"{word}"', FREQUENCY_MAX),
        ).get
        return found

    def prefix_frequency(self, prefix: str) -> int:
        # The next text that does not begin so; no word holds the last character of Unicode.
        found: int | None = self.execute(
            "SELECT sum(doc) FROM (SELECT doc FROM "
            f"{self._statements.vocabulary} WHERE term>=? AND term<? LIMIT {PREFIX_WORDS})",
            (prefix, prefix + "\U0010ffff"),
        ).get
        return found or 0

    # -- documents

    def candidates(self, asked: Asked, score: Score, limit: int) -> list[tuple[float, int]]:
        expression, phrases = self._expression(asked)
        columns = range(len(self.fields))

        def ask(api: apsw.FTS5ExtensionApi) -> float:
            self._api = api
            counts = [[*map(len, api.phrase_locations(phrase))] for phrase in phrases]
            return score(counts, [*map(api.column_size, columns)])

        self._texts.ask = ask
        text, table, where = self._statements.text, self._statements.table, self._where
        select = f"SELECT {SCORE}({text}), {text}.rowid"
        params: list[Any] = [expression]
        if not where.sql and where.residual is None:
            source, conditions, newest = text, "", "rowid"
        else:
            first, second = (table, text) if self._few else (text, table)
            source = f"{first} CROSS JOIN {second} ON seq={text}.rowid"
            conditions = f" AND {where.sql}" if where.sql else ""
            params += where.params
            # FTS5 looks a single row up ten times slower where it was told to go downwards.
            newest = "seq" if self._few else f"{text}.rowid"
        statement = f"FROM {source} WHERE {text} MATCH ?{conditions} ORDER BY {newest} DESC"
        if where.residual is None:
            return self._texts.reads.query(f"{select} {statement} LIMIT {limit}", params).fetchall()  # type: ignore[no-any-return]
        return self._checked(f"{select}, doc {statement}", params, where, limit)

    def _checked(
        self, statement: str, params: list[Any], where: Where, limit: int
    ) -> list[tuple[float, int]]:
        """With conditions that Python has to check."""
        assert where.residual is not None
        test = compile_condition(where.residual)
        found: list[tuple[float, int]] = []
        try:
            for points, seq, doc in self.execute(statement, params):
                if test(decode_object(doc)):
                    found.append((points, seq))
                    if len(found) == limit:
                        break
        finally:
            self._texts.reads.reset()
        return found

    def _expression(self, asked: Asked) -> tuple[str, list[int]]:
        """What MATCH is given, and which of its phrases are the terms of the query.

        FTS5 says what occurs of a phrase only where the part of the query around it is satisfied.
        Unless that cannot make a difference, every term is asked for once more beside the query.
        """
        wanted = terms(asked)
        fields = self._statements.text_column
        flat: Asked | None = None
        if isinstance(asked, Term):
            flat = asked
        elif isinstance(asked, Either) and all(isinstance(one, Term) for one in asked.items):
            flat = Either(wanted)
        elif isinstance(asked, Every) and all(isinstance(one, Term) for one in asked.items):
            flat = Every(wanted, asked.without)
        if flat is not None:
            return match_expression(flat, self._columns, fields), list(range(len(wanted)))
        beside = match_expression(Either(wanted), self._columns, fields)
        first = _phrases(asked)
        expression = f"{match_expression(asked, self._columns, fields)} AND {beside}"
        return expression, list(range(first, first + len(wanted)))

    def places(self, names: Sequence[int]) -> Mapping[int, Any]:
        return {seq: order(key) for seq, key in self._select("seq, id", names)}

    def documents(self, names: Sequence[int]) -> dict[int, tuple[Any, str]]:
        """(key, JSON text) of each."""
        rows = self._select("seq, id, doc", names)
        return {seq: (public(key), text) for seq, key, text in rows}

    def _select(self, columns: str, names: Sequence[int]) -> list[Any]:
        if not names:
            return []
        inner = "SELECT value FROM json_each(?)"
        found: list[Any] = self.execute(
            f"SELECT {columns} FROM {self._statements.table} WHERE seq IN ({inner})",
            (_encode_json(names).decode(),),
        ).fetchall()
        return found


def _phrases(asked: Asked) -> int:
    """How many phrases FTS5 numbers in the expression of a query."""
    if isinstance(asked, Term):
        return 1
    without = asked.without if isinstance(asked, Every) else ()
    return sum(map(_phrases, (*asked.items, *without)))


def _nothing(_: apsw.FTS5ExtensionApi) -> None:
    return None
