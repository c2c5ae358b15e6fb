"""Move the ground under queued changes: load what is affected, rebase, write what was decided.

The plans here run inside a write operation of their caller (a cut, a resolution, a reset). All user
code (conflict functions) runs in ``merge.rebase``, between the reads and the writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from homeport.core import diff
from homeport.core.codec import Row, Table
from homeport.core.context import Context, Moved
from homeport.core.keys import encode_key
from homeport.core.layers import ended
from homeport.core.merge import Doc, Group, Outcome, State, rebase
from homeport.core.notices import conflict_parts, dead_record, tell
from homeport.core.outbox import (
    BASE,
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
    ref_of,
    text_of,
    write_json,
)
from homeport.core.policies import Clash
from homeport.core.query import EMPTY, AnyOf
from homeport.core.records import Records
from homeport.core.requests import (
    Delete,
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
from homeport.core.wire import ABSENT, RESOLUTIONS, Verdict, present
from homeport.errors import HomeportError

__all__ = ["fill_token", "put_rows", "server_row", "settle"]


def server_row(table: Table[Any], moved_key: str, text: str) -> Row | None:
    """A row for a text that another program wrote; None when it is no document at all."""
    try:
        row = table.codec.row_of_text(text)
        if row[0] == encode_key(moved_key):
            return row
    except (HomeportError, msgspec.MsgspecError):
        pass
    # The key is missing in the body, or is another: what the server calls it counts.
    try:
        doc = diff.parse(text)
    except msgspec.MsgspecError:
        return None
    if not isinstance(doc, dict):
        return None
    try:
        return table.codec.row_of_text(diff.dump({**doc, table.collection.key: moved_key}))
    except HomeportError:
        return None


def put_rows(
    table: Table[Any], rows: Sequence[Row], tokens: Sequence[tuple[str | None, str | None]]
) -> Put:
    codec = table.codec
    extras = [codec.extras_of_text(row[1]) for row in rows] if codec.has_extras else None
    return Put(table, rows, extras, tokens=tokens)


def settle(
    context: Context,
    moved: Mapping[str, Moved],
    *,
    verdicts: Mapping[str, Verdict] | None = None,
    in_flight: Iterable[int] = (),
    answered: bool = False,
    rejected: Mapping[str, Verdict] | None = None,
    wanted: Mapping[str, Mapping[str, State]] | None = None,
    refs: Iterable[str] = (),
    told: Iterable[Clash] = (),
    withdrawn: Mapping[str, Verdict | None] | None = None,
) -> Plan[Outcome]:
    """Rebase what ``moved``, ``refs`` and the verdicts touch, and write the result.

    verdicts: by unit, of the answered batch. in_flight: its entries. answered False: they are shown
    and left alone. rejected: by document, reasons that reject every unit that touches it. wanted:
    by held unit and document, what a person decided; later changes then merge by field. told:
    settlements that were made before, to be recorded with these. withdrawn: units to take away,
    without a trace or, with a verdict, into the dead letters.
    """
    flying = set(in_flight)
    groups, bases = yield from _load({*moved, *refs}, flying)
    groups, elsewhere = _parked(context, groups, verdicts or {})
    sure: dict[str, Entry] = {}
    if answered and wanted is None:
        sure = _sure(groups, moved, verdicts or {}, flying)
        groups = [group for group in groups if group.entries[0].ref not in sure]
    rest = {ref: move for ref, move in moved.items() if ref not in sure}
    docs = yield from _docs(context, groups, bases, rest)
    for group in groups:
        if any(entry.id in flying for entry in group.entries):
            group.in_flight = not answered or group.parked
            if answered and not group.parked:
                retry = Verdict(group.id, "retry", "missing")
                group.verdict = (verdicts or {}).get(group.id, retry)
        if wanted is not None and group.id in wanted:
            group.wanted = dict(wanted[group.id])
        if withdrawn is not None and group.id in withdrawn:
            group.verdict = withdrawn[group.id]
            group.withdrawn = group.verdict is None
        for entry in group.entries:
            reason = (rejected or {}).get(entry.ref)
            decided = group.verdict is not None and group.verdict.result == "applied"
            if reason is not None and not decided and not group.in_flight:
                group.verdict = reason
    outcome = rebase(docs, groups, context.rule if wanted is None else context.merge_rule)
    for ref, entry in sure.items():
        move = moved[ref]
        state: State = {} if present(move.body) else None  # it is only asked whether there is one
        docs[ref] = Doc(move.collection, move.key, None, state, move.token, move.bucket)
        outcome.removed.append(entry)
    outcome.logged += [(None, clash) for clash in told]
    outcome.applied += len(sure)
    outcome.committed += len(sure)
    here = {ref: base for ref, base in bases.items() if ref not in elsewhere}
    yield from _write(context, outcome, docs, here, moved)
    return outcome


def _sure(
    groups: Sequence[Group],
    moved: Mapping[str, Moved],
    verdicts: Mapping[str, Verdict],
    flying: set[int],
) -> dict[str, Entry]:
    """Documents whose one queued change is in the database and in this cut, by name: what the
    server has is the document, so there is nothing to rebase."""
    touched = Counter(entry.ref for group in groups for entry in group.entries)
    found: dict[str, Entry] = {}
    for group in groups:
        entry = group.entries[0]
        if entry.unit is not None or entry.held or group.parked or entry.id not in flying:
            continue
        verdict = verdicts.get(group.id)
        applied = verdict is not None and verdict.result == "applied"
        if applied and touched[entry.ref] == 1 and entry.ref in moved:
            found[entry.ref] = entry
    return found


def _parked(
    context: Context, groups: Sequence[Group], verdicts: Mapping[str, Verdict]
) -> tuple[list[Group], set[str]]:
    """Set aside what speaks of collections that are not synced any more → the other units, and the
    documents that wait there.

    The rest of such a unit is shown and left alone until the program syncs all of it again; only
    that the server has it already is believed at once.
    """
    left: list[Group] = []
    elsewhere: set[str] = set()
    for group in groups:
        here = [entry for entry in group.entries if entry.collection in context.tables]
        verdict = verdicts.get(group.id)
        if len(here) < len(group.entries) and (verdict is None or verdict.result != "applied"):
            elsewhere |= {e.ref for e in group.entries if e.collection not in context.tables}
            group.entries, group.parked, group.in_flight = here, True, True
        if group.entries:
            left.append(group)
    return left, elsewhere


def _load(refs: set[str], flying: set[int]) -> Plan[tuple[list[Group], dict[str, Base]]]:
    """All units that touch a moved document, all documents that those touch, and so on."""
    entries: dict[int, Entry] = {}
    units: set[str] = set()
    todo_refs, todo_units = set(refs), set[str]()
    texts: list[str | None] = []
    if flying:
        texts.extend((yield GetMany(OUTBOX, sorted(flying))))
    while True:
        if todo_refs:
            where = AnyOf("ref", sorted(todo_refs))
            found = yield Find(OUTBOX, EMPTY.and_where(where), "keys")
            new = [key for key in found if key not in flying and key not in entries]
            texts.extend((yield GetMany(OUTBOX, new)) if new else ())
        if todo_units:
            where = AnyOf("unit", sorted(todo_units))
            texts.extend((yield Find(OUTBOX, EMPTY.and_where(where), "texts")))
        todo_refs, todo_units = set(), set()
        for text in texts:
            if text is None:
                continue
            entry = read_entry(text)
            entries[entry.id] = entry
            if entry.ref not in refs:
                refs.add(entry.ref)
                todo_refs.add(entry.ref)
            if entry.unit is not None and entry.unit not in units:
                units.add(entry.unit)
                todo_units.add(entry.unit)
        texts = []
        if not todo_refs and not todo_units:
            break
    by_unit: dict[str, list[Entry]] = {}
    for key in sorted(entries):
        by_unit.setdefault(entries[key].unit_id, []).append(entries[key])
    found = (yield GetMany(BASE, sorted(refs))) if refs else []
    bases = {b.id: b for b in (read_base(t) for t in found if t is not None)}
    return [Group(members) for members in by_unit.values()], bases


def _docs(
    context: Context, groups: Sequence[Group], bases: Mapping[str, Base], moved: Mapping[str, Moved]
) -> Plan[dict[str, Doc]]:
    docs: dict[str, Doc] = {}
    for move in moved.values():
        ref = ref_of(move.collection, move.key)
        base = bases.get(ref)
        before = parsed(base.doc) if base is not None else None
        docs[ref] = Doc(
            move.collection, move.key, before, parsed(move.body), move.token, move.bucket
        )
    for entry in (entry for group in groups for entry in group.entries):
        if entry.ref in docs:
            continue
        base = bases.get(entry.ref) or Base(entry.ref, entry.collection, entry.key, known=True)
        if not base.known and entry.collection in context.tables:
            yield from fill_token(context.tables[entry.collection], base)
        state = parsed(base.doc)
        docs[entry.ref] = Doc(entry.collection, entry.key, state, state, base.token, base.bucket)
    return docs


def fill_token(table: Table[Any], base: Base) -> Plan[None]:
    """Until something came from the server, token and bucket of the base are those of the row."""
    info: RowInfo | None = yield Meta("row", table, base.key)
    if info is not None:
        base.token, base.bucket = info.token, info.bucket
    base.known = True


def _write(
    context: Context,
    outcome: Outcome,
    docs: Mapping[str, Doc],
    bases: Mapping[str, Base],
    moved: Mapping[str, Moved],
) -> Plan[None]:
    records = Records(context.client, context.tx.stamp_ms, context.state)
    added = records.make(outcome, docs)
    kept = [*outcome.kept, *added.entries]
    parts = _document_parts(context, docs, bases, moved, {e.ref for e in outcome.kept})
    records_written = [*added.entries, *added.changed]
    if records_written:
        log = context.tables[RESOLUTIONS]
        parts.append(
            Put(log, [log.codec.row_of_text(text_of(e.doc) or "") for e in records_written])
        )
    if added.entries:
        new = [Base(e.ref, e.collection, e.key, known=True) for e in added.entries]
        parts.append(Put(BASE, base_rows(new)))
    if kept:
        parts.append(Put(OUTBOX, entry_rows(kept)))
    if outcome.removed:
        parts.append(Delete(OUTBOX, [e.id for e in outcome.removed]))
    context.state.queued += len(added.entries) - len(outcome.removed)
    if outcome.dead:
        letters = [record_row(DEAD, dead_record(context, dead)) for dead in outcome.dead]
        parts.append(Put(DEAD, letters, [DEAD.codec.extras_of_text(row[1]) for row in letters]))
    parts.extend((yield from conflict_parts(context, outcome, moved)))
    parts.extend((yield from ended(context, outcome)))
    parts.append(SetMeta(META_OUTBOX, write_json(context.state)))
    tell(context, outcome)
    yield Write(parts)


def _document_parts(
    context: Context,
    docs: Mapping[str, Doc],
    bases: Mapping[str, Base],
    moved: Mapping[str, Moved],
    pending: set[str],
) -> list[Part]:
    rows: dict[str, list[Row]] = {}
    tokens: dict[str, list[tuple[str | None, str | None]]] = {}
    gone: dict[str, list[Any]] = {}
    kept_bases: list[Base] = []
    done: list[Any] = []
    for ref, doc in docs.items():
        body = moved[ref].body if ref in moved else bases[ref].doc if ref in bases else ABSENT
        if ref in pending:
            kept_bases.append(Base(ref, doc.collection, doc.key, body, True, doc.token, doc.bucket))
        elif ref in bases:
            done.append(ref)
        table = context.tables.get(doc.collection)
        if table is None:
            continue  # not synced any more: its row stays as the user sees it
        # What nobody here changed keeps the server's text to the letter.
        text = text_of(body) if diff.same(doc.cur, doc.after) else diff.dump(doc.cur)
        row = None
        wanted = ref in pending or not context.elsewhere(doc.collection, doc.bucket)
        if text is not None and doc.cur is not None and wanted:
            row = server_row(table, doc.key, text)
        if row is None:
            gone.setdefault(doc.collection, []).append(doc.key)
        else:
            rows.setdefault(doc.collection, []).append(row)
            tokens.setdefault(doc.collection, []).append((doc.token, doc.bucket))
    parts: list[Part] = [
        put_rows(context.tables[name], found, tokens[name]) for name, found in rows.items()
    ]
    parts.extend(Delete(context.tables[name], keys) for name, keys in gone.items())
    if kept_bases:
        parts.append(Put(BASE, base_rows(kept_bases)))
    if done:
        parts.append(Delete(BASE, done))
    return parts
