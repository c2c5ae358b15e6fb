"""The one connection of a node that follows the log."""

from __future__ import annotations

import asyncio

from homeport.server import live


async def test_it_is_back_soon_however_often_it_was_away(dsn, make_node, sql, monkeypatch):
    connect, made = live.connect, []

    async def counted(address):
        made.append(address)
        return await connect(address)

    monkeypatch.setattr(live, "connect", counted)
    node = await make_node(dsn)
    for n in range(2, 6):
        await sql.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'homeport' and datname = current_database()"
        )
        async with asyncio.timeout(20):
            while len(made) < n or not node.tailer.connected:
                await asyncio.sleep(0.01)
        assert node.tailer.pause_s == 2 * live.FIRST_PAUSE_S
