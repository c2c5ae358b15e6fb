"""Start over with the server, keeping every queued change.

Used when another copy of this file has pushed under its id (``identity-broken``), when the server
lost or pruned history (``history-broken``), and when the file is a restored backup. The next cut is
a full one; the queue is merged against it on the bases that are still here, so what did arrive
before is recognised as equal and what did not is sent again.
"""

from __future__ import annotations

from homeport.core.outbox import (
    META_CLIENT,
    META_CURSOR,
    META_HOLDS,
    META_IN_FLIGHT,
    META_NUMBER,
    META_OUTBOX,
    META_STAGED,
    STAGED,
    read_state,
    write_json,
)
from homeport.core.query import EMPTY
from homeport.core.requests import DeleteWhere, Meta, Plan, SetMeta, Write


def reset(client: str, *, seen: str) -> Plan[bool]:
    """Take the new id and forget cursor, numbers and staged pages; False when another worker has
    done it already (the file's id is no longer ``seen``). A write operation."""
    if (yield Meta(META_CLIENT)) != seen:
        return False
    state = read_state((yield Meta(META_OUTBOX)))
    state.frozen = 0
    yield DeleteWhere(STAGED, EMPTY)
    yield Write(
        [
            SetMeta(META_CLIENT, client),
            SetMeta(META_CURSOR, None),
            SetMeta(META_HOLDS, None),
            SetMeta(META_STAGED, None),
            SetMeta(META_NUMBER, None),
            SetMeta(META_IN_FLIGHT, None),
            SetMeta(META_OUTBOX, write_json(state)),
        ]
    )
    return True
