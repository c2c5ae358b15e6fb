"""Replication with something else than a Homeport node: the protocol, and a shared folder.

``db.sync(backend)`` takes anything that has the three calls of ``Backend``. ``SharedFolder`` is
one, ``LogBackend`` makes one of any place for files. See the guide on other back ends.
"""

from __future__ import annotations

from homeport.core.backend import (
    Backend,
    BatchAnswer,
    ChangeBatch,
    ChangeRecord,
    ChangeUnit,
    CollectionRules,
    ConflictRecord,
    PulledChanges,
    Verdict,
    Watched,
)
from homeport.transport.logs import FileStore, LogBackend, LogReport
from homeport.transport.shared_folder import SharedFolder

__all__ = [
    "Backend",
    "BatchAnswer",
    "ChangeBatch",
    "ChangeRecord",
    "ChangeUnit",
    "CollectionRules",
    "ConflictRecord",
    "FileStore",
    "LogBackend",
    "LogReport",
    "PulledChanges",
    "SharedFolder",
    "Verdict",
    "Watched",
]
