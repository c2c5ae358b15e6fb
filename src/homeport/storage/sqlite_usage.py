"""How often each index is read. What every query pays for it is a look into a dictionary.

SQLite chooses the indexes, so a query is noted by its text; which index a text reads is asked when
somebody wants to know, or when the text makes room for another one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import perf_counter
from typing import Any

import apsw

from homeport.core.advisor import SlowQueries

Execute = Callable[..., Any]

TEXTS_MAX = 1_000

_INDEX = re.compile(r"USING (?:COVERING )?INDEX (.+?)(?: \(|$)")
_TABLE = re.compile(r"^(?:SEARCH|SCAN) (\S+)(?: |$)")


class Usage(SlowQueries):
    """What the queries of one store read, by all of its connections."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        super().__init__(perf_counter, clock_ms)
        self._texts: dict[str, list[Any]] = {}  # text → [uses, last, parameters]
        self._idents: dict[str, list[Any]] = {}  # of texts that made room: [uses, last]

    def querying(self, execute: Execute) -> Execute:
        """``execute`` for statements that answer queries."""
        texts = self._texts

        def query(text: str, params: Any) -> Any:
            entry = texts.get(text)
            if entry is None:
                entry = self._first(text, len(params), execute)
            entry[0] += 1
            entry[1] = self.now
            return execute(text, params)

        return query

    def _first(self, text: str, parameters: int, execute: Execute) -> list[Any]:
        if len(self._texts) >= TEXTS_MAX:
            oldest = next(iter(self._texts))
            _add(self._idents, oldest, self._texts.pop(oldest), execute)
        return self._texts.setdefault(text, [0, 0.0, parameters])

    def by_ident(self, execute: Execute) -> dict[str, tuple[int, int]]:
        """Name of an index or side table in the file → (uses, last use in ms since 1970)."""
        found = {ident: list(entry) for ident, entry in self._idents.items()}
        for text, entry in list(self._texts.items()):
            _add(found, text, entry, execute)
        now_ms, now = self.clock_ms(), perf_counter()
        return {
            ident: (uses, now_ms - round((now - last) * 1000))
            for ident, (uses, last) in found.items()
        }


def _add(found: dict[str, list[Any]], text: str, entry: list[Any], execute: Execute) -> None:
    uses, last, parameters = entry
    try:
        lines = execute(f"EXPLAIN QUERY PLAN {text}", (None,) * parameters).fetchall()
    except apsw.Error:
        return  # of tables or columns that are gone
    for ident in {name for line in lines for name in idents_of(line[-1])}:
        known = found.setdefault(ident, [0, 0.0])
        known[0] += uses
        known[1] = max(known[1], last)


def idents_of(line: str) -> list[str]:
    """Indexes and side tables that a line of SQLite's plan reads."""
    index = _INDEX.search(line)
    if index is not None:
        return [index[1]]
    table = _TABLE.match(line)
    return [table[1]] if table is not None and table[1][:2] in ("m_", "f_") else []
