"""The requests of full text, and what answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from homeport.core.requests import Request

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.keys import Key
    from homeport.core.query import QueryValue
    from homeport.core.ranking import TextSearch


class Search(Request):
    """Ranked full text → ``Found``, best first.

    query: its condition and its offset hold, its order and its predicates do not. limit: None = all
    that are ranked.
    """

    __slots__ = ("limit", "query", "search", "table")

    def __init__(
        self, table: Table[Any], search: TextSearch, query: QueryValue, limit: int | None
    ) -> None:
        self.table = table
        self.search = search
        self.query = query
        self.limit = limit


class Found:
    """Answer of ``Search``. entries: (key, JSON text, score); total: documents that were ranked;
    capped: more were found than could be ranked."""

    __slots__ = ("capped", "entries", "total")

    def __init__(self, entries: list[tuple[Key, str, float]], total: int, *, capped: bool) -> None:
        self.entries = entries
        self.total = total
        self.capped = capped


class Vocabulary(Request):
    """Words of the full text from ``low`` to below ``high``, at most ``limit``, in the order of
    code points → list of (word, documents that hold it in any field)."""

    __slots__ = ("high", "limit", "low", "table")

    def __init__(self, table: Table[Any], low: str, high: str, limit: int) -> None:
        self.table = table
        self.low = low
        self.high = high
        self.limit = limit
