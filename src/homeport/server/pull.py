"""Making a cut: one bounded read transaction per page, closed before anything is sent.

A cut has up to three parts: buckets that joined (read whole, in key order), keys written since the
cursor, and, when it took several pages, keys written since the first of them. The last page is of
one snapshot that all rows agree with; it carries the new cursor. A writer who is faster than the
pages only prolongs the cut: after three rounds one page is read without limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import Raw

from homeport.core.wire import (
    ABSENT,
    MAX_FORMER,
    MAX_UNIT_CHANGES,
    PROTOCOL,
    CollectionInfo,
    Hold,
    PullRequest,
    Reply,
    WireRow,
)

from .clients import NO_ANSWER, last_answers
from .comparing import compare
from .database import Connection, Database, rollback
from .feed import Cursor, Feed, pack, seen_in, unpack_cursor
from .patches import readable
from .position import Part, Position, owner_of, unpack_position
from .rules import Claims, Rules, Scope, read_specs
from .visible import visible_page, visible_rows

PAGE_BYTES = 8_000_000
PAGE_S = 2.0
ROUNDS = 3
UNLIMITED_S = 120.0
_KEYS_AT_ONCE = 20_000
_ROW_OVERHEAD = 64


@dataclass
class _Page:
    """What is read so far, and when to stop."""

    unlimited: bool
    page_bytes: int
    deadline: float
    raised: Callable[[str, str, int], tuple[str, int]]  # Rules.raised for this device
    rows: list[WireRow] = field(default_factory=list)
    size: int = 0
    chunk: int = 32

    @property
    def full(self) -> bool:
        # Something is on every page, however late it is: else a busy node never came to an end.
        late = bool(self.rows) and time.monotonic() >= self.deadline
        return not self.unlimited and (self.size >= self.page_bytes or late)

    def add(self, found: Iterable[Any]) -> None:
        for row in found:
            text, form = self.raised(row[0], row[4], row[5])
            body = text.encode()
            self.size += len(body) + _ROW_OVERHEAD
            # One row that no device can read must not cost all the others of its page.
            raw = Raw(body) if readable(body) else ABSENT
            self.rows.append(WireRow(row[0], row[1], row[2], row[3], raw, form))
        # Rows may hold a megabyte each: the chunk grows only while they prove to be small.
        if self.size < self.page_bytes // 4:
            self.chunk = min(self.chunk * 2, 512)


class Puller:
    """Makes cuts for one node."""

    def __init__(
        self,
        database: Database,
        feed: Feed,
        rules: Rules,
        *,
        page_bytes: int = PAGE_BYTES,
        page_s: float = PAGE_S,
        refresh_s: float = 7 * 24 * 3600.0,
    ) -> None:
        self._database = database
        self._feed = feed
        self._rules = rules
        self._page_bytes = page_bytes
        self._page_s = page_s
        self._refresh_s = refresh_s
        self.pages = 0
        self.rows = 0

    async def pull(self, claims: Claims, client: str, request: PullRequest) -> Reply:
        """The next page for this device.

        Raises:
            HistoryBroken: the cursor is of a history that the server lost or pruned.
            DatabaseUnavailable: away, frozen, or a standby.
        """
        owner = owner_of(claims)
        cursor = unpack_cursor(request.cursor, owner) if request.cursor is not None else None
        position = unpack_position(request.position, owner) if request.position else None
        unlimited = position is not None and position.rounds >= ROUNDS
        deadline = time.monotonic() + self._page_s
        raised = partial(self._rules.raised, request.versions)
        page = _Page(unlimited, self._page_bytes, deadline, raised)
        async with self._database.session(UNLIMITED_S if unlimited else None) as connection:
            # A cancelled or failed read is not rolled back here: the rollback would wait for a
            # frozen database. The session cuts a connection that is still in its transaction.
            now = await self._feed.begin(connection)
            cut = _Cut(self._feed, self._rules, claims, client, request, cursor, page, now)
            position = await cut.read(connection, position)
            await rollback(connection)
        self.pages += 1
        self.rows += len(page.rows)
        reply = cut.reply
        if position is not None:
            if not position.nonce:
                position.nonce = await self._feed.seal()
            reply.more = pack(position)
        elif cut.nothing_new and cut.cursor_age_s < self._refresh_s:
            reply.cursor = request.cursor
        else:
            reply.cursor = pack(Cursor(now, await self._feed.seal(), owner))
        reply.now_ms = int(time.time() * 1000)
        return reply


class _Cut:
    """One page: reads into ``reply`` inside an open transaction."""

    def __init__(
        self,
        feed: Feed,
        rules: Rules,
        claims: Claims,
        client: str,
        request: PullRequest,
        cursor: Cursor | None,
        page: _Page,
        now: str,
    ) -> None:
        self._feed = feed
        self._rules = rules
        self._claims = claims
        self._client = client
        self._request = request
        self._cursor = cursor
        self._page = page
        self._now = now
        self._scope: Scope = {}
        self._asked: Scope = {}
        """Of what the user sees, what the device asks for."""
        self.cursor_age_s = 0.0
        self.nothing_new = False
        self.reply = Reply(PROTOCOL, 0)

    async def read(self, connection: Connection, position: Position | None) -> Position | None:
        """Fill the reply; where to go on, or None when the cut is complete."""
        if self._cursor is not None:
            self.cursor_age_s = await self._feed.age_s(
                connection, self._cursor.snapshot, self._cursor.nonce
            )
        if position is not None:
            await self._feed.age_s(connection, position.target, position.nonce)
        infos = await self._collections(connection)
        former = self._request.former[-MAX_FORMER:]
        answers = await last_answers(connection, self._claims, [self._client, *former])
        self.reply.batch = answers.get(self._client)
        if former:
            self.reply.former = {client: answers.get(client, NO_ANSWER) for client in former}
        first = position is None
        if position is None:
            position = await self._plan(connection, infos)
        self.reply.rows = self._page.rows
        self.reply.total = position.total or None
        finished = await self._fill(connection, position)
        if finished and (self._request.verify or self._request.repair):
            tenant = self._claims.tenant
            again = await compare(connection, tenant, self._asked, self._request, self.reply)
            self._page.add(again)
        if finished and self._request.fetch:
            await self._fetch(connection)
        self._finish(position, infos, finished=finished)
        self.nothing_new = (
            first
            and finished
            and self._cursor is not None
            and not (self._page.rows or self.reply.joined or self.reply.left)
        )
        return None if finished else position

    async def _collections(self, connection: Connection) -> Mapping[str, CollectionInfo]:
        wanted = self._request.collections
        found = await connection.fetch(
            "select name, generation, policy, deletes, fields from homeport.collections"
            " where name = any ($1)",
            [name for name in wanted if self._rules.known(name)],
        )
        rows = {row["name"]: row for row in found}
        self._scope = await self._rules.scope(self._claims, rows, connection.fetch)
        subscribed = self._request.subscribed
        self._asked = {
            name: buckets & frozenset(subscribed.get(name, buckets))
            for name, buckets in self._scope.items()
        }
        for name in wanted:
            row = rows.get(name)
            if row is None:
                self.reply.unknown.append(name)
            else:
                self.reply.collections[name] = CollectionInfo(
                    row["generation"],
                    sorted(self._scope[name]),
                    row["policy"],
                    row["deletes"],
                    read_specs(row["fields"]),
                )
        return self.reply.collections

    async def _plan(self, connection: Connection, infos: Mapping[str, CollectionInfo]) -> Position:
        """What has to be sent, from what the device holds and what it may see."""
        parts: dict[str, Part] = {}
        left: list[tuple[str, str]] = []
        total = 0
        for name, info in infos.items():
            hold = self._request.holds.get(name)
            held = set(hold.buckets) if hold is not None and self._cursor is not None else set()
            valid = held if hold is not None and hold.generation == info.generation else set()
            allowed = set(self._asked[name])
            joined = sorted(allowed - valid)
            parts[name] = Part(info.generation, sorted(allowed & valid), joined)
            left += [(name, bucket) for bucket in sorted(held - allowed)]
            if joined:
                total += await connection.fetchval(
                    "select count(*) from homeport.documents"
                    " where tenant = $1 and collection = $2 and bucket = any ($3)",
                    self._claims.tenant,
                    name,
                    joined,
                )
        return Position(
            target=self._now,
            nonce="",
            since=None if self._cursor is None else self._cursor.snapshot,
            phase=0,
            at=[],
            rounds=0,
            parts=parts,
            left=left,
            total=total,
            owner=owner_of(self._claims),
        )

    async def _fill(self, connection: Connection, position: Position) -> bool:
        """Read on from ``position``, moving it; whether the cut is complete."""
        if position.phase == 0:
            if not await self._joins(connection, position):
                return False
            position.phase, position.at = 1, []
        whole = {name: {*part.kept} for name, part in position.parts.items()}
        if position.rounds:
            # A later round: what moved since the target, of all that this cut carries.
            whole = {name: {*part.kept, *part.joined} for name, part in position.parts.items()}
        if position.since is not None and not await self._log(connection, position, whole):
            return False
        if position.target == self._now:
            return True
        position.since, position.target, position.nonce = position.target, self._now, ""
        position.rounds += 1
        position.at = []
        whole = {name: {*part.kept, *part.joined} for name, part in position.parts.items()}
        return await self._log(connection, position, whole)

    async def _joins(self, connection: Connection, position: Position) -> bool:
        start = position.at
        for name, part in sorted(position.parts.items()):
            for bucket in part.joined:
                if start and (name, bucket) < (start[0], start[1]):
                    continue
                if self._page.full:
                    return False
                after = start[2] if start and [name, bucket] == start[:2] else None
                while True:
                    limit = self._page.chunk
                    found = await visible_page(
                        connection,
                        self._claims.tenant,
                        self._scope,
                        (name, bucket),
                        after=after,
                        limit=limit,
                    )
                    self._page.add(found)
                    after = found[-1][1] if found else after
                    position.at = [name, bucket, after or ""]
                    if len(found) < limit:
                        break
                    if self._page.full:
                        return False
        return True

    async def _log(
        self, connection: Connection, position: Position, whole: Mapping[str, set[str]]
    ) -> bool:
        """Send the current state of every key written since ``position.since``."""
        assert position.since is not None
        scope = {
            name: frozenset(buckets) & self._scope.get(name, frozenset())
            for name, buckets in whole.items()
        }
        after = (position.at[0], position.at[1]) if position.at else ("", "")
        while True:
            keys = await self._feed.changed(
                connection,
                self._claims.tenant,
                position.since,
                scope,
                after=after,
                limit=_KEYS_AT_ONCE,
            )
            done = 0
            while done < len(keys):
                some = keys[done : done + self._page.chunk]
                done += len(some)
                found = await visible_rows(connection, self._claims.tenant, self._scope, some)
                self._add(found)
                there = {(row[0], row[1]) for row in found}
                for name, key in some:
                    if (name, key) not in there:
                        self._page.rows.append(WireRow(name, key, None, None, ABSENT))
                        self._page.size += _ROW_OVERHEAD + len(key)
                after = some[-1]
                position.at = list(after)
                if self._page.full and (done < len(keys) or len(keys) == _KEYS_AT_ONCE):
                    return False
            if len(keys) < _KEYS_AT_ONCE:
                return True

    def _add(self, found: Sequence[Any]) -> None:
        """Rows that were written; where a bucket is not asked for, only that they are there."""
        outside = [row for row in found if row[3] not in self._asked[row[0]]]
        self._page.add([row for row in found if row[3] in self._asked[row[0]]])
        for row in outside:
            self._page.rows.append(WireRow(row[0], row[1], row[2], row[3], ABSENT))
            self._page.size += _ROW_OVERHEAD + len(row[1])

    async def _fetch(self, connection: Connection) -> None:
        """The rows outside that the device is changing."""
        keys = [
            (name, key)
            for name, some in self._request.fetch.items()
            if name in self._asked
            for key in some
            if "\0" not in key
        ]
        tenant = self._claims.tenant
        found = await visible_rows(connection, tenant, self._scope, keys[:MAX_UNIT_CHANGES])
        self._page.add([row for row in found if row[3] not in self._asked[row[0]]])

    def _finish(
        self, position: Position, infos: Mapping[str, CollectionInfo], *, finished: bool
    ) -> None:
        """Joined, left and holds; what the user lost while the cut was made is left again."""
        left = list(position.left)
        if finished:
            self.reply.seen = seen_in(self._now)
        for name, part in position.parts.items():
            allowed = self._asked[name] if name in infos else frozenset[str]()
            self.reply.joined += [(name, b) for b in part.joined if b in allowed]
            left += [(name, b) for b in (*part.kept, *part.joined) if b not in allowed]
            if finished and name in infos:
                buckets = sorted(allowed & {*part.kept, *part.joined})
                self.reply.holds[name] = Hold(part.generation, buckets)
        self.reply.left = left
