"""Opening connections: is the place usable, the file ours, each pragma what was asked for?"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote as url_quote

import apsw

from homeport.errors import Corrupted, FileTooNew, StorageError
from homeport.storage import sql
from homeport.storage.secret import Secret
from homeport.storage.sqlite_busy import Waiting, patiently
from homeport.storage.sqlite_key import moved, refused, unlock
from homeport.storage.sqlite_packing import register

WAL_STOP_PAGES = 8_000
"""The write-ahead log is moved into the file at this size at the latest (32 MB), else when idle."""

PAGE_BYTES = 4096

WAL_KEPT_BYTES = 64 * 1024 * 1024
STATEMENT_CACHE = 256
FULL = 2


class Opener:
    """Makes connections to one file, all alike."""

    def __init__(
        self,
        path: str,
        *,
        synchronous: int,
        readonly: bool,
        busy_s: float,
        cache_kib: int,
        max_pages: int | None = None,
        secret: Secret | None = None,
    ) -> None:
        self.path = path
        self._secret = secret
        self.readonly = readonly
        self._synchronous = synchronous
        self._busy_s = busy_s
        self._cache_kib = cache_kib
        self._max_pages = max_pages
        self._immutable = False
        self._file: tuple[int, int] | None = None

    def connect(self, *, query_only: bool) -> apsw.Connection:
        """A connection that is ready to use; raises typed errors and ``apsw.Error``."""
        if self._file is not None:
            self._same_file()
        connection = self._connect(query_only=query_only)
        if self._file is None:
            self._file = _identity(self.path)
        return connection

    def _same_file(self) -> None:
        """Is what lies at the path still what the other connections have open? Reading one file
        and writing another would be silent; a file that was moved away must not be made anew."""
        found = _identity(self.path)
        if found != self._file:
            raise StorageError(
                f"{self.path} was {'replaced' if found else 'deleted or renamed'} while it was "
                "open here.",
                action="Close this database and open it again; replace a file while it is closed.",
                path=self.path,
            )

    def _connect(self, *, query_only: bool) -> apsw.Connection:
        if not self.readonly:
            flags = apsw.SQLITE_OPEN_READWRITE | (0 if self._file else apsw.SQLITE_OPEN_CREATE)
            return self._prepared(self.path, flags, query_only=query_only)
        if not self._immutable:
            try:
                return self._prepared(self.path, apsw.SQLITE_OPEN_READONLY, query_only=True)
            except (apsw.CantOpenError, apsw.ReadOnlyError):
                # The log needs a shared-memory file beside it; on a medium that takes none, nobody
                # can be writing either, unless a log was left there.
                if _size(self.path + "-wal"):
                    raise
                self._immutable = True
        name = f"file:{url_quote(os.path.abspath(self.path))}?immutable=1"  # noqa: PTH100 (a text)
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        return self._prepared(name, flags, query_only=True)

    def _prepared(self, name: str, flags: int, *, query_only: bool) -> apsw.Connection:
        return patiently(lambda: self._opened(name, flags, query_only=query_only), self._busy_s)

    def _opened(self, name: str, flags: int, *, query_only: bool) -> apsw.Connection:
        while True:
            salt: list[bytes] = []
            try:
                return self._connected(name, flags, salt, query_only=query_only)
            except apsw.NotADBError as error:
                if salt and moved(self.path, salt[0]):
                    continue  # another process made the file in this moment, with its own salt
                reason = refused(self.path, self._secret)
                if reason is None:
                    raise
                raise reason from error

    def _connected(
        self, name: str, flags: int, salt: list[bytes], *, query_only: bool
    ) -> apsw.Connection:
        connection = apsw.Connection(name, flags=flags, statementcachesize=STATEMENT_CACHE)
        try:
            if self._secret is not None:
                salt.append(unlock(connection, self.path, self._secret))
            connection.set_busy_handler(Waiting(self._busy_s))
            # A name that is no column is an error, never a text; and a statement is not compiled
            # anew for each value because statistics exist (a third of a short query).
            connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
            connection.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            register(connection, self.path)
            cursor = connection.cursor()
            self._identify(cursor)
            self._set_pragmas(cursor, query_only=query_only)
            if not self.readonly:
                self._initialise(connection, cursor)
            if self._max_pages is not None:
                # Kept by the connection, not by the file; never below what the file has already.
                cursor.execute(f"PRAGMA max_page_count={self._max_pages}").fetchall()
            cursor.close()
        except BaseException:
            connection.close(True)
            raise
        return connection

    def _identify(self, cursor: apsw.Cursor) -> None:
        """Before anything is written to it: is this file ours, and of a format that we know?"""
        # In one snapshot: another process may be making the database at this very moment.
        cursor.execute("BEGIN")
        try:
            version: int = cursor.execute("PRAGMA user_version").get
            application: int = cursor.execute("PRAGMA application_id").get
            tables: int = cursor.execute("SELECT count(*) FROM sqlite_schema").get
        finally:
            cursor.execute("ROLLBACK")
        if application == sql.APPLICATION_ID:
            if version > sql.FORMAT:
                raise FileTooNew(
                    f"{self.path} has format {version}; this version of Homeport knows up to "
                    f"{sql.FORMAT}.",
                    path=self.path,
                )
            return
        if application or version or tables:
            raise Corrupted(
                f"{self.path} is the SQLite database of another program.",
                action="Choose another file name; this file was not touched.",
                path=self.path,
            )
        if self.readonly:
            raise Corrupted(
                f"{self.path} is empty: no database was ever made in it.",
                action="Open it once without readonly=True, or choose another file.",
                path=self.path,
            )

    def _set_pragmas(self, cursor: apsw.Cursor, *, query_only: bool) -> None:
        wanted: dict[str, int | str] = {
            "synchronous": self._synchronous,
            # Only macOS knows these two: there an fsync alone does not reach the disk.
            "fullfsync": int(self._synchronous == FULL),
            "checkpoint_fullfsync": int(self._synchronous == FULL),
            "cache_size": -self._cache_kib,
            "temp_store": 2,
            "mmap_size": 0,
            "trusted_schema": 0,
        }
        if not self.readonly:
            wanted = {"journal_mode": "wal", **wanted}
            wanted["journal_size_limit"] = WAL_KEPT_BYTES
            wanted["wal_autocheckpoint"] = WAL_STOP_PAGES
        if query_only:
            wanted["query_only"] = 1
        for name, value in wanted.items():
            # One pragma a call, read back: APSW runs a text of several only up to its first row.
            cursor.execute(f"PRAGMA {name}={value}").fetchall()
            found = cursor.execute(f"PRAGMA {name}").get
            if found is not None and found != value:
                raise StorageError(
                    f"SQLite keeps {name} at {found!r} on {self.path}; {value!r} was asked for.",
                    action="Move the file to a local disk; network folders refuse what it needs.",
                    path=self.path,
                )

    def _initialise(self, connection: apsw.Connection, cursor: apsw.Cursor) -> None:
        if cursor.execute("PRAGMA user_version").get:
            return
        cursor.execute("BEGIN IMMEDIATE").fetchall()
        try:
            if not cursor.execute("PRAGMA user_version").get:  # another process may have been first
                for statement in sql.BASE_DDL:
                    cursor.execute(statement).fetchall()
                cursor.execute(f"PRAGMA application_id={sql.APPLICATION_ID}").fetchall()
                cursor.execute(f"PRAGMA user_version={sql.PLAIN_FORMAT}").fetchall()
            cursor.execute("COMMIT").fetchall()
        except BaseException:
            if connection.in_transaction:
                cursor.execute("ROLLBACK").fetchall()
            raise


def _identity(path: str) -> tuple[int, int] | None:
    """What tells one file from another, whatever they are called; None when there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path costs more than the question
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
