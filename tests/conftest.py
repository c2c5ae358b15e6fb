"""Shared by the whole suite."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from homeport.server.postgres import Postgres

# CI must give the same answer twice; `HYPOTHESIS_PROFILE=explore` looks for new counterexamples.
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.register_profile("explore", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    """A real PostgreSQL: ``$DATABASE_URL``, or an embedded one for this session."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    with Postgres.start(settings={"fsync": "off"}) as server:
        yield server.dsn


@contextmanager
def fresh_database(server_dsn: str) -> Iterator[str]:
    name = f"homeport_test_{uuid.uuid4().hex[:12]}"

    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(server_dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(execute(f"create database {name}"))
    try:
        yield urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))
    finally:
        asyncio.run(execute(f"drop database {name} with (force)"))


@pytest.fixture
def database_dsn(server_dsn: str) -> Iterator[str]:
    """A fresh database for one test."""
    with fresh_database(server_dsn) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def module_database_dsn(server_dsn: str) -> Iterator[str]:
    """A fresh database for the tests of one file."""
    with fresh_database(server_dsn) as dsn:
        yield dsn
