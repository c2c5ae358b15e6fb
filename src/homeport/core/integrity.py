"""What the server sent and this device could not have written itself: stored, and listed (rule G).

A row that a cut, a rebase or a person's choice writes is never refused. Where it holds a value of a
unique index that another document holds too, or does not fit the model, a mark is kept in
``_integrity``. A mark is a suspicion with an address, no state: whoever lists looks again, so any
write that ends the violation ends the conflict, and nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from homeport.core.codec import Row, Table
from homeport.core.conditions import And, AnyOf, Compare, Condition, Contains, Or
from homeport.core.context import Context, Tables
from homeport.core.keys import Encoded, Key, decode
from homeport.core.outbox import INTEGRITY, record_row
from homeport.core.query import EMPTY
from homeport.core.requests import (
    Count,
    Delete,
    Find,
    GetMany,
    Meta,
    Operation,
    Part,
    Plan,
    Put,
    Write,
)
from homeport.core.schema import Index
from homeport.errors import HomeportError

CHUNK = 500
BLOCK = 50
"""Values in one question, where an index has several fields or entries."""
LOOKED_AT = 1_000
"""A cut looks again at the marks while there are no more than this; a listing always does."""

Value = tuple[Encoded, ...]


class IntegrityConflict(msgspec.Struct, frozen=True):
    """Documents that are on every device and break a declaration of this one.

    kind: ``unique`` (the documents ``keys`` hold the same value of the unique index ``index`` over
    ``fields``) or ``unreadable`` (the document does not fit the model here). at_ms: when this
    device saw it first. It ends by itself when one of the documents is changed or deleted.
    """

    kind: Literal["unique", "unreadable"]
    collection: str
    keys: list[str]
    reason: str
    at_ms: int
    index: str | None = None
    fields: list[str] = []


class Mark(msgspec.Struct):
    """Look at this document under this unique index; without an index, under the model."""

    id: str
    collection: str
    index: str
    key: str
    at_ms: int


class Broken(NamedTuple):
    """What is broken now, oldest first; over: there are marks that can go."""

    conflicts: list[IntegrityConflict]
    over: bool


_mark = msgspec.json.Decoder(Mark)


def watched(table: Table[Any]) -> bool:
    """Can a row of the server break anything that is declared here?"""
    return table.collection.model is not None or any(i.unique for i in table.codec.indexes)


def examine_rows(context: Context, table: Table[Any], rows: Sequence[Row]) -> Plan[None]:
    """Examine rows that were stored without being asked; call it behind their write."""
    codec = table.codec
    if table.collection.model is not None:
        for row in rows:
            if _misfit(table, row[1]) is not None:
                context.suspects.add((table.name, "", str(decode(row[0]))))
    for index in codec.indexes:
        if not index.unique:
            continue
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            held = {str(decode(row[0])): _values(table, index, row) for row in chunk}
            twins = yield from _twins(table, index, held)
            for keys in twins.values():
                marks = [(table.name, index.name, key) for key in keys if key in held]
                context.suspects.update(marks)


def examine_documents(context: Context, refs: Iterable[str]) -> Plan[None]:
    """The same for documents by name, as they are stored now."""
    by_table: dict[str, list[str]] = {}
    for ref in refs:
        name, _, key = ref.partition("/")
        by_table.setdefault(name, []).append(key)
    for name, keys in by_table.items():
        table = context.tables.get(name)
        if table is not None and watched(table):
            texts = yield GetMany(table, keys)
            rows = [table.codec.row_of_text(text) for text in texts if text is not None]
            yield from examine_rows(context, table, rows)


def note(context: Context) -> Plan[None]:
    """Once everything of the transaction is written: keep what is still broken, and tell of it."""
    before: dict[str, Mark] = {}
    count = yield Count(INTEGRITY, EMPTY)
    if count and (count <= LOOKED_AT or context.suspects):
        before = {mark.id: mark for mark in (yield from _marks())}
    if not before and not context.suspects:
        return
    stamp = context.tx.stamp_ms
    marks = dict(before)
    for collection, index, key in sorted(context.suspects):
        id_ = f"{collection}/{index}/{key}"
        marks.setdefault(id_, Mark(id_, collection, index, key, stamp))
    conflicts, stale = yield from _examine(context.tables, marks.values())
    new = [mark for id_, mark in marks.items() if id_ not in before and id_ not in stale]
    gone = [id_ for id_ in before if id_ in stale]
    parts: list[Part] = []
    if new:
        rows = [record_row(INTEGRITY, msgspec.to_builtins(mark)) for mark in new]
        parts.append(Put(INTEGRITY, rows))
    if gone:
        parts.append(Delete(INTEGRITY, gone))
    if parts:
        yield Write(parts)
    fresh = {mark.id for mark in new}
    for conflict in conflicts:
        place = f"{conflict.collection}/{conflict.index or ''}/"
        if not any(f"{place}{key}" in before for key in conflict.keys):
            key = next(key for key in conflict.keys if f"{place}{key}" in fresh)
            context.event("integrity", conflict.collection, key, conflict.reason)


def list_integrity(tables: Tables) -> Plan[Broken]:
    """Look again at all marks."""
    if not (yield Count(INTEGRITY, EMPTY)):
        return Broken([], over=False)
    conflicts, stale = yield from _examine(tables, (yield from _marks()))
    return Broken(conflicts, bool(stale))


def suspect(collection: str, index: str, keys: Iterable[Key]) -> Operation[None]:
    """Look at these documents under an index from now on."""
    return Operation(_suspect(collection, index, list(map(str, keys))), "write")


def _suspect(collection: str, index: str, keys: Sequence[str]) -> Plan[None]:
    tx = yield Meta("tx")
    marks = [
        Mark(f"{collection}/{index}/{key}", collection, index, key, tx.stamp_ms) for key in keys
    ]
    rows = [record_row(INTEGRITY, msgspec.to_builtins(mark)) for mark in marks]
    # Who was under suspicion before keeps the time of it.
    yield Write([Put(INTEGRITY, rows, mode="add")])


def prune(tables: Tables) -> Plan[None]:
    """Remove the marks of what is over. A write operation."""
    _, stale = yield from _examine(tables, (yield from _marks()))
    if stale:
        yield Write([Delete(INTEGRITY, sorted(stale))])


def _marks() -> Plan[list[Mark]]:
    texts = yield Find(INTEGRITY, EMPTY, "texts")
    return [_mark.decode(text) for text in texts]


def _examine(
    tables: Tables, marks: Iterable[Mark]
) -> Plan[tuple[list[IntegrityConflict], set[str]]]:
    """What the marks stand for now, and the ids of those that stand for nothing any more."""
    by_place: dict[tuple[str, str], list[Mark]] = {}
    for mark in marks:
        by_place.setdefault((mark.collection, mark.index), []).append(mark)
    found: list[IntegrityConflict] = []
    stale: set[str] = set()
    for (collection, name), group in by_place.items():
        table = tables.get(collection)
        if table is None:
            continue  # not open here today: nothing can be said
        index = next((i for i in table.codec.indexes if i.unique and i.name == name), None)
        stamps = {mark.key: mark.at_ms for mark in group}
        broken = yield from _broken(table, index if name else None, stamps, model=not name)
        found.extend(broken)
        live = {key for conflict in broken for key in conflict.keys}
        stale.update(mark.id for mark in group if mark.key not in live)
    found.sort(key=lambda c: (c.at_ms, c.collection, c.index or "", c.keys))
    return found, stale


def _broken(
    table: Table[Any], index: Index | None, stamps: Mapping[str, int], *, model: bool
) -> Plan[list[IntegrityConflict]]:
    found: list[IntegrityConflict] = []
    twins: dict[Value, list[str]] = {}
    keys = list(stamps)
    for start in range(0, len(keys), CHUNK):
        chunk = keys[start : start + CHUNK]
        texts = yield GetMany(table, chunk)
        docs = {key: text for key, text in zip(chunk, texts, strict=True) if text is not None}
        if model:
            for key, text in docs.items():
                reason = _misfit(table, text)
                if reason is not None:
                    found.append(
                        IntegrityConflict("unreadable", table.name, [key], reason, stamps[key])
                    )
        elif index is not None:
            row_of = table.codec.row_of_text
            held = {key: _values(table, index, row_of(text)) for key, text in docs.items()}
            twins.update((yield from _twins(table, index, held)))
    # Documents that share several entries of a list are one conflict.
    for holders in map(list, dict.fromkeys(map(tuple, twins.values()))):
        assert index is not None
        names = ", ".join(index.fields)
        found.append(
            IntegrityConflict(
                "unique",
                table.name,
                holders,
                f"{', '.join(holders)} have the same {names}, and the index is unique.",
                min(stamps[key] for key in holders if key in stamps),
                index.name,
                list(index.fields),
            )
        )
    return found


def _misfit(table: Table[Any], text: str) -> str | None:
    """Why the model cannot read a text; None when it can."""
    if table.collection.model is None:
        return None
    try:
        table.codec.decode(text)
    except HomeportError as error:
        return error.message
    return None


def _values(table: Table[Any], index: Index, row: Row) -> list[Value]:
    """The values of a row in an index; a row without one of the fields has none."""
    codec = table.codec
    if index.multi:
        number = [one.name for one in codec.multi].index(index.name)
        return [(entry,) for entry in codec.extras_of_text(row[1])[0][number]]
    value = tuple(row[2 + codec.columns.index(path)] for path in index.fields)
    return [] if None in value else [value]


def _twins(
    table: Table[Any], index: Index, held: Mapping[str, Sequence[Value]]
) -> Plan[dict[Value, list[str]]]:
    """The values of these documents that more than one document holds, with all who do."""
    holders: dict[Value, set[str]] = {}
    for key, values in held.items():
        for value in values:
            holders.setdefault(value, set()).add(key)
    others: set[str] = set()
    for where in _questions(index, list(holders)):
        keys = yield Find(table, EMPTY.and_where(where), "keys")
        others.update(key for key in keys if key not in held)
    if others:
        texts = yield GetMany(table, sorted(others))
        for key, text in zip(sorted(others), texts, strict=True):
            if text is None:
                continue
            for value in _values(table, index, table.codec.row_of_text(text)):
                if value in holders:
                    holders[value].add(key)
    return {value: sorted(keys) for value, keys in holders.items() if len(keys) > 1}


def _questions(index: Index, values: Sequence[Value]) -> list[Condition]:
    """Conditions that together find every document with one of the values, and few others."""
    if not values:
        return []
    if not index.multi and len(index.fields) == 1:
        return [AnyOf(index.fields[0], tuple(decode(value) for (value,) in values))]
    terms = [_term(index, value) for value in values]
    blocks = [terms[start : start + BLOCK] for start in range(0, len(terms), BLOCK)]
    return [block[0] if len(block) == 1 else Or(tuple(block)) for block in blocks]


def _term(index: Index, value: Value) -> Condition:
    if not index.multi:
        pairs = zip(index.fields, value, strict=True)
        return And(tuple(Compare(path, "==", decode(one)) for path, one in pairs))
    entry = decode(value[0])
    if len(index.fields) == 1:
        return Contains(index.fields[0], entry)
    # One of the fields is the list; each of the others equals its part of the entry.
    pairs = zip(index.fields, entry, strict=True)
    return And(tuple(Or((Compare(p, "==", one), Contains(p, one))) for p, one in pairs))
