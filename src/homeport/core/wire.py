"""Messages between device and node, and their version. JSON; ``docs/protocol.md`` is the text.

Document bodies stay ``Raw``: neither side parses what it only passes on. msgspec cannot decode
``Raw | None``, so an absent body is ``ABSENT`` (JSON null); ask ``present(body)``.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Raw

PROTOCOL = 1

ABSENT = Raw(b"null")
"""No body: of a deleted document, a change without one, a request without a batch."""


def present(body: Raw) -> bool:
    """Whether ``body`` holds something (decoding makes a fresh object of a JSON null)."""
    view = memoryview(body)
    return len(view) > 4 or bytes(view) not in (b"", b"null")


# Limits of one push, checked by both sides.
MAX_BATCH_CHANGES = 500
MAX_BATCH_BYTES = 1_000_000
MAX_UNIT_CHANGES = 2_000
MAX_UNIT_BYTES = 4_000_000
MAX_DOCUMENT_BYTES = 1_000_000
MAX_KEY_BYTES = 1_000
MAX_FORMER = 20
"""Former ids of one file that a request names."""

RESOLUTIONS = "_resolutions"
"""The collection of conflict records; it syncs like any other."""

Policy: TypeAlias = str
"""``merge``, ``last-write-wins``, ``local-wins``, ``remote-wins``, ``manual``, or the name of a
callable."""


class Change(msgspec.Struct, omit_defaults=True):
    """One document of a unit.

    op put: ``doc`` is the whole document. op patch: ``set`` and ``unset`` name dotted paths,
    ``old`` holds the value that each path had (a path that was missing is not in it). ``base`` is
    the version token that the change was made on, None when the document did not exist.
    """

    collection: str
    key: str
    op: Literal["put", "patch", "delete"]
    base: str | None = None
    doc: Raw = ABSENT
    set: dict[str, Any] = {}
    unset: list[str] = []
    old: dict[str, Any] = {}
    schema: int = 1
    """Version of the program's declaration of the collection."""


class Unit(msgspec.Struct):
    """Changes that are applied, rejected or held together."""

    id: str
    changes: list[Change]


class Batch(msgspec.Struct):
    """What is frozen before its first send: sent again byte for byte until it is answered."""

    number: int
    units: list[Unit]


class Verdict(msgspec.Struct, omit_defaults=True):
    """Answer to one unit. conflict: the current rows come with the next cut, ``at`` are the
    positions of the changes that clashed. retry: not applied for a passing reason."""

    unit: str
    result: Literal["applied", "conflict", "rejected", "retry"]
    code: str = ""
    message: str = ""
    at: list[int] = []


class BatchAnswer(msgspec.Struct):
    """The stored answer to a batch; sent with every cut until the next batch replaces it."""

    number: int
    hash: str
    verdicts: list[Verdict]


class Hold(msgspec.Struct):
    """What the device holds of a collection."""

    generation: int
    buckets: list[str]


class UniqueIndex(msgspec.Struct, omit_defaults=True):
    """Dotted paths whose values no two documents may share; ``multi``: the last one is a list, and
    its elements count one by one."""

    fields: list[str]
    multi: bool = False


class PullRequest(msgspec.Struct, omit_defaults=True):
    """Ask for the next page. ``position`` continues an unfinished cut. ``collections`` names what
    the device syncs, with the policy it declares; ``edit_wins`` those of them where an edit wins
    over a delete, ``fields`` their merge types by path, ``unique`` their unique indexes (a
    development node adopts all four). ``versions``: of its declarations, where they are not 1.
    ``former``: ids under which this file pushed before it was reset, ``MAX_FORMER`` at most, the
    newest last. ``verify``: collections whose sums the last page shall carry. ``repair``:
    collection → slots whose rows it shall carry.
    ``subscribed``: collection → the buckets that are asked for; all where it is not named.
    ``fetch``: collection → keys whose rows the last page shall carry although they lie in buckets
    that are not asked for."""

    cursor: str | None = None
    position: str | None = None
    holds: dict[str, Hold] = {}
    collections: dict[str, Policy] = {}
    edit_wins: list[str] = []
    fields: dict[str, dict[str, str]] = {}
    unique: dict[str, list[UniqueIndex]] = {}
    versions: dict[str, int] = {}
    former: list[str] = []
    verify: list[str] = []
    repair: dict[str, list[int]] = {}
    subscribed: dict[str, list[str]] = {}
    fetch: dict[str, list[str]] = {}


class PushRequest(msgspec.Struct, omit_defaults=True):
    """``batch`` is the frozen text; ``hash`` is the SHA-256 of its bytes, hex. Without a batch it
    is a plain pull."""

    v: int
    client: str
    pull: PullRequest
    batch: Raw = ABSENT
    hash: str = ""


class WireRow(msgspec.Struct, array_like=True):
    """The current state of a key in this cut; body ``ABSENT`` = gone for this device."""

    collection: str
    key: str
    token: str | None
    bucket: str | None
    body: Raw
    schema: int = 1
    """Version of the document's form."""


class CollectionInfo(msgspec.Struct):
    """What the server says of a collection; ``buckets`` is the scope of this user."""

    generation: int
    buckets: list[str]
    policy: Policy
    deletes: Literal["delete-wins", "edit-wins"] = "delete-wins"
    fields: dict[str, str] = {}
    """Merge types by path (``core.mergetypes``): ``counter``, ``set``, ``list:id``, ..."""


class Seen(msgspec.Struct, array_like=True):
    """What a cut holds of the server's transactions: all below ``low``, none from ``high`` on, and
    of those between all but ``open``."""

    low: int
    high: int
    open: list[int]

    def has(self, transaction: int) -> bool:
        """Does the cut hold what this transaction wrote?"""
        return transaction < self.low or (transaction < self.high and transaction not in self.open)


class Reply(msgspec.Struct, omit_defaults=True):
    """Answer to a push or a pull: one page of a cut.

    ``joined`` lists (collection, bucket) pairs whose full content this cut carries: on completion
    the device removes rows of that pair that the cut did not name. ``left`` lists pairs to remove.
    ``former``: on the last page, the last batch that the server has of each former client that was
    asked about, with number 0 where it has none. ``sums`` (``core.verify``) and ``repaired``:
    on the last page, what was asked for; all rows of a repaired slot are in this cut.
    ``more`` set: the cut goes on, send it back as ``position``; otherwise ``cursor`` is the new one
    and ``holds`` what the device holds from then on. ``batch`` is the client's last answered batch,
    read in the snapshot of this page (only to be believed on the last page). ``now_ms`` is the
    server's clock.
    """

    v: int
    now_ms: int
    rows: list[WireRow] = []
    joined: list[tuple[str, str]] = []
    left: list[tuple[str, str]] = []
    more: str | None = None
    cursor: str | None = None
    holds: dict[str, Hold] = {}
    batch: BatchAnswer | None = None
    collections: dict[str, CollectionInfo] = {}
    unknown: list[str] = []
    former: dict[str, BatchAnswer] | None = None
    sums: dict[str, dict[int, str]] = {}
    repaired: dict[str, list[int]] = {}
    seen: Seen | None = None
    """On the last page: which transactions the cut holds, to know a hint that brings no news."""
    total: int | None = None
    """Rows the whole cut is expected to carry (an estimate, for progress bars)."""


class Problem(msgspec.Struct, omit_defaults=True):
    """Body of every answer that is not 200."""

    code: str
    message: str
    retry_after_s: float | None = None


class Hello(msgspec.Struct):
    """First message of a live stream, device → node. ``since``: the ``id`` of the last message that
    it had, by whichever stream."""

    v: int
    token: str
    client: str
    collections: list[str]
    since: str | None = None


class Hint(msgspec.Struct, omit_defaults=True):
    """Node → device: something moved; ``resync`` means hints were dropped. Truth is in the pull.

    ``moved``: of a ``hint``, the transactions that wrote; empty when the node cannot name all.
    ``id``: all that moved before was told; opaque. ``quiet``: a long poll ended without news."""

    t: Literal["ready", "hint", "resync", "bye", "quiet"]
    collections: list[str] = []
    moved: list[int] = []
    id: str = ""

    def is_news(self, seen: Seen | None) -> bool:
        """Is there something in it that the last cut of this device does not hold?"""
        if self.t != "hint" or not self.moved or seen is None:
            return self.t not in ("bye", "quiet")
        return not all(map(seen.has, self.moved))
