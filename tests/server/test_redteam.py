"""What broke an earlier draft (docs/coverage.md), on real PostgreSQL, where no other test holds it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from homeport.errors import ServerError
from homeport.server.postgres import Postgres

from .helpers import Device, patch, put


async def test_finding_15_the_teams_statements_are_never_the_victim_of_ours(dsn, make_node):
    """Pushes and plain SQL on the same rows, in opposite orders: no foreign statement fails."""
    node = await make_node(dsn)
    device = Device(node)
    keys = [f"k{n}" for n in range(12)]
    await device.sync(*(put(key, {"id": key, "n": 0, "job": 0}) for key in keys))
    done = asyncio.Event()
    foreign = 0

    async def job(order: list[str]) -> None:
        nonlocal foreign
        connection = await asyncpg.connect(dsn)
        try:
            while not done.is_set():
                async with connection.transaction():
                    await connection.execute(
                        "update homeport.documents set body = jsonb_set(body::jsonb, '{job}',"
                        " to_jsonb(((body->>'job')::int) + 1))::json where key = any ($1)",
                        order[:1],
                    )
                    await connection.execute(
                        "update homeport.documents set body = jsonb_set(body::jsonb, '{job}',"
                        " to_jsonb(((body->>'job')::int) + 1))::json where key = $1",
                        order[0],
                    )
                foreign += 1
        finally:
            await connection.close()

    async def push(number: int) -> None:
        pusher = Device(node, f"user{number}")
        await pusher.sync()
        for n in range(6):
            unit = [patch(key, pusher.token(key), set={f"p{number}": n}) for key in keys]
            await pusher.sync(unit)

    jobs = [asyncio.create_task(job([key])) for key in keys[:2]]
    await asyncio.gather(*(push(number) for number in range(3)))
    done.set()
    await asyncio.gather(*jobs)
    assert foreign > 0


async def test_finding_2_a_standby_is_refused(tmp_path, make_node):
    """Its snapshots list no open transactions; a cursor from it would lose rows."""
    tmp_path.chmod(0o711)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o711)
    data = tmp_path / "data"
    with Postgres.start(data) as server:
        node = await make_node(server.dsn)
        await Device(node).sync(put("a", {"id": "a"}))
        await node.stop()
    (data / "postgres" / "standby.signal").touch()
    with Postgres.start(data) as server:
        connection = await asyncpg.connect(server.dsn)
        assert await connection.fetchval("select pg_is_in_recovery()")
        assert await connection.fetchval("select count(*) from homeport.documents") == 1
        await connection.close()
        with pytest.raises(ServerError, match="standby"):
            await make_node(server.dsn)
