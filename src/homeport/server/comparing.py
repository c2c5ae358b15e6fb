"""The last page of a cut, for a device that compares itself with the server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from homeport.core.verify import REPAIRED_AT_ONCE, SLOTS
from homeport.core.wire import PullRequest, Reply

from .database import Connection
from .rules import Scope
from .visible import visible_slots, visible_sums

MAX_COMPARED: Final = 100
"""Collections in one request."""


async def compare(
    connection: Connection, tenant: str, scope: Scope, request: PullRequest, reply: Reply
) -> Iterable[Any]:
    """Put the sums that were asked for into the reply; the rows to be sent again."""
    rows: list[Any] = []
    for name, slots in list(request.repair.items())[:MAX_COMPARED]:
        if name in reply.collections:
            some = [slot for slot in slots if 0 <= slot < SLOTS][:REPAIRED_AT_ONCE]
            rows += await visible_slots(connection, tenant, scope, name, some)
            reply.repaired[name] = some
    for name in request.verify[:MAX_COMPARED]:
        if name in reply.collections:
            reply.sums[name] = await visible_sums(connection, tenant, scope, name)
    return rows
