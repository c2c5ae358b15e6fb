"""A newer program opens a file: its documents, and all that waits for the server, are raised to the
program's version in one transaction (``core.versions``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from homeport.core import diff
from homeport.core.acknowledged import forget_all
from homeport.core.codec import Row, Table
from homeport.core.edits import make_entry
from homeport.core.outbox import (
    BASE,
    CONFLICTS,
    DEAD,
    META_VERSIONS,
    OUTBOX,
    Entry,
    base_rows,
    entry_rows,
    parsed,
    raw,
    read_base,
    read_entry,
    record_row,
    write_json,
)
from homeport.core.query import EMPTY, AnyOf, Compare
from homeport.core.requests import Find, GetMany, Meta, Part, Plan, Put, RowInfo, SetMeta, Write
from homeport.core.versions import mark_raised
from homeport.errors import SchemaMismatch

CHUNK = 500

Raise = Callable[[Any], Any]
_versions = msgspec.json.Decoder(dict[str, int])


def behind(tables: Mapping[str, Table[Any]]) -> Plan[dict[str, int]]:
    """The collections of which the file has an older version, with it. A read.

    Raises ``SchemaMismatch`` when a newer program has written the file.
    """
    return older_in((yield Meta(META_VERSIONS)), tables)


def older_in(text: str | None, tables: Mapping[str, Table[Any]]) -> dict[str, int]:
    """As ``behind``, of what the file says under ``META_VERSIONS``."""
    known = {} if text is None else _versions.decode(text)
    found: dict[str, int] = {}
    for name, table in tables.items():
        version, there = table.collection.versions.current, known.get(name, 1)
        if there > version:
            raise SchemaMismatch(
                f"The documents of {name} have version {there}; this program knows {version}.",
                action="Update this program.",
            )
        if there < version:
            found[name] = there
    return found


def raise_all(tables: Mapping[str, Table[Any]]) -> Plan[None]:
    """Bring every document to the version of its declaration. A write operation.

    Where a function fails on a document, it stays as it is, as a document of the server would.
    """
    older = yield from behind(tables)
    if not older:
        return
    for name, version in older.items():
        yield from _raise_table(tables[name], version)
    text = yield Meta(META_VERSIONS)
    known = {} if text is None else _versions.decode(text)
    known.update({name: tables[name].collection.versions.current for name in older})
    epoch = int((yield Meta("epoch")) or "0")  # moved, so that older programs notice
    yield Write([SetMeta(META_VERSIONS, write_json(known)), SetMeta("epoch", str(epoch + 1))])


def _raise_table(table: Table[Any], version: int) -> Plan[None]:
    versions = table.collection.versions
    keys = yield Find(table, EMPTY, "keys")
    if not keys or not any(number >= version for number in versions.steps):
        return

    def up(document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        try:
            return versions.raised(diff.parse(diff.dump(document)), version)
        except Exception:  # a document that its function cannot read stays as it is
            return document

    yield from _raise_queue(table.name, up)
    yield from _raise_records(table.name, up)
    yield from forget_all()  # what was acknowledged was said in the older form
    for start in range(0, len(keys), CHUNK):
        yield from _raise_rows(table, keys[start : start + CHUNK], up)


def _raise_rows(table: Table[Any], keys: list[Any], up: Raise) -> Plan[None]:
    texts = yield GetMany(table, keys)
    rows: list[Row] = []
    tokens: list[tuple[str | None, str | None]] = []
    for key, text in zip(keys, texts, strict=True):
        if text is None:
            continue
        document = diff.parse(text)
        after = up(document)
        if diff.same(after, document):
            continue
        rows.append(table.codec.row_of_text(diff.dump({**after, table.collection.key: key})))
        info: RowInfo | None = yield Meta("row", table, key)
        token = None if info is None else info.token
        tokens.append((mark_raised(token), None if info is None else info.bucket))
    if rows:
        codec = table.codec
        extras = [codec.extras_of_text(row[1]) for row in rows] if codec.has_extras else None
        yield Write([Put(table, rows, extras, tokens=tokens)])


def _raise_queue(name: str, up: Raise) -> Plan[None]:
    """Bases and queue entries: the same steps between raised documents. The bytes of a batch in
    flight stay what they are, and say their version."""
    where = EMPTY.and_where(Compare("collection", "==", name))
    for text in (yield Find(BASE, where, "texts")):
        base = read_base(text)
        of_this = EMPTY.and_where(AnyOf("ref", [base.id])).with_order("id")
        entries = [read_entry(one) for one in (yield Find(OUTBOX, of_this, "texts"))]
        state = parsed(base.doc)
        after = up(state)
        if not diff.same(state, after):
            base.doc, base.token = raw(diff.dump(after)), mark_raised(base.token)
        for entry in entries:
            state = _raise_entry(entry, state, up)
        parts: list[Part] = [Put(BASE, base_rows([base]))]
        if entries:
            parts.append(Put(OUTBOX, entry_rows(entries)))
        yield Write(parts)


def _raise_entry(entry: Entry, state: Any, up: Raise) -> Any:
    """Raise one entry that was made on ``state`` (in the old form) → the state after it."""
    if entry.op == "patch":
        if state is None:
            return None
        patched = diff.apply(state, entry.patch)
        make_entry(up(state), up(patched), entry)
        return patched
    after = parsed(entry.doc) if entry.op == "put" else None
    entry.was = _raised_raw(entry.was, up)
    entry.doc = _raised_raw(entry.doc, up)
    return after


def _raised_raw(body: msgspec.Raw, up: Raise) -> msgspec.Raw:
    document = parsed(body)
    return body if document is None else raw(diff.dump(up(document)))


def _raise_records(name: str, up: Raise) -> Plan[None]:
    """What waits for a person: conflicts, and whole documents in dead letters."""
    parts: list[Part] = []
    where = EMPTY.and_where(Compare("collection", "==", name))
    records = [diff.parse(text) for text in (yield Find(CONFLICTS, where, "texts"))]
    for record in records:
        record.update({side: up(record.get(side)) for side in ("base", "local", "remote")})
        parts.append(Put(CONFLICTS, [record_row(CONFLICTS, record)]))
    for text in (yield Find(DEAD, EMPTY, "texts")):
        letter = diff.parse(text)
        mine = [change for change in letter["changes"] if change["collection"] == name]
        for change in mine:
            change.update({side: up(change[side]) for side in _whole(change)})
        if mine:
            row = record_row(DEAD, letter)
            parts.append(Put(DEAD, [row], [DEAD.codec.extras_of_text(row[1])]))
    if parts:
        yield Write(parts)


def _whole(change: Mapping[str, Any]) -> Iterable[str]:
    return [side for side in ("doc", "was") if isinstance(change.get(side), dict)]
