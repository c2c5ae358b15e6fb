"""A node behind a pooler that changes sessions between transactions: it leaves nothing in them.

(A real PgBouncer, killed and stopped too, is one of the kinds of ``make faults``.)"""

from __future__ import annotations

import pytest

from homeport.errors import DatabaseUnavailable
from homeport.server.database import connect
from homeport.server.pooled import PooledConnection, split_dsn

from .helpers import Device, put, results


def test_the_parameter_is_ours():
    assert split_dsn("postgresql://u:p%40@h:1/d?sslmode=require") == (
        "postgresql://u:p%40@h:1/d?sslmode=require",
        False,
    )
    assert split_dsn("postgresql://u:p%40@h:1/d?pooler=transaction&sslmode=require") == (
        "postgresql://u:p%40@h:1/d?sslmode=require",
        True,
    )
    with pytest.raises(ValueError, match="session"):
        split_dsn("postgresql://h/d?pooler=session")


async def test_a_wrong_parameter_is_refused(dsn):
    with pytest.raises(DatabaseUnavailable, match="pooler="):
        await connect(f"{dsn}?pooler=statement")


async def test_nothing_stays_in_a_session(dsn):
    connection = await connect(f"{dsn}?pooler=transaction")
    try:
        assert isinstance(connection, PooledConnection)
        plain = await connection.fetchval("select current_setting('lock_timeout')")
        assert plain == "4s"
        await connection.execute("begin")
        assert await connection.fetchval("select $1::int + 1", 1) == 2
        assert await connection.fetchval("show application_name") == "homeport"
        await connection.execute("commit")
        bare = connection._connection
        assert await bare.fetchval("show lock_timeout") == "0"
        assert await bare.fetchval("select count(*) from pg_prepared_statements where name <> ''") == 0
    finally:
        await connection.close()


async def test_devices_sync_through_it(dsn, make_node):
    node = await make_node(f"{dsn}?pooler=transaction")
    one, other = Device(node), Device(node)
    assert results(await one.sync(put("a", {"id": "a", "n": 1}))) == ["applied"]
    await other.sync()
    assert other.docs() == {"a": {"id": "a", "n": 1}}
    assert results(await other.sync(put("a", {"id": "a", "n": 2}, other.token("a")))) == ["applied"]
    await one.sync()
    assert one.docs() == {"a": {"id": "a", "n": 2}}
