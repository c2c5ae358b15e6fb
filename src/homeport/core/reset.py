"""Start over with the server, keeping every queued change.

Used when another copy of this file has pushed under its id (``identity-broken``), when the server
lost or pruned history (``history-broken``), and when the file is a restored backup. The next cut is
a full one; the queue is merged against it on the bases that are still here. Of the batch that was
in flight, and of what was acknowledged in the last days, that cut says what the server has
(``core.former``, ``core.acknowledged``): what it lost is queued again.
"""

from __future__ import annotations

from homeport.core.former import Former, read_former
from homeport.core.freeze import read_in_flight
from homeport.core.outbox import (
    META_CLIENT,
    META_CURSOR,
    META_FORMER,
    META_HOLDS,
    META_IN_FLIGHT,
    META_NUMBER,
    META_STAGED,
    STAGED,
    write_json,
)
from homeport.core.query import EMPTY
from homeport.core.requests import DeleteWhere, Meta, Plan, SetMeta, Write


def reset(client: str, *, seen: str) -> Plan[bool]:
    """Take the new id and forget cursor, numbers and staged pages; False when another worker has
    done it already (the file's id is no longer ``seen``). A write operation."""
    if (yield Meta(META_CLIENT)) != seen:
        return False
    former = yield from read_former()
    if former is None:
        # A second reset before the first cut: nothing was pushed in between.
        former = Former(seen, read_in_flight((yield Meta(META_IN_FLIGHT))))
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
        ]
    )
    return True
