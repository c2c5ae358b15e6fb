"""The store on a file: opening it, its pragmas, what other processes changed, its size.

WAL with ``synchronous=FULL`` by default: an acknowledged write survives a power cut. Every pragma
is set by a call of its own and read back, because APSW runs a text of several statements only to
its first row.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote as url_quote

import apsw
import msgspec

from homeport.core.requests import StoreSession
from homeport.errors import (
    CannotOpen,
    Corrupted,
    FileTooNew,
    HomeportError,
    ReadOnly,
    SchemaMismatch,
    StorageError,
)
from homeport.storage import sql
from homeport.storage.sqlite_errors import translate
from homeport.storage.sqlite_explain import explain
from homeport.storage.sqlite_schema import define_tables, stored_layout
from homeport.storage.sqlite_session import SQLiteSession

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.planner import Explanation
    from homeport.core.query import QueryValue

WAL_STOP_PAGES = 8000
"""The write-ahead log is moved into the file at this size at the latest (32 MB), else when idle."""

_LEVELS = {"full": ("FULL", 2), "relaxed": ("NORMAL", 1)}


@contextmanager
def translating(path: str) -> Iterator[None]:
    """Errors of SQLite leave as ours."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path) from error


class SQLiteStore:
    """A file of documents.

    durability ``full``: a commit is on the disk when it returns; ``relaxed``: a power cut may take
    the last commits, never the consistency of the file. Times in s, ``cache_mb`` per connection.
    """

    multiprocess = True

    def __init__(
        self,
        path: str,
        *,
        durability: Literal["full", "relaxed"],
        readonly: bool,
        busy_timeout_s: float,
        cache_mb: int,
        clock_ms: Callable[[], int],
    ) -> None:
        self.path = path
        self.durability = durability
        self.readonly = readonly
        self.busy_ms = int(busy_timeout_s * 1000)
        self.cache_mb = cache_mb
        self.clock_ms = clock_ms
        self.epoch: str | None = None
        self.tables: dict[str, Table[Any]] = {}
        self.statements: dict[str, sql.Statements] = {}
        self._sessions: list[SQLiteSession] = []
        self._immutable = False

    @classmethod
    def open(
        cls,
        path: str,
        *,
        durability: Literal["full", "relaxed"] = "full",
        readonly: bool = False,
        busy_timeout_s: float = 5.0,
        cache_mb: int = 32,
        clock_ms: Callable[[], int],
    ) -> SQLiteStore:
        """Open or create the file. Raises ``CannotOpen``, ``ReadOnly``, ``Corrupted``,
        ``FileTooNew`` or ``Busy``; a file that is refused is not touched."""
        store = cls(
            path,
            durability=durability,
            readonly=readonly,
            busy_timeout_s=busy_timeout_s,
            cache_mb=cache_mb,
            clock_ms=clock_ms,
        )
        store._check_place()
        session = store.session()
        try:
            with translating(path):
                store._identify(session)
        finally:
            session.close()
        return store

    def _check_place(self) -> None:
        """The reasons that SQLite sums up as "unable to open", one by one."""
        folder = os.path.dirname(os.path.abspath(self.path))
        if os.path.isdir(self.path):
            raise CannotOpen(f"{self.path} is a folder.", action="Name a file in it.")
        if not os.path.isdir(folder):
            raise CannotOpen(f"The folder {folder} does not exist.", action="Create it first.")
        if os.path.exists(self.path):
            if not os.access(self.path, os.R_OK):
                raise CannotOpen(
                    f"{self.path} cannot be read by this user.",
                    action="Give this user read access.",
                )
            if self.readonly or os.access(self.path, os.W_OK):
                return
            raise ReadOnly(f"{self.path} cannot be written by this user.")
        if self.readonly:
            raise CannotOpen(
                f"{self.path} does not exist, and readonly=True creates nothing.",
                action="Check the name.",
            )
        if not os.access(folder, os.W_OK):
            raise ReadOnly(f"{self.path} cannot be created: its folder cannot be written.")

    # -- connections

    def session(self, *, readonly: bool = False) -> SQLiteSession:
        """A new connection; ``readonly`` for readers beside the writer."""
        with translating(self.path):
            session = SQLiteSession(self, self._connect(query_only=readonly or self.readonly))
        self._sessions.append(session)
        return session

    def forget(self, session: StoreSession) -> None:
        self._sessions = [one for one in self._sessions if one is not session]

    def _connect(self, *, query_only: bool) -> apsw.Connection:
        if not self.readonly:
            flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
            connection = apsw.Connection(self.path, flags=flags, statementcachesize=200)
        else:
            connection = self._connect_readonly()
        try:
            self._prepare(connection, query_only=query_only)
        except BaseException:
            connection.close(True)
            raise
        return connection

    def _connect_readonly(self) -> apsw.Connection:
        if not self._immutable:
            connection = apsw.Connection(
                self.path, flags=apsw.SQLITE_OPEN_READONLY, statementcachesize=200
            )
            try:
                connection.execute("PRAGMA schema_version").fetchall()
            except apsw.CantOpenError:
                # WAL needs a shared-memory file beside it; on a medium that takes none, nobody
                # can be writing either.
                connection.close(True)
                self._immutable = True
            else:
                return connection
        return apsw.Connection(
            f"file:{url_quote(os.path.abspath(self.path))}?immutable=1",
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
            statementcachesize=200,
        )

    def _prepare(self, connection: apsw.Connection, *, query_only: bool) -> None:
        connection.set_busy_timeout(self.busy_ms)
        cursor = connection.cursor()

        def pragma(name: str, value: object, expect: object) -> None:
            cursor.execute(f"PRAGMA {name}={value}").fetchall()
            found = cursor.execute(f"PRAGMA {name}").get
            if found != expect:
                raise StorageError(
                    f"SQLite keeps {name} at {found!r} on {self.path}; {expect!r} was asked for.",
                    action="Move the file to a local disk; network folders refuse what it needs.",
                )

        if query_only:
            pragma("query_only", 1, 1)
        else:
            if connection.readonly("main"):
                raise ReadOnly(f"{self.path} cannot be written by this user.")
            self._refuse_foreign(cursor)
            pragma("journal_mode", "wal", "wal")
            pragma("wal_autocheckpoint", WAL_STOP_PAGES, WAL_STOP_PAGES)
        name, number = _LEVELS[self.durability]
        pragma("synchronous", name, number)
        pragma("cache_size", -1024 * self.cache_mb, -1024 * self.cache_mb)
        pragma("temp_store", "MEMORY", 2)
        pragma("mmap_size", 0, 0)
        cursor.close()

    def _refuse_foreign(self, cursor: apsw.Cursor) -> None:
        """Before anything is written to it: is it ours, or empty?"""
        application = cursor.execute("PRAGMA application_id").get
        version = cursor.execute("PRAGMA user_version").get
        if application == sql.APPLICATION_ID:
            if version > sql.FORMAT:
                raise FileTooNew(
                    f"{self.path} has format {version}; this version of Homeport reads up to "
                    f"{sql.FORMAT}."
                )
            return
        tables = cursor.execute("SELECT count(*) FROM sqlite_schema").get
        if application or version or tables:
            raise Corrupted(
                f"{self.path} is an SQLite database of another program.",
                action="Name a file of Homeport; this one was not touched.",
            )

    def _identify(self, session: SQLiteSession) -> None:
        execute = session.execute
        if self.readonly:
            self._refuse_foreign(session.cursor)
            if execute("PRAGMA application_id").get != sql.APPLICATION_ID:
                raise Corrupted(f"{self.path} is empty: no database was ever made in it.")
            self.epoch = execute(sql.GET_META, ("epoch",)).get
            return
        if execute("PRAGMA application_id").get != sql.APPLICATION_ID:
            execute("BEGIN IMMEDIATE")
            # Another process may have been first.
            if execute("PRAGMA application_id").get != sql.APPLICATION_ID:
                for statement in sql.BASE_DDL:
                    execute(statement)
                execute(f"PRAGMA user_version={sql.FORMAT}")
                execute(f"PRAGMA application_id={sql.APPLICATION_ID}")
            execute("COMMIT")
        try:
            self.epoch = execute(sql.GET_META, ("epoch",)).get
        except apsw.SQLError as error:
            raise Corrupted(f"{self.path} lacks its table of names ({error}).") from error

    # -- declarations

    def define(self, tables: Sequence[Table[Any]]) -> None:
        """Create the tables of these declarations, or make the file follow them: new indexes are
        built, dropped ones removed. Raises ``SchemaMismatch`` when the key field differs."""
        session = self._sessions[0] if self._sessions else self.session()
        with translating(self.path):
            define_tables(self, session, tables)

    def refresh(self, session: SQLiteSession) -> None:
        """Another process changed declarations or enabled replication: follow, inside the write
        transaction that noticed it."""
        self.epoch = session.execute(sql.GET_META, ("epoch",)).get
        self.load_flags(session)
        for name, statements in self.statements.items():
            if stored_layout(session, name) != statements.layout:
                self.epoch = None  # so that the next write meets the same answer
                raise SchemaMismatch(
                    f"Another process changed the indexes of {name!r} in {self.path}.",
                    action="Close the database and open it with the same declaration as that "
                    "process; nothing was written.",
                )

    def load_flags(self, session: SQLiteSession) -> None:
        text = session.execute(sql.GET_META, ("sync.collections",)).get
        names = set(msgspec.json.decode(text)) if text else set()
        for table in self.tables.values():
            table.synced = table.name in names

    # -- care

    def explain(self, table: Table[Any], query: QueryValue) -> Explanation:
        """How a query is answered. Opens a connection of its own."""
        session = self.session(readonly=True)
        try:
            with translating(self.path):
                return explain(session, table, query)
        finally:
            session.close()

    def size(self) -> dict[str, int]:
        """Bytes: ``total`` (with the write-ahead log), and one entry per table and index."""
        session = self.session(readonly=True)
        try:
            with translating(self.path):
                rows = session.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name")
                sizes = {name: size for name, size in rows.fetchall()}
        finally:
            session.close()
        total = sum(
            os.path.getsize(self.path + end)
            for end in ("", "-wal")
            if os.path.exists(self.path + end)
        )
        return {"total": total, **sizes}

    def check(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when nothing is."""
        session = self.session(readonly=True)
        try:
            with translating(self.path):
                rows = session.execute("PRAGMA integrity_check(20)").fetchall()
        finally:
            session.close()
        return [text for (text,) in rows if text != "ok"]

    def purge_expired(self, limit: int) -> int:
        """Remove expired documents (never of synced collections: there the server deletes) → how
        many. Called under the lock, outside a transaction."""
        tables = [
            table
            for table in self.tables.values()
            if table.collection.ttl_s is not None and not table.synced
        ]
        if not tables or not self._sessions:
            return 0
        session = self._sessions[0]
        removed = 0
        for table in tables:
            removed += session.purge(table, limit)
        return removed

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file as far as no reader needs it."""
        if self.readonly or not self._sessions:
            return
        try:
            self._sessions[0].connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            return  # somebody else does it
        except apsw.Error as error:
            raise translate(error, self.path) from error

    def close(self) -> None:
        """Close what is open. SQLite moves the log into the file when the last one goes."""
        for session in list(self._sessions):
            try:
                session.close()
            except HomeportError:
                if session.connection.in_transaction:
                    raise
