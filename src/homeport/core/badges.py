"""Badges: how each document stands with the server, and what of that has changed since.

Nothing is stored for them. They are read from the queue, the batch in flight, the conflicts and the
dead letters, in one read transaction with the change log, which names the documents to look at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from homeport.core import diff
from homeport.core.codec import Table
from homeport.core.freeze import read_in_flight
from homeport.core.keys import Key
from homeport.core.layers import read_layer
from homeport.core.outbox import (
    CONFLICTS,
    DEAD,
    LAYERS,
    META_IN_FLIGHT,
    META_RETRY,
    OUTBOX,
    SIGNS,
    Entry,
    read_entry,
    ref_of,
)
from homeport.core.query import EMPTY, AnyOf, Compare, Contains
from homeport.core.requests import Changes, ChangeSet, Find, GetMany, Meta, Operation, Plan

SyncStatus = Literal["local", "pending", "processing", "optimistic", "conflict", "failed", "synced"]
Badge = Literal[
    "local", "pending", "processing", "optimistic", "conflict", "failed", "synced", "offline"
]

CHUNK = 500


class BadgeChange(NamedTuple):
    """A document has another badge than before (``synced``, or ``local``, for one that is new)."""

    collection: str
    key: str
    badge: Badge
    before: Badge


def statuses(
    refs: Sequence[str], dead: Collection[str] | None = None
) -> Plan[dict[str, SyncStatus]]:
    """How documents of synced collections stand, by ``collection/key``. dead: the documents of
    dead letters, where the caller has them already."""
    found: dict[str, SyncStatus] = dict.fromkeys(refs, "synced")
    if not refs:
        return found
    one = len(refs) == 1
    of_these = EMPTY.and_where(Compare("ref", "==", refs[0]) if one else AnyOf("ref", list(refs)))
    entries = [read_entry(text) for text in (yield Find(OUTBOX, of_these, "texts"))]
    flying: set[int] = (yield from _in_flight()) if entries else set()
    members: dict[str, list[Entry]] = {}
    for entry in entries:
        members.setdefault(entry.ref, []).append(entry)
    for ref, queued in members.items():
        sent = not flying.isdisjoint(entry.id for entry in queued)
        found[ref] = "processing" if sent else "pending"
        if any(entry.layer == "open" for entry in queued):
            found[ref] = "optimistic"
    if dead is None and one and not entries:
        where = EMPTY.and_where(Contains("refs", refs[0])).with_limit(1)
        dead = refs if (yield Find(DEAD, where, "keys")) else ()
    elif dead is None:
        dead = yield from _letters()
    for ref in refs:
        if found[ref] == "synced" and ref in dead:
            found[ref] = "failed"
    for text in (yield Find(CONFLICTS, of_these, "texts")):
        found[diff.parse(text)["ref"]] = "conflict"
    return found


def badge(table: Table[Any], key: Key) -> Operation[Badge]:
    return Operation(_badge(table, key), "read")


def _badge(table: Table[Any], key: Key) -> Plan[Badge]:
    if not table.synced:
        return "local"
    ref = ref_of(table.name, str(key))
    status = (yield from statuses([ref]))[ref]
    return shown(status, offline=(yield Meta(META_RETRY)) is not None)


def shown(status: SyncStatus, *, offline: bool) -> Badge:
    """What waits while the server cannot be reached is offline."""
    return "offline" if offline and status in ("pending", "processing") else status


def _in_flight() -> Plan[set[int]]:
    batch = read_in_flight((yield Meta(META_IN_FLIGHT)))
    return set() if batch is None else set(batch.entries)


def _letters() -> Plan[set[str]]:
    texts: list[str] = yield Find(DEAD, EMPTY, "texts")
    return {ref for text in texts for ref in diff.parse(text)["refs"]}


class BadgeStep(NamedTuple):
    """From one state of a view to the next; changes is what the consumer gets."""

    head: int
    changes: list[BadgeChange]
    badges: dict[str, Badge]
    all: bool
    sent: set[str]
    dead: set[str]
    offline: bool


class BadgeView:
    """The badges of some collections: which documents have another than ``synced``.

    A refresh is a local pull, as that of a live query is: what the change log names since the last
    one is looked at, and nothing else. It changes nothing; the consumer takes the step when it has
    it in hand.
    """

    def __init__(self, tables: Iterable[Table[Any]]) -> None:
        self._tables = {table.name: table for table in tables}
        self._watched = [
            *(table for table in self._tables.values() if table.collection.track_changes),
            *(CONFLICTS, DEAD, LAYERS, SIGNS),
        ]
        self._now = BadgeStep(-1, [], {}, True, set(), set(), False)

    @property
    def head(self) -> int:
        """The number of the last change that the consumer has seen; -1 before the first."""
        return self._now.head

    @property
    def badges(self) -> Mapping[str, Badge]:
        """By ``collection/key``, those that are not ``synced``."""
        return self._now.badges

    def take(self, step: BadgeStep) -> list[BadgeChange]:
        """Go on to the state of a step → what is new in it."""
        badges = {} if step.all else self._now.badges
        badges.update(step.badges)
        for ref in [ref for ref, badge in step.badges.items() if badge == "synced"]:
            del badges[ref]
        self._now = step._replace(badges=badges)
        return step.changes

    def refresh(self) -> Operation[BadgeStep]:
        """→ the step to the present state."""
        return Operation(self._refresh(), "read", False, ())

    def _refresh(self) -> Plan[BadgeStep]:
        now = self._now
        first = now.head < 0
        news: ChangeSet = yield Changes(None if first else now.head, self._watched)
        keys = news.keys or {}
        signs = set(keys.get(SIGNS.name, ()))
        whole = first or news.keys is None or "adopted" in signs
        offline = (yield Meta(META_RETRY)) is not None
        dead, sent = now.dead, now.sent
        if whole or keys.get(DEAD.name):
            dead = yield from _letters()
        if whole or "in-flight" in signs:
            sent = yield from self._sent()
        if whole:
            refs = yield from self._everything(dead)
        else:
            refs = yield from self._named(keys)
            refs |= (dead ^ now.dead) | (sent | now.sent if sent != now.sent else set())
        if offline != now.offline or whole:
            refs |= now.badges.keys()
        mine = sorted(ref for ref in refs if ref.partition("/")[0] in self._tables)
        badges: dict[str, Badge] = {}
        for start in range(0, len(mine), CHUNK):
            found = yield from statuses(mine[start : start + CHUNK], dead)
            for ref, status in found.items():
                badges[ref] = shown(status, offline=offline)
        changes = []
        for ref, new in badges.items():
            before = now.badges.get(ref, "synced")
            if new != before:
                collection, _, key = ref.partition("/")
                changes.append(BadgeChange(collection, key, new, before))
        return BadgeStep(news.head, changes, badges, whole, sent, dead, offline)

    def _named(self, keys: Mapping[str, Sequence[Key]]) -> Plan[set[str]]:
        """The documents that the change log speaks of."""
        refs = {
            ref_of(name, key)
            for name, changed in keys.items()
            if name in self._tables
            for key in changed
            if isinstance(key, str)
        }
        refs |= {str(key).partition("/")[2] for key in keys.get(CONFLICTS.name, ())}
        layers = list(keys.get(LAYERS.name, ()))
        if layers:
            for text in (yield GetMany(LAYERS, layers)):
                refs.update(() if text is None else read_layer(text).documents)
        return refs

    def _sent(self) -> Plan[set[str]]:
        ids = sorted((yield from _in_flight()))
        texts = (yield GetMany(OUTBOX, ids)) if ids else ()
        return {read_entry(text).ref for text in texts if text is not None}

    def _everything(self, dead: set[str]) -> Plan[set[str]]:
        """Every document that may have a badge of its own."""
        refs, after = set(dead), 0
        while True:
            query = EMPTY.and_where(Compare("id", ">", after)).with_order("id").with_limit(CHUNK)
            texts: list[str] = yield Find(OUTBOX, query, "texts")
            entries = [read_entry(text) for text in texts]
            refs |= {entry.ref for entry in entries}
            if len(entries) < CHUNK:
                break
            after = entries[-1].id
        for text in (yield Find(CONFLICTS, EMPTY, "texts")):
            refs.add(diff.parse(text)["ref"])
        return refs
