"""Homeport: the offline-first database for Python.

An indexed document store in one file, that queues what is written offline and syncs it with your
team's PostgreSQL. Begin with ``hp.Collection`` and ``hp.open``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from homeport import agg, errors
from homeport._blocking.badges import Badges
from homeport._blocking.database import Database
from homeport._blocking.documents import Documents
from homeport._blocking.livequery import LiveQuery
from homeport._blocking.optimistic import OptimisticUpdate
from homeport._blocking.queries import Query
from homeport.badges import AsyncBadges
from homeport.core.advisor import IndexAdvice, SlowQuery
from homeport.core.badges import BadgeChange
from homeport.core.entries import ExportReport
from homeport.core.fallbacks import Fallback, MovedUp, Replaced
from homeport.core.hits import Hit, Hits
from homeport.core.indexing import IndexProgress
from homeport.core.indexstats import IndexStats, OptimizeReport
from homeport.core.keyforms import AnyKey as Key
from homeport.core.layers import Layer
from homeport.core.livechange import Edit, LiveChange
from homeport.core.liverows import LiveRows
from homeport.core.loading import LoadProgress, LoadReport
from homeport.core.mergetypes import Counter, ListOf, Max, Min, SetOf, Text
from homeport.core.metadata import DocumentMeta
from homeport.core.misfits import Misfit
from homeport.core.paging import Page
from homeport.core.patching import REMOVE
from homeport.core.query import Condition, F, fields
from homeport.core.quotawatch import QuotaNotice
from homeport.core.relations import Included, Many, One
from homeport.core.resultcache import CacheStats
from homeport.core.schema import MANUAL, Collection, FullText, Index, Multi, Synced, Unique
from homeport.core.storageinfo import CleanupReport, StorageInfo
from homeport.database import AsyncDatabase
from homeport.documents import AsyncDocuments
from homeport.drivers.subscription import Subscription
from homeport.errors import (
    BulkError,
    Busy,
    HomeportError,
    InvalidDocument,
    InvalidQuery,
    KeyExists,
    LoadFailed,
    NotFound,
    NotUnique,
    TransactionError,
    UniqueViolation,
    UnknownCollection,
    UnknownField,
    ValidationFailed,
)
from homeport.ids import new_id
from homeport.livequery import AsyncLiveQuery
from homeport.making import rekey
from homeport.opening import open, open_async  # noqa: A004 - hp.open reads as it should
from homeport.optimistic import AsyncOptimisticUpdate
from homeport.queries import AsyncQuery
from homeport.transactions import Tx
from homeport.version import __version__ as __version__

if TYPE_CHECKING:
    from homeport._blocking.replication import Sync
    from homeport.replication import AsyncSync

__all__ = [
    "MANUAL",
    "REMOVE",
    "AsyncBadges",
    "AsyncDatabase",
    "AsyncDocuments",
    "AsyncLiveQuery",
    "AsyncOptimisticUpdate",
    "AsyncQuery",
    "AsyncSync",
    "BadgeChange",
    "Badges",
    "BulkError",
    "Busy",
    "CacheStats",
    "CleanupReport",
    "Collection",
    "Condition",
    "Counter",
    "Database",
    "DocumentMeta",
    "Documents",
    "Edit",
    "ExportReport",
    "F",
    "Fallback",
    "FullText",
    "Hit",
    "Hits",
    "HomeportError",
    "Included",
    "Index",
    "IndexAdvice",
    "IndexProgress",
    "IndexStats",
    "InvalidDocument",
    "InvalidQuery",
    "Key",
    "KeyExists",
    "Layer",
    "ListOf",
    "LiveChange",
    "LiveQuery",
    "LiveRows",
    "LoadFailed",
    "LoadProgress",
    "LoadReport",
    "Many",
    "Max",
    "Min",
    "Misfit",
    "MovedUp",
    "Multi",
    "NotFound",
    "NotUnique",
    "One",
    "OptimisticUpdate",
    "OptimizeReport",
    "Page",
    "Query",
    "QuotaNotice",
    "Replaced",
    "SetOf",
    "SlowQuery",
    "StorageInfo",
    "Subscription",
    "Sync",
    "Synced",
    "Text",
    "TransactionError",
    "Tx",
    "Unique",
    "UniqueViolation",
    "UnknownCollection",
    "UnknownField",
    "ValidationFailed",
    "agg",
    "errors",
    "fields",
    "new_id",
    "open",
    "open_async",
    "rekey",
]


def __getattr__(name: str) -> Any:
    # The network side is loaded by programs that sync, not by every import.
    if name == "Sync":
        from homeport._blocking.replication import Sync  # noqa: PLC0415

        return Sync
    if name == "AsyncSync":
        from homeport.replication import AsyncSync  # noqa: PLC0415

        return AsyncSync
    raise AttributeError(f"module 'homeport' has no attribute {name!r}")
