"""A connection through a pooler that gives each transaction another session, as PgBouncer does in
transaction mode: nothing lives longer than a transaction, neither prepared statements nor settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

PARAMETER: Final = "pooler"


def split_dsn(dsn: str) -> tuple[str, bool]:
    """The connection string without our own parameter, and whether it said ``pooler=transaction``.

    Raises:
        ValueError: it says something else.
    """
    parts = urlsplit(dsn)
    query = parse_qsl(parts.query, keep_blank_values=True)
    said = [value for name, value in query if name == PARAMETER]
    if not said:
        return dsn, False
    if said != ["transaction"]:
        raise ValueError(f"the only pooler= that is known is transaction, not {said[-1]!r}")
    rest = urlencode([(name, value) for name, value in query if name != PARAMETER])
    return urlunsplit(parts._replace(query=rest)), True


class PooledConnection:
    """An asyncpg connection (made without a statement cache) whose every statement runs in a
    transaction that begins with our settings."""

    def __init__(self, connection: Any, settings: Mapping[str, str]) -> None:
        self._connection = connection
        self._settings = "".join(
            f"; set local {name} = '{value}'" for name, value in settings.items()
        )

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        if query.startswith("begin"):
            done: str = await self._connection.execute(query + self._settings, timeout=timeout)
            return done
        return str(await self._run("execute", query, *args, timeout=timeout))

    async def fetch(self, query: str, *args: object) -> list[Any]:
        found: list[Any] = await self._run("fetch", query, *args)
        return found

    async def fetchrow(self, query: str, *args: object) -> Any:
        return await self._run("fetchrow", query, *args)

    async def fetchval(self, query: str, *args: object) -> Any:
        return await self._run("fetchval", query, *args)

    async def _run(self, name: str, query: str, *args: object, **more: Any) -> Any:
        method = getattr(self._connection, name)
        if self._connection.is_in_transaction() or query in ("rollback", "commit"):
            return await method(query, *args, **more)
        await self.execute("begin")
        found = await method(query, *args, **more)
        await self._connection.execute("commit")
        return found

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None:
        """Nobody listens through such a pooler: other nodes' nudges are lost, the timer remains."""

    def is_in_transaction(self) -> bool:
        return bool(self._connection.is_in_transaction())

    def is_closed(self) -> bool:
        return bool(self._connection.is_closed())

    def terminate(self) -> None:
        self._connection.terminate()

    async def close(self, *, timeout: float | None = None) -> None:
        await self._connection.close(timeout=timeout)
