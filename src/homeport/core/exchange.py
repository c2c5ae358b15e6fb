"""One question to the node: where the file is, and the batch that is to be sent, if any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from homeport.core.codec import Table
from homeport.core.context import Tables
from homeport.core.cuts import Asked
from homeport.core.former import asked_about
from homeport.core.freeze import InFlight, body_of, freeze, read_in_flight
from homeport.core.outbox import (
    META_CLIENT,
    META_CURSOR,
    META_HOLDS,
    META_IN_FLIGHT,
    META_STAGED,
    OUTBOX,
    read_entry,
)
from homeport.core.requests import GetMany, Meta, Plan
from homeport.core.staging import read_staged
from homeport.core.subscribing import read_subscribed
from homeport.core.wire import ABSENT, PROTOCOL, Hold, PullRequest, PushRequest, UniqueIndex


class Question(NamedTuple):
    """body: the request, ready to be sent. changes: how many queue entries its batch holds."""

    body: bytes
    asked: Asked
    number: int | None
    changes: int


_holds = msgspec.json.Decoder(dict[str, Hold])


def ask(
    tables: Tables,
    declared: Mapping[str, str],
    *,
    verify: Sequence[str] = (),
    repair: Mapping[str, list[int]] | None = None,
) -> Plan[Question]:
    """Freeze what can be sent and build the request. A write operation.

    declared: collection → the policy that this program declares. verify, repair: see
    ``core.verify``.

    While a cut is staged no new batch is frozen: its answer could come on a page that no longer
    shows the rows it changed.
    """
    client = (yield Meta(META_CLIENT)) or ""
    cursor = yield Meta(META_CURSOR)
    holds = _holds.decode((yield Meta(META_HOLDS)) or "{}")
    staged = read_staged((yield Meta(META_STAGED)))
    former = yield from asked_about()
    if staged is None:
        frozen = yield from freeze(tables, after_reset=bool(former))
        batch = None if frozen is None else frozen.batch
    else:
        batch = read_in_flight((yield Meta(META_IN_FLIGHT)))
    position = None if staged is None else staged.position
    edit_wins = [name for name in declared if tables[name].deletes == "edit-wins"]
    types = {name: tables[name].merge_specs for name in declared if tables[name].merge_specs}
    pull = PullRequest(cursor, position, holds, dict(declared), edit_wins, types)
    pull.unique = {name: found for name in declared if (found := _unique(tables[name]))}
    numbers = {name: tables[name].collection.versions.current for name in declared}
    pull.versions = {name: number for name, number in numbers.items() if number > 1}
    pull.former = former
    subscribed = yield from read_subscribed()
    pull.subscribed = {name: subscribed[name] for name in declared if name in subscribed}
    if batch is not None and pull.subscribed:
        pull.fetch = yield from _sent(batch, pull.subscribed)
    pull.verify, pull.repair = list(verify), dict(repair or {})
    request = PushRequest(
        PROTOCOL,
        client,
        pull,
        ABSENT if batch is None else body_of(batch),
        "" if batch is None else batch.hash,
    )
    return Question(
        msgspec.json.encode(request),
        Asked(client, cursor, position),
        None if batch is None else batch.number,
        0 if batch is None else len(batch.entries),
    )


def _sent(batch: InFlight, subscribed: Mapping[str, Sequence[str]]) -> Plan[dict[str, list[str]]]:
    """Documents of a batch that may lie outside of what is asked for: what became of them is asked
    beside it."""
    found: dict[str, list[str]] = {}
    for text in (yield GetMany(OUTBOX, batch.entries)):
        entry = None if text is None else read_entry(text)
        if entry is not None and entry.collection in subscribed:
            found.setdefault(entry.collection, []).append(entry.key)
    return found


def _unique(table: Table[Any]) -> list[UniqueIndex]:
    return [
        UniqueIndex(list(index.fields), index.multi)
        for index in table.collection.indexes
        if index.unique
    ]
