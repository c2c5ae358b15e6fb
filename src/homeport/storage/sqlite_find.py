"""Reading: one statement for each query, and Python behind it where SQL cannot decide exactly."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from homeport.core import evaluate
from homeport.core.keys import decode
from homeport.storage.sqlquery import Compiled, compile_query

if TYPE_CHECKING:
    from homeport.core.query import QueryValue
    from homeport.core.requests import Form
    from homeport.storage.sql import Statements
    from homeport.storage.sqlite_session import SQLiteSession

CHUNK = 1000
"""Documents of one JSON text: one decode of many is a tenth cheaper than many of one, and no text
grows beyond what SQLite and the decoder take well."""

_plain = msgspec.json.Decoder(dict[str, Any]).decode


class Finder:
    def __init__(self, session: SQLiteSession) -> None:
        self._session = session

    def rows(self, st: Statements, query: QueryValue, form: Form) -> Any:
        compiled = compile_query(st, query, self._session.store.clock_ms() if st.alive else 0)
        if not compiled.plain:
            return _formed(self._checked(st, compiled, query), form)
        tail = self._tail(st, compiled, query)
        if form == "text":
            if query.limit is not None and query.limit <= CHUNK:
                text = self._session.execute(
                    f"SELECT group_concat(doc, ',') FROM (SELECT doc {tail})", compiled.params
                ).get
                return [] if text is None else [f"[{text}]"]
            rows = self._session.execute(f"SELECT doc {tail}", compiled.params).fetchall()
            return [
                "[" + ",".join([row[0] for row in rows[at : at + CHUNK]]) + "]"
                for at in range(0, len(rows), CHUNK)
            ]
        if form == "texts":
            return [row[0] for row in self._session.execute(f"SELECT doc {tail}", compiled.params)]
        if form == "keys":
            found = self._session.execute(f"SELECT id {tail}", compiled.params)
            return [decode(row[0]) for row in found]
        found = self._session.execute(f"SELECT id, doc {tail}", compiled.params)
        return [(decode(key), text) for key, text in found]

    def count(self, st: Statements, query: QueryValue) -> int:
        compiled = compile_query(st, query, self._session.store.clock_ms() if st.alive else 0)
        if not compiled.plain:
            if compiled.residual is not None or query.after is not None:
                return sum(1 for _ in self._checked(st, compiled, query))
            compiled.order = ""
        if query.limit is None and not query.offset:
            compiled.order = ""
            text = f"SELECT count(*) {self._tail(st, compiled, query)}"
        else:
            text = f"SELECT count(*) FROM (SELECT 1 {self._tail(st, compiled, query)})"
        total: int = self._session.execute(text, compiled.params).get
        return total

    def _tail(self, st: Statements, compiled: Compiled, query: QueryValue) -> str:
        text = f"FROM {st.table}"
        if compiled.where:
            text += f" WHERE {compiled.where}"
        if compiled.order:
            text += f" ORDER BY {compiled.order}"
        if query.limit is not None or query.offset:
            # Numbers, not parameters: both are checked ints, and the planner sees them.
            text += f" LIMIT {-1 if query.limit is None else query.limit}"
            if query.offset:
                text += f" OFFSET {query.offset}"
        return text

    def _checked(
        self, st: Statements, compiled: Compiled, query: QueryValue
    ) -> Iterator[tuple[Any, str]]:
        """(key, text) of the rows that Python has to check or sort; the caller drains it."""
        if query.limit == 0:
            return
        text = f"SELECT id, doc FROM {st.table}"
        if compiled.where:
            text += f" WHERE {compiled.where}"
        if compiled.order:
            text += f" ORDER BY {compiled.order}"
        test = None if compiled.residual is None else evaluate.compile_condition(compiled.residual)
        rows = self._session.execute(text, compiled.params)
        if compiled.order is not None:
            stop = None if query.limit is None else query.offset + query.limit
            matching = (
                (decode(key), doc) for key, doc in rows if test is None or test(_plain(doc))
            )
            try:
                yield from islice(matching, query.offset, stop)
            finally:
                # Leaves no half-read statement behind: it would pin the write-ahead log.
                self._session.execute("SELECT 1").fetchall()
            return
        kept: list[tuple[tuple[Any, ...], Any, str]] = []
        for encoded, doc in rows:
            plain = _plain(doc)
            if test is None or test(plain):
                key = decode(encoded)
                kept.append((evaluate.sort_key(query.order, plain, key), key, doc))
        kept.sort(key=lambda entry: entry[0])
        if query.after is not None:
            behind = evaluate.position_key(query.order, query.after)
            kept = [entry for entry in kept if behind < entry[0]]
        stop = None if query.limit is None else query.offset + query.limit
        for _, key, doc in kept[query.offset : stop]:
            yield key, doc


def _formed(entries: Iterator[tuple[Any, str]], form: Form) -> list[Any]:
    found = list(entries)
    if form == "entries":
        return found
    if form == "keys":
        return [key for key, _ in found]
    texts = [text for _, text in found]
    if form == "texts":
        return texts
    return ["[" + ",".join(texts[at : at + CHUNK]) + "]" for at in range(0, len(texts), CHUNK)]
