"""Freeze the next batch: choose queued units, and keep the exact bytes before the first send.

A batch that is in flight is frozen until it is answered: the same bytes are sent again, whatever
the user writes meanwhile. A document occurs at most once in a batch; a unit waits behind an earlier
one that touches the same document, and behind a held conflict on it. All others pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from homeport.core import diff
from homeport.core.context import Tables, read_policies
from homeport.core.lifecycle import UNITS, unit_state
from homeport.core.outbox import (
    BASE,
    META_IN_FLIGHT,
    META_NUMBER,
    META_OUTBOX,
    META_POLICIES,
    META_UNKNOWN,
    OUTBOX,
    Base,
    Entry,
    base_rows,
    parsed,
    raw,
    read_base,
    read_entry,
    read_state,
    write_json,
)
from homeport.core.query import EMPTY, AnyOf, Compare
from homeport.core.requests import Find, GetMany, Meta, Plan, Put, SetMeta, Write
from homeport.core.settle import fill_token
from homeport.core.signs import sign
from homeport.core.versions import is_raised, plain_token
from homeport.core.wire import (
    ABSENT,
    MAX_BATCH_BYTES,
    MAX_BATCH_CHANGES,
    MAX_UNIT_BYTES,
    RESOLUTIONS,
    Batch,
    Change,
    CollectionInfo,
    Unit,
    present,
)

SCAN = MAX_BATCH_CHANGES
"""Entries read at a time while a batch is filled."""


class InFlight(msgspec.Struct):
    """The frozen batch. ``body`` is its text; ``entries`` are the queue entries it answers for."""

    number: int
    hash: str
    body: str
    units: list[str]
    entries: list[int]


_in_flight = msgspec.json.Decoder(InFlight)


def read_in_flight(text: str | None) -> InFlight | None:
    return None if text is None else _in_flight.decode(text)


class Frozen(msgspec.Struct):
    """What to send. fresh: frozen just now, so this is its first send."""

    batch: InFlight
    fresh: bool


def freeze(tables: Tables, *, after_reset: bool = False) -> Plan[Frozen | None]:
    """The batch in flight, or a new one, or None when nothing can be sent. A write operation.

    after_reset: the file has no cut since it was reset (``core.former``)."""
    waiting = read_in_flight((yield Meta(META_IN_FLIGHT)))
    if waiting is not None:
        return Frozen(waiting, fresh=False)
    state = read_state((yield Meta(META_OUTBOX)))
    if not state.queued or after_reset:
        return None  # after a reset, what the server lost goes first; the next cut tells
    unknown = msgspec.json.decode((yield Meta(META_UNKNOWN)) or "[]", type=list[str])
    units = yield from _choose(tables, set(unknown))
    if not units:
        return None
    number = int((yield Meta(META_NUMBER)) or "0") + 1
    body = write_json(Batch(number, [unit for unit, _ in units]))
    chosen = [entry.id for _, members in units for entry in members]
    digest = hashlib.sha256(body.encode()).hexdigest()
    batch = InFlight(number, digest, body, [unit.id for unit, _ in units], chosen)
    state.frozen = max(chosen)
    yield Write(
        [
            SetMeta(META_IN_FLIGHT, write_json(batch)),
            SetMeta(META_NUMBER, str(number)),
            SetMeta(META_OUTBOX, write_json(state)),
            sign("in-flight", number),
        ]
    )
    return Frozen(batch, fresh=True)


def _choose(tables: Tables, unknown: set[str]) -> Plan[list[tuple[Unit, list[Entry]]]]:
    policies = read_policies((yield Meta(META_POLICIES)))
    batch: list[tuple[Unit, list[Entry]]] = []
    touched: set[str] = set()
    """Documents of chosen and of passed-over units: later units on them wait."""
    seen: set[str] = set()
    after, changes, size = 0, 0, 0
    while True:
        query = EMPTY.and_where(Compare("id", ">", after)).with_order("id").with_limit(SCAN)
        texts: list[str] = yield Find(OUTBOX, query, "texts")
        if not texts:
            return batch
        entries = [read_entry(text) for text in texts]
        after = entries[-1].id
        groups = yield from _units(entries, seen)
        bases = yield from _load_bases(tables, groups)
        for members in groups:
            refs = {entry.ref for entry in members}
            free = touched.isdisjoint(refs)
            touched |= refs
            if not free or not _sendable(members, tables, unknown):
                continue
            sent = [entry for entry in members if entry.collection not in unknown]
            unit, length = _unit(sent, bases, policies, tables)
            full = (
                changes + len(unit.changes) > MAX_BATCH_CHANGES or size + length > MAX_BATCH_BYTES
            )
            if batch and full:
                return batch
            batch.append((unit, members))
            changes += len(unit.changes)
            size += length
            if full or changes >= MAX_BATCH_CHANGES:
                return batch


def _units(entries: Sequence[Entry], seen: set[str]) -> Plan[list[list[Entry]]]:
    """Whole units in the order of their first entries; a page may end, or begin, inside one."""
    named = {e.unit for e in entries if e.unit is not None and e.unit not in seen}
    whole: dict[str, list[Entry]] = {}
    if named:
        where = AnyOf("unit", sorted(named))
        for text in (yield Find(OUTBOX, EMPTY.and_where(where).with_order("id"), "texts")):
            entry = read_entry(text)
            whole.setdefault(entry.unit_id, []).append(entry)
    groups: list[list[Entry]] = []
    for entry in entries:
        if entry.unit is None:
            groups.append([entry])
        elif entry.unit not in seen:
            seen.add(entry.unit)
            groups.append(whole[entry.unit])
    return groups


def _sendable(members: Sequence[Entry], tables: Tables, unknown: set[str]) -> bool:
    """Not held, no open optimistic update, and the server knows every collection (a resolution
    record may stay behind)."""
    known = [e for e in members if e.collection not in unknown and e.collection in tables]
    left_out = all(e in known or e.collection == RESOLUTIONS for e in members)
    free = (unit_state(list(members), in_flight=False), "freeze") in UNITS
    return bool(known) and left_out and free


def _load_bases(tables: Tables, groups: Sequence[Sequence[Entry]]) -> Plan[dict[str, Base]]:
    refs = sorted({entry.ref for members in groups for entry in members})
    found: list[str | None] = yield GetMany(BASE, refs)
    bases: dict[str, Base] = {}
    learned: list[Base] = []
    for ref, text in zip(refs, found, strict=True):
        if text is None:
            collection, _, key = ref.partition("/")
            bases[ref] = Base(ref, collection, key, known=True)
            continue
        base = bases[ref] = read_base(text)
        if not base.known and base.collection in tables:
            yield from fill_token(tables[base.collection], base)
            learned.append(base)
    if learned:
        yield Write([Put(BASE, base_rows(learned))])
    return bases


def _unit(
    members: Sequence[Entry],
    bases: Mapping[str, Base],
    policies: Mapping[str, CollectionInfo],
    tables: Tables,
) -> tuple[Unit, int]:
    """The unit as it is sent, and its length."""
    name = members[0].unit_id
    named = [
        policies[e.collection].policy if e.collection in policies else "merge" for e in members
    ]
    forms = [tables[e.collection].collection.versions.current for e in members]
    each = list(zip(members, named, forms, strict=True))
    unit = Unit(name, [_change(e, bases[e.ref], policy, form) for e, policy, form in each])
    length = len(msgspec.json.encode(unit))
    if length > MAX_UNIT_BYTES:
        # Small patches of large documents, which no node would take whole.
        unit = Unit(name, [_change(e, bases[e.ref], "merge", form) for e, _, form in each])
        length = len(msgspec.json.encode(unit))
    return unit, length


def _change(entry: Entry, base: Base, policy: str, version: int) -> Change:
    name, key, token = entry.collection, entry.key, plain_token(base.token)
    if entry.op == "delete":
        return Change(name, key, "delete", token)
    if entry.op == "put":
        return Change(name, key, "put", token, entry.doc, schema=version)
    if policy in ("last-write-wins", "local-wins") or is_raised(base.token):
        # These policies are about whole documents, on every side. And of a document that the server
        # has in an older form, a patch would leave the rest in that form.
        document = diff.apply(parsed(base.doc) or {}, entry.patch)
        return Change(name, key, "put", token, raw(diff.dump(document)), schema=version)
    return Change(
        name, key, "patch", token, ABSENT, entry.set, entry.unset, entry.old, schema=version
    )


def body_of(batch: InFlight) -> msgspec.Raw:
    body = msgspec.Raw(batch.body.encode())
    assert present(body)
    return body
