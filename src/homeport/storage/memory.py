"""The store in memory: the readable reference, for tests and for data that need not last.

Rows live in dictionaries; every query walks all rows and asks ``core.evaluate``. A transaction
notes how to undo each step. One session at a time is inside (the driver's lock); nothing here
survives the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from sys import version
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from homeport.core.advisor import SlowQueries, advice
from homeport.core.explanation import Explanation, access_words, condition_words
from homeport.core.indexing import BUILD_ALL, Build
from homeport.core.keys import Encoded, Key, decode
from homeport.core.loading import META_LOAD
from homeport.core.operations import unfiltered
from homeport.core.planner import conjuncts
from homeport.core.requests import Delete, Find, Write
from homeport.core.storageinfo import StoreFacts
from homeport.errors import SchemaMismatch
from homeport.storage.memory_indexes import MemoryIndexes
from homeport.storage.memory_session import MemorySession, StoredRow
from homeport.storage.memory_text import Rows

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.indexes import Index
    from homeport.core.indexing import Duplicates, IndexProgress
    from homeport.core.indexstats import IndexStats, OptimizeTask
    from homeport.core.query import QueryValue
    from homeport.core.stores import Logged


CHANGES_LEFT = 100


class MemoryStamp:
    """``core.stores.CommitStamp``: the number of commits."""

    def __init__(self, store: MemoryStore) -> None:
        self.lock = threading.Lock()
        self._store = store

    def read(self) -> int:
        """Under the lock."""
        return self._store.commits

    def commits(self, stamp: int) -> int:
        return stamp


class MemoryStore:
    """Documents of one process."""

    multiprocess = False
    broken = ()  # nothing is synced before it is declared

    def __init__(self, *, clock_ms: Callable[[], int], max_bytes: int | None = None) -> None:
        self.clock_ms = clock_ms
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self.tables: dict[str, Table[Any]] = {}
        self.rows: dict[str, dict[Encoded, StoredRow]] = {}
        self.indexes = MemoryIndexes()
        self.slow = SlowQueries(perf_counter, clock_ms)
        self.meta: dict[str, str] = {"epoch": "1"}
        self.log: list[tuple[int, dict[str, list[Key] | None]]] = []
        self.head = 0
        self.commits = 0
        self.stamp_ms = 0
        self._stamp = MemoryStamp(self)
        self._main: MemorySession | None = None

    def session(self, *, readonly: bool = False) -> MemorySession:
        """A readonly session sees what is committed now, for ever; nothing may be open."""
        if readonly:
            return MemorySession(self._frozen())
        session = MemorySession(self)
        if self._main is None:
            self._main = session
        return session

    def _frozen(self) -> MemoryStore:
        store = MemoryStore(clock_ms=self.clock_ms)
        store.tables = self.tables
        store.rows = {name: dict(rows) for name, rows in self.rows.items()}
        store.meta, store.log, store.head = dict(self.meta), list(self.log), self.head
        return store

    @property
    def logged(self) -> Logged | None:
        return self.log[-1] if self.log else None

    def stamp(self) -> MemoryStamp:
        return self._stamp

    def define(self, tables: Sequence[Table[Any]], *, build: Build = BUILD_ALL) -> None:  # noqa: ARG002
        """Nothing is ever left to build, whatever ``build`` says."""
        for table in tables:
            known = self.tables.get(table.name)
            if known is not None and known.codec.key != table.codec.key:
                raise SchemaMismatch(
                    f"The documents of {table.name} have their key in {known.codec.key!r}, the "
                    f"declaration says {table.codec.key!r}.",
                    collection=table.name,
                )
        for table in tables:
            known = self.tables.get(table.name)
            self.tables[table.name] = table
            self._follow_words(table.name, bool(table.codec.text_paths))
            self.indexes.declare(table, known, self.rows[table.name])

    def _follow_words(self, name: str, wanted: bool) -> None:
        """The rows of a collection, such as remember their words where that is wanted."""
        rows = self.rows.setdefault(name, {})
        if wanted and not isinstance(rows, Rows):
            self.rows[name] = Rows()
            self.rows[name].update(rows)

    def create_index(self, table: Table[Any], index: Index) -> None:
        self._follow_words(table.name, index.kind == "fulltext")
        self.indexes.create(table, index, self.rows[table.name])

    def drop_index(self, table: Table[Any], name: str) -> bool:
        return self.indexes.drop(table, name, self.rows[table.name])

    def build_step(self, table: Table[Any], seconds: float) -> IndexProgress | None:  # noqa: ARG002
        """Nothing is ever left to build."""
        return None

    def enforce_unique(self, table: Table[Any], name: str) -> bool:
        return self.indexes.enforce(table, name)

    def duplicates(self, table: Table[Any], name: str) -> Duplicates:
        return self.indexes.duplicates(table, name, self.rows[table.name])

    def index_stats(self, table: Table[Any]) -> list[IndexStats]:
        return self.indexes.stats(table, self.rows[table.name])

    def optimize_tasks(self) -> list[OptimizeTask]:
        """Nothing is worth doing."""
        return []

    def optimize(self, task: OptimizeTask) -> bool:  # noqa: ARG002
        return False

    def settle_unique(self, table: Table[Any], name: str, *, unique: bool) -> None:  # noqa: ARG002
        self.indexes.settle(table, name)

    def refresh_flags(self) -> None:
        text = self.meta.get("sync.collections")
        names = set(msgspec.json.decode(text)) if text else set()
        for table in self.tables.values():
            table.synced = table.name in names

    def explain(self, table: Table[Any], query: QueryValue, *, run: bool = False) -> Explanation:
        """Every query looks at every document here, whatever is declared."""
        total = len(self.rows[table.name])
        explanation = Explanation(
            collection=table.name,
            query=query,
            access=access_words(None),
            indexes=(),
            sorts=bool(query.order),
            checked=[condition_words(item) for item in conjuncts(query.where)],
            python=True,
            estimated_rows=total,
            total_rows=total,
            engine=["the memory store looks at every document"],
            advice=advice(query, table.usable),
        )
        if not run:
            return explanation
        asked = unfiltered(query) if query.predicates else query
        start = perf_counter()
        found = self._session().answer(Find(table, asked, "entries"))
        elapsed_ms = (perf_counter() - start) * 1000
        return explanation.measured(rows=len(found), actual_rows=total, elapsed_ms=elapsed_ms)

    def _session(self) -> MemorySession:
        return self.session() if self._main is None else self._main

    def size(self) -> dict[str, int]:
        """Bytes of the JSON texts."""
        sizes = {
            name: sum(len(row.row[1].encode()) for row in rows.values())
            for name, rows in self.rows.items()
        }
        return {"total": sum(sizes.values()), **sizes}

    def check(self) -> list[str]:
        return []

    def verify_text(self) -> list[str]:
        """Nothing: the words are made from the documents whenever they are asked."""
        return []

    def rebuild_text(self, names: Sequence[str]) -> None:
        """Forget the words of these collections; the next search makes them."""
        for name in names:
            rows = self.rows[name]
            if isinstance(rows, Rows):
                rows.words = None

    def purge_expired(self, limit: int) -> int:
        """Remove expired documents → how many; never of synced collections."""
        removed = 0
        for table in self.tables.values():
            if not table.collection.expiring or table.synced or self._main is None:
                continue
            now = self.clock_ms()
            keys = [
                decode(key)
                for key, row in self.rows[table.name].items()
                if row.info.expires_ms is not None and row.info.expires_ms <= now
            ][:limit]
            if keys:
                self._main.answer(Write([Delete(table, keys)]))
            removed += len(keys)
        return removed

    def facts(self) -> StoreFacts:
        loads = [(name, text) for name, text in self.meta.items() if name.startswith(META_LOAD)]
        return StoreFacts("memory", version.split()[0], 1, self.max_bytes, None, loads)

    def prune(self, *, aggressive: bool) -> int:
        """Drop old entries of the change log → how many."""
        if not aggressive:
            return 0  # a commit does that
        before = len(self.log)
        del self.log[:-CHANGES_LEFT]
        return before - len(self.log)

    def quota_used(self) -> tuple[int, int] | None:
        return None if self.max_bytes is None else (self.used_bytes, self.max_bytes)

    def shrink(self, *, aggressive: bool) -> str | None:  # noqa: ARG002 (nothing is kept)
        """What was deleted is gone."""
        return None

    def checkpoint(self) -> None:
        """Nothing to move."""

    def close(self) -> None:
        """Nothing to keep, and no stamp is that of a commit any more."""
        self.commits = -1
