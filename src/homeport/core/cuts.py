"""Receive a page of a cut: the one door through which bases, queue and cursor change.

A page that is not the last is staged. The last one applies the whole cut in one transaction, and
only if the file is still where it was when the question was asked: same client id, cursor and
position. Otherwise somebody else got there first and the reply is dropped, which loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from homeport.core.acknowledged import PutBack, applied, keep, put_back
from homeport.core.adopt import adopt_rows
from homeport.core.codec import Row, Table
from homeport.core.context import Context, Event, Moved, Tables, open_context
from homeport.core.former import answer_of, read_former
from homeport.core.freeze import InFlight, read_in_flight
from homeport.core.integrity import examine_documents, examine_rows, note
from homeport.core.lifecycle import PLACES, advance, place_of
from homeport.core.outbox import (
    BASE,
    META_CLIENT,
    META_CURSOR,
    META_FORMER,
    META_HOLDS,
    META_IN_FLIGHT,
    META_LAST,
    META_NUMBER,
    META_OUTBOX,
    META_POLICIES,
    META_STAGED,
    META_UNKNOWN,
    STAGED,
    raw,
    read_base,
    ref_of,
    text_of,
    write_json,
)
from homeport.core.policies import Clash
from homeport.core.query import EMPTY, Compare
from homeport.core.recovery import queue_records, reconcile
from homeport.core.requests import (
    Delete,
    Find,
    Get,
    GetMany,
    Meta,
    Part,
    Plan,
    RowInfo,
    SetMeta,
    Write,
)
from homeport.core.settle import put_rows, server_row, settle
from homeport.core.signs import sign
from homeport.core.staging import Staged, read_staged, stage, staged_page
from homeport.core.subscribing import Elsewhere, read_subscribed
from homeport.core.verify import slot_of
from homeport.core.versions import mark_raised
from homeport.core.wire import ABSENT, RESOLUTIONS, Reply, Verdict, WireRow, present

CHUNK = 1_000


class Asked(NamedTuple):
    """Where the file was when the request was made."""

    client: str
    cursor: str | None
    position: str | None


class Received(NamedTuple):
    """What a reply did.

    kind: ``staged`` (ask on), ``applied``, ``dropped`` (the file had moved), ``identity`` (another
    copy of this file has pushed; nothing was applied).
    """

    kind: Literal["staged", "applied", "dropped", "identity"]
    rows: int = 0
    applied: int = 0
    rejected: int = 0
    retried: int = 0
    conflicts: int = 0
    committed: int = 0
    answered: bool = False
    news: bool = False
    """Ask again at once: the server knows other collections than before, or the file was reset and
    may send again."""
    events: Sequence[Event] = ()


def receive(reply: Reply, asked: Asked, tables: Tables) -> Plan[Received]:
    """Stage or apply one reply. A write operation."""
    staged = read_staged((yield Meta(META_STAGED)))
    cursor = yield Meta(META_CURSOR)
    client = yield Meta(META_CLIENT)
    position = None if staged is None else staged.position
    anew = (yield Meta(META_FORMER)) is not None
    place = place_of(cursor, staged=staged is not None, anew=anew)
    if asked != Asked(client, cursor, position):
        advance(PLACES, place, "late reply", place)
        return Received("dropped")
    if reply.more is not None:
        advance(PLACES, place, "page", "fetching")
        yield from stage(reply, reply.more, staged)
        return Received("staged", rows=len(reply.rows))
    in_flight = read_in_flight((yield Meta(META_IN_FLIGHT)))
    number = int((yield Meta(META_NUMBER)) or "0")
    answer = reply.batch
    if answer is not None:
        sent = in_flight if in_flight and in_flight.number == answer.number else None
        if answer.number > number or (sent is not None and sent.hash != answer.hash):
            advance(PLACES, place, "other copy", place)
            return Received("identity")
    advance(PLACES, place, "last page", "current")
    cut = _Cut((yield from open_context(tables)), reply, asked, staged)
    return (yield from cut.apply(in_flight))


class _Cut:
    """One complete cut on its way into the file."""

    def __init__(self, context: Context, last: Reply, asked: Asked, staged: Staged | None) -> None:
        self.context = context
        self.last = last
        self.asked = asked
        self.staged = staged
        self.moved: dict[str, Moved] = {}
        """Documents with queued changes: settled at the end, together."""
        self.named: dict[str, set[str]] = {}
        self.joined: set[tuple[str, str]] = set()
        self.left: set[tuple[str, str]] = set()
        self.rejected: dict[str, Verdict] = {}
        self.announced: set[str] = set()
        self.rows = 0

    def apply(self, in_flight: InFlight | None) -> Plan[Received]:
        context, last = self.context, self.last
        pages = 0 if self.staged is None else self.staged.pages
        unknown = set(last.unknown)
        former = yield from read_former()
        back: PutBack | None = None
        told: list[Clash] = []
        sender = context.client
        answer = last.batch
        if former is not None:
            context.state.frozen = 0
            if last.former is not None:
                back = yield from put_back(context, last.former)
                # The server was set back: what is not there is not known to be deleted.
                context.keep_edits = bool(back.ids)
            answer = answer_of(former, last.former)
            in_flight, sender = (former.in_flight, former.client) if answer else (None, "")
        context.elsewhere = Elsewhere((yield from read_subscribed()), last.holds)
        before = set(msgspec.json.decode((yield Meta(META_UNKNOWN)) or "[]", type=list[str]))
        for number in range(1, pages + 1):
            page = yield from staged_page(number)
            unknown |= set(page.unknown)
            yield from self._take(page)
        yield from self._take(last)
        yield from self._sweep()
        if back is not None and back.ids:
            told = yield from reconcile(context, back, self.moved)
        answered = (
            in_flight is not None and answer is not None and answer.number == in_flight.number
        )
        verdicts = {v.unit: v for v in answer.verdicts} if answered and answer is not None else {}
        if answered:
            context.state.frozen = 0
        parts: list[Part] = []
        outcome = yield from settle(
            context,
            self.moved,
            verdicts=verdicts,
            in_flight=in_flight.entries if in_flight is not None else (),
            answered=answered,
            rejected=self.rejected,
            told=told,
        )
        if answered and in_flight is not None:
            done = {unit for unit, verdict in verdicts.items() if verdict.result == "applied"}
            kept = applied(outcome.removed, in_flight.entries, done)
            parts += yield from keep(context, sender, in_flight.number, kept)
        touched = {entry.ref for entry in (*outcome.kept, *outcome.removed)}
        yield from examine_documents(context, touched.union(self.moved))
        yield from note(context)
        parts += [
            SetMeta(META_CURSOR, last.cursor if last.cursor is not None else self.asked.cursor),
            SetMeta(META_HOLDS, write_json(last.holds)),
            SetMeta(META_POLICIES, write_json(context.policies)),
            SetMeta(META_UNKNOWN, write_json(sorted(unknown))),
            SetMeta(META_OUTBOX, write_json(context.state)),
            SetMeta(META_STAGED, None),
            SetMeta(
                META_LAST, write_json({"at_ms": context.tx.stamp_ms, "server_ms": last.now_ms})
            ),
        ]
        if answered:
            parts += [SetMeta(META_IN_FLIGHT, None), sign("in-flight", None)]
        parts += [SetMeta(META_FORMER, None)] if former is not None else []
        parts += [Delete(STAGED, list(range(1, pages + 1)))] if pages else []
        yield Write(parts)
        return Received(
            "applied", self.rows, outcome.applied, len(outcome.dead), outcome.retried,
            len(outcome.held), outcome.committed, answered,
            before != unknown or former is not None, context.events,
        )  # fmt: skip

    def _take(self, page: Reply) -> Plan[None]:
        self.joined.update((c, b) for c, b in page.joined)
        self.left.update((c, b) for c, b in page.left)
        self.context.policies.update(page.collections)
        self.announced.update(page.collections)
        by_collection: dict[str, dict[str, WireRow]] = {}
        for row in page.rows:
            by_collection.setdefault(row.collection, {})[row.key] = row
        for name, rows in by_collection.items():
            table = self.context.tables.get(name)
            if table is None:
                continue
            self.rows += len(rows)
            self.named.setdefault(name, set()).update(rows)
            keys = list(rows)
            for start in range(0, len(keys), CHUNK):
                yield from self._chunk(table, [rows[key] for key in keys[start : start + CHUNK]])

    def _chunk(self, table: Table[Any], rows: Sequence[WireRow]) -> Plan[None]:
        """Write rows that nobody here has changed; keep the others for the rebase."""
        context = self.context
        if table.name in context.state.adopting:
            yield from adopt_rows(context, table, [row.key for row in rows])
        pending: set[str] = set()
        if context.state.queued:
            refs = [ref_of(table.name, row.key) for row in rows]
            found = yield GetMany(BASE, refs)
            pending = {ref for ref, text in zip(refs, found, strict=True) if text is not None}
        version = table.collection.versions.current
        puts: list[Row] = []
        tokens: list[tuple[str | None, str | None]] = []
        gone: list[Any] = []
        for row in rows:
            ref = ref_of(table.name, row.key)
            text = text_of(row.body) if present(row.body) else None
            token = row.token
            if text is not None and row.schema < version:
                text, token = self._raised(table, row, text)
            made = None if text is None else server_row(table, row.key, text)
            outside = context.elsewhere(table.name, row.bucket)
            if outside and ref in pending and made is None:
                continue  # it was moved away; its changes are sent all the same
            if made is None and row.token is not None and not outside:
                # It is there, but no device can read it (the server leaves out what it can tell).
                context.event("unreadable", table.name, row.key, "the server's row is no document")
            if ref in pending:
                body = ABSENT if made is None else raw(text)
                self.moved[ref] = Moved(table.name, row.key, body, token, row.bucket)
                continue
            if made is None or outside:
                gone.append(row.key)
            else:
                puts.append(made)
                tokens.append((token, row.bucket))
        yield from _write(table, puts, tokens, gone)
        yield from examine_rows(context, table, puts)

    def _raised(self, table: Table[Any], row: WireRow, text: str) -> tuple[str, str | None]:
        """Text and token of an older document in the form of this program."""
        try:
            raised = table.collection.versions.raised_text(text, row.schema)
        except Exception as error:  # of the owner's function; the document is stored all the same
            self.context.event("unreadable", table.name, row.key, f"its upcaster failed: {error}")
            raised = text
        return raised, row.token if raised is text else mark_raised(row.token)

    def _sweep(self) -> Plan[None]:
        """Remove what the cut carried in full and did not name, and what was lost from scope."""
        full = self.asked.cursor is None
        names = {name for name, _ in (*self.joined, *self.left)}
        if full:
            # Of a known server collection everything was sent, so every row it once gave counts.
            names |= self.announced
        for name in sorted(set(self.last.repaired) & set(self.context.tables)):
            slots = set(self.last.repaired[name])
            yield from self._sweep_table(self.context.tables[name], set(), set(), slots=slots)
        for name in sorted(names & set(self.context.tables)):
            buckets = {b for n, b in self.joined if n == name}
            lost = {b for n, b in self.left if n == name}
            yield from self._sweep_table(self.context.tables[name], buckets, lost, full=full)

    def _sweep_table(
        self,
        table: Table[Any],
        joined: set[str],
        left: set[str],
        *,
        full: bool = False,
        slots: set[int] | None = None,
    ) -> Plan[None]:
        """slots: instead of buckets, the slots of a comparison that this cut carries in full."""
        named = self.named.get(table.name, set())
        keys = yield Find(table, EMPTY, "keys")
        whole = full or slots is not None
        gone: list[Any] = []
        lost: list[str] = []
        """Records that a server which was set back does not have any more."""
        hold = self.last.holds.get(table.name)
        shared = set() if hold is None or table.name != RESOLUTIONS else set(hold.buckets)
        pending: set[str] = set()
        where = Compare("collection", "==", table.name)
        if self.context.state.queued:
            for text in (yield Find(BASE, EMPTY.and_where(where), "texts")):
                base = read_base(text)
                if slots is not None and slot_of(base.key) not in slots:
                    continue
                if base.known:
                    pending.add(base.key)
                    self._judge(
                        table.name, base.key, base.token, base.bucket, joined, left, full=whole
                    )
        for key in keys:
            if key in named or key in pending or not isinstance(key, str):
                continue
            if slots is not None and slot_of(key) not in slots:
                continue
            info: RowInfo | None = yield Meta("row", table, key)
            if info is None or info.token is None:
                continue
            if not (whole or info.bucket in joined or info.bucket in left):
                continue
            ref = ref_of(table.name, key)
            if self.context.state.queued and (yield Get(BASE, ref)) is not None:
                self._judge(table.name, key, info.token, info.bucket, joined, left, full=whole)
            elif full and self.context.keep_edits and info.bucket in shared:
                lost.append(key)
            else:
                gone.append(key)
        yield from queue_records(self.context, lost)
        yield from _write(table, (), (), gone)
        self.rows += len(gone)

    def _judge(
        self,
        name: str,
        key: str,
        token: str | None,
        bucket: str | None,
        joined: set[str],
        left: set[str],
        *,
        full: bool,
    ) -> None:
        """A document with queued changes: gone from the server, or gone from what may be seen?"""
        ref = ref_of(name, key)
        if ref in self.moved or token is None or key in self.named.get(name, ()):
            return
        if self.context.elsewhere.given_up(name, bucket):
            return  # by the user's own wish: what waits is sent before the row goes
        if bucket in left and bucket not in joined:
            self.moved[ref] = Moved(name, key)
            message = "This document is no longer visible to you."
            self.rejected[ref] = Verdict("", "rejected", "not-visible", message)
            self.context.event("invisible", name, key)
        elif full or bucket in joined:
            self.moved[ref] = Moved(name, key)


def _write(
    table: Table[Any],
    puts: Sequence[Row],
    tokens: Sequence[tuple[str | None, str | None]],
    gone: Iterable[Any],
) -> Plan[None]:
    parts: list[Part] = []
    if puts:
        parts.append(put_rows(table, puts, tokens))
    keys = list(gone)
    if keys:
        parts.append(Delete(table, keys))
    if parts:
        yield Write(parts)
