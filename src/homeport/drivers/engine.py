"""The engine that all drivers of a store share: it steps operations, one at a time on the main
session, and reads beside it on others.

Only a read that finds the lock taken opens a reader, which sees the last committed state; a second
connection beside the first loses its page cache at each commit. Who may be inside is said in
``gate``.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from homeport.core.requests import Changes, Lookup, Operation, RowWrite
from homeport.core.stores import CommitStamp, Store, StoreSession
from homeport.core.units import UnitOperation
from homeport.drivers.forks import close_in_children
from homeport.drivers.gate import Gate
from homeport.drivers.notify import tell
from homeport.drivers.pulse import Pulse
from homeport.drivers.steps import (
    ClosedSession,
    nested,
    perform,
    read,
    refuse_closed,
    snapshot,
    step,
)
from homeport.errors import StorageError, TransactionError

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.explanation import Explanation
    from homeport.core.query import QueryValue
    from homeport.drivers.snapshots import SnapshotRunner

R = TypeVar("R")

PURGE_EVERY_S = 1.0
PURGE_ROWS = 500
INTERRUPTED_S = 1.0
READERS_KEPT = 8
"""Sessions of readers that are kept open for the next ones."""


class Engine(Gate):
    """Steps operations on one store. Every method may be called from any thread."""

    due_ms: int | None = None
    """When the next optimistic update times out, as it was at the opening."""

    def __init__(
        self,
        store: Store,
        *,
        new_unit: Callable[[], str],
        busy_timeout_s: float = 5.0,
        expiring: bool = False,
        long_transaction_s: float | None = None,
    ) -> None:
        super().__init__(store.session(), busy_timeout_s, new_unit, long_transaction_s)
        self.store = store
        self.expiring = expiring
        self._next_purge = 0.0
        self._readers: list[StoreSession] = []
        self._reading: dict[int, tuple[StoreSession, int]] = {}  # in use, by which thread
        self._lending = threading.Lock()
        self._snapshots: dict[int, weakref.ref[SnapshotRunner]] = {}
        self._listeners: dict[object, Callable[[], None]] = {}
        self.pulse = Pulse(self)
        if store.multiprocess:
            close_in_children(self)

    def orphan(self) -> object:
        readers, self._readers = [self._readers, self._reading], []
        self._reading, self._lending = {}, threading.Lock()
        open_ones = [runner.orphan() for runner in self._open_snapshots()]
        return super().orphan(), readers, open_ones, self.store

    # -- operations

    def run(self, operation: Operation[R]) -> R:
        """Step the operation to its end and return its result."""
        if type(operation) is Lookup and not self._holder:
            # What _read does, without further calls: half of the time of a get would be theirs.
            lock = self._lock
            try:
                free = lock.acquire(False)
            except BaseException:
                self._let_go()
                raise
            if free:
                try:
                    if self._open:
                        self._heal()
                    text = self._main.answer(operation.plan)
                finally:
                    lock.release()
                found: R = operation.default if text is None else operation.decode(text)
                return found
        elif type(operation) is RowWrite and not self._holder and self._write_row(operation):
            finish, key = operation.finish, operation.row[0]
            stored: R = key if finish is None else finish(key)
            return stored
        result = self._read(operation) if operation.mode == "read" else self._write(operation)
        if type(operation) is not Operation:
            return operation.finished(result)
        finish = operation.finish
        return result if finish is None else finish(result)

    def _read(self, operation: Operation[Any]) -> Any:
        me = get_ident()
        if self._holder == me:
            return self._inside(operation)
        lock = self._lock
        # The user's code in a unit must not keep writers waiting.
        if type(operation) is UnitOperation:
            return self.read_aside(operation)
        try:
            free = lock.acquire(False)
        except BaseException:
            self._let_go()
            raise
        if not free:
            return self.read_aside(operation)
        try:
            self._holder = me
            if self._open:
                self._heal()
            if operation.single:
                return step(self._main, operation.plan)
            self._open = True
            result = snapshot(self._main, operation)
            self._open = False
            return result
        finally:
            self._holder = 0
            lock.release()

    def read_aside(
        self, operation: Operation[Any], watch: Callable[[StoreSession], StoreSession] | None = None
    ) -> Any:
        """Read the last committed state on another session, whoever holds the lock.

        watch: makes what stands before that session for this read.
        """
        if not self.store.multiprocess:
            # One session is all there is; wait for it.
            self.acquire()
            try:
                return read(self._main if watch is None else watch(self._main), operation)
            finally:
                self._holder = 0
                self._lock.release()
        reader = self._reader()
        try:
            result = read(reader if watch is None else watch(reader), operation)
        except BaseException:
            # It may be anywhere in its transaction; a new one costs a quarter of a millisecond.
            self._keep(reader, whole=False)
            raise
        self._keep(reader)
        return result

    def _reader(self) -> StoreSession:
        """Lend a session for reading."""
        with self._lending:
            if self.closed:
                refuse_closed(forked=self.forked)
            reader = self._readers.pop() if self._readers else self.store.session(readonly=True)
            self._reading[id(reader)] = reader, get_ident()
        return reader

    def _keep(self, reader: StoreSession, *, whole: bool = True) -> None:
        """Take a lent session back."""
        with self._lending:
            if whole and not self.closed and len(self._readers) < READERS_KEPT:
                self._readers.append(reader)
            else:
                reader.close()
            self._reading.pop(id(reader), None)

    # -- snapshots

    def open_snapshot(self, runner: SnapshotRunner) -> StoreSession:
        """→ a session in a read transaction that sees the state committed last."""
        self.forbid_inside("snapshot()")
        if self.store.multiprocess:
            session = self._reader()
        else:
            # It copies what is there, which nobody may change meanwhile.
            self.acquire()
            try:
                session = self.store.session(readonly=True)
            finally:
                self._holder = 0
                self._lock.release()
        try:
            session.begin("read")
            session.answer(Changes(None, ()))  # what is read first decides what is seen
            self._snapshots[id(runner)] = weakref.ref(runner)
        except BaseException:
            self._keep(session, whole=False)
            raise
        return session

    def end_snapshot(self, runner: SnapshotRunner, session: StoreSession) -> None:
        """Take back the session of a snapshot."""
        self._snapshots.pop(id(runner), None)
        try:
            session.rollback()
        except BaseException:
            self._keep(session, whole=False)
            raise
        self._keep(session, whole=self.store.multiprocess)

    def _open_snapshots(self) -> list[SnapshotRunner]:
        found = [reference() for reference in list(self._snapshots.values())]
        return [runner for runner in found if runner is not None]

    def _write_row(self, operation: RowWrite[Any]) -> bool:
        """The short way of ``_write``, while nobody else is inside; False: nothing was done."""
        lock = self._lock
        try:
            free = lock.acquire(False)
        except BaseException:
            self._let_go()
            raise
        if not free:
            return False
        try:
            self._holder = get_ident()
            if self._open:
                self._heal()
            self._open = True
            done = self._main.write_row(operation.table, operation.row, self.busy_timeout_s)
            if done and self.expiring:
                self.purge()
            self._open = False
        finally:
            self._holder = 0
            lock.release()
        if done and self._listeners:
            self.announce()
        return done

    def _write(self, operation: Operation[Any]) -> Any:
        if self._holder == get_ident():
            return self._inside(operation)
        left_s = self.acquire()
        try:
            session = self._main
            self._open = True
            try:
                if type(operation) is UnitOperation:
                    session.begin("write", self.unit_of(operation), left_s)
                    result = self.perform(session, operation)
                else:
                    session.begin("write", None, left_s)
                    result = step(session, operation.plan)
                session.commit()
            except BaseException:
                session.rollback()
                self._open = False
                raise
            if self.expiring:
                self.purge()
            self._open = False
        finally:
            self._holder = 0
            self._lock.release()
        if self._listeners:
            self.announce()
        return result

    def _inside(self, operation: Operation[Any]) -> Any:
        """This thread holds the lock already: its open transaction, or code of an operation."""
        self.check_owner()
        return nested(self._main, operation)

    def perform(self, session: StoreSession, operation: Operation[Any]) -> Any:
        """Step an operation in the open transaction; of a unit it is known how long it keeps it."""
        if not isinstance(operation, UnitOperation):
            return perform(session, operation)
        self.hold(*operation.place)
        try:
            return perform(session, operation)
        finally:
            self.unhold()

    def unit_of(self, operation: Operation[Any]) -> str | None:
        """The id of the unit that an operation is, None for a single operation."""
        return self._new_unit() if isinstance(operation, UnitOperation) else None

    # -- around operations

    def call(self, fn: Callable[[], R], what: str) -> R:
        """Run ``fn`` under the lock, outside any transaction."""
        self.forbid_inside(what)
        self.acquire()
        try:
            return fn()
        finally:
            self._holder = 0
            self._lock.release()

    def _end_reading(self, left_s: float) -> None:
        """Wait for the reads of other threads."""
        deadline = time.monotonic() + left_s
        interrupted = False
        while self._reading:
            if time.monotonic() >= deadline:
                if interrupted:
                    return  # it runs the user's code: its session goes when that is done
                for session, _ in list(self._reading.values()):
                    session.interrupt()
                interrupted, deadline = True, time.monotonic() + INTERRUPTED_S
            time.sleep(0.001)

    def explain(self, table: Table[Any], query: QueryValue, *, run: bool = False) -> Explanation:
        """How the store answers a query."""

        def ask() -> Explanation:
            explanation: Explanation = self.store.explain(table, query, run=run)
            return explanation

        if self.held_here:
            self.check_owner()
            return ask()
        return self.call(ask, "explain()")

    def stamp(self) -> CommitStamp | None:
        """What tells cheaply that something was committed; None where the engine has no such
        thing."""
        return self.call(self.store.stamp, "A look at the stamp")

    def on_commit(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` after each commit of this engine → a function that ends it.

        It runs in the committing thread: it may set an event and nothing else. See ``notify``.
        """
        # A dict, because one operation adds and one removes: garbage collection may call forget()
        # in the middle of anything.
        name = object()
        self._listeners[name] = callback

        def forget() -> None:
            self._listeners.pop(name, None)

        return forget

    def announce(self) -> None:
        tell(self._listeners)

    def purge(self) -> None:
        """Remove some expired documents, at most once a second; the lock is held."""
        now = time.monotonic()
        if now < self._next_purge:
            return
        self._next_purge = now + PURGE_EVERY_S
        with suppress(StorageError):  # the caller's write stands; what has expired can wait
            self.store.purge_expired(PURGE_ROWS)

    def close(self) -> None:
        """Close all sessions and the store; silent when it is closed already.

        It waits for what is running: for a transaction until ``Busy``, for reads of other threads
        as long, then they are interrupted.
        """
        self.forbid_inside("close()")
        if self.closed:
            return
        for runner in self._open_snapshots():
            runner.end()
        if any(thread == get_ident() for _, thread in list(self._reading.values())):
            raise TransactionError(
                "close() was called from a function that db.read() is running.",
                action="Return from the function first.",
            )
        left_s = self.acquire()
        try:
            self.closed = True
            for runner in self._open_snapshots():
                runner.end()
            self._end_reading(left_s)
            main, self._main = self._main, ClosedSession()
            readers, self._readers = self._readers, []
            for session in (*readers, main):
                session.close()
            self.store.close()
        finally:
            self._holder = 0
            self._lock.release()
        self.announce()
