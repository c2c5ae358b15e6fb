"""Shared by the whole suite."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
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


# Run by root, PostgreSQL is the user nobody. pytest closes its folder of root's temporary files to
# all others at the start of each run, also to a server that an earlier run has in there.
_OWN_ROOT = pytest.StashKey[Path]()
_KEPT_S = 3 * 24 * 3600


def pytest_configure(config: pytest.Config) -> None:
    if os.geteuid() or os.environ.get("PYTEST_DEBUG_TEMPROOT"):
        return
    for old in Path(tempfile.gettempdir()).glob("homeport-tests-*"):
        with suppress(OSError):
            if old.stat().st_mtime < time.time() - _KEPT_S:
                shutil.rmtree(old, ignore_errors=True)
    root = Path(tempfile.mkdtemp(prefix="homeport-tests-"))
    root.chmod(0o755)
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(root)  # for xdist's workers too
    config.stash[_OWN_ROOT] = root


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    root = session.config.stash.get(_OWN_ROOT, None)
    if root is not None:
        os.environ.pop("PYTEST_DEBUG_TEMPROOT", None)
        if exitstatus == 0:  # else what a failed test has left is looked at
            shutil.rmtree(root, ignore_errors=True)


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
