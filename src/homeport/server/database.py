"""The way to PostgreSQL: a small pool whose every wait ends.

A time limit on a statement does not bound a request when the database freezes, since the rollback
waits too. Here one ``asyncio.timeout`` stands around a whole session, and a connection that is not
known to be clean is cut, never reset. asyncpg publishes no types; it is named in this file only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import asyncpg

from homeport.errors import DatabaseUnavailable, HomeportError

from .pooled import PooledConnection, split_dsn

# What the database itself may wait for; the sessions' own limits are shorter or stand around it.
# No search_path: triggers of the owner rely on theirs, and all names of ours are qualified.
SETTINGS = {
    "application_name": "homeport",
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "lock_timeout": "4s",
    "idle_in_transaction_session_timeout": "15s",
    "statement_timeout": "60s",
    "timezone": "UTC",
    "jit": "off",
    # A plan made while the log was small must not be kept for one that has grown.
    "plan_cache_mode": "force_custom_plan",
}
CONNECT_TIMEOUT_S = 5.0

# SQLSTATE classes that say "the database is away or full", never "your data is wrong".
_AWAY_CLASSES = ("08", "53", "57", "58", "F0", "XX", "3D", "28")


class Connection(Protocol):
    """What we use of an asyncpg connection."""

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str: ...

    async def fetch(self, query: str, *args: object) -> list[Any]: ...

    async def fetchrow(self, query: str, *args: object) -> Any: ...

    async def fetchval(self, query: str, *args: object) -> Any: ...

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None: ...

    def is_in_transaction(self) -> bool: ...

    def is_closed(self) -> bool: ...

    def terminate(self) -> None: ...

    async def close(self, *, timeout: float | None = None) -> None: ...


class Overloaded(HomeportError):
    """Too many requests wait for the database."""

    code = "busy"
    action = "Try again later; nothing was done."


class StatementFailed(HomeportError):
    """PostgreSQL refused a statement.

    Attributes:
        sqlstate: five characters, PostgreSQL's appendix of error codes.
        constraint: name of the violated constraint, if any.
        log_text: PostgreSQL's own words; may hold other people's data, so only for our log.
    """

    code = "statement-failed"

    def __init__(self, sqlstate: str, constraint: str | None, schema: str, log_text: str) -> None:
        super().__init__(f"PostgreSQL refused a statement ({sqlstate}).")
        self.sqlstate = sqlstate
        self.constraint = constraint
        self.schema = schema
        self.log_text = log_text


# InternalClientError is how the driver reports a connection that died under it at a bad moment.
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


def translate(error: BaseException) -> HomeportError | None:
    """Our error for one of the driver or the network; None when it is neither."""
    if isinstance(error, HomeportError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        state = getattr(error, "sqlstate", None) or "XX000"
        if state[:2] in _AWAY_CLASSES and state != "57014":
            return DatabaseUnavailable(f"PostgreSQL is not available ({state}).")
        return StatementFailed(
            state,
            getattr(error, "constraint_name", None),
            getattr(error, "schema_name", None) or "",
            str(error),
        )
    if isinstance(error, _FAILURES):
        return DatabaseUnavailable(f"PostgreSQL does not answer ({type(error).__name__}).")
    return None


async def connect(dsn: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> Connection:
    """One connection with our settings.

    ``?pooler=transaction`` at the end of the connection string says that it leads to a pooler
    (PgBouncer) that changes sessions between transactions.

    Raises:
        DatabaseUnavailable: no server, no answer in time, or it refuses us.
    """
    try:
        async with asyncio.timeout(timeout_s):
            address, pooled = split_dsn(dsn)
            if pooled:
                bare: Any = await asyncpg.connect(address, statement_cache_size=0)
                return PooledConnection(bare, SETTINGS)
            made: Connection = await asyncpg.connect(dsn, server_settings=SETTINGS)
    except (*_FAILURES, ValueError) as error:
        if isinstance(error, TimeoutError):
            raise DatabaseUnavailable("PostgreSQL did not answer in time.") from error
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {error}") from error
    return made


class Database:
    """A bounded pool.

    Args:
        dsn: connection string.
        size: connections at most.
        max_waiting: sessions that may wait for a connection; one more is ``Overloaded``.
        timeout_s: whole length of a session (wait, connect and work).
    """

    def __init__(
        self, dsn: str, *, size: int = 10, max_waiting: int = 200, timeout_s: float = 8.0
    ) -> None:
        self.dsn = dsn
        self.timeout_s = timeout_s
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._max_waiting = max_waiting
        self.waiting = 0
        self.in_use = 0
        self._closed = False

    @contextlib.asynccontextmanager
    async def session(self, timeout_s: float | None = None) -> AsyncIterator[Connection]:
        """A connection of one's own; cut when it is not clean afterwards.

        Raises:
            Overloaded: too many wait already.
            DatabaseUnavailable: away, frozen, or not done in time.
            StatementFailed: a statement was refused.
        """
        if self._closed:
            raise DatabaseUnavailable("This node is stopping.")
        if self.waiting >= self._max_waiting:
            raise Overloaded("Too many requests wait for the database.")
        connection: Connection | None = None
        clean = False
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await self._enter()
                try:
                    connection = self._take() or await connect(self.dsn)
                    try:
                        yield connection
                        clean = True
                    except HomeportError:
                        # Raised by our own code between statements: judged by the state below.
                        clean = True
                        raise
                finally:
                    self._leave(connection, clean=clean)
        except TimeoutError as error:
            raise DatabaseUnavailable(f"PostgreSQL did not answer within {limit_s:g} s.") from error
        except _FAILURES as error:
            translated = translate(error)
            assert translated is not None
            raise translated from error

    async def _enter(self) -> None:
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.in_use += 1

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def _leave(self, connection: Connection | None, *, clean: bool) -> None:
        self.in_use -= 1
        self._slots.release()
        if connection is None:
            return
        if clean and not (self._closed or connection.is_closed() or connection.is_in_transaction()):
            self._idle.append(connection)
        else:
            connection.terminate()

    async def close(self) -> None:
        """Close idle connections; those in use are cut when they come back."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.terminate()


async def rollback(connection: Connection) -> None:
    """Leave a failed transaction, if one is open; the caller's time limit covers it."""
    if not connection.is_closed() and connection.is_in_transaction():
        await connection.execute("rollback")
