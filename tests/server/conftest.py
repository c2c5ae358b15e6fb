"""A fresh database for each test, on the PostgreSQL of the session (tests/conftest.py)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio

from homeport.server.postgres import Postgres

from .helpers import NodeFactory


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """A server that the test may freeze and kill."""
    with Postgres.start(settings={"fsync": "off", "wal_writer_delay": "10s"}) as server:
        yield server


@pytest_asyncio.fixture
async def dsn(server_dsn: str) -> AsyncIterator[str]:
    name = f"homeport_test_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(server_dsn)
    try:
        await admin.execute(f"create database {name}")
        yield urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))
        await admin.execute(f"drop database {name} with (force)")
    finally:
        await admin.close()


@pytest_asyncio.fixture
async def make_node() -> AsyncIterator[NodeFactory]:
    factory = NodeFactory()
    yield factory
    await factory.stop()


@pytest_asyncio.fixture
async def sql(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    connection.terminate()
