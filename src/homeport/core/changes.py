"""Capture: a write to a synced collection queues itself, in its own transaction.

``captured_write`` makes the data change and, beside it, one entry in ``_outbox`` per document and
the document's base in ``_base`` when it has none yet. Only neighbours that were never sent are
coalesced: the entry before this one, when it speaks of the same document, or, inside an explicit
transaction, the entry of the same document in the same unit (a unit names a document once).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from homeport.core import diff
from homeport.core.codec import Extras, Row, Table
from homeport.core.edits import coalesce, make_entry
from homeport.core.keys import Key
from homeport.core.outbox import (
    BASE,
    META_OUTBOX,
    OUTBOX,
    SYSTEM,
    Base,
    Entry,
    QueueState,
    base_rows,
    entry_rows,
    raw,
    read_base,
    read_entry,
    read_state,
    ref_of,
    write_json,
)
from homeport.core.query import EMPTY, AnyOf, Compare
from homeport.core.requests import (
    Delete,
    Find,
    Get,
    GetMany,
    Meta,
    Part,
    PartResult,
    Plan,
    Put,
    RowInfo,
    SetMeta,
    TxInfo,
    Write,
)
from homeport.core.wire import (
    MAX_DOCUMENT_BYTES,
    MAX_KEY_BYTES,
    MAX_UNIT_BYTES,
    MAX_UNIT_CHANGES,
)
from homeport.errors import InvalidDocument, InvalidKey, QueueFull, UnitTooLarge

__all__ = ["SYSTEM", "Edit", "captured_write"]


class Edit:
    """One document of a write. row None deletes; ``old`` is the stored text or None."""

    __slots__ = ("extras", "key", "mode", "old", "row")

    def __init__(
        self,
        key: Key,
        old: str | None,
        row: Row | None,
        extras: Extras | None = None,
        mode: Literal["put", "add"] = "put",
    ) -> None:
        self.key = key
        self.old = old
        self.row = row
        self.extras = extras
        self.mode = mode


def captured_write(
    table: Table[Any], edits: Sequence[Edit], *, unit: str | None = None
) -> Plan[PartResult]:
    """Write the edits and queue them for the server.

    The answer is that of the data part: for documents one key per edit (None where it failed, with
    its error in ``failures``); when all edits are deletes, the keys that existed. ``unit`` names
    the unit where the caller is no explicit transaction but wants one.

    Raises ``InvalidKey``, ``InvalidDocument`` (too large), ``QueueFull``, ``UnitTooLarge``.
    """
    tx: TxInfo = yield Meta("tx")
    state = read_state((yield Meta(META_OUTBOX)))
    unit = unit if unit is not None else tx.unit
    refs = [_check(table, edit) for edit in edits]
    bases = yield from _bases(refs)
    rows = yield from _row_infos(table, edits, refs, bases, state)
    result = yield from _write_data(table, edits, refs)

    queue = _Queue(table, tx, state, unit, bases, rows)
    yield from queue.load(refs, single=len(edits) == 1)
    for index, edit in enumerate(edits):
        if index not in result.failures:
            queue.add(edit, refs[index])
    yield from queue.write()
    if all(edit.row is None for edit in edits):
        return PartResult([k for k in result.keys if k is not None], result.failures)
    return result


def _check(table: Table[Any], edit: Edit) -> str:
    key = edit.key
    if not isinstance(key, str):
        raise InvalidKey(
            f"Documents of the synced collection {table.name} have string keys, not {key!r}.",
            action="Use a string, or declare the collection with sync=False.",
            collection=table.name,
            key=key,
        )
    if len(key) * 4 > MAX_KEY_BYTES and len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidKey(
            f"The key is longer than {MAX_KEY_BYTES} bytes.", collection=table.name, key=key
        )
    if edit.row is not None:
        text: str = edit.row[1]
        if len(text) * 4 > MAX_DOCUMENT_BYTES and len(text.encode()) > MAX_DOCUMENT_BYTES:
            raise InvalidDocument(
                f"{table.name}/{key} is larger than {MAX_DOCUMENT_BYTES:,} bytes.",
                action="Split it, or keep large content in a collection with sync=False.",
                collection=table.name,
                key=key,
            )
    return ref_of(table.name, key)


def _bases(refs: Sequence[str]) -> Plan[dict[str, Base]]:
    texts = yield GetMany(BASE, list(dict.fromkeys(refs)))
    return {b.id: b for b in (read_base(t) for t in texts if t is not None)}


def _row_infos(
    table: Table[Any],
    edits: Sequence[Edit],
    refs: Sequence[str],
    bases: dict[str, Base],
    state: QueueState,
) -> Plan[dict[str, RowInfo]]:
    """Token and bucket of rows that will not be there afterwards to be asked (deletes), or that may
    not be adopted yet."""
    adopting = table.name in state.adopting
    infos: dict[str, RowInfo] = {}
    for edit, ref in zip(edits, refs, strict=True):
        asks = edit.row is None if ref in bases else edit.row is None or adopting
        if edit.old is not None and asks and not (ref in bases and bases[ref].known):
            info: RowInfo | None = yield Meta("row", table, edit.key)
            if info is not None:
                infos[ref] = info
    return infos


def _write_data(table: Table[Any], edits: Sequence[Edit], refs: Sequence[str]) -> Plan[PartResult]:
    """The data change itself, first: rows that fail must not be queued."""
    distinct = len(set(refs)) == len(edits)
    extras = table.codec.has_extras
    groups: dict[str, list[int]] = {}
    for index, edit in enumerate(edits):
        groups.setdefault("delete" if edit.row is None else edit.mode, []).append(index)
    parts: list[Part] = []
    for kind, indexes in groups.items():
        chosen = [edits[i] for i in indexes]
        # Of a key that occurs twice, the second old text is not the one that will be there.
        olds = [e.old for e in chosen] if distinct else None
        if kind == "delete":
            parts.append(Delete(table, [e.key for e in chosen], olds=olds))
            continue
        parts.append(
            Put(
                table,
                [e.row for e in chosen if e.row is not None],
                [e.extras for e in chosen if e.extras is not None] if extras else None,
                mode="add" if kind == "add" else "put",
                olds=olds,
            )
        )
    answers: list[PartResult] = yield Write(parts)
    if len(answers) == 1 and "delete" not in groups:
        return answers[0]
    keys: list[Key | None] = [None] * len(edits)
    failures = {}
    for (kind, indexes), answer in zip(groups.items(), answers, strict=True):
        for position, index in enumerate(indexes):
            if kind == "delete":
                keys[index] = edits[index].key if edits[index].old is not None else None
            else:
                keys[index] = answer.keys[position]
        for position, error in answer.failures.items():
            failures[indexes[position]] = error
    return PartResult(keys, failures)


class _Queue:
    """The entries that one captured write adds, changes and removes."""

    def __init__(
        self,
        table: Table[Any],
        tx: TxInfo,
        state: QueueState,
        unit: str | None,
        bases: dict[str, Base],
        rows: dict[str, RowInfo],
    ) -> None:
        self.table = table
        self.tx = tx
        self.state = state
        self.unit = unit
        self.bases = bases
        self.rows = rows
        self.open: dict[str, Entry] = {}
        """Entries that may still be extended, by document."""
        self.texts: dict[str, str | None] = {}
        """Texts of documents that this write has met already."""
        self.stored: set[int] = set()
        self.changed: dict[int, Entry] = {}
        self.removed: set[int] = set()
        self.new_bases: dict[str, Base] = {}

    def load(self, refs: Sequence[str], *, single: bool) -> Plan[None]:
        """Read the entries that this write may extend."""
        pending = [ref for ref in dict.fromkeys(refs) if ref in self.bases]
        if not pending:
            return
        state = self.state
        texts: list[str] = []
        if self.unit is not None:
            where = (Compare("unit", "==", self.unit), AnyOf("ref", pending))
            texts = yield Find(OUTBOX, EMPTY.and_where(where[0]).and_where(where[1]), "texts")
        elif single and state.last == pending[0] and state.next - 1 > state.frozen:
            text = yield Get(OUTBOX, state.next - 1)
            texts = [] if text is None else [text]
        for text in texts:
            entry = read_entry(text)
            if entry.ref in self.bases and entry.unit == self.unit and not entry.held:
                self.open[entry.ref] = entry
                self.stored.add(entry.id)

    def add(self, edit: Edit, ref: str) -> None:
        old = self.texts.get(ref, edit.old)
        new: str | None = None if edit.row is None else edit.row[1]
        self.texts[ref] = new
        if old is None and new is None:
            return
        known = self.bases.get(ref)
        row = self.rows.get(ref)
        if known is not None and row is not None and not known.known:
            # The row goes, and with it the token that the base has been reading from it.
            known.known, known.token, known.bucket = True, row.token, row.bucket
            self.new_bases[ref] = known
        entry = self.open.get(ref)
        if entry is not None:
            if coalesce(entry, None if old is None else diff.parse(old), new):
                self.changed[entry.id] = entry
            else:
                self._remove(entry)
            return
        info = row
        unadopted = (
            self.table.name in self.state.adopting
            and ref not in self.bases
            and info is not None
            and info.token is None
        )
        if unadopted and self.tx.layer:
            # What is rolled back leaves the document as it was: that is queued first, by itself.
            self._adopt(ref, old)
            unadopted = False
        elif unadopted:
            # The server never saw it: what is queued is the document, as a creation.
            if new is None:
                return
            old, info = None, None
        entry = Entry(
            self.state.next, ref, self.table.name, ref[len(self.table.name) + 1 :], "put",
            self.tx.stamp_ms, self.unit, adopt=unadopted, layer="open" if self.tx.layer else "",
        )  # fmt: skip
        entry.doc = raw(new)
        if old is None:
            pass
        elif new is None:
            entry.op, entry.was = "delete", raw(old)
        elif old == new or not make_entry(diff.parse(old), diff.parse(new), entry):
            return
        self.state.next += 1
        self.state.queued += 1
        self.changed[entry.id] = self.open[ref] = entry
        if ref not in self.bases:
            self.bases[ref] = self.new_bases[ref] = self._base(entry, old, info)

    def _adopt(self, ref: str, text: str | None) -> None:
        """Queue a document that the server never saw, as it was before this write."""
        name = self.table.name
        entry = Entry(
            self.state.next, ref, name, ref[len(name) + 1 :], "put", self.tx.stamp_ms, adopt=True
        )
        entry.doc = raw(text)
        self.changed[entry.id] = entry
        self.state.next += 1
        self.state.queued += 1
        self.bases[ref] = self.new_bases[ref] = Base(ref, name, entry.key, known=True)

    def _base(self, entry: Entry, old: str | None, info: RowInfo | None) -> Base:
        base = Base(entry.ref, entry.collection, entry.key, raw(old))
        if old is None or info is not None:
            base.known = True
        if info is not None:
            base.token, base.bucket = info.token, info.bucket
        return base

    def _remove(self, entry: Entry) -> None:
        self.changed.pop(entry.id, None)
        self.open.pop(entry.ref, None)
        self.removed.add(entry.id)
        self.state.queued -= 1

    def write(self) -> Plan[None]:
        """Check the limits and write queue, bases and counters, in one request."""
        if not self.changed and not self.removed:
            return
        added = [e for e in self.changed.values() if e.id not in self.stored]
        rows = entry_rows(list(self.changed.values()))
        self._check_limits(added, rows)
        parts: list[Part] = []
        gone = yield from self._orphans()
        fresh = [b for ref, b in self.new_bases.items() if ref not in gone]
        if fresh:
            parts.append(Put(BASE, base_rows(fresh)))
        if gone:
            parts.append(Delete(BASE, sorted(gone)))
        if rows:
            parts.append(Put(OUTBOX, rows))
        if self.removed & self.stored:
            parts.append(Delete(OUTBOX, sorted(self.removed & self.stored)))
        newest = max(self.changed, default=0)
        if newest == self.state.next - 1:
            self.state.last = self.changed[newest].ref
        elif self.removed:
            self.state.last = ""
        parts.append(SetMeta(META_OUTBOX, write_json(self.state)))
        yield Write(parts)

    def _orphans(self) -> Plan[set[str]]:
        """Documents whose last entry this write took away: they need no base any more."""
        if not self.removed:
            return set()
        refs = set(self.bases) - {e.ref for e in self.changed.values()}
        if not refs:
            return set()
        found = yield Find(OUTBOX, EMPTY.and_where(AnyOf("ref", sorted(refs))), "texts")
        left = (read_entry(text) for text in found)
        return refs - {e.ref for e in left if e.id not in self.removed}

    def _check_limits(self, added: Sequence[Entry], rows: Sequence[Row]) -> None:
        state, tx = self.state, self.tx
        if added and state.queued > state.limit:
            raise QueueFull(
                f"{state.queued - len(added):,} changes wait for the server; "
                f"the limit is {state.limit:,}.",
                queued=state.queued - len(added),
                limit=state.limit,
            )
        if self.unit is None:
            return
        tx.changes += len(added)
        tx.bytes += sum(len(row[1]) for row in rows)
        if tx.changes > MAX_UNIT_CHANGES or tx.bytes > MAX_UNIT_BYTES:
            raise UnitTooLarge(
                f"The transaction has {tx.changes:,} changes of {tx.bytes:,} bytes; one unit may "
                f"have {MAX_UNIT_CHANGES:,} changes and {MAX_UNIT_BYTES:,} bytes.",
                changes=tx.changes,
                bytes=tx.bytes,
            )
