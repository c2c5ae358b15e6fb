"""What the server acknowledged, kept for a while, and sent again when the server lost it (R14).

A server that is restored from a backup forgets what it acknowledged since. Its row of this client
(last batch number, in the same transaction as the data) says exactly what is left: batches above
that number are gone. They go back into the queue, in front of what waits, under their old numbers,
on the bases on which they were made, and are merged onto the fresh cut like everything else.

One row per batch is kept, for seven days and within 64 MB; both are limits of how old a backup may
be for this to help.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from homeport.core import diff
from homeport.core.context import Context
from homeport.core.keys import encode
from homeport.core.mergetypes import MergeType
from homeport.core.outbox import (
    ACKED,
    BASE,
    META_ACKED,
    OUTBOX,
    Base,
    Entry,
    base_rows,
    entry_rows,
    parsed,
    raw,
    read_base,
    write_json,
)
from homeport.core.paths import MISSING
from homeport.core.query import EMPTY, Compare
from homeport.core.requests import (
    Delete,
    DeleteWhere,
    Find,
    Get,
    GetMany,
    Meta,
    Part,
    Plan,
    Put,
    RowInfo,
    SetMeta,
    Write,
)
from homeport.core.wire import RESOLUTIONS, BatchAnswer

KEEP_MS: Final = 7 * 86_400_000
KEEP_BYTES: Final = 64_000_000
_PRUNE = 16
"""Rows that are dropped at a time when there are too many bytes."""


class Kept(msgspec.Struct):
    """An acknowledged batch, as queue entries."""

    id: str
    client: str
    number: int
    at_ms: int
    entries: list[Entry]


class _Size(msgspec.Struct):
    bytes: int = 0
    oldest_ms: int = 0
    clients: list[str] = []


class PutBack(NamedTuple):
    """ids: the entries that are queued again. known: of each of their documents, what the server
    had last, as far as this device was told."""

    ids: list[int]
    known: dict[str, Any]


_kept = msgspec.json.Decoder(Kept)
_size = msgspec.json.Decoder(_Size)


def keep(context: Context, client: str, number: int, entries: Sequence[Entry]) -> Plan[list[Part]]:
    """Parts that keep the applied entries of an answered batch, and drop what is too old."""
    if not entries:
        return []
    now_ms = context.tx.stamp_ms
    size = yield from _read_size()
    row = Kept(f"{client}/{number:012d}", client, number, now_ms, list(entries))
    text = write_json(row)
    size.bytes += len(text)
    if client not in size.clients:
        size.clients = [*size.clients, client][-20:]
    if not size.oldest_ms:
        size.oldest_ms = now_ms
    if size.oldest_ms < now_ms - KEEP_MS:
        yield DeleteWhere(ACKED, EMPTY.and_where(Compare("at_ms", "<", now_ms - KEEP_MS + 1)))
        yield from _measure(size, now_ms)
        size.bytes += len(text)
    while size.bytes > KEEP_BYTES:
        oldest = EMPTY.with_order("at_ms").with_limit(_PRUNE)
        found: list[tuple[Any, str]] = yield Find(ACKED, oldest, "entries")
        if not found:
            break
        size.bytes -= sum(len(old) for _, old in found)
        yield Write([Delete(ACKED, [key for key, _ in found])])
    return [
        Put(ACKED, [(row.id, text, encode(row.at_ms), encode(row.client))]),
        SetMeta(META_ACKED, write_json(size)),
    ]


def clients_kept() -> Plan[list[str]]:
    """Ids under which this file has pushed what is kept."""
    return (yield from _read_size()).clients


def forget_all() -> Plan[None]:
    yield DeleteWhere(ACKED, EMPTY)
    yield Write([SetMeta(META_ACKED, None)])


def put_back(context: Context, former: Mapping[str, BatchAnswer]) -> Plan[PutBack]:
    """Queue again what the server acknowledged and does not have any more.

    former: the server's last batch of each former client id of this file; number 0 = it knows no
    such client. Runs before the cut that brought it is applied.
    """
    lost: list[Kept] = []
    for client, answer in former.items():
        found = yield Find(ACKED, EMPTY.and_where(Compare("client", "==", client)), "texts")
        batches = [_kept.decode(text) for text in found]
        lost += [batch for batch in batches if batch.number > answer.number]
    entries = [e for batch in lost for e in batch.entries if e.collection in context.tables]
    entries.sort(key=lambda entry: entry.id)
    queued = yield GetMany(OUTBOX, [entry.id for entry in entries])
    entries = [e for e, text in zip(entries, queued, strict=True) if text is None]
    bases, known = yield from _origins(context, entries)
    again = [entry for entry in entries if entry.ref in bases]
    for entry in again:
        entry.adopt, entry.held, entry.tries = False, False, 0
        if entry.collection == RESOLUTIONS:
            # It tells of a settlement that was made: one to come gets a record of its own.
            entry.unit = None
        context.event("recovered", entry.collection, entry.key, "the server had lost it")
    context.state.queued += len(again)
    parts: list[Part] = []
    if again:
        parts = [Put(OUTBOX, entry_rows(again)), Put(BASE, base_rows(list(bases.values())))]
    if lost:
        yield Write([*parts, Delete(ACKED, [batch.id for batch in lost])])
    return PutBack([entry.id for entry in again], known)


def _origins(
    context: Context, entries: Sequence[Entry]
) -> Plan[tuple[dict[str, Base], dict[str, Any]]]:
    """The documents before the first of the entries, and as this device knew them last, by name.

    From what the server had last (the base, or the row where nothing is queued), the entries are
    taken back one by one. A document that somebody else has deleted since has nothing to take a
    patch back from: its entries are left out.
    """
    bases: dict[str, Base] = {}
    known: dict[str, Any] = {}
    by_ref: dict[str, list[Entry]] = {}
    for entry in entries:
        by_ref.setdefault(entry.ref, []).append(entry)
    found = yield GetMany(BASE, list(by_ref))
    for (ref, of_this), text in zip(by_ref.items(), found, strict=True):
        collection, _, key = ref.partition("/")
        base = Base(ref, collection, key, known=True) if text is None else read_base(text)
        table = context.tables[collection]
        if text is None:
            base.doc = raw((yield Get(table, key)))
        if text is None or not base.known:
            info: RowInfo | None = yield Meta("row", table, key)
            if info is not None:
                base.token, base.bucket = info.token, info.bucket
            base.known = True
        state = parsed(base.doc)
        if state is None and of_this[-1].op != "delete":
            continue
        known[ref] = state
        types = context.rule(collection).types
        for entry in reversed(of_this):
            state = _before(entry, state, types)
        _link(of_this, state, types)
        base.doc = raw(None if state is None else diff.dump(state))
        bases[ref] = base
    return bases, known


def _before(entry: Entry, state: Any, types: Mapping[str, MergeType]) -> Any:
    """The document before the entry. Of a field with a merge type only this change is taken back:
    others may have counted in between."""
    if entry.op != "patch":
        return parsed(entry.was)
    if state is None:
        return None
    before = diff.revert(state, entry.patch)
    for path, kind in types.items():
        if path in entry.set and path in entry.old:
            undone = kind.merge(entry.set[path], entry.old[path], diff.get(state, path))
            if undone is not None:
                before = diff.set_at(before, path, undone.value)
    return before


def _link(entries: Sequence[Entry], state: Any, types: Mapping[str, MergeType]) -> None:
    """Let each entry begin where the one before it ends, as entries of a queue do."""
    for entry in entries:
        if entry.op != "patch" or state is None:
            state = parsed(entry.doc) if entry.op == "put" else None
            continue
        for path in entry.patch.paths:
            now, saw = diff.get(state, path), entry.old.get(path, MISSING)
            if diff.same(now, saw):
                continue
            if path in types and path in entry.set:
                moved = types[path].merge(saw, entry.set[path], now)
                if moved is not None:
                    entry.set[path] = moved.value
            if now is MISSING:
                entry.old.pop(path, None)
            else:
                entry.old[path] = now
        state = diff.apply(state, entry.patch)


def applied(entries: Iterable[Entry], flying: Iterable[int], done: set[str]) -> list[Entry]:
    """Those of the settled entries that were in the batch and that the server applied."""
    sent = set(flying)
    found = [entry for entry in entries if entry.id in sent and entry.unit_id in done]
    return sorted(found, key=lambda entry: entry.id)


def _read_size() -> Plan[_Size]:
    text = yield Meta(META_ACKED)
    return _Size() if text is None else _size.decode(text)


def _measure(size: _Size, now_ms: int) -> Plan[None]:
    """After pruning by age (rare): what is left, and since when."""
    size.bytes, size.oldest_ms = 0, now_ms
    clients: dict[str, None] = {}
    after = ""
    while True:
        query = EMPTY.and_where(Compare("id", ">", after)).with_order("id").with_limit(_PRUNE)
        texts = yield Find(ACKED, query, "texts")
        if not texts:
            break
        for text in texts:
            batch = _kept.decode(text)
            size.bytes += len(text)
            size.oldest_ms = min(size.oldest_ms, batch.at_ms)
            clients[batch.client] = None
            after = batch.id
    size.clients = list(clients)
