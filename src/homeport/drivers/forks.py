"""A forked child must not use the connections of its parent: SQLite's locks do not come along, and
two processes on one connection damage the file. So in the child every open database is closed
without a call to SQLite, and says why; opening the file there again is fine.
"""

from __future__ import annotations

import os
from weakref import WeakSet

from homeport.drivers.gate import Gate

_gates: WeakSet[Gate] = WeakSet()
_kept: list[object] = []
"""What belongs to the parent: never closed here, which would write to its file."""


def close_in_children(gate: Gate) -> None:
    """From now on, a child that is forked finds this database closed."""
    _gates.add(gate)


def _after_fork() -> None:
    _kept.extend([gate.orphan() for gate in list(_gates) if not gate.closed])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
