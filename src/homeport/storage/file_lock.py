"""One process, and one open database of it, at a time: the operating system's lock on a file of its
own beside the data, which is replaced and so cannot carry one."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

from homeport.errors import Busy

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

STEP_S = 0.02


class FileLock:
    """Held from ``take`` to ``release``; the system takes it from a process that dies."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None

    @property
    def held(self) -> bool:
        return self._file is not None

    def take(self, timeout_s: float, *, shared: bool) -> None:
        """Raises ``Busy`` after the time limit, ``OSError`` when the file cannot be made."""
        deadline = time.monotonic() + timeout_s
        while not self._try(shared=shared):
            if time.monotonic() >= deadline:
                raise Busy(
                    f"{self._path.removesuffix('-lock')} is open elsewhere, in another process or "
                    "in this one, and a simple store is open once at a time.",
                    action="Close it there first, or use the ordinary storage, which many open.",
                    path=self._path,
                )
            time.sleep(STEP_S)

    def _try(self, *, shared: bool) -> bool:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _locked(file, shared=shared) or not self._names(file):
                os.close(file)
                return False
        except BaseException:
            os.close(file)
            raise
        self._file = file
        _held.add(self)
        return True

    def _names(self, file: int) -> bool:
        """Is this still the file by that name? Who released the lock has removed it."""
        try:
            return os.path.samestat(os.fstat(file), os.stat(self._path))  # noqa: PTH116
        except FileNotFoundError:
            return False

    def release(self) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        with suppress(OSError):  # others may hold it with us, or Windows: then it stays
            if sys.platform == "win32" or _locked(file, shared=False):
                Path(self._path).unlink()
        os.close(file)

    def abandon(self) -> None:
        """In a forked child: the lock is the parent's."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _locked(file: int, *, shared: bool) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        elif sys.platform == "win32":
            import msvcrt  # noqa: PLC0415

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True


_held: WeakSet[FileLock] = WeakSet()


def _after_fork() -> None:
    for lock in list(_held):
        lock.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
