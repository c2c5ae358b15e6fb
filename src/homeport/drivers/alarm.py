"""A clock that rings: optimistic updates that nobody commits are rolled back in time.

A timer thread; where there are no threads there is none. It is a convenience of the process that
applied the update: the moment itself is in the file, and whoever opens it, syncs it or asks for its
updates later rolls back what is due.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from homeport.errors import Closed, HomeportError

LONGEST_S = 3600.0
RETRY_S = 1.0


class Alarm:
    """Calls ``work`` at the earliest of the moments it was set to; ``work`` says the next one."""

    def __init__(self, clock_ms: Callable[[], int], work: Callable[[], int | None]) -> None:
        self._clock_ms = clock_ms
        self._work = work
        self._lock = threading.Lock()
        self._at_ms: int | None = None
        self._timer: threading.Timer | None = None
        self._over = False

    def set(self, at_ms: int | None) -> None:
        """Ring at this moment, if not earlier; None changes nothing."""
        with self._lock:
            if at_ms is None or self._over or sys.platform == "emscripten":
                return
            if self._at_ms is not None and self._at_ms <= at_ms:
                return
            self._start(at_ms)

    def _start(self, at_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at_ms = at_ms
        wait_s = min(LONGEST_S, max(0.0, (at_ms - self._clock_ms()) / 1000))
        self._timer = threading.Timer(wait_s, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        with self._lock:
            if self._over:
                return
            self._at_ms = self._timer = None
        try:
            at_ms = self._work()
        except Closed:
            return
        except HomeportError:  # busy: it is tried again
            at_ms = self._clock_ms() + int(RETRY_S * 1000)
        self.set(at_ms)

    def stop(self) -> None:
        """Ring no more; a call that is running is not waited for."""
        with self._lock:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
