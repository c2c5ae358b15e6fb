"""Applying a batch: one request, one transaction, one set-based write.

A batch carries a number. The same number with the same hash gets the stored answer, the next number
is applied, anything else means that two devices share an identity. When PostgreSQL refuses the data
of a batch (a constraint or a trigger of the owner), the batch is applied again unit by unit in
savepoints, so that one bad unit costs itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from homeport.core.wire import MAX_UNIT_CHANGES, RESOLUTIONS, BatchAnswer, Verdict
from homeport.errors import DatabaseUnavailable, HomeportError, IdentityBroken, UsageError

from .database import Connection, Database, StatementFailed, rollback, translate
from .decide import Context, Place, PushedBatch, PushedUnit, Row, Write, decide
from .feed import Cursor, Feed
from .rules import Claims, Rules, Settled, known_types, read_specs
from .unique import stripes, take

log = logging.getLogger("homeport.server.push")

ATTEMPTS = 6
_DATA_CLASSES = ("22", "23", "P0", "54")
_AGAIN = ("40001", "40P01", "40002", "40003")

# The limit keeps the planner at one look into the primary key for each key, in the order given.
# As a plain join, on a table that nobody has analysed yet, it read the whole tenant for each batch.
_LOCK_ROWS = """
select d.collection, d.key, d.token, d.bucket, d.body, d.schema
from unnest($2::text[], $3::text[]) as k(collection, key)
cross join lateral (
    select d.collection, d.key, d.version::text as token, d.bucket, d.body, d.schema
    from homeport.documents d
    where d.tenant = $1 and d.collection = k.collection and d.key = k.key
    limit 1
    for update
) d
"""

# Sorted like the locks: two batches that insert the same keys wait for each other, never in a ring.
_WRITE = """
with ins as (
    insert into homeport.documents (tenant, collection, key, bucket, body, schema)
    select $1, u.collection, u.key, u.bucket, u.body::json, u.schema
    from unnest($2::text[], $3::text[], $4::text[], $5::text[], $14::int[])
        as u(collection, key, bucket, body, schema)
    order by u.collection, u.key
    returning 1
), upd as (
    update homeport.documents d
    set version = pg_current_xact_id(), bucket = u.bucket, body = u.body::json,
        schema = u.schema
    from unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $15::int[])
        as u(collection, key, base, bucket, body, schema)
    where d.tenant = $1 and d.collection = u.collection and d.key = u.key
      and d.version = u.base::xid8
    returning 1
), del as (
    delete from homeport.documents d
    using unnest($11::text[], $12::text[], $13::text[]) as u(collection, key, base)
    where d.tenant = $1 and d.collection = u.collection and d.key = u.key
      and d.version = u.base::xid8
    returning 1
)
select (select count(*) from ins) + (select count(*) from upd) + (select count(*) from del)
"""

_CODES = {
    "23505": ("unique", "Another document has the same value, and the server's index is unique"),
    "23503": ("foreign-key", "A foreign key of the server refuses this document"),
    "23514": ("check", "A check of the server refuses this document"),
    "23502": ("not-null", "A column of the server must not be empty"),
    "23P01": ("exclusion", "An exclusion constraint of the server refuses this document"),
    "42501": ("forbidden", "The server may not write this document"),
}


class _Moved(Exception):
    """Fewer rows were written than decided: somebody (a trigger) was in between."""


class Pusher:
    """Applies batches for one node."""

    def __init__(self, database: Database, feed: Feed, rules: Rules) -> None:
        self._database = database
        self._feed = feed
        self._rules = rules
        self.counts = {"applied": 0, "conflict": 0, "rejected": 0, "retry": 0, "repeated": 0}

    async def push(
        self, claims: Claims, client: str, raw: bytes, digest: str, cursor: Cursor | None
    ) -> BatchAnswer:
        """Apply a batch, or find that it was applied already.

        Raises:
            UsageError: the batch is malformed or its hash is wrong.
            IdentityBroken: neither the last nor the next number of this client.
            HistoryBroken: ``cursor`` is of a history that the server lost.
            DatabaseUnavailable: nothing was done, or it is not known; send it again.
        """
        if hashlib.sha256(raw).hexdigest() != digest:
            raise UsageError("The hash is not that of the batch.")
        try:
            batch = msgspec.json.decode(raw, type=PushedBatch)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise UsageError(f"The batch is malformed: {error}") from error
        if sum(len(unit.changes) for unit in batch.units) > MAX_UNIT_CHANGES:
            raise UsageError(f"A batch has at most {MAX_UNIT_CHANGES} changes.")
        job = _Job(self._feed, self._rules, claims, client, batch, digest, cursor)
        for attempt in range(ATTEMPTS):
            async with self._database.session() as connection:
                answer = await job.attempt(connection)
            if answer is not None:
                self._count(answer, job)
                return answer
            await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter
        raise DatabaseUnavailable("The documents are contended; try again.")

    def _count(self, answer: BatchAnswer, job: _Job) -> None:
        if job.repeated:
            self.counts["repeated"] += 1
            return
        for verdict in answer.verdicts:
            self.counts[verdict.result] += 1
        log.info(
            "push tenant=%s subject=%s client=%s number=%d units=%d refused=%d",
            job.claims.tenant,
            job.claims.subject,
            job.client,
            answer.number,
            len(answer.verdicts),
            sum(verdict.result != "applied" for verdict in answer.verdicts),
        )


class _Job:
    """One batch over its attempts."""

    def __init__(
        self,
        feed: Feed,
        rules: Rules,
        claims: Claims,
        client: str,
        batch: PushedBatch,
        digest: str,
        cursor: Cursor | None,
    ) -> None:
        self.claims = claims
        self.client = client
        self.repeated = False
        self._feed = feed
        self._rules = rules
        self._batch = batch
        self._digest = digest
        self._cursor = cursor
        self._one_by_one = False
        self._stripes: set[int] = set()

    async def attempt(self, connection: Connection) -> BatchAnswer | None:
        """The answer, or None when it should be tried again."""
        try:
            await connection.execute("begin")
            stored = await self._identify(connection)
            if stored is not None:
                await connection.execute("rollback")
                self.repeated = True
                return stored
            context = await self._context(connection)
            if self._one_by_one:
                verdicts = await self._apply_each(connection, context)
            else:
                verdicts = await self._apply_all(connection, context)
            answer = BatchAnswer(self._batch.number, self._digest, verdicts)
            await connection.execute(
                "update homeport.clients set number = $4, hash = $5, answer = $6, seen = now()"
                " where tenant = $1 and subject = $2 and client = $3",
                self.claims.tenant,
                self.claims.subject,
                self.client,
                answer.number,
                answer.hash,
                msgspec.json.encode(answer).decode(),
            )
            await connection.execute("commit")
        except Exception as error:
            failed = error if isinstance(error, _Moved) else translate(error)
            if failed is None or isinstance(failed, DatabaseUnavailable):
                raise
            await rollback(connection)
            self._after(failed)
            return None
        return answer

    def _after(self, failed: _Moved | HomeportError) -> None:
        """What a failed attempt means: another one (returns), or the end (raises)."""
        if isinstance(failed, _Moved):
            self._one_by_one = True
            return
        if not isinstance(failed, StatementFailed):
            raise failed
        if failed.sqlstate == "55P03":
            raise DatabaseUnavailable("Another transaction holds these documents; try again.")
        if failed.sqlstate in _AGAIN or _own_key(failed):
            return
        if self._one_by_one:
            # Unit by unit every refusal is caught; what is left is our own statements.
            log.error("push failed outside of its units: %s %s", failed.sqlstate, failed.log_text)
            raise DatabaseUnavailable(f"PostgreSQL refused the push ({failed.sqlstate}).")
        self._one_by_one = True

    async def _identify(self, connection: Connection) -> BatchAnswer | None:
        """Lock the client's row; the stored answer when this batch was answered before."""
        who = (self.claims.tenant, self.claims.subject, self.client)
        query = (
            "select number, hash, answer, retired from homeport.clients"
            " where tenant = $1 and subject = $2 and client = $3 for update"
        )
        row = await connection.fetchrow(query, *who)
        if row is None:
            await connection.execute(
                "insert into homeport.clients (tenant, subject, client) values ($1, $2, $3)"
                " on conflict do nothing",
                *who,
            )
            row = await connection.fetchrow(query, *who)
        number = self._batch.number
        if row["retired"]:
            raise IdentityBroken("This device began anew under another id.")
        if row["number"] == number and row["hash"] == self._digest:
            return msgspec.json.decode(row["answer"], type=BatchAnswer)
        if number != row["number"] + 1:
            raise IdentityBroken(
                f"Batch {number} does not follow {row['number']}, the last of this client."
            )
        if self._cursor is not None:
            await self._feed.age_s(connection, self._cursor.snapshot, self._cursor.nonce)
        return None

    async def _context(self, connection: Connection) -> Context:
        named = {change.collection for unit in self._batch.units for change in unit.changes}
        names = {name for name in named if self._rules.known(name)}
        rows = await connection.fetch(
            "select name, policy, deletes, fields from homeport.collections where name = any ($1)",
            [*names, RESOLUTIONS],
        )
        policies = {
            row["name"]: Settled(
                row["policy"], row["deletes"], known_types(read_specs(row["fields"]))
            )
            for row in rows
        }
        scope = await self._rules.scope(self.claims, names, connection.fetch)
        now_ms = int(time.time() * 1000)
        return Context(self.claims, self.client, self._rules, scope, policies, now_ms)

    async def _apply_all(self, connection: Connection, context: Context) -> list[Verdict]:
        rows = await self._lock(connection, self._batch.units)
        verdicts: list[Verdict] = []
        writes: list[Write] = []
        taken: set[Place] = set()
        for unit in self._batch.units:
            verdict, its_writes = decide(unit, rows, context, taken)
            verdicts.append(verdict)
            writes += its_writes
        bodies = [(w.collection, w.body) for w in writes if w.body is not None]
        self._stripes = stripes(self.claims.tenant, bodies, self._rules.unique)
        if self._stripes:
            await take(connection, self._stripes)
        await self._write(connection, writes)
        return verdicts

    async def _apply_each(self, connection: Connection, context: Context) -> list[Verdict]:
        await self._lock(connection, self._batch.units)
        if self._stripes:
            await take(connection, self._stripes)
        verdicts: list[Verdict] = []
        taken: set[Place] = set()
        for unit in self._batch.units:
            await connection.execute("savepoint unit; set constraints all deferred")
            try:
                # Read again: triggers of the units before may have touched these rows.
                rows = await self._lock(connection, [unit])
                verdict, writes = decide(unit, rows, context, taken)
                await self._write(connection, writes)
            except Exception as error:
                verdict = self._refused(unit, error)
                await connection.execute("rollback to savepoint unit")
            await connection.execute("release savepoint unit")
            verdicts.append(verdict)
        return verdicts

    def _refused(self, unit: PushedUnit, error: Exception) -> Verdict:
        if isinstance(error, _Moved):
            return Verdict(unit.id, "retry", "changed-meanwhile", "Its rows moved; try again.")
        failed = translate(error)
        if not isinstance(failed, StatementFailed) or failed.sqlstate in (*_AGAIN, "55P03"):
            raise error
        if _own_key(failed):
            raise error
        log.warning("unit %s refused: %s %s", unit.id, failed.sqlstate, failed.log_text)
        if failed.sqlstate[:2] not in _DATA_CLASSES and failed.sqlstate != "42501":
            # The database is at fault (a broken trigger, say), not the document: it waits.
            return Verdict(
                unit.id, "retry", "server-error", f"The server failed ({failed.sqlstate})."
            )
        default = ("invalid-value", "The server's database refuses this document")
        if failed.sqlstate[:2] == "P0":
            default = ("refused", "A trigger of the server refuses this document")
        code, text = _CODES.get(failed.sqlstate, default)
        where = f" ({failed.constraint})" if failed.constraint else f" ({failed.sqlstate})"
        return Verdict(unit.id, "rejected", code, f"{text}{where}.")

    async def _lock(
        self, connection: Connection, units: Sequence[PushedUnit]
    ) -> Mapping[Place, Row]:
        # In order: two batches that want the same rows wait for each other, never in a ring.
        places = sorted(
            {
                (change.collection, change.key)
                for unit in units
                for change in unit.changes
                # PostgreSQL cannot be asked for U+0000; the decision refuses it.
                if "\0" not in change.key and "\0" not in change.collection
            }
        )
        found: list[Any] = await connection.fetch(
            _LOCK_ROWS,
            self.claims.tenant,
            [collection for collection, _ in places],
            [key for _, key in places],
        )
        return {(r[0], r[1]): Row(r[2], r[3], r[4], r[5]) for r in found}

    async def _write(self, connection: Connection, writes: Sequence[Write]) -> None:
        if not writes:
            return
        inserts = [w for w in writes if w.base is None]
        updates = [w for w in writes if w.base is not None and w.body is not None]
        deletes = [w for w in writes if w.base is not None and w.body is None]
        done = await connection.fetchval(
            _WRITE,
            self.claims.tenant,
            [w.collection for w in inserts],
            [w.key for w in inserts],
            [w.bucket for w in inserts],
            [w.body for w in inserts],
            [w.collection for w in updates],
            [w.key for w in updates],
            [w.base for w in updates],
            [w.bucket for w in updates],
            [w.body for w in updates],
            [w.collection for w in deletes],
            [w.key for w in deletes],
            [w.base for w in deletes],
            [w.schema for w in inserts],
            [w.schema for w in updates],
        )
        if done != len(writes):
            raise _Moved
        await connection.execute("set constraints all immediate")


def _own_key(failed: StatementFailed) -> bool:
    """Two devices made the same key at once: the second tries again and sees the first."""
    return failed.sqlstate == "23505" and failed.constraint in ("documents_pkey", "clients_pkey")
