"""Who is inside: the lock of an engine, the session it guards, and the open transaction.

The *lock* owns the session, not a thread. While nobody else is inside, every operation uses the one
main session, whose page cache stays warm. An open transaction belongs to a (thread, asyncio task):
another task of the same thread is refused at once, because waiting for one's own thread would never
end.

A Ctrl-C may arrive after any call. The pattern around each ``acquire`` here and in the engine is
for that: between the call and the next ``try`` nothing can interrupt, and within the call the
handler asks whether the lock was taken. At the end of a block the lock is given back without any
other Python call before it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident

from homeport.core.stores import StoreSession
from homeport.drivers.held import Held
from homeport.drivers.steps import ClosedSession, current_task, refuse_closed, running
from homeport.errors import Busy, LongTransactionWarning, TransactionError


class Gate:
    """The lock and what it guards."""

    def __init__(
        self,
        session: StoreSession,
        busy_timeout_s: float,
        new_unit: Callable[[], str],
        long_transaction_s: float | None = None,
    ) -> None:
        self.busy_timeout_s = busy_timeout_s
        self.long_transaction_s = long_transaction_s
        self.held: Held | None = None
        """The open transaction of the user's."""
        self.queued: Callable[[], bool] = lambda: False
        """Do calls wait for the lock in a queue of the driver's, where no thread stands yet?"""
        self.closed = False
        self.forked = False
        self._new_unit = new_unit
        self._main = session
        # An RLock that is never entered twice: only its memory of the owning thread is wanted.
        self._lock = threading.RLock()
        self._holder = 0
        self._owner_task: object = None
        # Of each level of the open transaction: savepoint, and size of the unit before it.
        self._depths: list[tuple[int, int, int]] = []
        # A transaction of the main session may be open (also after a Ctrl-C at the wrong instant).
        self._open = False

    def orphan(self) -> object:
        """In a forked child: be closed, without a call to the session, which is the parent's →
        what must never be collected here, because that would close it."""
        session = self._main
        self.closed = self.forked = True
        self._main = ClosedSession(forked=True)
        # A thread that is not here may hold the old one for ever.
        self._lock = threading.RLock()
        self._holder = 0
        self._depths = []
        self._open = False
        return session

    def announce(self) -> None:
        """Tell who listens that something was committed."""

    # -- the lock

    def acquire(self) -> float:
        """Take the lock for this thread, within the time limit → seconds that are left of it. The
        caller releases the lock in a ``finally`` that begins right behind this call."""
        lock = self._lock
        left_s = self.busy_timeout_s
        try:
            # First without a time limit, which alone costs as much as the rest of this.
            if not lock.acquire(False):
                deadline = time.monotonic() + left_s
                if not self._wait(left_s):
                    raise Busy(  # noqa: TRY301 - _let_go finds that the lock is not ours
                        f"Another thread of this process kept the database for {left_s:g} s."
                    )
                left_s = max(0.0, deadline - time.monotonic())
            self._holder = get_ident()
            if self.closed:
                refuse_closed(forked=self.forked)
            if self._open:
                self._heal()
        except BaseException:
            self._let_go()
            raise
        return left_s

    def _wait(self, left_s: float) -> bool:
        """Wait for the lock → whether it came in time. Who keeps it for long is told of."""
        lock, held = self._lock, self.held
        deadline = time.monotonic() + left_s
        if held is not None and not held.told:
            early_s = held.left_s
            if early_s < left_s:
                if early_s > 0 and lock.acquire(timeout=early_s):
                    return True
                if self.held is held:
                    held.tell()
        return lock.acquire(timeout=max(0.0, deadline - time.monotonic()))

    def hold(self, file: str, line: int) -> None:
        """The user's transaction has begun, there."""
        if self.long_transaction_s is not None:
            self.held = Held(self.long_transaction_s, file, line)

    def unhold(self) -> None:
        """It is about to end."""
        held, self.held = self.held, None
        if held is not None and held.left_s < 0 and not held.told:
            others_wait = getattr(self._main, "others_wait", None)
            if self.queued() or (others_wait is not None and others_wait()):
                # Not even with warnings as errors may it lose what is about to be committed.
                with suppress(LongTransactionWarning):
                    held.tell()

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
        left_s = self.acquire()
        try:
            self._open = True
            session.begin("write", self._new_unit(), left_s)
            caller = sys._getframe(2)
            self.hold(caller.f_code.co_filename, caller.f_lineno)
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
            self.unhold()
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
