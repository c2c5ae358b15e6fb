"""The quota of a SQLite file, in pages.

SQLite itself refuses to pass the whole quota (``max_page_count``), whatever writes. New documents
are refused a little before that, so that at the limit there is still room for what makes room: a
delete needs its row in the change log, its entry in the outbox, and new pages of indexes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeport.errors import QuotaExceeded
from homeport.storage.sqlite_open import PAGE_BYTES


class Quota:
    """Watches the size of one connection's transactions.

    used_bytes: as it was last seen, by the running or the last transaction.
    """

    def __init__(self, execute: Callable[..., Any], path: str, max_bytes: int) -> None:
        self._execute = execute
        self._path = path
        self._max_bytes = max_bytes
        pages = max_bytes // PAGE_BYTES
        self._limit = pages - min(1_024, max(16, pages // 32))
        self._start = 0
        self.used_bytes = 0

    def _used(self) -> int:
        pages: int = self._execute("PRAGMA page_count").get
        free: int = self._execute("PRAGMA freelist_count").get
        self.used_bytes = (pages - free) * PAGE_BYTES
        return pages - free

    def begin(self) -> None:
        """A write transaction has begun."""
        self._start = self._used()

    def check(self) -> None:
        """Documents were written: refuse them if they took the file past its limit."""
        used = self._used()
        if used > self._limit and used > self._start:
            raise self.exceeded()

    def exceeded(self) -> QuotaExceeded:
        return QuotaExceeded(
            f"{self._path} has reached its quota of {self._max_bytes:,} bytes.",
            action="Delete documents, call db.cleanup(), or open it with a larger max_bytes; "
            "everything acknowledged before is safe.",
            path=self._path,
            max_bytes=self._max_bytes,
        )
