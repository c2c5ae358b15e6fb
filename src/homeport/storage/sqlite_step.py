"""One short step of what is being built in a collection: full text, other indexes, and the removal
of full text and side tables that are read no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeport.storage import sqlite_build, sqlite_textbuild
from homeport.storage.sql_layout import Layout

Execute = Callable[..., Any]


class BuildStep:
    """Taken inside a write transaction.

    names: indexes that are being built. rows: documents taken. pages: of full text that it was
    allowed to merge, if that is what it did. done, total: how far it has come.
    changed: ``layout`` has to be stored, and every other connection must notice.
    """

    def __init__(
        self, execute: Execute, executemany: Execute, collection: str, layout: Layout
    ) -> None:
        self.execute = execute
        self.executemany = executemany
        self.collection = collection
        self.layout = layout
        self.names = tuple(layout.building)
        self.rows = self.pages = self.done = self.total = 0
        self.changed = False

    def take(self, limit: int, pages: int) -> None:
        """At most so many rows, or merge at most so many pages of full text."""
        layout = self.layout
        if layout.next_text is not None:
            self._take_text(limit, pages)
        elif layout.building:
            self._take_rows(limit)
        elif layout.old_texts:
            before = len(layout.old_texts)
            self.rows = sqlite_textbuild.sweep(self.execute, self.collection, layout, limit)
            self.changed = len(layout.old_texts) != before
        elif layout.old_sides:
            self.rows = sqlite_build.sweep(self.execute, layout, limit)
            self.changed = self.rows < limit

    def _take_text(self, limit: int, pages: int) -> None:
        filler = sqlite_textbuild.TextFiller(
            self.execute, self.executemany, self.collection, self.layout
        )
        position = filler.position()
        filler.begin(position)
        if position.to_merge:
            self.pages = pages
            done = filler.merge(position, pages) and position.filled
        else:
            self.rows = filler.step(position, limit)
            done = False
        self.done, self.total = position.seq, position.last
        if done:
            sqlite_textbuild.finish(self.execute, self.collection, self.layout)
            self.done, self.changed = position.last, True

    def _take_rows(self, limit: int) -> None:
        filler = sqlite_build.Filler(self.execute, self.executemany, self.collection, self.layout)
        position, self.rows = filler.step(limit)
        self.done = position.seq if self.rows else position.last
        self.total = position.last
        if self.rows < limit:
            sqlite_build.finish(self.execute, self.collection, self.layout)
            self.changed = True
