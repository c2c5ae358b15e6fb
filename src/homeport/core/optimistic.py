"""Optimistic updates: changes that are shown at once, and committed or taken back later.

Each is one unit of the queue, marked open (``core.layers``). Committing takes the mark away, so
that it is sent in its place; rolling back is a rebase of its documents without it, the same that a
refusal by the server is. There is no second way to compute a document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from homeport.core.codec import Table
from homeport.core.context import Context, Event, Tables, open_context
from homeport.core.integrity import examine_documents, note
from homeport.core.keyforms import AnyKey
from homeport.core.layers import Layer, open_layers, read_layer, write_layers
from homeport.core.lifecycle import UNITS, UnitState, advance, unit_state
from homeport.core.outbox import (
    LAYERS,
    META_OUTBOX,
    OUTBOX,
    entry_rows,
    read_entry,
    read_state,
    write_json,
)
from homeport.core.paths import MISSING
from homeport.core.query import EMPTY, AnyOf, Compare
from homeport.core.requests import (
    Changes,
    DeleteWhere,
    Find,
    Get,
    Meta,
    Operation,
    Plan,
    Put,
    SetMeta,
    TxInfo,
    Write,
)
from homeport.core.settle import settle
from homeport.core.units import Run, UnitOperation
from homeport.core.updates import patch, update
from homeport.core.wire import RESOLUTIONS, Verdict
from homeport.core.writes import delete
from homeport.errors import NotFound, RolledBack, UsageError

T = TypeVar("T")

KEPT_MS = 24 * 3600 * 1000
"""The record of an update that has ended is kept for so long."""

TIMED_OUT = "timed-out"


class Taken(NamedTuple):
    """What was rolled back, and what is to be told."""

    layers: list[Layer]
    events: list[Event]
    until_ms: int | None


# -- apply


def work_of(
    table: Table[T],
    key: AnyKey,
    change: Mapping[str, Any] | Callable[[T], T] | None,
    default: Any = MISSING,
) -> Operation[Any]:
    """An update of one document: changes of fields, a function, or None = delete it."""
    if change is None:
        return delete(table, key)
    if isinstance(change, Mapping):
        return patch(table, key, change)
    return update(table, key, change, default)


def applied(work: Operation[Any], *, name: str, timeout_s: float | None) -> UnitOperation[Layer]:
    """All that an operation writes, as one optimistic update."""
    place = work.place if isinstance(work, UnitOperation) else ("", 0)
    timeout_ms = None if timeout_s is None else int(timeout_s * 1000)
    plan = _apply(work, name, timeout_ms)
    return UnitOperation(plan, "write", False, work.scope, place=place)


def _apply(work: Operation[Any], name: str, timeout_ms: int | None) -> Plan[Layer]:
    tx: TxInfo = yield Meta("tx")
    if tx.unit is None:
        raise UsageError("An optimistic update is a transaction of its own.")
    tx.layer = True
    for table in work.scope:
        _check(table)
    yield from _watched(work)
    texts = yield Find(OUTBOX, EMPTY.and_where(Compare("unit", "==", tx.unit)), "texts")
    refs = [entry.ref for entry in map(read_entry, texts) if entry.collection != RESOLUTIONS]
    until = None if timeout_ms is None else tx.stamp_ms + timeout_ms
    layer = Layer(tx.unit, "open", name, sorted(refs), tx.stamp_ms, until)
    yield DeleteWhere(LAYERS, EMPTY.and_where(Compare("ended_ms", "<", tx.stamp_ms - KEPT_MS)))
    parts = yield from write_layers([layer])
    yield Write(parts)
    return layer


def _watched(work: Operation[Any]) -> Plan[Any]:
    """Step the work; a write to a collection that is not synced could not be taken back."""
    plan: Any = work.plan
    if not isinstance(work, UnitOperation):
        return (yield from plan)
    request = next(plan)
    try:
        while True:
            try:
                if isinstance(request, Run) and request.operation.mode == "write":
                    for table in request.operation.scope:
                        _check(table)
                value = yield request
            except GeneratorExit:
                plan.close()
                raise
            except BaseException as error:
                request = plan.throw(error)
            else:
                request = plan.send(value)
    except StopIteration as stop:
        return stop.value


def _check(table: Table[Any]) -> None:
    if not table.synced:
        raise UsageError(
            f"{table.name} is not synced on this file, so there is no queue that an optimistic "
            "update of it could wait in.",
            action="Call db.sync(...) first (its server need not be reachable), or write with "
            "put(), patch() and transaction().",
        )


# -- commit


def commit(layer_id: str) -> Plan[Layer]:
    """Let it be sent: an ordinary acknowledged write from now on. A write operation."""
    layer = yield from _load(layer_id)
    if layer.state == "rolled-back":
        raise RolledBack(
            f"The optimistic update {layer_id} was rolled back: {layer.reason}.",
            reason=layer.reason,
            documents=layer.documents,
        )
    if layer.state != "open":
        return layer
    tx: TxInfo = yield Meta("tx")
    texts = yield Find(OUTBOX, EMPTY.and_where(Compare("unit", "==", layer_id)), "texts")
    entries = [read_entry(text) for text in texts]
    before: UnitState = unit_state(entries, in_flight=False)
    for entry in entries:
        entry.layer = "committed"
    if entries:
        advance(UNITS, before, "commit", unit_state(entries, in_flight=False))
    ended = None if entries else tx.stamp_ms
    layer = msgspec.structs.replace(
        layer, state="committed" if entries else "synced", until_ms=None, ended_ms=ended
    )
    state = read_state((yield Meta(META_OUTBOX)))
    # A number is used up: that is how the worker of another process sees that something is new.
    state.next += 1
    parts = yield from write_layers([layer])
    if entries:
        parts.append(Put(OUTBOX, entry_rows(entries)))
    yield Write([*parts, SetMeta(META_OUTBOX, write_json(state))])
    return layer


def _load(layer_id: str) -> Plan[Layer]:
    text = yield Get(LAYERS, layer_id)
    if text is None:
        raise NotFound(
            f"There is no optimistic update {layer_id!r}.",
            action="List them with db.optimistic.list(); ended ones are kept for a day.",
        )
    return read_layer(text)


# -- roll back


def roll_back(tables: Tables, layer_id: str) -> Plan[Taken]:
    """Take it away, whatever was stacked on it; silent when it is gone. A write operation."""
    layer = yield from _load(layer_id)
    if layer.state == "rolled-back":
        return Taken([], [], None)
    if layer.state != "open":
        raise UsageError(
            f"The optimistic update {layer_id} is committed: others may have it already.",
            action="Write what you want instead, as an ordinary change.",
        )
    return (yield from _withdraw(tables, {layer_id: layer}, None))


def expire(tables: Tables) -> Plan[Taken]:
    """Roll back what nobody has committed in time, into the dead letters. A write operation."""
    now = yield from open_layers()
    tx: TxInfo = yield Meta("tx")
    if now.until_ms is None or now.until_ms > tx.stamp_ms:
        return Taken([], [], now.until_ms)
    texts = yield Find(LAYERS, EMPTY.and_where(Compare("state", "==", "open")), "texts")
    due = {
        layer.id: layer
        for layer in map(read_layer, texts)
        if layer.until_ms is not None and layer.until_ms <= tx.stamp_ms
    }
    message = "The optimistic update was not committed in time."
    return (yield from _withdraw(tables, due, (TIMED_OUT, message)))


def _withdraw(
    tables: Tables, layers: Mapping[str, Layer], code: tuple[str, str] | None
) -> Plan[Taken]:
    context: Context = yield from open_context(tables)
    # Its documents as they are queued now: conflicts may have added records to the unit.
    refs: set[str] = {ref for layer in layers.values() for ref in layer.documents}
    why = {
        one: None if code is None else Verdict(one, "rejected", code[0], code[1]) for one in layers
    }
    empty = []
    for layer in layers.values():
        where = EMPTY.and_where(Compare("unit", "==", layer.id)).with_limit(1)
        if not (yield Find(OUTBOX, where, "keys")):
            reason = "asked" if code is None else code[0]
            empty.append(
                msgspec.structs.replace(
                    layer, state="rolled-back", ended_ms=context.tx.stamp_ms, reason=reason
                )
            )
    if len(empty) < len(layers):
        yield from settle(context, {}, refs=sorted(refs), withdrawn=why)
        yield from examine_documents(context, refs)
        yield from note(context)
        yield Write([SetMeta(META_OUTBOX, write_json(context.state))])
    if empty:
        yield Write((yield from write_layers(empty)))
    left = yield from open_layers()
    return Taken(list(layers.values()), context.events, left.until_ms)


# -- look


def one(layer_id: str) -> Operation[Layer]:
    return Operation(_load(layer_id), "read", scope=(LAYERS,))


def with_head(layer_id: str) -> Operation[tuple[Layer, int]]:
    """The record, and the number of the last change that it is of."""
    return Operation(_with_head(layer_id), "read")


def _with_head(layer_id: str) -> Plan[tuple[Layer, int]]:
    changes = yield Changes(None, ())
    layer = yield from _load(layer_id)
    return layer, changes.head


def all_layers(*, ended: bool) -> Plan[list[Layer]]:
    query = EMPTY.with_order("made_ms", "id")
    if not ended:
        query = query.and_where(AnyOf("state", ["open", "committed"]))
    texts = yield Find(LAYERS, query, "texts")
    return [read_layer(text) for text in texts]


__all__ = [
    "Layer", "Taken", "all_layers", "applied", "commit", "expire", "one",
    "roll_back", "with_head", "work_of",
]  # fmt: skip
