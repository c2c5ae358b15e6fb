"""What an export reads: the entries of a query, chunk by chunk, as often as its format needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from homeport.core.operations import KEY_ORDER, passed, position, unfiltered
from homeport.core.paths import MISSING
from homeport.core.query import QueryValue
from homeport.core.requests import Find, Operation

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.keys import Key

T = TypeVar("T")

CHUNK_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        rows: documents. bytes: size of the file. seconds: that it took. path: where it is; None
            when it went into an open file.
    """

    rows: int
    bytes: int
    seconds: float
    path: str | None


class Entries(Generic[T]):
    """The texts of the documents of a query, chunk by chunk. Asked in one snapshot, all chunks
    together are what the query was at that moment."""

    def __init__(
        self, table: Table[T], query: QueryValue, chunk_rows: int | None = CHUNK_ROWS
    ) -> None:
        """chunk_rows: None = all at once, where the next chunk could be of another state."""
        if not query.order and query.after is None:
            # Any order will do for the caller, but the next chunk has to know it.
            query = query.with_bound_order(KEY_ORDER)
        self._table = table
        self._query = query
        self._after: Any = query.after
        self._skip = query.offset
        self._left = query.limit
        self._chunk = self._rows = chunk_rows
        self._done = query.limit == 0

    def next(self) -> Operation[list[tuple[Key, str]]] | None:
        """The operation that reads the next chunk, None at the end."""
        if self._done:
            return None
        query = unfiltered(self._query).with_after(self._after)
        self._rows = self._chunk
        if not self._query.predicates:
            query = query.with_offset(self._skip)
            self._skip = 0
            limits = [rows for rows in (self._chunk, self._left) if rows is not None]
            self._rows = min(limits, default=None)
        found = Find(self._table, query.with_limit(self._rows), "entries")
        return Operation(found, "read", True, (self._table,))

    def texts(self, entries: list[tuple[Key, str]]) -> list[str]:
        """The texts of a chunk that was read, those that pass the predicates of the query."""
        if self._rows is None or len(entries) < self._rows:
            self._done = True
        elif entries:
            self._after = position(self._query, *entries[-1])
        texts = [text for _, text in entries]
        predicates = self._query.predicates
        if predicates:
            decode = self._table.codec.decode
            texts = [t for t in texts if passed(decode, predicates, t) is not MISSING]
            skipped = min(self._skip, len(texts))
            self._skip -= skipped
            texts = texts[skipped:]
        if self._left is not None:
            texts = texts[: self._left]
            self._left -= len(texts)
            self._done = self._done or not self._left
        return texts
