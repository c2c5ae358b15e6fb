"""What a rebase leaves to be read: dead letters, listed conflicts, and events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeport.core import diff
from homeport.core.context import Context, Moved
from homeport.core.lifecycle import CONFLICTS as CONFLICT_STATES
from homeport.core.lifecycle import advance, conflict_state
from homeport.core.merge import Dead, Held, Outcome
from homeport.core.outbox import CONFLICTS, parsed, record_row, write_json
from homeport.core.query import EMPTY, AnyOf
from homeport.core.requests import Delete, Find, Part, Plan, Put


def dead_record(context: Context, dead: Dead) -> dict[str, Any]:
    first = dead.group.entries[0]
    return {
        "id": f"{first.id}-{context.tx.stamp_ms}",
        "unit": dead.group.id,
        "code": dead.code,
        "message": dead.message,
        "at": dead.at,
        "at_ms": context.tx.stamp_ms,
        "refs": [entry.ref for entry in dead.group.entries],
        "changes": [diff.parse(write_json(entry)) for entry in dead.group.entries],
    }


def conflict_parts(
    context: Context, outcome: Outcome, moved: Mapping[str, Moved]
) -> Plan[list[Part]]:
    """New conflicts, the moved remote side of known ones, and those whose unit is no more."""
    rows = [record_row(CONFLICTS, _conflict(context, held)) for held in outcome.held]
    new = {row[0] for row in rows}
    over = {entry.unit_id for entry in outcome.removed if entry.held}
    drop: list[Any] = []
    if any(entry.held for entry in (*outcome.kept, *outcome.removed)):
        refs = sorted({e.ref for e in (*outcome.kept, *outcome.removed) if e.held})
        for text in (yield Find(CONFLICTS, EMPTY.and_where(AnyOf("ref", refs)), "texts")):
            record = diff.parse(text)
            state = conflict_state(record)
            if record["unit"] in over:
                advance(CONFLICT_STATES, state, "unit gone", "settled")
                drop.append(record["id"])
            elif record["ref"] in moved and record["id"] not in new:
                remote = parsed(moved[record["ref"]].body)
                if not diff.same(record["remote"], remote):
                    # A choice made against another remote has to be made again.
                    if advance(CONFLICT_STATES, state, "moved", "open") == "open":
                        record.pop("choice", None)
                    rows.append(record_row(CONFLICTS, {**record, "remote": remote}))
    parts: list[Part] = []
    if rows:
        parts.append(Put(CONFLICTS, rows))
    if drop:
        parts.append(Delete(CONFLICTS, drop))
    return parts


def _conflict(context: Context, held: Held) -> dict[str, Any]:
    collection, _, key = held.ref.partition("/")
    return {
        "id": f"{held.unit}/{held.ref}",
        "unit": held.unit,
        "ref": held.ref,
        "collection": collection,
        "key": key,
        "base": held.base,
        "local": held.local,
        "remote": held.remote,
        "reason": held.reason,
        "at_ms": context.tx.stamp_ms,
    }


def tell(context: Context, outcome: Outcome) -> None:
    buried = {entry.id for dead in outcome.dead for entry in dead.group.entries}
    lost = {clash.ref for _, clash in outcome.logged if clash.winner == "remote"}
    for entry in outcome.removed:
        gone = entry.id in buried or entry.ref in lost or entry.unit_id in outcome.withdrawn
        if not gone and entry.layer != "open":
            context.event("committed", entry.collection, entry.key)
    for dead in outcome.dead:
        for entry in dead.group.entries:
            detail = f"{dead.code}: {dead.message}" if dead.message else dead.code
            context.event("rejected", entry.collection, entry.key, detail)
    for held in outcome.held:
        collection, _, key = held.ref.partition("/")
        context.event("conflict", collection, key, held.reason)
    for _, clash in outcome.logged:
        collection, _, key = clash.ref.partition("/")
        context.event("resolved", collection, key, f"{clash.policy}: {clash.winner} won")
