"""What the node last answered to each device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from homeport.core.wire import BatchAnswer

from .database import Connection
from .rules import Claims

NO_ANSWER: Final = BatchAnswer(0, "", [])
"""Says: of this client nothing is here."""


async def retire(connection: Connection, claims: Claims, clients: Sequence[str]) -> None:
    """Take no further batch from these ids: their device asks what arrived, to send the rest again
    under a new one, and a copy of an old request may still be on its way."""
    await connection.execute(
        "insert into homeport.clients as c (tenant, subject, client, retired)"
        " select $1, $2, client, true from unnest($3::text[]) as u(client) order by client"
        " on conflict (tenant, subject, client) do update set retired = true where not c.retired",
        claims.tenant,
        claims.subject,
        sorted({*clients}),
    )


async def last_answers(
    connection: Connection, claims: Claims, clients: Sequence[str]
) -> dict[str, BatchAnswer]:
    """The stored answers by client, as the snapshot of the connection sees them."""
    found = await connection.fetch(
        "select client, answer from homeport.clients"
        " where tenant = $1 and subject = $2 and client = any ($3) and answer is not null",
        claims.tenant,
        claims.subject,
        list(clients),
    )
    return {row["client"]: msgspec.json.decode(row["answer"], type=BatchAnswer) for row in found}
