"""Hints to devices: "something moved, pull". Never data, and never needed for correctness.

One tailer per node reads the change log behind its own snapshot, woken by a NOTIFY (sent after the
commit of a push, by a connection that commits nothing else) and by a timer anyway.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import random
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec

from homeport.core.wire import Hint
from homeport.errors import HomeportError, ServerError

from .database import Connection, Database, Overloaded, connect, translate
from .feed import is_snapshot, pack
from .rules import Scope
from .schema import check_history

log = logging.getLogger("homeport.server.live")

CHANNEL = "homeport"
FIRST_PAUSE_S = 0.2
LAST_PAUSE_S = 5.0
MAX_PENDING = 256
MAX_STREAMS = 10_000
MAX_STREAMS_OF_USER = 100
ID_AGE_S = 24 * 3600.0
"""A stream that went on from an older id pulls instead: the log is kept for longer."""

_FIRST = "select pg_current_snapshot()::text"
_MOVED = """
with moved as (
    select tenant, collection, bucket, xid from homeport.change_log
    where xid >= pg_snapshot_xmax($1::text::pg_snapshot)
    union
    select tenant, collection, bucket, xid from homeport.change_log
    where xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot)))
)
select pg_current_snapshot()::text as now,
    (select json_object_agg(name, generation)::text from homeport.collections) as generations,
    m.tenant, m.collection, m.bucket,
    m.xid::text::int8 as xid
from (select) as one left join moved m on true
"""
_SINCE = """
with moved as (
    select tenant, collection, bucket, xid from homeport.change_log
    where xid >= pg_snapshot_xmax($2::text::pg_snapshot)
    union
    select tenant, collection, bucket, xid from homeport.change_log
    where xid = any (array(select pg_snapshot_xip($2::text::pg_snapshot)))
)
select collection, bucket, xid::text::int8 as xid from moved
where tenant = $1 and collection = any ($3) limit $4
"""
_GENERATIONS = "select name, generation from homeport.collections"


class Subscriber:
    """One live stream: a bounded set of what moved, waiting to be sent.

    kind: ``websocket``, ``sse`` or ``long-poll``. hub: where it is registered.
    """

    def __init__(
        self,
        tenant: str,
        collections: Iterable[str],
        scope: Scope,
        subject: str = "",
        kind: str = "websocket",
    ) -> None:
        self.tenant = tenant
        self.subject = subject
        self.kind = kind
        self.collections = frozenset(collections)
        self.hub: Hub | None = None
        self.rescope(scope)
        self._pending: set[str] = set()
        self._moved: set[int] | None = set()
        """Transactions that wrote; None = not all of them are known."""
        self._resync = False
        self._leaving = False
        self._event = asyncio.Event()

    def rescope(self, scope: Scope) -> None:
        """The buckets that are seen from now on."""
        self.scope = scope
        flat = sorted((name, sorted(buckets)) for name, buckets in scope.items())
        self.digest = hashlib.sha256(msgspec.json.encode(flat)).hexdigest()[:12]

    def id(self) -> str:
        """Up to where the log was told, for the next stream; empty = not known."""
        at = None if self.hub is None else self.hub.at
        return "" if at is None else pack(_Id(at, self.digest, int(time.time())))

    def offer(self, collection: str, bucket: str | None, transaction: int | None = None) -> None:
        """Note a change when this device may see it; ``bucket`` None = all of the collection."""
        if collection not in self.collections:
            return
        if bucket is not None and bucket not in self.scope.get(collection, frozenset()):
            return
        self._pending.add(collection)
        if transaction is None or self._moved is None or len(self._moved) >= MAX_PENDING:
            self._moved = None
        else:
            self._moved.add(transaction)
        if len(self._pending) > MAX_PENDING:
            self.resync()
        self._event.set()

    def resync(self) -> None:
        """Forget the details: the device shall pull everything."""
        self._pending.clear()
        self._moved = set()
        self._resync = True
        self._event.set()

    def leave(self) -> None:
        """The node is stopping."""
        self._leaving = True
        self._event.set()

    async def take(self) -> Hint:
        """Wait for the next message."""
        await self._event.wait()
        self._event.clear()
        pending, self._pending = sorted(self._pending), set()
        moved, self._moved = sorted(self._moved or ()), set()
        resync, self._resync = self._resync, False
        if self._leaving:
            return Hint("bye")
        if resync:
            return Hint("resync", sorted(self.collections), id=self.id())
        return Hint("hint", pending, moved, self.id())


class _Id(msgspec.Struct, array_like=True):
    """What a message's ``id`` holds: a snapshot of the log, a digest of the scope, when."""

    snapshot: str
    digest: str
    made_s: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


async def catch_up(connection: Connection, subscriber: Subscriber, since: str) -> None:
    """Offer what moved since the message with this id; all when that cannot be said exactly."""
    try:
        last = msgspec.json.decode(base64.urlsafe_b64decode(since), type=_Id)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        subscriber.resync()
        return
    young = 0 <= time.time() - last.made_s + 60 < ID_AGE_S
    if not young or last.digest != subscriber.digest or not is_snapshot(last.snapshot):
        subscriber.resync()
        return
    names = sorted(name for name in subscriber.collections if "\0" not in name)
    rows = await connection.fetch(_SINCE, subscriber.tenant, last.snapshot, names, MAX_PENDING + 1)
    if len(rows) > MAX_PENDING:
        subscriber.resync()
        return
    for row in rows:
        subscriber.offer(row["collection"], row["bucket"], row["xid"])


class Hub:
    """The live streams of this node, by tenant.

    Args:
        max_streams: of this node.
        max_per_user: of one user on this node.

    Attributes:
        at: the snapshot up to which all streams were told; None while the log is not followed.
        by_kind: how many streams there are of each kind.
    """

    def __init__(
        self, max_streams: int = MAX_STREAMS, max_per_user: int = MAX_STREAMS_OF_USER
    ) -> None:
        self._by_tenant: dict[str, set[Subscriber]] = {}
        self._by_user: dict[tuple[str, str], int] = {}
        self._max_streams = max_streams
        self._max_per_user = max_per_user
        self.by_kind = {"websocket": 0, "sse": 0, "long-poll": 0}
        self.at: str | None = None

    @property
    def count(self) -> int:
        return sum(self.by_kind.values())

    def add(self, subscriber: Subscriber) -> None:
        """Begin to send hints to it. Raises ``Overloaded`` when there are too many streams."""
        user = (subscriber.tenant, subscriber.subject)
        if self.count >= self._max_streams:
            raise Overloaded("This node has as many live streams as it may have.")
        if self._by_user.get(user, 0) >= self._max_per_user:
            raise Overloaded("This user has as many live streams as one may have.")
        self._by_tenant.setdefault(subscriber.tenant, set()).add(subscriber)
        self._by_user[user] = self._by_user.get(user, 0) + 1
        self.by_kind[subscriber.kind] += 1
        subscriber.hub = self

    def remove(self, subscriber: Subscriber) -> None:
        """Stop sending to it."""
        group = self._by_tenant.get(subscriber.tenant, set())
        if subscriber in group:
            group.discard(subscriber)
            self.by_kind[subscriber.kind] -= 1
            user = (subscriber.tenant, subscriber.subject)
            self._by_user[user] -= 1
            if not self._by_user[user]:
                del self._by_user[user]
        if not group:
            self._by_tenant.pop(subscriber.tenant, None)

    def moved(self, tenant: str, collection: str, bucket: str, transaction: int) -> None:
        """A row was written."""
        for subscriber in self._by_tenant.get(tenant, ()):
            subscriber.offer(collection, bucket, transaction)

    def regenerated(self, collection: str) -> None:
        """A collection is to be sent anew to everybody."""
        for subscriber in self._all():
            subscriber.offer(collection, None)

    def resync(self) -> None:
        """Changes may have been missed."""
        for subscriber in self._all():
            subscriber.resync()

    def leave(self) -> None:
        """Say good-bye to all."""
        for subscriber in self._all():
            subscriber.leave()

    def _all(self) -> list[Subscriber]:
        return [one for group in self._by_tenant.values() for one in group]


class Tailer:
    """Watches the change log and tells the hub.

    Attributes:
        fault: why this database must not be served (a standby, a restored dump); None = healthy.
        connected: whether the last look at the log succeeded.
        pause_s: longest pause before it connects again.
    """

    def __init__(
        self, dsn: str, hub: Hub, *, interval_s: float = 0.5, limit_s: float = 5.0
    ) -> None:
        self._dsn = dsn
        self._hub = hub
        self._interval_s = interval_s
        self._limit_s = limit_s
        self.name = uuid.uuid4().hex
        """What the nudges of this node say."""
        self._woken = asyncio.Event()
        self._snapshot: str | None = None
        self._generations: Mapping[str, int] = {}
        self.fault: str | None = None
        self.connected = False
        self.pause_s = FIRST_PAUSE_S

    def poke(self) -> None:
        """Look at the log soon."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled; reconnects with back-off."""
        while True:
            connection: Connection | None = None
            try:
                connection = await connect(self._dsn)
                await self._follow(connection)
            except ServerError as error:
                if type(error) is ServerError:
                    self.fault = error.message
                log.warning("live tailer: %s", error.message)
            except Exception as error:
                known = translate(error)
                if known is None:
                    raise
                log.warning("live tailer: %s", known.message)
            finally:
                if self.connected:
                    self.pause_s = FIRST_PAUSE_S  # what it was away for before is over
                self.connected = False
                self._hub.at = None
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(random.uniform(0, self.pause_s))  # noqa: S311 - jitter
            self.pause_s = min(self.pause_s * 2, LAST_PAUSE_S)

    async def _follow(self, connection: Connection) -> None:
        def woken(*told: Any) -> None:
            # Our own nudge was preceded by a poke: the log was looked at already.
            if told[-1] != self.name:
                self._woken.set()

        async with asyncio.timeout(self._limit_s):
            await check_history(connection)
            await connection.add_listener(CHANNEL, woken)
            self._snapshot = self._hub.at = await connection.fetchval(_FIRST)
            self._generations = await self._read_generations(connection)
        self.fault = None
        self.connected = True
        # Whatever happened while this connection was away was not seen.
        self._hub.resync()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._woken.wait()
            self._woken.clear()
            async with asyncio.timeout(self._limit_s):
                await self._look(connection)

    async def _read_generations(self, connection: Connection) -> Mapping[str, int]:
        return {row[0]: row[1] for row in await connection.fetch(_GENERATIONS)}

    async def _look(self, connection: Connection) -> None:
        rows = await connection.fetch(_MOVED, self._snapshot)
        self._snapshot = self._hub.at = rows[0]["now"]
        for row in rows:
            if row["tenant"] is not None:
                self._hub.moved(row["tenant"], row["collection"], row["bucket"], row["xid"])
        generations = msgspec.json.decode(rows[0]["generations"] or "{}", type=dict[str, int])
        if generations != self._generations:
            for name, generation in generations.items():
                if self._generations.get(name, generation) != generation:
                    self._hub.regenerated(name)
            self._generations = generations


class Nudger:
    """Tells the other nodes that something was committed, at most once per ``gap_s``.

    Never inside a data transaction: a pending NOTIFY ends group commit for the whole server.
    """

    def __init__(self, database: Database, tailer: Tailer, *, gap_s: float = 0.02) -> None:
        self._database = database
        self._tailer = tailer
        self._gap_s = gap_s
        self._wanted = asyncio.Event()

    def poke(self) -> None:
        """A push was committed on this node."""
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._tailer.poke()
            with contextlib.suppress(HomeportError):  # a lost nudge costs one timer interval
                async with self._database.session(2.0) as connection:
                    await connection.execute("select pg_notify($1, $2)", CHANNEL, self._tailer.name)
            await asyncio.sleep(self._gap_s)
