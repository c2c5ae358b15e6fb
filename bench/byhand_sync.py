"""The references of push and pull: asyncpg by hand, the obvious fast way in each direction.

No conflicts, no rights, no second device, no retry, no queue: a table on the server, a table on the
device, rows moved in sets. It is the floor of what moving documents between the two can cost.
"""

from __future__ import annotations

from typing import Any

import asyncpg

from bench.byhand import Raw, decode

SCHEMA = """
create schema if not exists bench;
create table if not exists bench.documents(
    tenant text not null, collection text not null, key text not null,
    version xid8 not null, body json not null, primary key(tenant, collection, key)
);
"""
PUSH = """
insert into bench.documents(tenant, collection, key, version, body)
select $1, $2, u.key, pg_current_xact_id(), u.body
from unnest($3::text[], $4::json[]) u(key, body)
on conflict (tenant, collection, key) do update
set body = excluded.body, version = excluded.version
"""
PAGE = """
select key, body from bench.documents
where tenant = $1 and collection = $2 and key > $3 order by key limit $4
"""
TENANT = "bench"
PUSH_ROWS = 500
PULL_ROWS = 1000


async def prepare(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(SCHEMA)
    await connection.close()


async def push(dsn: str, collection: str, device: Raw) -> None:
    """Everything of the device's table into the server's, 500 rows a statement."""
    connection = await asyncpg.connect(dsn)
    try:
        statement = await connection.prepare(PUSH)
        rows = device.texts()
        for start in range(0, len(rows), PUSH_ROWS):
            keys, bodies = zip(*rows[start : start + PUSH_ROWS], strict=True)
            await statement.fetch(TENANT, collection, keys, bodies)
    finally:
        await connection.close()


async def pull(dsn: str, collection: str, device: Raw) -> None:
    """Everything of the server's table into the device's, by pages in the order of the key."""
    connection = await asyncpg.connect(dsn)
    try:
        statement = await connection.prepare(PAGE)
        after = ""
        while page := await statement.fetch(TENANT, collection, after, PULL_ROWS):
            device.write([_row(key, body) for key, body in page])
            after = page[-1]["key"]
    finally:
        await connection.close()


def _row(key: str, body: str) -> tuple[Any, ...]:
    city = decode(body)
    return (key, city["pop"], city["country"], city["admin1"], city["name"], body)
