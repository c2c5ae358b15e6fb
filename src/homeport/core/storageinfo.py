"""What a database takes and may take: the answer of ``db.storage_info()``, the report of a
clean-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from homeport.core.codec import Table
from homeport.core.loading import unfinished
from homeport.core.query import EMPTY
from homeport.core.requests import Count, Operation, Plan

NEAR_LIMIT: Final = 0.8
"""From this part of its limit on, a database is near it."""

TOTAL: Final = "total"
_FREE: Final = "homeport.free"
_LOG: Final = "homeport.log"


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What only the store knows. disk_free: bytes, None where there is no disk. loads: the marks of
    named bulk loads that have not come to their end. persistent: see ``StorageInfo``."""

    engine: str
    engine_version: str
    format: int
    max_bytes: int | None
    disk_free: int | None
    loads: Sequence[tuple[str, str]] = ()
    persistent: bool | None = None
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class CollectionUsage:
    """One collection.

    Attributes:
        documents: how many are alive.
        bytes: of its documents and all its indexes.
        indexes: name → bytes; ``key`` is the index of the document keys.
    """

    name: str
    documents: int
    bytes: int
    indexes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class UnfinishedLoad:
    """A bulk load that was interrupted: call it again with ``resume=name``. taken: documents of its
    source that are dealt with."""

    collection: str
    name: str
    taken: int


@dataclass(frozen=True, slots=True)
class StorageInfo:
    """A database and what it takes; all sizes in bytes.

    Attributes:
        path: of the file, ``":memory:"`` for none.
        engine, engine_version, format, version: what stores it; the format of the file; the version
            of Homeport that is running.
        total_bytes: of all its files on the disk.
        used_bytes: what holds something: without free pages and the log.
        free_bytes: pages inside the file that wait to be used again.
        log_bytes: the write-ahead log, beyond what will become pages.
        system_bytes: the library's own: outbox, bases, conflicts, change log, declarations.
        max_bytes: the quota given to ``open``, None = none.
        limit_bytes: how large it can get: the quota, or what the disk (the browser) has room for;
            None = unknown.
        near_limit: is it at 80 % of that or more?
        collections: the user's own, by name.
        unfinished_loads: named bulk loads that were interrupted.
        persistent: in a browser: does it promise to keep this site's data (``browser.persist()``)?
            None elsewhere, and when it does not say.
        fallback: why the documents are kept elsewhere than in IndexedDB; None when they are not.
    """

    path: str
    engine: str
    engine_version: str
    format: int
    version: str
    total_bytes: int
    used_bytes: int
    free_bytes: int
    log_bytes: int
    system_bytes: int
    max_bytes: int | None
    limit_bytes: int | None
    near_limit: bool
    collections: tuple[CollectionUsage, ...]
    unfinished_loads: tuple[UnfinishedLoad, ...]
    persistent: bool | None = None
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """What a clean-up did; all sizes in bytes.

    Attributes:
        expired: documents removed because their time was over.
        changes: rows dropped from the change log.
        before_bytes, after_bytes: of all files on the disk.
        reusable_bytes: free pages that stay inside the file for what comes next.
        skipped: what could not be done now, and why.
    """

    expired: int
    changes: int
    before_bytes: int
    after_bytes: int
    reusable_bytes: int
    skipped: tuple[str, ...]

    @property
    def freed_bytes(self) -> int:
        """What the disk got back."""
        return max(0, self.before_bytes - self.after_bytes)


def count_all(tables: Sequence[Table[Any]]) -> Operation[dict[str, int]]:
    """How many documents each collection has, one snapshot."""
    return Operation(_count_all(tables), "read", False, tuple(tables))


def _count_all(tables: Sequence[Table[Any]]) -> Plan[dict[str, int]]:
    counts: dict[str, int] = {}
    for table in tables:
        counts[table.name] = yield Count(table, EMPTY)
    return counts


def assemble(
    path: str, version: str, facts: StoreFacts, sizes: Mapping[str, int], counts: Mapping[str, int]
) -> StorageInfo:
    """Put the parts together."""
    total, free, log = (sizes.get(name, 0) for name in (TOTAL, _FREE, _LOG))
    used = total - free - log
    collections = tuple(_usage(name, documents, sizes) for name, documents in counts.items())
    limit = facts.max_bytes
    if limit is None and facts.disk_free is not None:
        limit = total + facts.disk_free
    return StorageInfo(
        path=path,
        engine=facts.engine,
        engine_version=facts.engine_version,
        format=facts.format,
        version=version,
        total_bytes=total,
        used_bytes=used,
        free_bytes=free,
        log_bytes=log,
        system_bytes=used - sum(one.bytes for one in collections),
        max_bytes=facts.max_bytes,
        limit_bytes=limit,
        near_limit=limit is not None
        and (used if facts.max_bytes is not None else total) >= NEAR_LIMIT * limit,
        collections=collections,
        unfinished_loads=tuple(UnfinishedLoad(**load) for load in unfinished(facts.loads)),
        persistent=facts.persistent,
        fallback=facts.fallback,
    )


def _usage(name: str, documents: int, sizes: Mapping[str, int]) -> CollectionUsage:
    start = name + "."
    indexes = {n.removeprefix(start): size for n, size in sizes.items() if n.startswith(start)}
    return CollectionUsage(name, documents, sizes.get(name, 0) + sum(indexes.values()), indexes)
