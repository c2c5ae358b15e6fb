"""Start over with the server, keeping every queued change.

Used when another copy of this file has pushed under its id (``identity-broken``), when the server
lost or pruned history (``history-broken``), and when the file is a restored backup. The next cut is
a full one; the queue is merged against it on the bases that are still here. Of the batch that was
in flight, and of what was acknowledged in the last days, that cut says what the server has
(``core.former``, ``core.acknowledged``): what it lost is queued again.
"""

from __future__ import annotations

from typing import Final

from homeport.core.acknowledged import forget_all
from homeport.core.context import Tables, open_context
from homeport.core.former import Former, read_former, retire
from homeport.core.freeze import read_in_flight
from homeport.core.lifecycle import PLACES, advance, place_of
from homeport.core.outbox import (
    BASE,
    DEAD,
    META_CLIENT,
    META_CURSOR,
    META_FORMER,
    META_HOLDS,
    META_IN_FLIGHT,
    META_NUMBER,
    META_OUTBOX,
    META_STAGED,
    STAGED,
    write_json,
)
from homeport.core.query import EMPTY
from homeport.core.requests import DeleteWhere, Find, Meta, Plan, SetMeta, Write
from homeport.core.settle import settle
from homeport.core.signs import sign
from homeport.core.wire import Verdict

DISCARDED: Final = "discarded"
"""Code of the dead letters of a queue that was given up."""


def give_up(tables: Tables) -> Plan[list[str]]:
    """Take everything that waits out of the queue, into dead letters → their ids.

    The documents show what the server had last. Nothing acknowledged is kept for later either.
    """
    context = yield from open_context(tables)
    before = set((yield Find(DEAD, EMPTY, "keys")))
    refs: list[str] = yield Find(BASE, EMPTY, "keys")
    message = "The queue was given up when the replication began anew."
    reason = Verdict("", "rejected", DISCARDED, message)
    context.state.frozen = 0
    yield from settle(context, {}, rejected=dict.fromkeys(refs, reason), refs=refs)
    yield Write(
        [
            SetMeta(META_IN_FLIGHT, None),
            SetMeta(META_OUTBOX, write_json(context.state)),
            sign("in-flight", None),
        ]
    )
    yield from forget_all()
    return [key for key in (yield Find(DEAD, EMPTY, "keys")) if key not in before]


def reset(client: str, *, seen: str) -> Plan[bool]:
    """Take the new id and forget cursor, numbers and staged pages; False when another worker has
    done it already (the file's id is no longer ``seen``). A write operation."""
    if (yield Meta(META_CLIENT)) != seen:
        return False
    former = yield from read_former()
    staged = (yield Meta(META_STAGED)) is not None
    place = place_of((yield Meta(META_CURSOR)), staged=staged, anew=former is not None)
    advance(PLACES, place, "begin anew", "anew")
    if former is None:
        # A second reset before the first cut: nothing was pushed in between.
        former = Former(seen, read_in_flight((yield Meta(META_IN_FLIGHT))))
    retired = yield from retire(former.client)
    yield DeleteWhere(STAGED, EMPTY)
    yield Write(
        [
            SetMeta(META_CLIENT, client),
            SetMeta(META_CURSOR, None),
            SetMeta(META_HOLDS, None),
            SetMeta(META_STAGED, None),
            SetMeta(META_NUMBER, None),
            SetMeta(META_IN_FLIGHT, None),
            SetMeta(META_FORMER, write_json(former)),
            retired,
            sign("in-flight", None),
        ]
    )
    return True
