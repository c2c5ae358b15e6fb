"""What is known about a document beside its content."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from homeport.core.badges import SyncStatus, statuses
from homeport.core.outbox import META_CLIENT, META_LAST, ref_of
from homeport.core.requests import Meta, Operation, Plan, RowInfo
from homeport.core.versions import plain_token
from homeport.core.worker import LastSync

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.keyforms import AnyKey
    from homeport.core.keys import Key

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DocumentMeta:
    """Metadata of one document.

    Attributes:
        key: of the document.
        version: counts the writes of the document in this file, from 1.
        created, modified: times of the first and the last write in this file, UTC.
        expires: when it expires, UTC; None = never.
        checksum: SHA-256 of the stored JSON text, hexadecimal.
        size_bytes: length of that text.
        sync_status: ``local`` (its collection is not synced), ``pending`` (queued for the server),
            ``processing`` (sent, not answered), ``optimistic`` (an update of it is neither
            committed nor rolled back), ``conflict`` (waits for a decision), ``failed`` (a change of
            it is a dead letter), ``synced``.
        last_sync: when this file last heard from the server, UTC; None = never.
        device: the identity under which this file syncs; None before the first sync.
        token: the server's version of the document; None when it has none yet.
        backups: names of the backups that hold this version of the document.
    """

    key: Any
    version: int
    created: datetime
    modified: datetime
    expires: datetime | None
    checksum: str
    size_bytes: int
    sync_status: SyncStatus
    last_sync: datetime | None
    device: str | None
    token: str | None
    backups: tuple[str, ...]


def meta(table: Table[T], key: AnyKey) -> Operation[DocumentMeta | None]:
    key = table.codec.keys.into(key)
    return Operation(_meta(table, key), "read")  # of the queue, too


def _meta(table: Table[T], key: Key) -> Plan[DocumentMeta | None]:
    row: RowInfo | None = yield Meta("row", table, key)
    if row is None:
        return None
    status: SyncStatus = "local"
    if table.synced:
        status = "synced"
        name = ref_of(table.name, str(key))
        status = (yield from statuses([name]))[name]
    last: str | None = yield Meta(META_LAST)
    device: str | None = yield Meta(META_CLIENT)
    expires = row.expires_ms
    text = row.text.encode()
    return DocumentMeta(
        key=key if table.codec.keys.typed is None else table.codec.keys.typed(key),
        version=row.revision,
        created=_time(row.created_ms),
        modified=_time(row.modified_ms),
        expires=None if expires is None else _time(expires),
        checksum=sha256(text).hexdigest(),
        size_bytes=len(text),
        sync_status=status,
        last_sync=None if last is None else _time(msgspec.json.decode(last, type=LastSync).at_ms),
        device=device,
        token=plain_token(row.token),
        backups=(),
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
