"""What waits for a person: held conflicts, dead letters, and the log of resolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from homeport.core import diff
from homeport.core.changes import Edit, captured_write
from homeport.core.choices import MINE, THEIRS, Side, by_field, contested, taken_back
from homeport.core.codec import Table
from homeport.core.context import Context, Tables, open_context
from homeport.core.integrity import examine_documents, note
from homeport.core.lifecycle import CONFLICTS as CONFLICT_STATES
from homeport.core.lifecycle import ConflictState, advance, conflict_state
from homeport.core.outbox import (
    BASE,
    CONFLICTS,
    DEAD,
    META_OUTBOX,
    OUTBOX,
    Base,
    Entry,
    base_rows,
    entry_rows,
    parsed,
    read_base,
    read_entry,
    record_row,
    text_of,
    write_json,
)
from homeport.core.policies import Clash
from homeport.core.query import EMPTY, Compare
from homeport.core.records import Records
from homeport.core.requests import Delete, Find, Get, Meta, Plan, Put, SetMeta, TxInfo, Write
from homeport.core.settle import settle
from homeport.core.wire import RESOLUTIONS
from homeport.errors import InvalidDocument, NotFound, UsageError

Choice = Literal["mine", "theirs"] | Mapping[str, Any]


class Conflict(msgspec.Struct, frozen=True, omit_defaults=True):
    """Two versions of one document that a person has to choose from. None = deleted on that side.

    unit: the transaction it belongs to; it waits until all its conflicts are resolved.
    """

    id: str
    unit: str
    collection: str
    key: str
    base: dict[str, Any] | None
    local: dict[str, Any] | None
    remote: dict[str, Any] | None
    reason: str
    at_ms: int
    choice: Any = None

    @property
    def fields(self) -> list[str]:
        """The paths that both sides changed, each to something else; empty where one deleted it."""
        return contested(self.base, self.local, self.remote)


class DeadLetter(msgspec.Struct, frozen=True):
    """A unit that the server refused, with everything that was in it.

    changes: the queue entries as JSON (``core.outbox.Entry``); at: positions that were refused.
    """

    id: str
    unit: str
    code: str
    message: str
    at: list[int]
    at_ms: int
    changes: list[dict[str, Any]]


class Resolution(msgspec.Struct, frozen=True):
    """One settled conflict, on this device or another. winner: the side that kept its value,
    ``local`` being the device that wrote the record (``client``)."""

    id: str
    collection: str
    key: str
    policy: str
    base: dict[str, Any] | None = None
    local: dict[str, Any] | None = None
    remote: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    at_ms: int = 0
    client: str = ""
    winner: str = ""
    kind: str = ""
    fields: list[str] = []
    bucket: str | None = None


def list_conflicts() -> Plan[list[Conflict]]:
    texts = yield Find(CONFLICTS, EMPTY.with_order("at_ms", "id"), "texts")
    return [msgspec.json.decode(text, type=Conflict) for text in texts]


def list_dead() -> Plan[list[DeadLetter]]:
    texts = yield Find(DEAD, EMPTY.with_order("at_ms", "id"), "texts")
    return [msgspec.json.decode(text, type=DeadLetter) for text in texts]


def list_resolutions(tables: Tables, limit: int) -> Plan[list[Resolution]]:
    query = EMPTY.with_order("-at_ms", "-id").with_limit(limit)
    texts = yield Find(tables[RESOLUTIONS], query, "texts")
    return [msgspec.json.decode(text, type=Resolution) for text in texts]


def resolve(
    tables: Tables,
    conflict_id: str,
    choice: Choice | None = None,
    fields: Mapping[str, Side] | None = None,
) -> Plan[bool]:
    """Settle a conflict → False while other conflicts of its unit are open. A write operation."""
    if (choice is None) == (fields is None):
        raise UsageError(
            "resolve() takes a choice for the document or for its fields, one of the two.",
            action="For example resolve(id, 'mine') or resolve(id, fields={'depth_m': 'theirs'}).",
        )
    text = yield Get(CONFLICTS, conflict_id)
    if text is None:
        raise NotFound(
            f"There is no conflict {conflict_id!r}.", action="List them with sync.conflicts()."
        )
    record = diff.parse(text)
    state = conflict_state(record)
    if fields is not None:
        theirs = yield from _theirs(record)
        choice = by_field(record["base"], record["local"], theirs, fields)
    if isinstance(choice, str):
        if choice not in (MINE, THEIRS):
            raise UsageError(f"choice is 'mine', 'theirs' or a document, not {choice!r}.")
        record["choice"] = choice
    elif not isinstance(choice, Mapping):
        raise UsageError(f"choice is 'mine', 'theirs' or a document, not {choice!r:.60}.")
    else:
        record["choice"] = diff.parse(_checked(tables[record["collection"]], record["key"], choice))
    where = Compare("unit", "==", record["unit"])
    found = [diff.parse(t) for t in (yield Find(CONFLICTS, EMPTY.and_where(where), "texts"))]
    siblings = {r["id"]: r for r in found}
    siblings[record["id"]] = record
    undecided = any("choice" not in r for r in siblings.values())
    after: ConflictState = "decided" if undecided else "settled"
    if advance(CONFLICT_STATES, state, "chosen", after) == "decided":
        yield Write([Put(CONFLICTS, [record_row(CONFLICTS, record)])])
        return False
    yield from _finish(tables, record["unit"], list(siblings.values()))
    return True


def _theirs(record: Mapping[str, Any]) -> Plan[Any]:
    """The server's side as it is now: it may have moved on since the conflict was listed."""
    text = yield Get(BASE, record["ref"])
    return parsed(read_base(text).doc) if text is not None else record["remote"]


def undo(tables: Tables, resolution_id: str, to: str | None = None) -> Plan[dict[str, Any] | None]:
    """Write the version that lost again, as an ordinary change → the document, None = deleted."""
    text = yield Get(tables[RESOLUTIONS], resolution_id)
    if text is None:
        raise NotFound(
            f"There is no resolution {resolution_id!r}.",
            action="List them with sync.resolutions().",
        )
    record = msgspec.json.decode(text, type=Resolution)
    side = to or {"local": "remote", "remote": "local"}.get(record.winner or "local")
    if side not in ("base", "local", "remote"):
        raise UsageError(
            f"It was settled by a {record.winner}: neither side simply lost."
            if to is None
            else f"to= is 'base', 'local' or 'remote', not {to!r}.",
            action="Say which version you want: undo(id, to='local'), 'remote' or 'base'.",
        )
    cut = diff.parse(text).get("cut", [])
    if {"result", side, "all bodies"} & set(cut):
        raise UsageError("The record is too large to hold that version.", action="Write it anew.")
    table = tables.get(record.collection)
    if table is None:
        raise NotFound(f"{record.collection} is not synced here any more.")
    old = yield Get(table, record.key)
    wanted = taken_back(
        None if old is None else diff.parse(old),
        record.result,
        {"base": record.base, "local": record.local, "remote": record.remote}[side],
        record.fields,
        f"{record.collection}/{record.key}",
    )
    if wanted is None and old is None:
        return None
    edit = Edit(record.key, old, None)
    if wanted is not None:
        text = table.codec.row_of_plain(wanted)[1]
        edit = _edit(table, record.key, old, text)
    result = yield from captured_write(table, [edit])
    for error in result.failures.values():
        raise error
    return wanted


def _finish(tables: Tables, unit: str, records: list[dict[str, Any]]) -> Plan[None]:
    context = yield from open_context(tables)
    wanted: dict[str, Any] = {}
    clashes: list[Clash] = []
    for record in records:
        theirs = yield from _theirs(record)
        choice = record["choice"]
        if choice == MINE:
            result, winner = record["local"], "local"
        elif choice == THEIRS:
            result, winner = theirs, "remote"
        else:
            result, winner = choice, "person"
        wanted[record["ref"]] = result
        clashes.append(
            Clash(
                record["ref"], winner, "manual", record["base"], record["local"], theirs, result, []
            )
        )
    yield Write([Delete(CONFLICTS, [record["id"] for record in records])])
    yield from settle(context, {}, wanted={unit: wanted}, refs=list(wanted))
    yield from examine_documents(context, wanted)
    yield from note(context)
    yield from _log(context, clashes)


def _log(context: Context, clashes: list[Clash]) -> Plan[None]:
    """The record of a person's choice: a unit of its own beside the change that it made."""
    table = context.tables[RESOLUTIONS]
    records = Records(context.client, context.tx.stamp_ms, context.state)
    entries: list[Entry] = [records.entry_of(clash) for clash in clashes]
    rows = [table.codec.row_of_text(text_of(e.doc) or "") for e in entries]
    context.state.queued += len(entries)
    yield Write(
        [
            Put(table, rows),
            Put(BASE, base_rows([Base(e.ref, e.collection, e.key, known=True) for e in entries])),
            Put(OUTBOX, entry_rows(entries)),
            SetMeta(META_OUTBOX, write_json(context.state)),
        ]
    )


def _letter(letter_id: str) -> Plan[DeadLetter]:
    text = yield Get(DEAD, letter_id)
    if text is None:
        raise NotFound(
            f"There is no dead letter {letter_id!r}.",
            action="List them with sync.dead_letters().",
        )
    return msgspec.json.decode(text, type=DeadLetter)


def retry(
    tables: Tables, letter_id: str, documents: Mapping[str, Mapping[str, Any]] | None = None
) -> Plan[None]:
    """Make the changes of a dead letter again, on the documents of today, as one unit.

    documents: by key (or ``collection/key``), what to write instead of what was refused.
    """
    letter = yield from _letter(letter_id)
    edited = {**(documents or {})}
    tx: TxInfo = yield Meta("tx")
    unit = tx.unit
    if unit is None and len(letter.changes) > 1:
        unit = f"{letter.unit}-{tx.stamp_ms}"
    for change in letter.changes:
        entry = read_entry(write_json(change))
        if entry.collection == RESOLUTIONS and len(letter.changes) > 1:
            continue  # it told of a change that was not made
        table = tables.get(entry.collection)
        if table is None:
            raise NotFound(f"{entry.collection} is not synced here any more.")
        old = yield Get(table, entry.key)
        given = edited.pop(entry.ref, edited.pop(entry.key, None))
        if given is None:
            edit = _again(table, entry, old)
        else:
            edit = _edit(table, entry.key, old, _checked(table, entry.key, given))
        result = yield from captured_write(table, [edit], unit=unit)
        for error in result.failures.values():
            raise error
    if edited:
        raise UsageError(
            f"The letter has no change of {', '.join(map(repr, edited))}.",
            action="Name documents of the letter: " + ", ".join(sorted(_refs(letter))) + ".",
        )
    yield Write([Delete(DEAD, [letter_id])])


def _refs(letter: DeadLetter) -> set[str]:
    return {str(change["ref"]) for change in letter.changes}


def _checked(table: Table[Any], key: str, given: Mapping[str, Any]) -> str:
    """The text of a document that a person gave; raises what a write of it would raise."""
    field = table.collection.key
    if not isinstance(given, Mapping) or given.get(field) != key:
        raise InvalidDocument(f"The document must have {field} = {key!r}.")
    text: str = table.codec.row_of_plain(dict(given))[1]
    return text


def _again(table: Table[Any], entry: Entry, old: str | None) -> Edit:
    if entry.op == "delete":
        return Edit(entry.key, old, None)
    if entry.op == "put":
        text = text_of(entry.doc) or "{}"
    elif old is None:
        raise NotFound(
            f"{entry.collection}/{entry.key} is not there any more, so the change has no document.",
            action="Put the document again from the dead letter, then discard the letter.",
        )
    else:
        text = diff.dump(diff.apply(diff.parse(old), entry.patch))
    return _edit(table, entry.key, old, text)


def _edit(table: Table[Any], key: str, old: str | None, text: str) -> Edit:
    extras = table.codec.extras_of_text(text) if table.codec.has_extras else None
    return Edit(key, old, table.codec.row_of_text(text), extras)


def discard(letter_id: str) -> Plan[DeadLetter]:
    """Remove a dead letter for good → what was in it."""
    letter = yield from _letter(letter_id)
    yield Write([Delete(DEAD, [letter_id])])
    return letter
