"""What becomes of a pushed unit: pure decisions on (change, current row, rules).

No I/O here. A unit is applied, refused, in conflict or put off as a whole; the worst of its changes
decides. A row outside the user's buckets is treated as not there.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Raw

from homeport.core.mergetypes import MergeType
from homeport.core.paths import MISSING
from homeport.core.wire import (
    ABSENT,
    MAX_DOCUMENT_BYTES,
    MAX_KEY_BYTES,
    MAX_UNIT_CHANGES,
    RESOLUTIONS,
    Verdict,
    present,
)

from .patches import (
    BLOCKED,
    MAX_NESTING,
    apply_patch,
    holds_nul,
    same_json,
    too_deep,
    value_at,
)
from .rules import Claims, Rules, Scope, Settled

Place: TypeAlias = "tuple[str, str]"
"""(collection, key)."""


class PushedChange(msgspec.Struct):
    """``wire.Change`` with its values left as text: one bad value costs its unit, not the batch."""

    collection: str
    key: str
    op: Literal["put", "patch", "delete"]
    base: str | None = None
    doc: Raw = ABSENT
    set: dict[str, Raw] = {}
    unset: list[str] = []
    old: dict[str, Raw] = {}
    schema: int = 1


class PushedUnit(msgspec.Struct):
    """``wire.Unit``."""

    id: str
    changes: list[PushedChange]


class PushedBatch(msgspec.Struct):
    """``wire.Batch``."""

    number: int
    units: list[PushedUnit]


@dataclass(slots=True)
class Row:
    """A document as it stands, locked."""

    token: str
    bucket: str
    body: str
    schema: int = 1


@dataclass(slots=True)
class Write:
    """One row of the set-based write. ``base`` None = insert, ``body`` None = delete."""

    collection: str
    key: str
    base: str | None
    bucket: str
    body: str | None
    schema: int = 1


@dataclass
class Context:
    """What a decision depends on besides the change and its row."""

    claims: Claims
    client: str
    rules: Rules
    scope: Scope
    policies: Mapping[str, Settled]
    """Of every collection that the server knows."""
    now_ms: int


class _Stop(Exception):
    def __init__(self, result: str, code: str, message: str) -> None:
        super().__init__(message)
        self.result = result
        self.code = code
        self.message = message


_WORST = ("applied", "conflict", "retry", "rejected")


def decide(
    unit: PushedUnit, rows: Mapping[Place, Row], context: Context, taken: set[Place]
) -> tuple[Verdict, list[Write]]:
    """Verdict on one unit, and the writes that carry it out (none unless applied).

    ``taken`` holds the documents of earlier units of the batch; this unit's are added.
    """
    places = [(change.collection, change.key) for change in unit.changes]
    if len(set(places)) != len(places) or not places or len(places) > MAX_UNIT_CHANGES:
        return Verdict(unit.id, "rejected", "bad-unit", "A unit names each document once."), []
    repeated = not taken.isdisjoint(places)
    taken.update(places)
    if repeated:
        text = "An earlier unit of the batch holds the same document."
        return Verdict(unit.id, "retry", "same-document", text), []
    writes: list[Write] = []
    verdict = Verdict(unit.id, "applied")
    for position, change in enumerate(unit.changes):
        try:
            writes += _change(change, rows.get(places[position]), context)
        except _Stop as stop:
            if stop.result == "conflict":
                verdict.at.append(position)
            if _WORST.index(stop.result) > _WORST.index(verdict.result):
                result: Any = stop.result
                verdict.result, verdict.code, verdict.message = result, stop.code, stop.message
    if verdict.result != "applied":
        return verdict, []
    return verdict, writes


def _change(change: PushedChange, row: Row | None, context: Context) -> Sequence[Write]:
    _check_key(change.key)
    settled = context.policies.get(change.collection)
    if settled is None or not context.rules.known(change.collection):
        raise _Stop(
            "retry",
            "unknown-collection",
            f"The server knows no collection {change.collection!r}.",
        )
    policy, deletes = settled.policy, settled.deletes
    scope = context.scope.get(change.collection, frozenset())
    hidden = row is not None and row.bucket not in scope
    seen = None if hidden else row
    if not 1 <= change.schema < 2**31:
        raise _Stop("rejected", "bad-request", "A version is a number from 1 on.")
    form = change.schema if seen is None else max(change.schema, seen.schema)
    if seen is not None and seen.schema < form and change.op != "delete":
        # The change was made on the document as a newer program sees it.
        seen.body = _raised(seen.body, seen.schema, form, change.collection, context)
    if change.op == "delete":
        return _delete(change, seen, context, policy, deletes)
    if change.op == "patch":
        body, lost = _patched(change, seen, settled)
    else:
        body, lost = _put(change, seen, policy)
    if seen is not None and body is None:
        return ()
    assert body is not None
    return _store(change, seen, body, context, policy, hidden=hidden, lost=lost, form=form)


def _put(change: PushedChange, row: Row | None, policy: str) -> tuple[bytes | None, bool]:
    """(new body, or None when nothing is to be written; whether a version was overwritten)."""
    if not present(change.doc):
        raise _Stop("rejected", "bad-request", "A put carries a document.")
    body = bytes(change.doc)
    if row is None:
        if change.base is not None and policy != "last-write-wins":
            raise _Stop("conflict", "gone", "The document was deleted.")
        return body, False
    if change.base == row.token:
        return body, False
    if same_json(_decode(body), _decode_stored(row.body)):
        return None, False
    if policy == "last-write-wins":
        return body, True
    if change.base is None:
        raise _Stop("conflict", "exists", "Another document has this key.")
    raise _Stop("conflict", "changed", "The document was changed meanwhile.")


def _patched(change: PushedChange, row: Row | None, settled: Settled) -> tuple[bytes | None, bool]:
    if row is None:
        raise _Stop("conflict", "gone", "The document was deleted.")
    stored = row.body.encode()
    lost = False
    changed: Mapping[str, Raw] = change.set
    if change.base != row.token:
        policy = settled.policy
        if policy == "merge":
            changed = _merged(change, _decode_stored(row.body), settled.types)
        elif policy == "last-write-wins":
            lost = True
        else:
            raise _Stop("conflict", "changed", "The document was changed meanwhile.")
    for value in changed.values():
        _check_text(bytes(value))
    try:
        body = apply_patch(stored, changed, change.unset)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _Stop("rejected", "invalid-json", "The stored document is no object.") from error
    if body == stored or same_json(_decode(body), _decode_stored(row.body)):
        return None, False
    return body, lost


def _merged(
    change: PushedChange, current: Any, types: Mapping[str, MergeType]
) -> Mapping[str, Raw]:
    """What is to be set: a merge passes when each path holds still what the device saw, or already
    what it wants, or has a merge type that combines the two. Where values clash inside a type, the
    device decides: it writes the record."""
    changed = dict(change.set)
    for path in (*change.set, *change.unset):
        now = value_at(current, path)
        saw = _decode(bytes(change.old[path])) if path in change.old else MISSING
        wants = _decode(bytes(change.set[path])) if path in change.set else MISSING
        if now is not BLOCKED and same_json(now, saw):
            continue
        kind = types.get(path)
        if kind is not None and now is not BLOCKED and wants is not MISSING:
            merged = kind.merge(saw, wants, now)
            if merged is not None and not merged.clashes:
                changed[path] = Raw(msgspec.json.encode(merged.value))
                continue
        elif same_json(now, wants):
            continue
        raise _Stop("conflict", "changed", "The same field was changed meanwhile.")
    return changed


def _delete(
    change: PushedChange, row: Row | None, context: Context, policy: str, deletes: str
) -> Sequence[Write]:
    if row is None:
        return ()
    _ask_rule(change.collection, row, None, context)
    removal = Write(change.collection, change.key, row.token, row.bucket, None)
    if row.token == change.base:
        return (removal,)
    if policy != "last-write-wins" and deletes == "edit-wins":
        raise _Stop("conflict", "changed", "The document was changed meanwhile.")
    kind = "last-write-wins" if policy == "last-write-wins" else "delete-wins"
    return (removal, _record(change, row, context, kind=kind, policy=policy, local=None))


def _store(
    change: PushedChange,
    row: Row | None,
    body: bytes,
    context: Context,
    policy: str,
    *,
    hidden: bool,
    lost: bool,
    form: int,
) -> Sequence[Write]:
    if len(body) > MAX_DOCUMENT_BYTES:
        text = f"The document has {len(body)} bytes; the limit is {MAX_DOCUMENT_BYTES}."
        raise _Stop("rejected", "too-large", text)
    if too_deep(body):
        text = f"The document is nested more than {MAX_NESTING} deep."
        raise _Stop("rejected", "invalid-json", text)
    _check_text(body)
    document = _decode(body)
    if not isinstance(document, dict):
        raise _Stop("rejected", "invalid-json", "A document is a JSON object.")
    if hidden:
        # The key belongs to a document that this user may not see: nothing more is said.
        raise _Stop("rejected", "forbidden", "You may not write this document.")
    try:
        bucket = context.rules.bucket_of(change.collection, document)
    except Exception as error:
        # Any error of the owner's expression: the document has no place it could belong to.
        raise _Stop("rejected", "forbidden", "This document belongs to no bucket.") from error
    if bucket not in context.scope.get(change.collection, frozenset()):
        raise _Stop("rejected", "forbidden", "You may not write into this bucket.")
    _ask_rule(change.collection, row, document, context)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _Stop("rejected", "invalid-json", "The document is not UTF-8.") from error
    write = Write(change.collection, change.key, row.token if row else None, bucket, text, form)
    if row is not None and lost:
        return (write, _record(change, row, context, kind=policy, policy=policy, local=text))
    return (write,)


def _raised(text: str, version: int, to: int, collection: str, context: Context) -> str:
    """A document in the form of a newer version, where the owner has said how it is made."""
    try:
        return context.rules.versions(collection).raised_text(text, version, to)
    except Exception as error:
        # The owner's function; the write waits until it is repaired.
        raise _Stop("retry", "upcast-failed", "An upcaster of the server failed.") from error


def _ask_rule(
    collection: str, row: Row | None, document: dict[str, Any] | None, context: Context
) -> None:
    declared = context.rules.get(collection)
    if declared is None or declared.write is None:
        return
    try:
        old = None if row is None else _decode_stored(row.body)
        answer = declared.write(context.claims, old, document)
    except Exception as error:
        # A broken rule is the owner's to repair; the write waits and nothing is lost.
        raise _Stop("retry", "rule-failed", "A rule of the server failed.") from error
    if answer is not True:
        text = answer if isinstance(answer, str) else "A rule of the server refuses this write."
        raise _Stop("rejected", "forbidden", text)


def _record(
    change: PushedChange, row: Row, context: Context, *, kind: str, policy: str, local: str | None
) -> Write:
    """The record of a version that lost; it syncs to all who see the document."""
    name = str(uuid.uuid4())
    body = {
        "id": name,
        "collection": change.collection,
        "key": change.key,
        "policy": policy,
        "kind": kind,
        "base": None,
        "local": None if local is None else Raw(local.encode()),
        "remote": Raw(row.body.encode()),
        "result": None if local is None else Raw(local.encode()),
        "at_ms": context.now_ms,
        "client": context.client,
    }
    declared = context.rules.get(change.collection)
    plain = declared is None or declared.bucket is None
    bucket = "" if plain else f"{change.collection}/{row.bucket}"
    return Write(RESOLUTIONS, name, None, bucket, msgspec.json.encode(body).decode())


def _check_key(key: str) -> None:
    if "\0" in key:
        raise _Stop("rejected", "invalid-key", "A key cannot hold U+0000.")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise _Stop("rejected", "invalid-key", f"A key has at most {MAX_KEY_BYTES} bytes.")


def _check_text(text: bytes) -> None:
    if holds_nul(text):
        raise _Stop(
            "rejected", "invalid-text", "PostgreSQL cannot hold U+0000 or half a surrogate pair."
        )


def _decode(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _Stop("rejected", "invalid-json", "The document is not valid JSON.") from error


def _decode_stored(text: str) -> Any:
    """A stored body; plain SQL may have stored what msgspec does not read (numbers like 1e999)."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _Stop("retry", "unreadable", "The stored document cannot be read.") from error
