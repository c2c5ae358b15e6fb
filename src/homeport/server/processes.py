"""Small questions about other processes, answered from ``/proc`` where there is one."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def started_at(pid: int) -> str | None:
    """When process ``pid`` started (opaque text), None when it does not run.

    A process id is reused; the pair (pid, start) is not.
    """
    fields = _stat(pid)
    if fields is None:
        return "unknown" if not _PROC.is_dir() and is_running(pid) else None
    return None if fields[0] == "Z" else fields[19]


def is_running(pid: int, *, inside: Path | None = None) -> bool:
    """Whether ``pid`` runs (a zombie does not); ``inside``: with that working directory."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    fields = _stat(pid)
    if fields is None:
        return not _PROC.is_dir()
    if fields[0] in "ZX":
        return False
    if inside is None:
        return True
    try:
        return (_PROC / str(pid) / "cwd").resolve(strict=True) == inside.resolve()
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """Children of ``pid`` and theirs; empty where there is no ``/proc``."""
    parents: dict[int, list[int]] = {}
    for entry in _PROC.glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields is not None:
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def _stat(pid: int) -> list[str] | None:
    """Fields of ``/proc/PID/stat`` from the state on (the command before it may hold anything)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()
