"""Waiting for another process that writes: bounded, by growing steps with jitter, and in turn.

SQLite itself offers whoever happens to ask at the right moment the lock; a process that writes
without a pause is nearly always the one, and another may wait for seconds. So who finds the lock
taken stands in line first: one lock of one byte of the file ``-turn`` beside the database, which at
most one process holds, while it asks for the write lock in short steps. A process that never has to
wait looks there now and then, and lines up when somebody stands there. The system takes the lock
from a process that dies. Where there are no such locks, or the file cannot be made, everybody asks
in steps, and nothing else is lost.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import random
from typing import Any, TypeVar

import apsw

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

R = TypeVar("R")

FIRST_STEP_S = 0.00005
GROWTH = 1.1
LONGEST_STEP_S = 0.005
LINE_STEP_S = 0.001
OVERTAKING = 8
"""A process begins so many transactions without a look at who waits."""
PATIENCE_S = 1.0
"""Who stood in line for so long asks for the write lock all the same: a process that was forked may
keep a dead one's place."""


class Turn:
    """The line before the write lock of one file, seen by one process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None
        self._usable = fcntl is not None

    def take(self) -> bool:
        """Try to be the next → whether this process is."""
        if self._file is None and not self._open():
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        except OSError:
            return False
        return True

    def give_back(self) -> None:
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1)

    def wanted(self) -> bool:
        """Does another process stand in line?"""
        if not self.take():
            return True
        self.give_back()
        return False

    def _open(self) -> bool:
        if self._usable:
            try:
                self._file = os.open(
                    f"{self._path}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666
                )
            except OSError:
                self._usable = False
        return self._usable

    def close(self) -> None:
        """Call it when the connections are closed: the last process to go takes the file along."""
        file, self._file, self._usable = self._file, None, False
        if file is not None:
            os.close(file)
        if not Path(f"{self._path}-wal").exists():  # SQLite removes the log with the last one
            with suppress(OSError):
                Path(f"{self._path}-turn").unlink()


class Waiting:
    """The busy handler of one connection: SQLite calls it when a lock is taken.

    timeout_s: of the waits from now on.
    """

    __slots__ = ("_alone", "_beginning", "_deadline", "_in_line", "_step_s", "timeout_s", "turn")

    def __init__(self, timeout_s: float, turn: Turn | None = None) -> None:
        self.timeout_s = timeout_s
        self.turn = turn
        self._beginning = False
        self._in_line = False  # maybe: true before the lock is asked for, because of Ctrl-C
        self._alone = 0
        self._deadline = 0.0
        self._step_s = FIRST_STEP_S

    def begin(self, execute: Callable[..., Any], *, politely: bool = False) -> None:
        """Begin a write transaction; politely: behind everybody who waits already."""
        self._alone += OVERTAKING if politely else 1
        self._beginning = True
        try:
            if self._alone >= OVERTAKING and self.turn is not None:
                self._alone = 0
                self._in_line = True
                if self.turn.wanted():
                    self._deadline = time.monotonic() + self.timeout_s
                    self._line_up(self.turn)
                else:
                    self._in_line = False
            execute("BEGIN IMMEDIATE")
        finally:
            self._beginning = False
            if self._in_line and self.turn is not None:
                self.turn.give_back()
                self._in_line = False

    def __call__(self, count: int) -> bool:
        """→ whether to try again."""
        now = time.monotonic()
        if count == 0:
            self._deadline = now + self.timeout_s
            self._step_s = FIRST_STEP_S
            if self._beginning and not self._in_line and self.turn is not None:
                self._line_up(self.turn)
                return time.monotonic() < self._deadline
        left_s = self._deadline - now
        if left_s <= 0:
            return False
        time.sleep(min(left_s, _jittered(self._step_s)))
        self._step_s = min(self._step_s * GROWTH, LONGEST_STEP_S)
        return True

    def _line_up(self, turn: Turn) -> None:
        self._in_line = True
        end = min(self._deadline, time.monotonic() + PATIENCE_S)
        while not turn.take():
            left_s = end - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(left_s, _jittered(LINE_STEP_S)))


def patiently(attempt: Callable[[], R], timeout_s: float) -> R:
    """Try again what SQLite refuses without asking the busy handler: the change to a log, which
    needs the file alone, and the repair of one that a dying process left."""
    deadline = time.monotonic() + timeout_s
    step_s = FIRST_STEP_S
    while True:
        try:
            return attempt()
        except (apsw.BusyError, apsw.LockedError, apsw.ProtocolError):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise
        time.sleep(min(left_s, _jittered(step_s)))
        step_s = min(step_s * 2, LONGEST_STEP_S)


def _jittered(step_s: float) -> float:
    return step_s * (0.5 + random())  # noqa: S311 - nobody has to guess it
