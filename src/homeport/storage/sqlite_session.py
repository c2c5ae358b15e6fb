"""One connection to a file, answering requests.

One kept cursor, always drained, never nested: apsw-sqlite3mc 3.54.0 leaks a cursor when two are
alive and the newer dies first, and every leaked one slows each later statement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import apsw
import msgspec

from homeport.core.keys import Key, decode, encode
from homeport.core.requests import (
    Changes,
    ChangeSet,
    Count,
    Delete,
    DeleteWhere,
    Find,
    Get,
    GetMany,
    Meta,
    Mode,
    PartResult,
    Put,
    Request,
    RowInfo,
    TxInfo,
    Write,
)
from homeport.errors import TransactionError, UnknownCollection
from homeport.storage import sql
from homeport.storage.sqlite_errors import translate
from homeport.storage.sqlite_find import Finder
from homeport.storage.sqlite_write import Writer, decoded

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.storage.sqlite import SQLiteStore

_to_json = msgspec.json.Encoder().encode
_read_body = msgspec.json.Decoder(dict[str, list[Any] | None]).decode


class SQLiteSession:
    """Answers requests on one connection of a ``SQLiteStore``."""

    def __init__(self, store: SQLiteStore, connection: apsw.Connection) -> None:
        self.store = store
        self.connection = connection
        self.cursor = connection.cursor()
        self.execute: Callable[..., apsw.Cursor] = self.cursor.execute
        self._statements = store.statements
        self._tx: TxInfo | None = None
        self._touched: dict[str, list[Key]] = {}
        self._marks: list[dict[str, int]] = []
        self._busy_ms = -1
        self._commits = 0
        self._find = Finder(self)
        self._write = Writer(self)
        self._answers: dict[type[Request], Callable[[Any], Any]] = {
            Get: self._get,
            GetMany: self._get_many,
            Find: lambda r: self._find.rows(self.of(r.table), r.query, r.form),
            Count: lambda r: self._find.count(self.of(r.table), r.query),
            Write: self._all_parts,
            DeleteWhere: self._delete_where,
            Changes: self._changes,
            Meta: self._meta,
        }

    # -- requests

    def answer(self, request: Request) -> Any:
        try:
            return self._answers[type(request)](request)
        except apsw.Error as error:
            raise translate(error, self.store.path) from error

    def of(self, table: Table[Any]) -> sql.Statements:
        try:
            return self._statements[table.name]
        except KeyError:
            raise UnknownCollection(f"This database was opened without {table.name!r}.") from None

    def _get(self, request: Get) -> str | None:
        st = self.of(request.table)
        key = encode(request.key)
        bound = (key, self.store.clock_ms()) if st.alive else (key,)
        text: str | None = self.execute(st.get, bound).get
        return text

    def _get_many(self, request: GetMany) -> list[str | None]:
        st = self.of(request.table)
        encoded = [encode(key) for key in request.keys]
        if any(isinstance(key, bytes) for key in encoded):  # no place in JSON
            return [self._get(Get(request.table, key)) for key in request.keys]
        text = _to_json(encoded).decode()
        bound = (self.store.clock_ms(), text) if st.alive else (text,)
        return [row[0] for row in self.execute(st.get_many, bound)]

    def _all_parts(self, request: Write) -> list[PartResult]:
        if self._tx is None:
            return self._own_transaction(lambda: self._all_parts(request))
        results: list[PartResult] = []
        for part in request.parts:
            if isinstance(part, Put):
                results.append(self._write.put(self.of(part.table), part, self._tx))
            elif isinstance(part, Delete):
                results.append(self._write.delete(self.of(part.table), part))
            else:
                self.set_meta(part.name, part.value)
                results.append(PartResult([]))
        return results

    def _delete_where(self, request: DeleteWhere) -> list[Key]:
        if self._tx is None:
            return self._own_transaction(lambda: self._delete_where(request))
        entries = self._find.rows(self.of(request.table), request.query, "entries")
        keys = [key for key, _ in entries]
        part = Delete(request.table, keys, olds=[text for _, text in entries])
        return [k for k in self._write.delete(self.of(request.table), part).keys if k is not None]

    def _own_transaction(self, body: Callable[[], Any]) -> Any:
        self.begin("write")
        try:
            result = body()
            self.commit()
        except BaseException:
            self.rollback()
            raise
        return result

    def _changes(self, request: Changes) -> ChangeSet:
        if request.after is None:
            return ChangeSet(self.execute(sql.CHANGES_HEAD).get, {})
        first, head = self.execute(sql.CHANGES_SPAN).get
        names = [table.name for table in request.tables]
        if head is None or head < request.after:
            # An emptied log counts on (AUTOINCREMENT), so this is a file from before our number.
            head = head or 0
            return ChangeSet(head, {name: [] for name in names} if head == request.after else None)
        if first > request.after + 1:
            return ChangeSet(head, None)
        keys: dict[str, dict[bytes, Key]] = {name: {} for name in names}
        for _, body in self.execute(sql.READ_CHANGES, (request.after,)).fetchall():
            for name, changed in _read_body(body).items():
                if name not in keys:
                    continue
                if changed is None:
                    return ChangeSet(head, None)
                for key in changed:
                    keys[name][_to_json(key)] = key
        return ChangeSet(head, {name: list(found.values()) for name, found in keys.items()})

    def _meta(self, request: Meta) -> str | TxInfo | RowInfo | None:
        if request.name == "tx":
            if self._tx is None:
                raise TransactionError("No write transaction is running.")
            return self._tx
        if request.name == "row":
            assert request.table is not None
            st = self.of(request.table)
            key = encode(request.key)
            bound = (key, self.store.clock_ms()) if st.alive else (key,)
            row = self.execute(st.row, bound).get
            return None if row is None else RowInfo(*row)
        value: str | None = self.execute(sql.GET_META, (request.name,)).get
        return value

    def set_meta(self, name: str, value: str | None) -> None:
        if value is None:
            self.execute(sql.DROP_META, (name,))
        else:
            self.execute(sql.SET_META, (name, value))

    def touch(self, name: str, keys: list[Any]) -> None:
        """Note changed keys for the change row of the transaction."""
        touched = self._touched.get(name)
        if touched is None:
            self._touched[name] = list(keys)
        else:
            touched += keys

    # -- transactions

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_transaction

    def begin(self, mode: Mode, unit: str | None = None, timeout_s: float | None = None) -> None:
        if mode == "read":
            self._run("BEGIN")
            return
        wait_ms = self.store.busy_ms if timeout_s is None else int(timeout_s * 1000)
        # The time left differs by a few ms at each call; only a real change is worth a call.
        if abs(wait_ms - self._busy_ms) > self.store.busy_ms // 10:
            self.connection.set_busy_timeout(wait_ms)
            self._busy_ms = wait_ms
        self._run("BEGIN IMMEDIATE")
        try:
            epoch, last = self.execute(sql.READ_EPOCH).get
            if epoch != self.store.epoch:
                self.store.refresh(self)
            now = self.store.clock_ms()
            self._tx = TxInfo(now if last is None or now > last else last, unit)
        except BaseException as error:
            self.rollback()
            if isinstance(error, apsw.Error):
                raise translate(error, self.store.path) from error
            raise

    def commit(self) -> None:
        tx = self._tx
        try:
            if self._touched and tx is not None:
                self._log(tx.stamp_ms)
            self.execute("COMMIT")
        except apsw.Error as error:
            raise translate(error, self.store.path) from error
        self._forget()

    def _log(self, stamp_ms: int) -> None:
        body = {
            name: keys if len(keys) <= sql.CHANGE_KEYS_MAX else None
            for name, keys in self._touched.items()
            if keys
        }
        if not body:
            return
        self.execute(sql.LOG_CHANGE, (stamp_ms, _to_json(body).decode()))
        self._commits += 1
        if self._commits % sql.CHANGES_PRUNE_EVERY == 0:
            head = self.execute(sql.CHANGES_HEAD).get
            self.execute(sql.PRUNE_CHANGES, (head - sql.CHANGES_KEPT,))

    def rollback(self) -> None:
        try:
            if self.connection.in_transaction:
                self.execute("ROLLBACK")
        except apsw.Error:
            # The engine rolled back by itself between the question and the statement.
            if self.connection.in_transaction:
                raise
        finally:
            self._forget()

    def _forget(self) -> None:
        self._tx = None
        if self._touched:
            self._touched = {}
        if self._marks:
            self._marks = []

    def purge(self, table: Table[Any], limit: int) -> int:
        """Remove expired documents of a table in a transaction of its own → how many."""
        st = self.of(table)
        found = self.execute(st.expired, (self.store.clock_ms(), limit)).fetchall()
        if not found:
            return 0
        part = Delete(table, [decode(key) for _, key, _ in found])
        self._own_transaction(lambda: self._write.delete(st, part))
        return len(found)

    def savepoint(self) -> int:
        depth = len(self._marks) + 1
        self._run(f"SAVEPOINT s{depth}")
        self._marks.append({name: len(keys) for name, keys in self._touched.items()})
        return depth

    def release(self, depth: int) -> None:
        self._run(f"RELEASE s{depth}")
        del self._marks[depth - 1 :]

    def rollback_to(self, depth: int) -> None:
        self._run(f"ROLLBACK TO s{depth}")
        self._run(f"RELEASE s{depth}")
        marks = self._marks[depth - 1]
        del self._marks[depth - 1 :]
        for name, keys in self._touched.items():
            del keys[marks.get(name, 0) :]

    def _run(self, text: str) -> None:
        try:
            self.execute(text)
        except apsw.Error as error:
            raise translate(error, self.store.path) from error

    def interrupt(self) -> None:
        self.connection.interrupt()

    def close(self) -> None:
        self.rollback()
        self.cursor.close(True)
        self.connection.close(True)
        self.store.forget(self)
