"""The write of one row in a transaction of its own: the one that programs do most often.

It does what begin, a ``Write``, the change row and commit do, for a row that nothing else depends
on, in a third of their Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from homeport.storage import sql
from homeport.storage.sqlite_errors import FAULTS

if TYPE_CHECKING:
    from homeport.core.codec import Row, Table
    from homeport.core.stores import Logged
    from homeport.storage.sqlite_session import SQLiteSession

_encode_json = msgspec.json.Encoder().encode


class RowWriter:
    """``write_row`` of a session."""

    def __init__(self, session: SQLiteSession) -> None:
        self.session = session
        self.store = session.store
        self.connection = session.connection
        self.execute: Callable[..., Any] = session.execute

    def write(self, table: Table[Any], row: Row, timeout_s: float | None = None) -> bool:
        session, store, key = self.session, self.store, row[0]
        if (
            type(key) is not str
            or not key.isascii()
            or not store.declared.statements[table.name].plain
            or session.mode is not None
            or session.quota is not None
        ):
            return False
        execute, connection = self.execute, self.connection
        logged: Logged | None = None
        try:
            # Looked up now: the beginning notices what other processes declared.
            statements = session.begin_write(timeout_s)[table.name]
            if not statements.plain or table.synced or table.keep_unknown:
                execute("ROLLBACK")
                return False
            stamp_ms = store.next_stamp()
            execute(statements.put, (*row, stamp_ms, None))
            if statements.tracked:
                text = f"{statements.log_head}{_encode_json(key).decode()}]}}"
                execute(sql.LOG_CHANGE, (stamp_ms, text))
                number = connection.last_insert_rowid()
                if number % sql.CHANGES_PRUNE_EVERY == 0:
                    execute(sql.PRUNE_CHANGES, (number - sql.CHANGES_KEPT,)).fetchall()
                logged = number, {statements.name: [key]}
            execute("COMMIT")
            session.version = session.reads.version = connection.data_version()
        except BaseException as error:
            if session.in_transaction:
                execute("ROLLBACK")
            if isinstance(error, FAULTS):
                raise session.translated(error) from error
            raise
        if logged is not None:
            store.logged = logged
        return True
