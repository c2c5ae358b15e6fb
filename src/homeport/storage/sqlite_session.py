"""One connection to a SQLite file: transactions, the change row, dispatch of requests.

One kept cursor, always read to its end and never nested: APSW 3.54.0 leaks cursors when two are
alive, and each leaked one slows every later statement. A statement without rows is at its end when
``execute`` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import apsw
import msgspec

from homeport.core.keys import Encoded
from homeport.core.requests import (
    Aggregate,
    Changes,
    Count,
    DeleteWhere,
    Find,
    Get,
    GetMany,
    Meta,
    Mode,
    Request,
    TxInfo,
    Write,
)
from homeport.core.textrequests import Search, Vocabulary
from homeport.errors import Closed, QuotaExceeded, StorageError, TransactionError
from homeport.storage import sql
from homeport.storage.sql import Statements
from homeport.storage.sqlite_aggregate import aggregate, register
from homeport.storage.sqlite_busy import Waiting
from homeport.storage.sqlite_care import move_log
from homeport.storage.sqlite_errors import FAULTS, other_schema, translate
from homeport.storage.sqlite_keys import publics
from homeport.storage.sqlite_log import read_changes
from homeport.storage.sqlite_quota import Quota
from homeport.storage.sqlite_read import Reads
from homeport.storage.sqlite_row import RowWriter
from homeport.storage.sqlite_text import Texts
from homeport.storage.sqlite_write import Writes

if TYPE_CHECKING:
    from homeport.core.stores import Logged
    from homeport.storage.sqlite import SQLiteStore
    from homeport.storage.sqlite_stamp import FixedStamp, LogStamp

R = TypeVar("R")

_encode_json = msgspec.json.Encoder().encode


class SQLiteSession:
    """``core.stores.StoreSession`` on one connection. Its driver's lock owns it.

    mode: of the open transaction. version: of the file's data when this session looked last.
    """

    def __init__(self, store: SQLiteStore, connection: apsw.Connection, *, readonly: bool) -> None:
        cursor = connection.cursor()
        self.store = store
        self.connection = connection
        self.execute: Callable[..., Any] = cursor.execute
        self.executemany = _draining(cursor)
        self.readonly = readonly
        self.declarations_changed = False
        self.stamp_ms = 0
        self._cursor = cursor
        self.mode: Mode | None = None
        self._closed = False
        self._full = False
        self._notes: list[tuple[Statements, Sequence[Encoded]]] = []
        self._marks: list[int] = []
        self.version = -1
        self._stamp: LogStamp | FixedStamp | None = None
        self.quota = (
            None if store.max_bytes is None else Quota(cursor.execute, store.path, store.max_bytes)
        )
        self._waiting = Waiting(store.busy_s, None if readonly else store.turn)
        connection.set_busy_handler(self._waiting)
        self.reads = Reads(connection, self.execute, store.declared, store.clock_ms)
        self.writes = Writes(self)
        self.write_row: Callable[..., bool] = RowWriter(self).write
        register(connection)
        texts = Texts(connection, self.reads)
        timed = store.declared.usage.timed
        self._answers: dict[type[Request], Callable[[Any], Any]] = {
            Get: self.reads.get,
            GetMany: self.reads.get_many,
            Find: timed(self.reads.find),
            Count: timed(self.reads.count),
            Aggregate: timed(partial(aggregate, self.reads)),
            Changes: partial(read_changes, self.reads),
            Search: timed(texts.search),
            Vocabulary: texts.vocabulary,
            Meta: self.reads.meta,
            Write: self.writes.write,
            DeleteWhere: timed(self.writes.delete_where),
        }

    @property
    def in_transaction(self) -> bool:
        return not self._closed and self.connection.in_transaction

    @property
    def stamp(self) -> LogStamp | FixedStamp | None:
        if self._stamp is None and not self._closed:
            # Few programs ask, and ctypes takes its time to load.
            from homeport.storage.sqlite_stamp import stamp_of  # noqa: PLC0415

            self._stamp = stamp_of(self.connection, self.execute)
        return self._stamp

    def answer(self, request: Request) -> Any:
        try:
            return self._answers[type(request)](request)
        except FAULTS as error:
            if self.mode != "write" and other_schema(error) and self._renewed():
                return self.answer(request)
            raise self.translated(error) from error

    def _renewed(self) -> bool:
        """Another process took an index away that a statement named: are there new statements?"""
        before = self.reads.held
        try:
            self.store.refresh(self.execute)
        except FAULTS as error:  # not even what every file of ours has: it was replaced
            raise self.translated(error) from error
        self.reads.held = self.store.declared.statements
        return self.reads.held is not before

    def translated(self, error: Exception) -> Exception:
        if self.quota is not None and isinstance(error, apsw.FullError):
            return self.quota.exceeded()
        errno = 0 if self._closed else self.connection.system_errno
        found = translate(error, self.store.path, errno)
        self._full = isinstance(found, QuotaExceeded)
        return found

    # -- transactions

    def begin(self, mode: Mode, unit: str | None = None, timeout_s: float | None = None) -> None:
        if self._closed:
            _refuse_closed()
        if self.mode is not None:
            raise TransactionError("A transaction is open in this session already.")
        try:
            if mode == "read":
                # First, so that nothing is known that the snapshot does not have.
                self.reads.held = self.store.declared.statements
                self.execute("BEGIN").fetchall()
            else:
                self.begin_write(timeout_s)
                self.stamp_ms = self.store.next_stamp()
                self.reads.tx = TxInfo(self.stamp_ms, unit)
        except BaseException as error:
            if self.connection.in_transaction:
                self.execute("ROLLBACK").fetchall()
            if isinstance(error, FAULTS):
                raise self.translated(error) from error
            raise
        self.mode = mode
        self.reads.pinned = True

    def begin_write(self, timeout_s: float | None) -> dict[str, Statements]:
        """Take the write lock → the statements of all tables. The caller rolls back on an error."""
        if self.readonly:
            self.store.refuse_write()
        waiting = self._waiting
        waiting.timeout_s = self.store.busy_s if timeout_s is None else timeout_s
        if self._full:
            self._full = False
            move_log(self.execute)
        waiting.begin(self.execute)
        # Moves when another connection has committed, which the BEGIN has just noticed.
        version = self.connection.data_version()
        if version != self.version:
            self.store.refresh(self.execute)
            self.version = version
        if self.quota is not None:
            self.quota.begin()
        held = self.reads.held = self.writes.statements = self.store.declared.statements
        return held

    def others_wait(self) -> bool:
        """Does another process stand in line for the write lock?"""
        turn = self.store.turn
        return turn is not None and turn.wanted()

    @contextmanager
    def alone(self) -> Iterator[Callable[..., Any]]:
        """A write transaction for the store's own work on the form of the file, which no document
        changes in."""
        if self.readonly:
            self.store.refuse_write()
        execute = self.execute
        self._waiting.timeout_s = self.store.busy_s
        self._waiting.begin(execute, politely=True)
        try:
            yield execute
            execute("COMMIT").fetchall()
        except BaseException:
            if self.in_transaction:
                execute("ROLLBACK").fetchall()
                # Whatever was taken back, the schema in memory is read anew.
                execute("PRAGMA writable_schema=RESET").fetchall()
            raise

    def commit(self) -> None:
        if self.mode != "write":
            self._finish("COMMIT")
            return
        if not self.connection.in_transaction:
            self._forget()
            raise StorageError(
                "SQLite has rolled the transaction back when a statement in it failed.",
                action="Repeat the whole transaction.",
            )
        try:
            logged = self._log_changes() if self._notes else None
            self.execute("COMMIT")
            # Our own commits move it too; what moves it from here on are the commits of others.
            self.version = self.reads.version = self.connection.data_version()
        except FAULTS as error:
            self.rollback()
            raise self.translated(error) from error
        except BaseException:
            self.rollback()
            raise
        if logged is not None:
            self.store.logged = logged
        declared = self.declarations_changed
        self._forget()
        if declared:
            self.store.refresh(self.execute, force=True)

    def rollback(self) -> None:
        self._finish("ROLLBACK")

    def _finish(self, statement: str) -> None:
        try:
            if not self._closed and self.connection.in_transaction:
                self.execute(statement).fetchall()
        except FAULTS as error:
            raise self.translated(error) from error
        finally:
            self._forget()

    def _forget(self) -> None:
        self.mode = None
        self._notes = []
        self._marks.clear()
        self.declarations_changed = False
        self.reads.tx = None
        self.reads.pinned = False

    @property
    def writing(self) -> bool:
        """Is a write transaction open, in SQLite too?"""
        return self.mode == "write" and self.connection.in_transaction

    def within(self, work: Callable[[], R]) -> R:
        """Run a write: in its own transaction when none is open, else so that it leaves nothing
        behind when it fails half way."""
        if self.mode is None:
            self.begin("write")
            try:
                result = work()
                self.commit()
            except BaseException:
                self.rollback()
                raise
            return result
        if self.mode == "read":
            raise TransactionError("A write inside a read transaction.")
        if not self.connection.in_transaction:
            raise TransactionError(
                "SQLite has rolled this transaction back when a statement in it failed.",
                action="Let the error leave the transaction, then repeat the whole of it.",
            )
        # No savepoint: SQLite would copy every page the write touches, a third of a bulk write.
        # Drivers have one open around each operation of a larger transaction; a caller without
        # one loses the whole transaction, never keeps half of a write.
        before = self.connection.total_changes()
        try:
            return work()
        except BaseException:
            if (
                not self._marks
                and self.connection.total_changes() != before
                and self.connection.in_transaction
            ):
                self.execute("ROLLBACK").fetchall()
            raise

    def savepoint(self) -> int:
        depth = len(self._marks)
        self._run(f"SAVEPOINT s{depth}")
        self._marks.append(len(self._notes))
        return depth

    def release(self, depth: int) -> None:
        self._run(f"RELEASE s{depth}")
        del self._marks[depth:]

    def rollback_to(self, depth: int) -> None:
        self._run(f"ROLLBACK TO s{depth}")
        self._run(f"RELEASE s{depth}")
        del self._notes[self._marks[depth] :]
        del self._marks[depth:]

    def _run(self, statement: str) -> None:
        try:
            self.execute(statement).fetchall()
        except FAULTS as error:
            raise self.translated(error) from error

    # -- the change row

    def note(self, statements: Statements, keys: Sequence[Encoded]) -> None:
        """Remember which documents this transaction changed."""
        if keys:
            self._notes.append((statements, keys))

    def _log_changes(self) -> Logged | None:
        if len(self._notes) == 1:
            statements, keys = self._notes[0]
            if not statements.tracked:
                return None
            body: dict[str, Any] = {statements.name: self._logged(keys)}
        else:
            merged: dict[str, dict[Encoded, None]] = {}
            for statements, keys in self._notes:
                if statements.tracked:
                    merged.setdefault(statements.name, {}).update(dict.fromkeys(keys))
            if not merged:
                return None
            body = {name: self._logged(list(keys)) for name, keys in merged.items()}
        text = _encode_json(body).decode()
        self.execute(sql.LOG_CHANGE, (self.stamp_ms, text))
        number = self.connection.last_insert_rowid()
        if number % sql.CHANGES_PRUNE_EVERY == 0:
            self.execute(sql.PRUNE_CHANGES, (number - sql.CHANGES_KEPT,)).fetchall()
        return number, body

    def _logged(self, keys: Sequence[Encoded]) -> list[Any] | None:
        if len(keys) > sql.CHANGE_KEYS_MAX:
            return None
        return publics(keys)

    # -- the rest

    def purge(self, statements: Statements, limit: int) -> int:
        """Delete expired rows of one collection in a transaction of its own."""
        return self.within(lambda: self.writes.purge(statements, limit))

    def interrupt(self) -> None:
        self.connection.interrupt()

    def close(self) -> None:
        """Roll back what is open and close the connection; silent when it is closed already."""
        if self._closed:
            return
        self._closed = True
        self._answers = dict.fromkeys(self._answers, _refuse_closed)
        self.write_row = _refuse_closed
        if self._stamp is not None:
            self._stamp.close()
        try:
            if self.connection.in_transaction:
                self.execute("ROLLBACK").fetchall()
            if not self.readonly:
                # Statistics for SQLite's planner, where tables have grown; never worth a wait.
                self._waiting.timeout_s = 0
                self.execute("PRAGMA optimize").fetchall()
        except (apsw.Error, StorageError):
            pass  # what was not committed is gone with the connection
        self._cursor.close(force=True)
        self.store.forget(self)
        self.connection.close()


def _refuse_closed(*_: object) -> NoReturn:
    raise Closed("The database is closed.")


def _draining(cursor: apsw.Cursor) -> Callable[[str, Any], None]:
    executemany = cursor.executemany

    def run(text: str, rows: Any) -> None:
        executemany(text, rows).fetchall()

    return run
