"""The records of replication inside the file: queue entries, bases, and the queue's own counters.

They live in ordinary (never synced) collections and named values of the same file, so that they are
written in the transaction of the data they speak of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from homeport.core import diff
from homeport.core.codec import Row, Table
from homeport.core.indexes import Multi
from homeport.core.keys import encode, encode_key
from homeport.core.schema import Collection
from homeport.core.wire import ABSENT, RESOLUTIONS, present

OUTBOX: Final = Table(
    Collection("_outbox", indexes=["ref", "unit"], sync=False, track_changes=False)
)
BASE: Final = Table(Collection("_base", sync=False, track_changes=False))
CONFLICTS: Final = Table(Collection("_conflicts", indexes=["unit", "ref"], sync=False))
DEAD: Final = Table(Collection("_dead", indexes=[Multi("refs")], sync=False))
INTEGRITY: Final = Table(Collection("_integrity", sync=False))
STAGED: Final = Table(Collection("_staged", sync=False, track_changes=False))
ACKED: Final = Table(
    Collection("_acked", indexes=["at_ms", "client"], sync=False, track_changes=False)
)
LAYERS: Final = Table(Collection("_layers", indexes=["state", "ended_ms"], sync=False))
SIGNS: Final = Table(Collection("_signs", sync=False))
"""Rows that are written anew whenever something moves that badges show and no document tells."""
RESOLUTION_LOG: Final = Collection(RESOLUTIONS)

LOCAL_TABLES: Final[tuple[Table[Any], ...]] = (
    OUTBOX,
    BASE,
    CONFLICTS,
    DEAD,
    INTEGRITY,
    STAGED,
    ACKED,
    LAYERS,
    SIGNS,
)
"""The bindings that the plans of this package name; they never leave the device."""

SYSTEM: Final[tuple[Collection[Any], ...]] = (
    *(table.collection for table in LOCAL_TABLES),
    RESOLUTION_LOG,
)
"""Collections that every file has; the facade defines them beside the user's own."""

# Named values of the file.
META_OUTBOX = "sync.outbox"
META_COLLECTIONS = "sync.collections"
META_BINDING = "sync.binding"
META_CLIENT = "sync.client"
META_CURSOR = "sync.cursor"
META_HOLDS = "sync.holds"
META_POLICIES = "sync.policies"
META_UNKNOWN = "sync.unknown"
META_NUMBER = "sync.number"
META_IN_FLIGHT = "sync.in_flight"
META_STAGED = "sync.staged"
META_RETRY = "sync.retry"
META_LEASE = "sync.lease"
META_ADOPT = "sync.adopt"
META_LAST = "sync.last"
META_ACKED = "sync.acked"
META_VERIFIED = "sync.verified"
META_FORMER = "sync.former"
META_RETIRED = "sync.retired"
META_VERSIONS = "sync.versions"
META_LAYERS = "sync.layers"
META_SUBSCRIBED = "sync.subscribed"

Op = Literal["put", "patch", "delete"]


class Entry(msgspec.Struct, omit_defaults=True):
    """One queued change of one document.

    put: ``doc`` is the whole document (``was`` the one it replaced, if any). patch: ``set``,
    ``unset`` and ``old`` as in ``core.diff``. delete: ``was`` is the text that went. ``unit`` None
    is a unit of one. ``at``: commit stamp, ms. held: a conflict waits for a person. adopt: existed
    before replication was enabled. tries: how often the server answered ``conflict``. layer: of an
    optimistic update (``core.layers``); an ``open`` one is shown and not sent.
    """

    id: int
    ref: str
    collection: str
    key: str
    op: Op
    at: int
    unit: str | None = None
    doc: msgspec.Raw = ABSENT
    set: dict[str, Any] = {}
    unset: list[str] = []
    old: dict[str, Any] = {}
    was: msgspec.Raw = ABSENT
    adopt: bool = False
    held: bool = False
    tries: int = 0
    layer: Literal["", "open", "committed"] = ""

    @property
    def unit_id(self) -> str:
        """Name of the unit on the wire; a unit of one is named after its entry."""
        return self.unit if self.unit is not None else f"e{self.id}"

    @property
    def patch(self) -> diff.Patch:
        return diff.Patch(self.set, self.unset, self.old)


class Base(msgspec.Struct, omit_defaults=True):
    """What the server had of a document that has queued entries.

    known False: token and bucket still stand on the document's row (nothing came from the server
    since the first local edit, and the row was not deleted).
    """

    id: str
    collection: str
    key: str
    doc: msgspec.Raw = ABSENT
    known: bool = False
    token: str | None = None
    bucket: str | None = None


class QueueState(msgspec.Struct, array_like=True):
    """Counters of the queue, read and written by every captured write.

    next: id of the next entry (never reused, so that ids order the queue). frozen: entries up to
    this id may be in the batch in flight, and are not touched. last: document of the newest entry.
    adopting: collections whose older documents are not all queued yet.
    """

    next: int = 1
    queued: int = 0
    frozen: int = 0
    limit: int = 100_000
    last: str = ""
    adopting: list[str] = []


_entry = msgspec.json.Decoder(Entry)
_base = msgspec.json.Decoder(Base)
_state = msgspec.json.Decoder(QueueState)
encoder: Final = msgspec.json.Encoder()


def ref_of(collection: str, key: str) -> str:
    """Name of a document across collections (collection names hold no slash)."""
    return f"{collection}/{key}"


def read_entry(text: str) -> Entry:
    return _entry.decode(text)


def read_base(text: str) -> Base:
    return _base.decode(text)


def read_state(text: str | None) -> QueueState:
    return QueueState() if text is None else _state.decode(text)


def write_json(value: object) -> str:
    return encoder.encode(value).decode()


def raw(text: str | None) -> msgspec.Raw:
    return ABSENT if text is None else msgspec.Raw(text.encode())


def text_of(body: msgspec.Raw) -> str | None:
    return bytes(body).decode() if present(body) else None


def parsed(body: msgspec.Raw) -> Any:
    """The document, None when there is none."""
    return msgspec.json.decode(body) if present(body) else None


def entry_rows(entries: Sequence[Entry]) -> list[Row]:
    """Rows of ``_outbox``: (id, text, ref, unit), in the order of the table's columns."""
    return [(e.id, encoder.encode(e).decode(), encode(e.ref), encode(e.unit)) for e in entries]


def base_rows(bases: Sequence[Base]) -> list[Row]:
    return [(encode_key(b.id), encoder.encode(b).decode()) for b in bases]


def record_row(table: Table[Any], record: dict[str, Any]) -> Row:
    """A row of a plain system table."""
    return (
        encode_key(record["id"]),
        diff.dump(record),
        *(encode(record.get(path)) for path in table.codec.columns),
    )
