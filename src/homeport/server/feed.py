"""The feed of consistent cuts by snapshot cursor.

A cursor *is* a snapshot of PostgreSQL: what it calls finished, the device has. Before a cursor is
handed out, a marker with a random nonce is committed durably after the snapshot was taken. When a
crash, a failover or a restore takes history back, the marker goes with it, and a cursor whose
marker is gone is refused: transaction ids above it may have been issued a second time.
"""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from homeport.core.wire import Seen
from homeport.errors import DatabaseUnavailable, HistoryBroken

from .database import Connection, Database
from .rules import Scope
from .visible import pairs

_SNAPSHOT = re.compile(r"\d{1,20}:\d{1,20}:(\d{1,20}(,\d{1,20})*)?")


class Cursor(msgspec.Struct, array_like=True):
    """What a device hands back: the snapshot, its marker, and whose it is."""

    snapshot: str
    nonce: str
    owner: str


def pack(value: object) -> str:
    """Opaque text of a cursor or a position."""
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode()


def unpack_cursor(text: str, owner: str) -> Cursor:
    """The cursor that ``text`` holds.

    Raises:
        HistoryBroken: it is not one of ours, or another user's.
    """
    try:
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(text), type=Cursor)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise HistoryBroken("The cursor is not one of this server.") from error
    check_mark(cursor.snapshot, cursor.nonce)
    if cursor.owner != owner:
        raise HistoryBroken("The cursor belongs to another user.")
    return cursor


def check_mark(snapshot: str, nonce: str) -> None:
    """Refuse what PostgreSQL could not read as a snapshot and a nonce.

    Raises:
        HistoryBroken: malformed.
    """
    try:
        uuid.UUID(nonce)
    except ValueError as error:
        raise HistoryBroken("The cursor is not one of this server.") from error
    if not is_snapshot(snapshot):
        raise HistoryBroken("The cursor is not one of this server.")


def seen_in(snapshot: str) -> Seen:
    """The transactions that a snapshot calls finished."""
    low, high, between = snapshot.split(":")
    return Seen(int(low), int(high), [int(one) for one in between.split(",")] if between else [])


def is_snapshot(snapshot: str) -> bool:
    """What PostgreSQL demands of xmin:xmax:xip,xip…"""
    if _SNAPSHOT.fullmatch(snapshot) is None:
        return False
    seen = seen_in(snapshot)
    return (
        0 < seen.low <= seen.high < 2**64
        and seen.open == sorted(seen.open)
        and all(seen.low <= one < seen.high for one in seen.open)
    )


class Feed(Protocol):
    """Consistent cuts. ``SnapshotFeed`` is the one that ships."""

    async def begin(self, connection: Connection) -> str:
        """Open a read transaction; its snapshot."""
        ...

    async def age_s(self, connection: Connection, snapshot: str, nonce: str) -> float:
        """Seconds since the marker was made; raises HistoryBroken when history broke."""
        ...

    async def changed(
        self,
        connection: Connection,
        tenant: str,
        since: str,
        scope: Scope,
        *,
        after: tuple[str, str],
        limit: int,
    ) -> list[tuple[str, str]]:
        """Keys written since a snapshot, each once, in order, behind ``after``."""
        ...

    async def seal(self) -> str:
        """Commit a marker that began after this call; its nonce."""
        ...

    async def prune(self, retention_s: float) -> int:
        """Drop what is older; the number of log rows dropped."""
        ...


_MARK = """
select (select extract(epoch from clock_timestamp() - made)::float8
        from homeport.markers where nonce = $2::text::uuid) as age_s,
    exists (select from homeport.horizon h, (select $1::text::pg_snapshot as s) c
            where pg_snapshot_xmax(h.snapshot) > pg_snapshot_xmax(c.s)
               or exists (select from pg_snapshot_xip(c.s) as x
                          where pg_visible_in_snapshot(x, h.snapshot))) as pruned
"""

# The two arms use the index; `xid >= xmin and not visible` would scan all behind an old hole.
_CHANGED = """
with seen as (
    select collection, key, bucket from homeport.change_log
    where tenant = $1 and xid >= pg_snapshot_xmax($2::text::pg_snapshot)
    union all
    select collection, key, bucket from homeport.change_log
    where tenant = $1 and xid = any (array(select pg_snapshot_xip($2::text::pg_snapshot)))
)
select distinct l.collection, l.key
from seen l
join unnest($3::text[], $4::text[]) as s(collection, bucket)
  on s.collection = l.collection and s.bucket = l.bucket
where (l.collection, l.key) > ($5::text collate "C", $6::text collate "C")
order by l.collection, l.key limit $7
"""


class SnapshotFeed:
    """The feed over ``homeport.change_log`` of one primary."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next: asyncio.Future[str] | None = None
        self._runner: asyncio.Task[None] | None = None
        self.markers_made = 0

    async def begin(self, connection: Connection) -> str:
        await connection.execute("begin isolation level repeatable read read only")
        row = await connection.fetchrow(
            "select pg_current_snapshot()::text as now, pg_is_in_recovery() as standby"
        )
        if row["standby"]:
            raise DatabaseUnavailable("PostgreSQL became a standby; cuts come from the primary.")
        return str(row["now"])

    async def age_s(self, connection: Connection, snapshot: str, nonce: str) -> float:
        row = await connection.fetchrow(_MARK, snapshot, nonce)
        if row["age_s"] is None:
            raise HistoryBroken("The server lost history that this device had seen.")
        if row["pruned"]:
            raise HistoryBroken("This device was away for longer than the server keeps changes.")
        return float(row["age_s"])

    async def changed(
        self,
        connection: Connection,
        tenant: str,
        since: str,
        scope: Scope,
        *,
        after: tuple[str, str],
        limit: int,
    ) -> list[tuple[str, str]]:
        names, buckets = pairs(scope)
        rows: Sequence[Any] = await connection.fetch(
            _CHANGED, tenant, since, names, buckets, after[0], after[1], limit
        )
        return [(row[0], row[1]) for row in rows]

    async def seal(self) -> str:
        # Pulls that wait share a marker, but never one whose insert had begun before they asked.
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        waiting = self._next
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._commit_markers())
        return await asyncio.shield(waiting)

    async def _commit_markers(self) -> None:
        while self._next is not None:
            waiting, self._next = self._next, None
            nonce = str(uuid.uuid4())
            try:
                async with self._database.session() as connection:
                    await connection.execute(
                        "insert into homeport.markers (nonce) values ($1::text::uuid)", nonce
                    )
            except Exception as error:
                waiting.set_exception(error)
                waiting.exception()  # read, since its asker may have been cancelled meanwhile
            else:
                self.markers_made += 1
                waiting.set_result(nonce)

    async def prune(self, retention_s: float) -> int:
        dropped = 0
        async with self._database.session(30.0) as connection:
            await connection.execute("insert into homeport.checkpoints default values")
            await connection.execute(
                "insert into homeport.horizon as h (one, snapshot, made)"
                " select true, snapshot, made from homeport.checkpoints"
                " where made < now() - make_interval(secs => $1) order by made desc limit 1"
                " on conflict (one) do update set snapshot = excluded.snapshot,"
                " made = excluded.made where h.made < excluded.made",
                retention_s,
            )
        while True:
            async with self._database.session(30.0) as connection:
                done = await connection.execute(
                    "delete from homeport.change_log where ctid = any (array("
                    " select l.ctid from homeport.change_log l, homeport.horizon h"
                    " where l.xid < pg_snapshot_xmax(h.snapshot)"
                    " and pg_visible_in_snapshot(l.xid, h.snapshot) limit 5000))"
                )
            count = int(done.split()[-1])
            dropped += count
            if count < 5000:
                break
        async with self._database.session(30.0) as connection:
            await connection.execute(
                # A day longer than the log: a cursor as old as the horizon may still be exact.
                "delete from homeport.markers m using homeport.horizon h"
                " where m.made < h.made - interval '1 day'"
            )
            await connection.execute(
                "delete from homeport.checkpoints c using homeport.horizon h where c.made < h.made"
            )
        return dropped
