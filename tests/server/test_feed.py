"""The cursor against real PostgreSQL: gaps, reborn transaction ids, restored files, pruning."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import asyncpg
import pytest

from homeport.errors import DatabaseUnavailable, HistoryBroken, ServerError
from homeport.server.database import Database
from homeport.server.postgres import Postgres

from .helpers import Device, put, results

WRITE = """
insert into homeport.documents as d (tenant, collection, key, body)
select 't1', 'wells', k, $2::text::json from unnest($1::text[]) k order by k
on conflict (tenant, collection, key) do update set body = excluded.body
"""


async def test_r09_a_cursor_loses_and_doubles_nothing_beside_an_idle_transaction(
    dsn, make_node, sql
):
    """Naive `seq > last` loses rows in the same run; so the load is one that can lose."""
    node = await make_node(dsn)
    device = Device(node)
    await device.sync()
    stop_at = time.monotonic() + 5.0
    keys = [f"k{n}" for n in range(60)]
    units = 0
    seen_naive: set[int] = set()
    seen_ours: set[tuple[str, str]] = set()
    late: list[float] = []

    async def writer(number: int) -> None:
        nonlocal units
        connection = await asyncpg.connect(dsn)
        dice = random.Random(number)
        while time.monotonic() < stop_at:
            some = sorted(dice.sample(keys, dice.randrange(2, 7)))
            transaction = connection.transaction()
            await transaction.start()
            stamp = {"by": number, "at": time.time(), "unit": units, "size": len(some)}
            units += 1
            await connection.execute(WRITE, some, json.dumps(stamp))
            if dice.random() < 0.2:
                await asyncio.sleep(dice.uniform(0, 0.03))
            if dice.random() < 0.05:
                await transaction.rollback()
            else:
                await transaction.commit()
        await connection.close()

    async def idle() -> None:
        connection = await asyncpg.connect(dsn)
        while time.monotonic() < stop_at:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(
                "insert into homeport.documents (tenant, collection, key, body)"
                " values ('t1', 'wells', 'slow' || random(), '{\"slow\": true}')"
            )
            await asyncio.sleep(1.5)
            await transaction.commit()
            await asyncio.sleep(0.2)
        await connection.close()

    async def naive() -> None:
        connection = await asyncpg.connect(dsn)
        last = 0
        end = stop_at + 0.5
        while time.monotonic() < end:
            for row in await connection.fetch(
                "select seq from homeport.change_log where seq > $1 order by seq", last
            ):
                seen_naive.add(row[0])
                last = row[0]
            await asyncio.sleep(0.02)
        await connection.close()

    async def ours() -> None:
        while True:
            final = time.monotonic() > stop_at + 2.0
            before = len(device.received)
            await device.sync()
            for row in device.received[before:]:
                place = (row.key, row.token)
                assert place not in seen_ours, "delivered twice"
                seen_ours.add(place)
                body = device.docs().get(row.key)
                if body is not None and "at" in body:
                    late.append(time.time() - body["at"])
            if final:
                break
            await asyncio.sleep(0.02)

    await asyncio.gather(*(writer(n) for n in range(6)), idle(), naive(), ours())
    committed = {row[0] for row in await sql.fetch("select seq from homeport.change_log")}
    assert len(committed - seen_naive) > 0, "the load did not show what the naive reader loses"
    truth = {
        row[0]: (row[1], json.loads(row[2]))
        for row in await sql.fetch("select key, version::text, body from homeport.documents")
    }
    mine = {key: (device.token(key), body) for key, body in device.docs().items()}
    assert mine == truth
    late.sort()
    assert late[len(late) // 2] < 1.0, "the idle transaction stalls the reader"


async def test_r24_units_are_never_torn_in_what_a_device_sees(dsn, make_node, sql):
    """A conserved sum: every transaction moves money, and every state must add up."""
    node = await make_node(dsn)
    device = Device(node)
    await device.sync(*(put(f"a{n}", {"id": f"a{n}", "n": 100}) for n in range(20)))
    stop_at = time.monotonic() + 3.0

    async def mover(number: int) -> None:
        connection = await asyncpg.connect(dsn)
        dice = random.Random(number)
        move = (
            "update homeport.documents set body = json_build_object("
            "'id', key, 'n', (body->>'n')::int + $2) where key = $1"
        )
        while time.monotonic() < stop_at:
            one, other = sorted(dice.sample(range(20), 2))
            async with connection.transaction():
                await connection.execute(move, f"a{one}", -5)
                if dice.random() < 0.3:
                    await asyncio.sleep(0.01)
                await connection.execute(move, f"a{other}", 5)
        await connection.close()

    async def watcher() -> int:
        looks = 0
        while time.monotonic() < stop_at + 0.3:
            await device.sync()
            looks += 1
            assert sum(doc["n"] for doc in device.docs().values()) == 2000
        return looks

    answers = await asyncio.gather(*(mover(n) for n in range(4)), watcher())
    assert answers[-1] > 20


async def test_waiting_pulls_share_a_marker(dsn, make_node, sql):
    node = await make_node(dsn, pool_size=20)
    devices = [Device(node, f"u{n}") for n in range(20)]
    for device in devices:
        await device.sync()
    await sql.execute(WRITE, ["a"], "{}")
    before = node.feed.markers_made
    await asyncio.gather(*(device.sync() for device in devices))
    assert 0 < node.feed.markers_made - before < 20
    assert await sql.fetchval("select count(*) from homeport.markers") == node.feed.markers_made


async def _lost_xid(server: Postgres) -> tuple[int, str]:
    """Abort a transaction, note the bare snapshot, crash; the id is issued again."""
    connection = await asyncpg.connect(server.dsn)
    await connection.execute("begin")
    await connection.execute("insert into homeport.settings values ('never', '')")
    xid = int(await connection.fetchval("select pg_current_xact_id()::text"))
    await connection.execute("rollback")
    snapshot = await connection.fetchval("select pg_current_snapshot()::text")
    victim = await connection.fetchval("select pg_backend_pid()")
    os.kill(victim, signal.SIGKILL)
    connection.terminate()
    await _until_up(server)
    return xid, snapshot


async def _until_up(server: Postgres) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            connection = await asyncpg.connect(server.dsn, timeout=2)
            await connection.fetchval("select 1")
            connection.terminate()
            return
        except (asyncpg.PostgresError, OSError):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_schedule_1_a_reborn_transaction_id_is_lost_without_a_marker(own_server, make_node):
    node = await make_node(own_server.dsn)
    device = Device(node)
    await device.sync(put("a", {"id": "a"}))
    await node.stop()
    # Without a marker: the bare snapshot calls the aborted id finished, and it comes again. Some
    # background flush may save the id now and then; that only makes the damage rarer.
    for attempt in range(8):
        xid, bare = await _lost_xid(own_server)
        connection = await asyncpg.connect(own_server.dsn)
        await connection.execute(WRITE, [f"reborn{attempt}"], "{}")
        again = await connection.fetchval(
            "select version::text::bigint from homeport.documents where key = $1",
            f"reborn{attempt}",
        )
        if again == xid:
            break
        connection.terminate()
    assert again == xid, "the transaction id was not issued again: the test shows nothing"
    lost = await connection.fetchval(
        "select pg_visible_in_snapshot($1::text::xid8, $2::text::pg_snapshot)", str(xid), bare
    )
    assert lost, "a bare snapshot would have delivered it: the test shows nothing"
    connection.terminate()


async def test_schedule_1_our_cursor_delivers_or_notices(own_server, make_node):
    for round_ in range(4):
        node = await make_node(own_server.dsn)
        device = Device(node)
        await device.sync(put(f"a{round_}", {"id": "a"}))
        connection = await asyncpg.connect(own_server.dsn)
        await connection.execute("begin")
        await connection.execute("insert into homeport.settings values ('never', '')")
        await connection.execute("rollback")
        if round_ % 2:
            # An asynchronous commit: visible, and not on disk.
            await connection.execute("set synchronous_commit = off")
            await connection.execute(WRITE, [f"phantom{round_}"], "{}")
        await connection.execute("set synchronous_commit = on")
        await connection.execute("begin; select pg_current_xact_id(); rollback")
        # A cut with news, so that a new cursor is made behind all this.
        device.holds = {}
        await device.sync()
        victim = await connection.fetchval("select pg_backend_pid()")
        os.kill(victim, signal.SIGKILL)
        connection.terminate()
        await _until_up(own_server)
        connection = await asyncpg.connect(own_server.dsn)
        await connection.execute(WRITE, [f"after{round_}"], "{}")
        try:
            await device.sync()
        except HistoryBroken:
            continue
        assert f"after{round_}" in device.docs()
        rows = await connection.fetch(
            "select key from homeport.documents where collection = 'wells'"
        )
        assert set(device.docs()) == {row[0] for row in rows}
        connection.terminate()
        await node.stop()


async def test_schedule_1_files_put_back_to_an_earlier_state(tmp_path, make_node):
    """What a restore of the disk does: identity and timeline are equal, history is not."""
    tmp_path.chmod(0o711)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o711)
    data = tmp_path / "data"
    with Postgres.start(data) as server:
        node = await make_node(server.dsn)
        early = Device(node, "early")
        await early.sync(put("a", {"id": "a"}))
        await node.stop()
    shutil.copytree(data / "postgres", tmp_path / "copy")
    with Postgres.start(data) as server:
        node = await make_node(server.dsn)
        late = Device(node, "late")
        await late.sync(*(put(f"k{n}", {"id": f"k{n}"}) for n in range(5)))
        await late.sync(put("z", {"id": "z"}))
        await node.stop()
    shutil.rmtree(data / "postgres")
    (tmp_path / "copy").rename(data / "postgres")
    with Postgres.start(data) as server:
        node = await make_node(server.dsn)
        late.node = early.node = node
        # New writes take the ids that `late` believes to have seen.
        writer = Device(node, "writer")
        for n in range(4):
            await writer.sync(put(f"new{n}", {"id": f"new{n}"}))
        with pytest.raises(HistoryBroken):
            await late.sync()
        with pytest.raises(HistoryBroken):
            late.number = 0
            await late.sync(put("more", {"id": "more"}))
        late.cursor, late.holds, late.rows = None, {}, {}
        await late.sync()
        assert set(late.docs()) == {"a", "new0", "new1", "new2", "new3"}
        # A cursor from before the copy was never wrong, and is not reset.
        await early.sync()
        assert early.docs() == late.docs()
        await node.stop()


async def test_schedule_2_commit_against_the_order_of_ids_with_pruning_between(dsn, make_node, sql):
    # Retention 0 renews the cursor at every pull; `prune` is told its own.
    node = await make_node(dsn, retention_s=0.0)
    device = Device(node)
    await device.sync(put("k", {"id": "k", "n": 0}))
    old = await asyncpg.connect(dsn)
    await old.execute("begin")
    await old.fetchval("select pg_current_xact_id()")
    await sql.execute(WRITE, ["k"], '{"n": 1}')
    await node.feed.prune(0.3)
    await asyncio.sleep(0.4)
    await device.sync()
    assert device.docs()["k"] == {"n": 1}
    await old.execute(WRITE, ["k"], '{"n": 2}')
    # Everything that was finished before is pruned now; the open transaction is not.
    assert await node.feed.prune(0.3) == 2
    await old.execute("commit")
    old.terminate()
    await device.sync()
    assert device.docs()["k"] == {"n": 2}


async def test_r18_a_device_behind_the_horizon_is_told(dsn, make_node, sql):
    node = await make_node(dsn, retention_s=0.0)
    away, here = Device(node, "away"), Device(node, "here")
    await away.sync(put("a", {"id": "a"}))
    await here.sync()
    await sql.execute(WRITE, ["b"], "{}")
    await node.feed.prune(0.3)
    await asyncio.sleep(0.4)
    await here.sync()
    await sql.execute(WRITE, ["c"], "{}")
    assert await node.feed.prune(0.3) == 2
    assert await sql.fetchval("select count(*) from homeport.change_log") == 1
    await here.sync()
    assert set(here.docs()) == {"a", "b", "c"}
    with pytest.raises(HistoryBroken):
        await away.sync()
    away.cursor, away.holds, away.rows = None, {}, {}
    await away.sync()
    assert set(away.docs()) == {"a", "b", "c"}


async def test_a_restored_dump_is_refused_until_the_log_is_rebased(dsn, make_node, sql):
    node = await make_node(dsn)
    device = Device(node)
    await device.sync(put("a", {"id": "a"}))
    await node.stop()
    # What a dump from a busier server looks like here.
    await sql.execute("alter table homeport.documents disable trigger homeport_version")
    await sql.execute("update homeport.documents set version = '999999999'")
    await sql.execute("alter table homeport.documents enable trigger homeport_version")
    await sql.execute("update homeport.change_log set xid = '999999999'")
    with pytest.raises(ServerError, match="rebase-log"):
        await make_node(dsn)
    # The command that the error names.
    command = [sys.executable, "-m", "homeport", "rebase-log", "--postgres", dsn]
    ran = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    said, _ = await ran.communicate()
    assert (ran.returncode, said.split()[0]) == (0, b"1")
    node = await make_node(dsn)
    device.node = node
    with pytest.raises(HistoryBroken):
        await device.sync()
    device.cursor, device.holds, device.rows = None, {}, {}
    await device.sync()
    assert int(device.token("a")) < 999999999
    assert results(await device.sync(put("a", {"id": "a", "n": 1}, device.token("a")))) == [
        "applied"
    ]


async def test_a_frozen_database_ends_in_bounded_time_and_heals(own_server, make_node):
    node = await make_node(own_server.dsn, timeout_s=1.0, pool_size=2)
    device = Device(node)
    await device.sync(put("a", {"id": "a"}))
    own_server.freeze()
    try:
        request = device.request(put("b", {"id": "b"}))
        for _ in range(3):
            begin = time.monotonic()
            answers = await asyncio.gather(
                *(node.sync(device.claims, request) for _ in range(6)), return_exceptions=True
            )
            assert all(isinstance(answer, DatabaseUnavailable) for answer in answers)
            assert time.monotonic() - begin < 1.6
        assert not await node.ready()
    finally:
        own_server.thaw()
    deadline = time.monotonic() + 10
    while True:
        try:
            device.apply([await node.sync(device.claims, request)])
            break
        except DatabaseUnavailable:
            assert time.monotonic() < deadline
    assert set(device.docs()) == {"a", "b"}


async def test_a_connection_that_dies_inside_the_driver_is_a_database_away(dsn):
    """Its state machine raises an error of a class of its own then; seen once in a hundred kills."""
    database = Database(dsn)
    with pytest.raises(DatabaseUnavailable):
        async with database.session():
            raise asyncpg.InternalClientError("cannot switch to state 15")
    async with database.session() as connection:
        assert await connection.fetchval("select 1") == 1
    await database.close()


async def test_a_killed_database_ends_at_once_and_heals(own_server, make_node):
    node = await make_node(own_server.dsn, timeout_s=2.0)
    device = Device(node)
    await device.sync(put("a", {"id": "a"}))
    own_server.kill()
    request = device.request(put("b", {"id": "b"}))
    begin = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        await node.sync(device.claims, request)
    assert time.monotonic() - begin < 2.5
    own_server.restart()
    deadline = time.monotonic() + 10
    while True:
        try:
            device.apply([await node.sync(device.claims, request)])
            break
        except DatabaseUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    assert set(device.docs()) == {"a", "b"}
    # Acknowledged once more: the same number is answered, not applied.
    assert (await node.sync(device.claims, request)).batch.number == 2
