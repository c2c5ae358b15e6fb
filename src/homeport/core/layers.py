"""The records of optimistic updates.

An optimistic update is a unit of the queue that is shown and not sent: its entries are marked
``open``, so the document everybody sees is base + queue + layers, computed by the one rebase
function, and later units on its documents wait behind it. ``core.optimistic`` has the plans; here
is what the rebase itself must know: when such a unit ends, its record says how.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from homeport.core import diff
from homeport.core.codec import Row
from homeport.core.context import Context
from homeport.core.merge import Outcome
from homeport.core.outbox import LAYERS, META_LAYERS, record_row, write_json
from homeport.core.query import EMPTY, Compare
from homeport.core.requests import Find, GetMany, Meta, Part, Plan, Put, SetMeta

LayerState = Literal["open", "committed", "synced", "rolled-back"]


class Layer(msgspec.Struct, frozen=True):
    """One optimistic update, as it stands in the file. Times in ms since 1970.

    Attributes:
        id: its name in the file; also the unit of its changes on the server.
        state: ``open`` (shown, not sent), ``committed`` (an ordinary change that waits for the
            server), ``synced`` (the server has it), ``rolled-back``.
        name: what the program called it.
        documents: ``collection/key`` of each document that it changes.
        made_ms: when it was applied.
        until_ms: when it is rolled back by itself if nobody has committed it; None = never.
        ended_ms: when it was synced or rolled back.
        reason: why it was rolled back: ``asked``, ``timed-out``, ``conflict`` (the server's side
            won), or the code and message of a refusal.
    """

    id: str
    state: LayerState
    name: str
    documents: list[str]
    made_ms: int
    until_ms: int | None = None
    ended_ms: int | None = None
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Is nothing going to happen to it any more?"""
        return self.ended_ms is not None


class Open(msgspec.Struct):
    """How many updates are open, and the earliest moment when one times out."""

    open: int = 0
    until_ms: int | None = None


_layer = msgspec.json.Decoder(Layer)
_open = msgspec.json.Decoder(Open)


def read_layer(text: str) -> Layer:
    return _layer.decode(text)


def layer_row(layer: Layer) -> Row:
    return record_row(LAYERS, diff.parse(write_json(layer)))


def open_layers() -> Plan[Open]:
    text = yield Meta(META_LAYERS)
    return Open() if text is None else _open.decode(text)


def write_layers(changed: Iterable[Layer]) -> Plan[list[Part]]:
    """The parts of a write that store these records and what is open then."""
    new = {layer.id: layer for layer in changed}
    if not new:
        return []
    found = yield Find(LAYERS, EMPTY.and_where(Compare("state", "==", "open")), "texts")
    now = {layer.id: layer for layer in map(read_layer, found)} | new
    left = [layer for layer in now.values() if layer.state == "open"]
    until = min((layer.until_ms for layer in left if layer.until_ms is not None), default=None)
    value = write_json(Open(len(left), until)) if left else None
    return [Put(LAYERS, [layer_row(one) for one in new.values()]), SetMeta(META_LAYERS, value)]


def ended(context: Context, outcome: Outcome) -> Plan[list[Part]]:
    """What a rebase did to optimistic updates: their records, as parts of its write."""
    gone = {entry.unit_id for entry in outcome.removed if entry.layer}
    gone -= {entry.unit_id for entry in outcome.kept if entry.layer}
    if not gone:
        return []
    why: dict[str, str] = dict.fromkeys(outcome.lost, "conflict")
    why |= {
        dead.group.id: f"{dead.code}: {dead.message}" if dead.message else dead.code
        for dead in outcome.dead
    }
    why |= dict.fromkeys(outcome.withdrawn, "asked")
    changed: list[Layer] = []
    texts: list[Any] = yield GetMany(LAYERS, sorted(gone))
    for layer in (read_layer(text) for text in texts if text is not None):
        reason = why.get(layer.id)
        now = context.tx.stamp_ms
        if reason is not None:
            changed.append(
                msgspec.structs.replace(layer, state="rolled-back", ended_ms=now, reason=reason)
            )
            for ref in layer.documents:
                collection, _, key = ref.partition("/")
                context.event("rolled-back", collection, key, reason)
        elif layer.state == "committed":
            changed.append(msgspec.structs.replace(layer, state="synced", ended_ms=now))
        # An open one of which the server had everything already waits for its commit.
    return (yield from write_layers(changed))
