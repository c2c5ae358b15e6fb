"""Enable replication on a file, and adopt what it holds already.

A collection that is not synced pays nothing for replication. Enabling it bumps the file's epoch, so
that every process captures from its next write on, and queues the older documents in chunks: as
creations, because the server never saw them. Equal content on the server is no change; different
content is a conflict for a person, because there is no base to merge on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from homeport.core.codec import Table
from homeport.core.context import Context, Tables, open_context
from homeport.core.keys import Key
from homeport.core.outbox import (
    BASE,
    META_ADOPT,
    META_CLIENT,
    META_COLLECTIONS,
    META_OUTBOX,
    OUTBOX,
    Base,
    Entry,
    base_rows,
    entry_rows,
    raw,
    read_state,
    ref_of,
    write_json,
)
from homeport.core.query import EMPTY, Compare
from homeport.core.requests import (
    Count,
    Find,
    GetMany,
    Meta,
    Part,
    Plan,
    Put,
    RowInfo,
    SetMeta,
    Write,
)
from homeport.core.signs import sign
from homeport.core.wire import RESOLUTIONS
from homeport.errors import InvalidKey

CHUNK = 500


def enable(tables: Tables, client: str, max_queue: int) -> Plan[bool]:
    """Make these collections the synced ones of the file → whether that changed anything.

    client: the id to take if the file has none. max_queue: changes that may wait before writes
    raise ``QueueFull``. Raises ``InvalidKey`` when a document has a key that is no string.
    """
    names = sorted(tables)
    before: list[str] = msgspec.json.decode((yield Meta(META_COLLECTIONS)) or "[]")
    state = read_state((yield Meta(META_OUTBOX)))
    known = yield Meta(META_CLIENT)
    parts: list[Part] = []
    if known is None:
        parts.append(SetMeta(META_CLIENT, client))
    adopting = [name for name in state.adopting if name in tables]
    for name in names:
        if name not in before and name != RESOLUTIONS:
            yield from _check_keys(tables[name])
            if (yield Count(tables[name], EMPTY)):
                adopting.append(name)
    changed = names != before
    if changed:
        epoch = yield Meta("epoch")
        parts.append(SetMeta(META_COLLECTIONS, write_json(names)))
        parts.append(SetMeta("epoch", str(int(epoch or "0") + 1)))
    if changed or state.limit != max_queue or adopting != state.adopting:
        state.limit, state.adopting = max_queue, adopting
        parts.append(SetMeta(META_OUTBOX, write_json(state)))
    if parts:
        yield Write(parts)
    return changed


def _check_keys(table: Table[Any]) -> Plan[None]:
    """Numbers sort before strings, everything else behind them."""
    field = table.collection.key
    for spec in (field, f"-{field}"):
        keys: list[Key] = yield Find(table, EMPTY.with_order(spec).with_limit(1), "keys")
        if keys and not isinstance(keys[0], str):
            raise InvalidKey(
                f"{table.name} holds the key {keys[0]!r}; synced documents have string keys.",
                action="Give the documents string keys, or declare the collection with sync=False.",
                collection=table.name,
                key=keys[0],
            )


def adopt_chunk(tables: Tables, limit: int = CHUNK) -> Plan[int]:
    """Queue the next older documents → how many collections are still being adopted."""
    context = yield from open_context(tables)
    state = context.state
    if not state.adopting:
        return 0
    name = state.adopting[0]
    after: dict[str, Key] = msgspec.json.decode((yield Meta(META_ADOPT)) or "{}")
    keys: list[Key] = []
    table = tables.get(name)
    if table is not None:
        field = table.collection.key
        query = EMPTY.with_order(field).with_limit(limit)
        if name in after:
            query = query.and_where(Compare(field, ">", after[name]))
        keys = yield Find(table, query, "keys")
        yield from adopt_rows(context, table, keys)
    if len(keys) < limit:
        state.adopting = state.adopting[1:]
        after.pop(name, None)
    else:
        after[name] = keys[-1]
    yield Write(
        [
            SetMeta(META_OUTBOX, write_json(state)),
            SetMeta(META_ADOPT, write_json(after) if after else None),
        ]
    )
    return len(state.adopting)


def adopt_rows(context: Context, table: Table[Any], keys: Sequence[Key]) -> Plan[None]:
    """Queue those of the documents that neither the server nor the queue knows."""
    names = [key for key in keys if isinstance(key, str)]
    if not names:
        return
    refs = [ref_of(table.name, key) for key in names]
    bases = yield GetMany(BASE, refs)
    texts = yield GetMany(table, names)
    entries: list[Entry] = []
    state = context.state
    for key, ref, base, text in zip(names, refs, bases, texts, strict=True):
        if base is not None or text is None:
            continue
        info: RowInfo | None = yield Meta("row", table, key)
        if info is None or info.token is not None:
            continue
        entries.append(
            Entry(
                state.next,
                ref,
                table.name,
                key,
                "put",
                context.tx.stamp_ms,
                doc=raw(text),
                adopt=True,
            )
        )
        state.next += 1
        state.queued += 1
    if entries:
        made = [Base(e.ref, e.collection, e.key, known=True) for e in entries]
        yield Write(
            [
                Put(OUTBOX, entry_rows(entries)),
                Put(BASE, base_rows(made)),
                SetMeta(META_OUTBOX, write_json(state)),
                sign("adopted", state.next),
            ]
        )
