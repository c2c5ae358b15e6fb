"""Ids that sort by the time they were made: UUID version 7, monotonic within a process."""

from __future__ import annotations

import os
import threading
import time

_lock = threading.Lock()
_last = 0
_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_LOW_62 = (1 << 62) - 1


def new_id() -> str:
    """A UUIDv7 as text, later than every one this process made before.

    48 bits of milliseconds, 12 bits of their fraction (counting on when two ids meet in the same
    1/4096 ms or the clock goes back), 62 random bits.

    As a model's default: ``id: str = msgspec.field(default_factory=hp.new_id)``.
    """
    global _last  # noqa: PLW0603 - one clock per process is the meaning of monotonic
    nanoseconds = time.time_ns()
    ticks = (nanoseconds // 1_000_000) << 12 | (nanoseconds % 1_000_000) * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") & _LOW_62
    with _lock:
        if ticks <= _last:
            ticks = _last + 1
        _last = ticks
    number = (ticks >> 12) << 80 | _VERSION | (ticks & 0xFFF) << 64 | _VARIANT | random
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _after_fork() -> None:
    # The lock may have been held by a thread that does not exist in the child.
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
