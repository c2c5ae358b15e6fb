"""The engine that all drivers of a store share: one lock, one session, readers beside it.

The *lock* owns the session, not a thread. While nobody else is inside, every operation uses the one
main session, whose page cache stays warm; only a read that finds the lock taken opens a reader,
which sees the last committed state. An open transaction belongs to a (thread, asyncio task):
another task of the same thread is refused at once, because waiting for one's own thread would never
end.

A Ctrl-C may arrive after any call. The pattern around each ``acquire`` below is for that: between
the call and the next ``try`` nothing can interrupt, and within the call the handler asks whether
the lock was taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from homeport.core.requests import Operation, Store, StoreSession
from homeport.core.units import UnitOperation
from homeport.drivers.steps import (
    ClosedSession,
    current_task,
    head,
    nested,
    perform,
    read,
    refuse_closed,
    running,
    snapshot,
    step,
)
from homeport.errors import Busy, TransactionError

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.planner import Explanation
    from homeport.core.query import QueryValue

R = TypeVar("R")

PURGE_EVERY_S = 1.0
PURGE_ROWS = 500


class Engine:
    """Steps operations on one store. Every method may be called from any thread."""

    def __init__(
        self,
        store: Store,
        *,
        new_unit: Callable[[], str],
        busy_timeout_s: float = 5.0,
        expiring: bool = False,
    ) -> None:
        self.store = store
        self.busy_timeout_s = busy_timeout_s
        self._new_unit = new_unit
        self.expiring = expiring
        self._next_purge = 0.0
        self._main: StoreSession = store.session()
        self._readers: list[StoreSession] = []
        # An RLock that is never entered twice: only its memory of the owning thread is wanted.
        self._lock = threading.RLock()
        self._holder = 0
        self._owner_task: object = None
        self._depths: list[tuple[int, int, int]] = []
        # A transaction of the main session may be open (also after a Ctrl-C at the wrong instant).
        self._open = False
        self._listeners: tuple[Callable[[], None], ...] = ()
        self.closed = False

    # -- operations

    def run(self, operation: Operation[R]) -> R:
        """Step the operation to its end and return its result."""
        result = self._read(operation) if operation.mode == "read" else self._write(operation)
        finish = operation.finish
        return result if finish is None else finish(result)

    def _read(self, operation: Operation[Any]) -> Any:
        me = get_ident()
        if self._holder == me:
            return self._inside(operation)
        lock = self._lock
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

    def read_aside(self, operation: Operation[Any]) -> Any:
        """Read the last committed state on another session, whoever holds the lock."""
        if not self.store.multiprocess:
            # One session is all there is; wait for it.
            self.acquire()
            try:
                return read(self._main, operation)
            finally:
                self._holder = 0
                self._lock.release()
        try:
            reader = self._readers.pop()
        except IndexError:
            if self.closed:
                refuse_closed()
            reader = self.store.session(readonly=True)
        try:
            result = read(reader, operation)
        except BaseException:
            # It may be anywhere in its transaction; a new one costs a quarter of a millisecond.
            reader.close()
            raise
        if self.closed:
            reader.close()
        else:
            self._readers.append(reader)
        return result

    def _write(self, operation: Operation[Any]) -> Any:
        if self._holder == get_ident():
            return self._inside(operation)
        deadline = time.monotonic() + self.busy_timeout_s
        self.acquire()
        try:
            session = self._main
            self._open = True
            try:
                session.begin(
                    "write", self.unit_of(operation), max(0.0, deadline - time.monotonic())
                )
                result = perform(session, operation)
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

    # -- the lock

    def acquire(self) -> None:
        """Take the lock for this thread, within the time limit. The caller releases it in a
        ``finally`` that begins right behind this call."""
        lock = self._lock
        try:
            if not lock.acquire(timeout=self.busy_timeout_s):
                raise Busy(  # noqa: TRY301 - _let_go finds that the lock is not ours
                    f"Another thread of this process kept the database for "
                    f"{self.busy_timeout_s:g} s."
                )
            self._holder = get_ident()
            if self.closed:
                refuse_closed()
            if self._open:
                self._heal()
        except BaseException:
            self._let_go()
            raise

    def release(self) -> None:
        self._holder = 0
        self._lock.release()

    def try_acquire(self) -> bool:
        lock = self._lock
        try:
            if not lock.acquire(False):
                return False
            self._holder = get_ident()
            if self._open:
                self._heal()
        except BaseException:
            self._let_go()
            raise
        return True

    def _heal(self) -> None:
        """A Ctrl-C met the very call that was to end a transaction: end it now."""
        self._main.rollback()
        self._open = False

    def _let_go(self) -> None:
        """After an exception at ``acquire``: release the lock if this thread got it."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it was not ours
        self._holder = 0

    @property
    def held_here(self) -> bool:
        """Is this thread inside a transaction or an operation?"""
        return self._holder == get_ident()

    @property
    def taken(self) -> bool:
        return self._holder != 0

    @property
    def session(self) -> StoreSession:
        """The main session, for the holder of the lock."""
        return self._main

    def check_owner(self) -> None:
        if not self._depths:
            raise TransactionError(
                "The database was called from a function that one of its own operations is running "
                "(a unit, the function of update(), a predicate, or a model).",
                action="Inside a unit use its tx; elsewhere return from the function first.",
            )
        if self._owner_task is not current_task():
            raise TransactionError(
                "Another asyncio task of this thread has a transaction open.",
                action="Finish the transaction before the first await, or use an AsyncDatabase "
                "and `await db.run(fn)`.",
            )

    def forbid_inside(self, what: str) -> None:
        """Raise if this thread is inside a transaction: ``what`` would wait for it for ever."""
        if self.held_here:
            raise TransactionError(
                f"{what} inside a transaction would wait for that transaction to end.",
                action="Leave the transaction first.",
            )

    # -- transactions of the blocking facade

    def enter(self) -> int:
        """Begin a transaction, or a savepoint when this thread and task have one open → its level,
        1 for the outermost."""
        session = self._main
        if self._holder == get_ident():
            self.check_owner()
            info = running(session)
            level = len(self._depths) + 1
            self._depths = [*self._depths, (session.savepoint(), info.changes, info.bytes)]
            return level
        deadline = time.monotonic() + self.busy_timeout_s
        self.acquire()
        try:
            self._open = True
            session.begin("write", self._new_unit(), max(0.0, deadline - time.monotonic()))
            self._owner_task = current_task()
            self._depths = [(0, 0, 0)]
        except BaseException:
            self._end(commit=False)
            raise
        return 1

    def leave(self, level: int, *, commit: bool) -> None:
        """End the transaction of this level, which is the innermost of this thread and task."""
        if self._holder != get_ident() or len(self._depths) != level:
            raise TransactionError(
                "This transaction is not the innermost one of its thread, or is over."
            )
        self.check_owner()
        session = self._main
        if level > 1:
            depth, changes, size = self._depths[-1]
            self._depths = self._depths[:-1]
            if commit:
                session.release(depth)
            elif session.in_transaction:
                session.rollback_to(depth)
                info = running(session)
                info.changes, info.bytes = changes, size
            return
        lost = commit and not session.in_transaction
        self._end(commit=commit and not lost)
        if lost:
            raise TransactionError(
                "The engine rolled the whole transaction back when a statement in it failed "
                "(a full disk does that); nothing was written.",
                action="Let the error of that statement leave the transaction, then repeat it.",
            )
        if commit:
            self.announce()

    def abandon(self, level: int) -> None:
        """Roll back what nobody will end any more: a Ctrl-C met the end of a ``with`` block."""
        if self._holder != get_ident() or len(self._depths) < level:
            return
        if level == 1:
            self._end(commit=False)
            return
        depth = self._depths[level - 1][0]
        self._depths = self._depths[: level - 1]
        if self._main.in_transaction:
            self._main.rollback_to(depth)

    def _end(self, *, commit: bool) -> None:
        # No call may stand between the end of the transaction and that of the lock's holding:
        # a Ctrl-C could come between.
        session = self._main
        try:
            if commit:
                try:
                    session.commit()
                except BaseException:
                    session.rollback()
                    raise
            else:
                session.rollback()
            self._open = False
        finally:
            self._depths = []
            self._owner_task = None
            self._holder = 0
            self._lock.release()

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

    def explain(self, table: Table[Any], query: QueryValue) -> Explanation:
        """How the store answers a query."""
        if self.held_here:
            self.check_owner()
            explanation: Explanation = self.store.explain(table, query)
            return explanation
        return self.call(lambda: self.store.explain(table, query), "explain()")

    def on_commit(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` after each commit of this engine → a function that ends it.

        It runs in the committing thread: it may set an event and nothing else.
        """
        self._listeners = (*self._listeners, callback)

        def forget() -> None:
            self._listeners = tuple(one for one in self._listeners if one is not callback)

        return forget

    def announce(self) -> None:
        for listener in self._listeners:
            listener()

    def wait_for_change(self, after: int, timeout_s: float, poll_s: float = 0.03) -> bool:
        """Wait until something was committed after change number ``after``, by any process."""
        self.forbid_inside("Waiting for a change")
        event = threading.Event()
        forget = self.on_commit(event.set)
        deadline = time.monotonic() + timeout_s
        try:
            while self.run(head()) <= after:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                event.wait(min(remaining, poll_s))
                event.clear()
        finally:
            forget()
        return True

    def purge(self) -> None:
        """Remove some expired documents, at most once a second; the lock is held."""
        now = time.monotonic()
        if now < self._next_purge:
            return
        self._next_purge = now + PURGE_EVERY_S
        purge = getattr(self.store, "purge_expired", None)
        if purge is not None:
            purge(PURGE_ROWS)

    def close(self) -> None:
        """Close all sessions and the store; silent when it is closed already."""
        self.forbid_inside("close()")
        if self.closed:
            return
        self.acquire()
        try:
            self.closed = True
            main, self._main = self._main, ClosedSession()
            readers, self._readers = self._readers, []
            for session in (*readers, main):
                session.close()
            self.store.close()
        finally:
            self.release()
        self.announce()
