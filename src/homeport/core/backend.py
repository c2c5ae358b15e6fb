"""The replication protocol for back ends that are not Homeport nodes: three calls, typed records.

Whatever keeps documents and can answer these calls can be given to ``db.sync(...)``. All that makes
replication safe on the device stays as it is with a node: the queue, frozen batches, the one door,
conflict policies (``docs/guides/other-backends.md``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from homeport.core.wire import BatchAnswer, Verdict

__all__ = [
    "Backend",
    "BatchAnswer",
    "ChangeBatch",
    "ChangeRecord",
    "ChangeUnit",
    "CollectionRules",
    "ConflictRecord",
    "PulledChanges",
    "Verdict",
    "Watched",
]


class ChangeRecord(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One document that was written or deleted.

    Attributes:
        collection, key: which document; the key is always a string.
        op: ``put``: ``document`` is the whole of it; ``patch``: only pushed, never pulled;
            ``delete``: it is gone.
        document: the content, with its key in it; None unless ``op`` is ``put``.
        set, unset, old: of a patch: dotted path → new value; paths that go away; the value that
            each of these paths had before (a path that was missing is not in ``old``).
        base: pushed: the version that the change was made on, None = there was no document.
        version: pulled: the version of this content. A text of the back end's own choice that
            never stands for another content of the same document.
    """

    collection: str
    key: str
    op: Literal["put", "patch", "delete"] = "put"
    document: dict[str, Any] | None = None
    set: dict[str, Any] = {}
    unset: list[str] = []
    old: dict[str, Any] = {}
    base: str | None = None
    version: str | None = None


class ChangeUnit(msgspec.Struct):
    """Changes that are applied together or not at all: a transaction of the user."""

    id: str
    changes: list[ChangeRecord]


class CollectionRules(msgspec.Struct, omit_defaults=True):
    """How conflicts of a collection are settled: as in ``hp.Synced``."""

    policy: str = "merge"
    deletes: Literal["delete-wins", "edit-wins"] = "delete-wins"
    fields: dict[str, str] = {}


class ChangeBatch(msgspec.Struct):
    """What a device sends at once; each document occurs at most once in it.

    Attributes:
        client: the id of the device's file.
        number: 1, 2, 3 … for each client.
        hash: names the content; the same number with the same hash is the same batch, sent again.
        units: what to apply, in this order.
        cursor: where the device stands (``PulledChanges.cursor``), None = nowhere yet.
        rules: what the device's program declares of the collections that it syncs.
    """

    client: str
    number: int
    hash: str
    units: list[ChangeUnit]
    cursor: str | None = None
    rules: dict[str, CollectionRules] = {}


class PulledChanges(msgspec.Struct):
    """What changed, as one state of the back end.

    Attributes:
        changes: of each document that changed since the asked cursor, what it is now (``put`` with
            ``version``, or ``delete``). Without a cursor: all documents.
        cursor: names this state.
        answers: of the asked clients, the last batch whose effects are in this state; a client
            without one is left out.
        rules: collections whose rules the back end has decided; the others follow the device.
    """

    changes: list[ChangeRecord]
    cursor: str
    answers: dict[str, BatchAnswer] = {}
    rules: dict[str, CollectionRules] = {}


class ConflictRecord(msgspec.Struct):
    """A pushed change that does not fit what is there now. ``current``: a ``put`` with its
    ``version``, or a ``delete`` when the document is gone."""

    change: ChangeRecord
    current: ChangeRecord


@runtime_checkable
class Backend(Protocol):
    """What ``db.sync(backend)`` needs. Called from the replication's own thread, one call at a time
    for each device.

    Any exception that is not a ``homeport.errors`` class counts as "not reachable": the device
    keeps its queue and asks again later.
    """

    async def push_changes(self, batch: ChangeBatch) -> Sequence[Verdict]:
        """Apply a batch → one verdict for each unit, by its id.

        It MUST be durable when this returns. A unit MUST be applied whole or not at all. A batch
        that was answered before MUST get the same verdicts again and change nothing. ``conflict``:
        a document is not at the ``base`` of its change, ``at`` lists the positions. ``rejected``:
        never, ``code`` and ``message`` say why. ``retry``: not now.

        Raises:
            IdentityBroken: ``number`` is neither the last one of this client nor the next.
            HistoryBroken: ``cursor`` is not known (any more); nothing was applied.
        """
        ...

    async def pull_changes(
        self, since: str | None, collections: Sequence[str], clients: Sequence[str]
    ) -> PulledChanges:
        """What changed since a cursor in these collections; all that is there for None.

        All of it MUST be one state that contains every batch answered before the call, and units
        MUST be in it whole.

        Raises:
            HistoryBroken: the cursor is not known (any more). The device begins anew and sends
                what is missing.
        """
        ...

    async def resolve_conflicts(
        self, conflicts: Sequence[ConflictRecord]
    ) -> Sequence[ChangeRecord | None]:
        """For each conflict: what shall be written in place of the change, or None = the device
        settles it by the policy of the collection (return ``[None] * len(conflicts)``).

        A unit is settled here only if all its conflicts are.
        """
        ...


@runtime_checkable
class Watched(Protocol):
    """A back end that can tell when something moved; without it the device asks by its timer."""

    def watch(self, collections: Sequence[str]) -> AsyncIterator[Mapping[str, object] | None]:
        """Yields whenever there may be something new; the values are not looked at."""
        ...
