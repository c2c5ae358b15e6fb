"""The SQLite store: opening a file, its pragmas, its declarations, sizes and the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

import apsw

from homeport.core.codec import Table
from homeport.core.declared import collection_of
from homeport.core.explanation import Explanation
from homeport.core.indexes import Index
from homeport.core.indexing import BUILD_ALL, Build, Duplicates, IndexProgress
from homeport.core.indexstats import IndexStats, OptimizeTask
from homeport.core.query import QueryValue
from homeport.core.schema import Collection
from homeport.core.storageinfo import StoreFacts
from homeport.core.stores import CommitStamp, Logged
from homeport.errors import CannotOpen, Closed, Corrupted, ReadOnly
from homeport.storage import sqlite_care, sqlite_schema, sqlite_stats
from homeport.storage.places import usable_path
from homeport.storage.secret import Secret, secret_of
from homeport.storage.sql import Statements
from homeport.storage.sqlite_busy import Turn
from homeport.storage.sqlite_declared import Declarations
from homeport.storage.sqlite_errors import FAULTS, translate
from homeport.storage.sqlite_explain import explain
from homeport.storage.sqlite_open import PAGE_BYTES, WAL_STOP_PAGES, Opener
from homeport.storage.sqlite_session import SQLiteSession
from homeport.storage.sqlite_usage import Usage
from homeport.storage.sqlite_verify import differing

__all__ = ["WAL_STOP_PAGES", "Durability", "SQLiteStore"]

Durability = Literal["full", "relaxed"]

SYNCHRONOUS = {"full": 2, "relaxed": 1}


class SQLiteStore:
    """``core.stores.Store`` on a file. Several stores, in several processes, may share the file.

    Args of ``open``:
        durability: ``full``, an acknowledged write survives a power cut; ``relaxed``, it survives a
            crash of the process, and a power cut may take the last moments (never the file).
        busy_timeout_s: how long a write waits for another process before ``Busy``.
        cache_mb: page cache of each connection.
        clock_ms: milliseconds since 1970.
        max_bytes: quota of the file; None = none.
        key: of an encrypted file (``sqlite_key``); None = it is not.
    """

    multiprocess = True

    def __init__(
        self,
        path: str,
        *,
        durability: Durability,
        readonly: bool,
        busy_timeout_s: float,
        cache_mb: float,
        clock_ms: Callable[[], int],
        max_bytes: int | None = None,
        key: str | bytes | Secret | None = None,
    ) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.durability: Durability = durability
        self.readonly = readonly
        self.busy_s = busy_timeout_s
        self.turn = None if readonly else Turn(path)
        self.clock_ms = clock_ms
        self.slow = Usage(clock_ms)
        self.declared = Declarations(path, self.slow, readonly=readonly)
        secret = secret_of(key)
        self.encrypted = secret is not None
        self._opener = Opener(
            path,
            synchronous=SYNCHRONOUS[durability],
            readonly=readonly,
            busy_s=self.busy_s,
            cache_kib=max(1, round(cache_mb * 1024)),
            max_pages=None if max_bytes is None else max_bytes // PAGE_BYTES,
            secret=secret,
        )
        self._sessions: list[SQLiteSession] = []
        self._spare: SQLiteSession | None = None
        self._closed = False
        self.logged: Logged | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "full",
        readonly: bool = False,
        busy_timeout_s: float = 5.0,
        cache_mb: float = 32,
        clock_ms: Callable[[], int],
        max_bytes: int | None = None,
        key: str | bytes | Secret | None = None,
    ) -> SQLiteStore:
        """Open or create a file. Raises ``CannotOpen``, ``ReadOnly``, ``Corrupted``,
        ``FileTooNew``, ``Busy``, ``KeyRequired``, ``WrongKey``."""
        if durability not in SYNCHRONOUS:
            raise CannotOpen(f"durability is 'full' or 'relaxed', not {durability!r}.")
        store = cls(
            usable_path(os.fspath(path), readonly=readonly),
            durability=durability,
            readonly=readonly,
            busy_timeout_s=busy_timeout_s,
            cache_mb=cache_mb,
            clock_ms=clock_ms,
            max_bytes=max_bytes,
            key=key,
        )
        store._spare = store.session()
        return store

    # -- connections

    def session(self, *, readonly: bool = False) -> SQLiteSession:
        """A connection of its own. The first one is the one that opened the file."""
        spare = self._spare
        if spare is not None and (not readonly or self.readonly):
            self._spare = None
            return spare
        session = self._connect(readonly=readonly)
        self._sessions.append(session)
        return session

    def _connect(self, *, readonly: bool) -> SQLiteSession:
        if self._closed:
            raise Closed("The database is closed.")
        try:
            connection = self._opener.connect(query_only=readonly or self.readonly)
        except FAULTS as error:
            raise translate(error, self.path) from error
        return SQLiteSession(self, connection, readonly=readonly or self.readonly)

    def forget(self, session: SQLiteSession) -> None:
        """A session was closed."""
        self._sessions = [one for one in self._sessions if one is not session]

    def _main(self) -> SQLiteSession:
        """The session for work of the store itself; the caller holds its driver's lock."""
        if self._closed:
            raise Closed("The database is closed.")
        for session in self._sessions:
            if not session.readonly or self.readonly:
                return session
        self._spare = self.session()
        return self._spare

    def stamp(self) -> CommitStamp | None:
        return self._main().stamp

    # -- declarations

    @property
    def statements(self) -> dict[str, Statements]:
        """Of the collections in use, as they are published; never changed in place."""
        return self.declared.statements

    @property
    def tables(self) -> dict[str, Table[Any]]:
        return self.declared.tables

    def define(self, tables: Sequence[Table[Any]], *, build: Build = BUILD_ALL) -> None:
        """Make the file follow the declarations; see ``Declarations.define``."""
        session = self._main()
        with self._translating():
            self.declared.define(session, tables, self.clock_ms(), build)

    def kept(self) -> list[Collection[Any]]:
        """The collections that the file was last opened with, by its own account."""
        with self._translating():
            texts = sqlite_schema.read_declared(self._main().execute)
        return [collection_of(name, text) for name, text in texts.items()]

    @property
    def broken(self) -> Sequence[tuple[Table[Any], Index, Duplicates]]:
        return self.declared.broken

    def refresh(self, execute: Callable[..., Any], *, force: bool = False) -> None:
        """Notice what another connection may have changed: declarations, sync, the clock."""
        self.declared.publish(execute, force=force)

    def create_index(self, table: Table[Any], index: Index) -> None:
        """Begin an index on a table in use. Like all of these, under the driver's lock."""
        if self.readonly:
            self.refuse_write()
        with self._translating():
            self.declared.create(self._main(), table, index)

    def drop_index(self, table: Table[Any], name: str) -> bool:
        if self.readonly:
            self.refuse_write()
        with self._translating():
            return self.declared.drop(self._main(), table, name)

    def build_step(self, table: Table[Any], seconds: float) -> IndexProgress | None:
        """One short transaction of what is left to build; None when nothing is."""
        if self.readonly:
            return None
        with self._translating():
            return self.declared.step(self._main(), table, seconds)

    def enforce_unique(self, table: Table[Any], name: str) -> bool:
        with self._translating():
            return self.declared.enforce(self._main(), table, name)

    def duplicates(self, table: Table[Any], name: str) -> Duplicates:
        """Beside the others: it reads a whole index."""
        with self._aside() as session:
            return self.declared.duplicates(session, table, name, self.clock_ms())

    def index_stats(self, table: Table[Any]) -> list[IndexStats]:
        """Beside the others; see ``sqlite_stats``."""
        with self._aside() as session:
            uses = self.slow.by_ident(session.execute)
            statements = self.statements[table.name]
            return sqlite_stats.index_stats(session.execute, table, statements, uses)

    def optimize_tasks(self) -> list[OptimizeTask]:
        """What is worth doing now."""
        if self.readonly:
            self.refuse_write()
        with self._translating():
            return sqlite_stats.tasks(self._main().execute, list(self.statements.values()))

    def optimize(self, task: OptimizeTask) -> bool:
        """One step of a task → is there more to do? Under the driver's lock."""
        session = self._main()
        if task.action == sqlite_stats.MOVE_LOG:
            self.checkpoint()
            return False
        with self._translating(), session.alone() as execute:
            statements = self.statements.get(task.target)
            changes = session.connection.total_changes
            return sqlite_stats.perform(execute, task, statements, changes)

    def settle_unique(self, table: Table[Any], name: str, *, unique: bool) -> None:
        with self._translating():
            self.declared.settle(self._main(), table, name, unique=unique)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except FAULTS as error:
            raise translate(error, self.path) from error

    def next_stamp(self) -> int:
        """The clock, never going back within the file; under the write lock."""
        declared = self.declared
        declared.stamp_ms = max(declared.stamp_ms, self.clock_ms())
        return declared.stamp_ms

    def refuse_write(self) -> NoReturn:
        raise ReadOnly(
            f"{self.path} is open for reading only.",
            action="Open it without readonly=True; several reads of one state are db.read() and "
            "db.snapshot().",
        )

    # -- maintenance

    @contextmanager
    def _aside(self) -> Iterator[SQLiteSession]:
        """A connection beside the others, so that no lock of the driver is needed."""
        session = self._connect(readonly=True)
        try:
            yield session
        except FAULTS as error:
            raise translate(error, self.path) from error
        finally:
            session.close()

    def explain(self, table: Table[Any], query: QueryValue, *, run: bool = False) -> Explanation:
        """How a query is answered, with SQLite's own plan. The caller holds the driver's lock."""
        try:
            reads = self._main().reads
            return explain(reads, self.statements[table.name], table, query, run=run)
        except FAULTS as error:
            raise translate(error, self.path) from error

    def check(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when nothing is."""
        with self._aside() as session:
            try:
                rows = session.execute("PRAGMA integrity_check(20)").fetchall()
            except Corrupted as error:  # it unpacks every packed document
                return [error.message]
        return [text for (text,) in rows if text != "ok"]

    def verify_text(self) -> list[str]:
        """Where full text is not what the documents hold; empty when nothing is wrong."""
        with self._aside() as session:
            session.execute("PRAGMA query_only=0").fetchall()  # for a temporary table
            session.execute("BEGIN").fetchall()
            found = [
                problem
                for name, statements in sorted(self.statements.items())
                for problem in differing(session.execute, name, statements.layout)
            ]
            session.execute("ROLLBACK").fetchall()
        return found

    def rebuild_text(self, names: Sequence[str]) -> None:
        """Begin to make the full text of collections anew. Under the driver's lock."""
        session = self._main()
        try:
            self.declared.rebuild_text(session, names)
        except apsw.Error as error:
            raise translate(error, self.path) from error

    def quota_used(self) -> tuple[int, int] | None:
        if self.max_bytes is None:
            return None
        seen = [session.quota.used_bytes for session in self._sessions if session.quota is not None]
        return max(seen, default=0), self.max_bytes

    def purge_expired(self, limit: int = 500) -> int:
        """Delete up to ``limit`` expired documents of each collection that is not synced → how
        many. Call it outside transactions, under the driver's lock."""
        if self.readonly or self._closed:
            return 0
        session, total = self._main(), 0
        for name, statements in list(self.statements.items()):
            if not statements.expiring or self.tables[name].synced:
                continue
            try:
                if session.execute(statements.expired_any, (self.clock_ms(),)).fetchall():
                    total += session.purge(statements, limit)
            except FAULTS as error:
                raise translate(error, self.path) from error
        return total

    def size(self) -> dict[str, int]:
        """→ bytes of each collection, index and part of the file; see ``sqlite_care.sizes``."""
        with self._aside() as session:
            return sqlite_care.sizes(session.execute, self.path)

    def facts(self) -> StoreFacts:
        with self._aside() as session:
            return sqlite_care.facts(session.execute, self.path, self.max_bytes)

    def prune(self, *, aggressive: bool) -> int:
        """Drop old rows of the change log → how many. Under the driver's lock."""
        session = self._main()
        return session.within(lambda: sqlite_care.prune(session.execute, aggressive=aggressive))

    def shrink(self, *, aggressive: bool) -> str | None:
        """Give free space back to the disk → why that could not be done, or None. Under the
        driver's lock, outside a transaction."""
        if self.readonly:
            self.refuse_write()
        main = self._main()
        return sqlite_care.shrink(main.connection, main.execute, self.path, aggressive=aggressive)

    def checkpoint(self) -> None:
        """Move what the log holds into the file, as far as no reader needs it there."""
        if self.readonly or self._closed:
            return
        session = self._main()
        try:
            session.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except apsw.LockedError:
            return  # inside a transaction, or another connection is at it
        except FAULTS as error:
            raise translate(error, self.path) from error

    def close(self) -> None:
        """Close every session. The last connection to the file leaves no log behind."""
        if self._closed:
            return
        self._closed = True
        for session in reversed(self._sessions):
            session.close()
        self._spare = None
        if self.turn is not None:
            self.turn.close()
