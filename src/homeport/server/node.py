"""One node: everything that a server process holds, and its life."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping

import msgspec

from homeport.core.wire import MAX_UNIT_BYTES, PushRequest, Reply
from homeport.errors import DatabaseUnavailable, HomeportError, ServerError

from .auth import Authenticator
from .database import Connection, Database, connect
from .exchange import Exchange
from .limits import DEVICE_REQUESTS, USER_BYTES, USER_REQUESTS, Limits, RateLimit
from .live import MAX_STREAMS, MAX_STREAMS_OF_USER, Hub, Nudger, Tailer
from .pull import PAGE_BYTES, PAGE_S
from .rules import (
    Claims,
    Rules,
    ServerCollection,
)
from .schema import check_history, install

log = logging.getLogger("homeport.server")

MAX_REQUEST_BYTES = MAX_UNIT_BYTES + 1_000_000
RETENTION_S = 30 * 24 * 3600.0
PRUNE_INTERVAL_S = 15 * 60.0


class Node:
    """A stateless server over one PostgreSQL.

    Args:
        postgres: connection string of the primary.
        auth: verifies tokens.
        collections: what is served; None = development mode, any collection that a device names.
        pool_size: connections for requests (one more follows the log).
        timeout_s: longest time that a request waits for PostgreSQL.
        retention_s: how long changes are kept; a device away for longer fetches everything.
        page_bytes, page_s: limits of one page of a cut.
        hint_interval_s: how often the log is looked at without a nudge.
        max_streams, max_streams_per_user: live streams; one more is turned away with 429.
        max_request_bytes: of one request, unpacked; not below what the largest unit needs.
        device_requests, user_requests, user_bytes: how much one device and one user may ask and
            send, counted by each node for itself (``server.limits``); more is turned away with
            429. None = any.
    """

    def __init__(
        self,
        postgres: str,
        *,
        auth: Authenticator,
        collections: Iterable[ServerCollection] | None,
        pool_size: int = 10,
        timeout_s: float = 8.0,
        max_waiting: int = 200,
        retention_s: float = RETENTION_S,
        page_bytes: int = PAGE_BYTES,
        page_s: float = PAGE_S,
        hint_interval_s: float = 0.5,
        max_streams: int = MAX_STREAMS,
        max_streams_per_user: int = MAX_STREAMS_OF_USER,
        max_request_bytes: int = MAX_REQUEST_BYTES,
        device_requests: RateLimit | None = DEVICE_REQUESTS,
        user_requests: RateLimit | None = USER_REQUESTS,
        user_bytes: RateLimit | None = USER_BYTES,
    ) -> None:
        if max_request_bytes < MAX_REQUEST_BYTES:
            raise ServerError(
                f"max_request_bytes is {MAX_REQUEST_BYTES} or more: a unit may be that large."
            )
        self.max_request_bytes = max_request_bytes
        self.limits = Limits(
            time.monotonic,
            device_requests=device_requests,
            user_requests=user_requests,
            user_bytes=user_bytes,
        )
        self.postgres = postgres
        self.auth = auth
        self.rules = Rules(collections)
        self.database = Database(
            postgres, size=pool_size, max_waiting=max_waiting, timeout_s=timeout_s
        )
        self._exchange = Exchange(
            self.database,
            self.rules,
            page_bytes=page_bytes,
            page_s=page_s,
            refresh_s=retention_s / 4,
        )
        self.feed = self._exchange.feed
        self.pusher = self._exchange.pusher
        self.puller = self._exchange.puller
        self.hub = Hub(max_streams, max_streams_per_user)
        self.tailer = Tailer(postgres, self.hub, interval_s=hint_interval_s)
        self.nudger = Nudger(self.database, self.tailer)
        self.started = time.time()
        self.refusals: dict[str, int] = {}
        self.bytes_received = {"packed": 0, "unpacked": 0}
        """Bodies of requests, as they came and as they were meant; of good answers likewise."""
        self.bytes_sent = {"packed": 0, "unpacked": 0}
        self._retention_s = retention_s
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *, patience_s: float = 20.0) -> None:
        """Install the schema, check the history, begin to follow the log.

        Raises:
            DatabaseUnavailable: PostgreSQL did not answer within ``patience_s``.
            ServerError: a standby, a restored dump, or a schema of a newer Homeport.
            DuplicateValues: documents break a unique index that is declared.
        """
        connection = await self._connect(patience_s)
        try:
            await install(connection, None if self.rules.any else self.rules.declared.values())
            await check_history(connection)
        finally:
            connection.terminate()
        self._tasks = [
            asyncio.create_task(self.tailer.run()),
            asyncio.create_task(self.nudger.run()),
            asyncio.create_task(self._prune()),
        ]

    async def _connect(self, patience_s: float) -> Connection:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return await connect(self.postgres)
            except DatabaseUnavailable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.25)

    async def stop(self) -> None:
        """End the background work and close the pool."""
        self.hub.leave()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self.database.close()

    async def sync(self, claims: Claims, request: PushRequest) -> Reply:
        """Push (when there is a batch), then the next page of a cut.

        Raises:
            HomeportError: see ``Exchange.sync``.
        """
        if self.tailer.fault is not None:
            raise DatabaseUnavailable(self.tailer.fault)
        return await self._exchange.sync(claims, request, pushed=self.nudger.poke)

    async def ready(self) -> bool:
        """Whether PostgreSQL answers within a second and may be served."""
        if self.tailer.fault is not None:
            return False
        try:
            async with self.database.session(1.0) as connection:
                await connection.fetchval("select 1")
        except HomeportError:
            return False
        return True

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_INTERVAL_S)
            with contextlib.suppress(HomeportError):  # the next round does it
                dropped = await self.feed.prune(self._retention_s)
                if dropped:
                    log.info("pruned %d rows of the change log", dropped)

    def metrics(self) -> str:
        """All figures as Prometheus text."""
        figures: list[tuple[str, str, Mapping[str, float]]] = [
            ("homeport_units_total", "result", self.pusher.counts),
            ("homeport_refusals_total", "code", self.refusals),
            ("homeport_received_bytes_total", "form", self.bytes_received),
            ("homeport_sent_bytes_total", "form", self.bytes_sent),
            ("homeport_live_streams", "kind", self.hub.by_kind),
        ]
        lines: list[str] = []
        for name, label, values in figures:
            kind = "counter" if name.endswith("_total") else "gauge"
            lines.append(f"# TYPE {name} {kind}")
            lines += [f'{name}{{{label}="{key}"}} {value}' for key, value in values.items()]
        plain = (
            ("homeport_pages_total", "counter", self.puller.pages),
            ("homeport_rows_total", "counter", self.puller.rows),
            ("homeport_markers_total", "counter", self.feed.markers_made),
            ("homeport_database_sessions", "gauge", self.database.in_use),
            ("homeport_database_waiting", "gauge", self.database.waiting),
            ("homeport_tailer_connected", "gauge", int(self.tailer.connected)),
            ("homeport_uptime_seconds", "gauge", round(time.time() - self.started, 1)),
        )
        for name, kind, value in plain:
            lines += [f"# TYPE {name} {kind}", f"{name} {value}"]
        return "\n".join(lines) + "\n"


def decode_request(body: bytes) -> PushRequest:
    """The request in ``body``.

    Raises:
        msgspec.DecodeError: it is malformed.
    """
    return msgspec.json.decode(body, type=PushRequest)
