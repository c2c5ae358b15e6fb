"""Writes as plans.

Every operation ends in one ``Write`` (or ``DeleteWhere``), so it happens whole or not at all even
where it is one step of a larger transaction. The old rows are read once, and only when the
collection is synced (the outbox needs them) or its model may know less than the stored text.

Rows that fail alone in a bulk call must not undo the others: the plan returns them, the commit
happens, and ``finish`` raises ``BulkError``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from homeport.core import keys as key_order
from homeport.core.changes import Edit, captured_write
from homeport.core.operations import passing, refuse_single, unfiltered
from homeport.core.patching import changed_row, checked
from homeport.core.query import QueryValue
from homeport.core.requests import (
    Delete,
    DeleteWhere,
    Find,
    Get,
    GetMany,
    Operation,
    PartResult,
    Plan,
    Put,
    Write,
)
from homeport.errors import BulkError, HomeportError, InvalidKey, NotFound, UsageError

if TYPE_CHECKING:
    from homeport.core.codec import Extras, Row, Table
    from homeport.core.keys import Key

T = TypeVar("T")
WriteMode = Literal["put", "add"]
NewKey = Callable[[], str]


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final[Any] = _Missing()
"""No default given; None is a value."""


# -- put and add


def put(table: Table[T], doc: T, new_key: NewKey, mode: WriteMode = "put") -> Operation[Key]:
    codec = table.codec
    row = codec.row(doc)
    extras = None
    if row[0] is None or codec.has_extras:
        row, extras = _encoded(table, doc, new_key)
    return Operation(_put(table, row, extras, mode), "write", False, (table,))


def _put(table: Table[T], row: Row, extras: Extras | None, mode: WriteMode) -> Plan[Key]:
    more = None if extras is None else (extras,)
    if table.synced or table.keep_unknown:
        result = yield from _store(table, (row,), more, mode)
    else:
        (result,) = yield Write((Put(table, (row,), more, mode=mode),))
    if result.failures:
        raise result.failures[0]
    return result.keys[0]  # type: ignore[return-value]


def put_many(
    table: Table[T], docs: Iterable[T], new_key: NewKey, mode: WriteMode = "put"
) -> Operation[list[Key]]:
    rows: list[Row] = []
    extras: list[Extras] | None = [] if table.codec.has_extras else None
    failures: dict[int, HomeportError] = {}
    verb = f"{mode}_many"
    refuse_single(docs, verb, "documents")
    position = -1
    for position, doc in enumerate(docs):
        try:
            row, extra = _encoded(table, doc, new_key)
        except HomeportError as error:
            failures[position] = error
            continue
        rows.append(row)
        if extras is not None:
            extras.append(extra)  # type: ignore[arg-type]
    plan = _put_many(table, rows, extras, mode)
    finish = _bulk(table, verb, position + 1, failures)
    return Operation(plan, "write", False, (table,), False, finish)


def _put_many(
    table: Table[T], rows: list[Row], extras: list[Extras] | None, mode: WriteMode
) -> Plan[PartResult]:
    if not rows:
        return PartResult([])
    return (yield from _store(table, rows, extras, mode))


def _encoded(table: Table[T], doc: T, new_key: NewKey) -> tuple[Row, Extras | None]:
    codec = table.codec
    row = codec.row(doc)
    if row[0] is None:
        doc = codec.with_key(doc, new_key())
        row = codec.row(doc)
    return row, codec.extras(doc) if codec.has_extras else None


def _store(
    table: Table[T], rows: Sequence[Row], extras: Sequence[Extras] | None, mode: WriteMode
) -> Plan[PartResult]:
    """Write rows of one table, captured for the outbox when it is synced."""
    if not (table.synced or table.keep_unknown):
        (result,) = yield Write((Put(table, rows, extras, mode=mode),))
        return result  # type: ignore[no-any-return]
    keys = [key_order.decode(row[0]) for row in rows]
    olds: list[str | None] = yield GetMany(table, keys)
    if table.collection.model is not None:
        rows, extras = _with_unknown(table, rows, extras, olds)
    if not table.synced:
        (result,) = yield Write((Put(table, rows, extras, mode=mode, olds=olds),))
        return result  # type: ignore[no-any-return]
    edits = [
        Edit(key, old, row, None if extras is None else extras[n], mode)
        for n, (key, old, row) in enumerate(zip(keys, olds, rows, strict=True))
    ]
    return (yield from captured_write(table, edits))


def _with_unknown(
    table: Table[T],
    rows: Sequence[Row],
    extras: Sequence[Extras] | None,
    olds: Sequence[str | None],
) -> tuple[Sequence[Row], Sequence[Extras] | None]:
    """Keep the fields of the stored texts that the model does not know (R15)."""
    codec = table.codec
    merged = list(rows)
    more = None if extras is None else list(extras)
    for n, (row, old) in enumerate(zip(rows, olds, strict=True)):
        if old is None:
            continue
        text = codec.merge_unknown(old, row[1])
        if text != row[1]:
            merged[n] = codec.row_of_text(text)
            if more is not None:
                more[n] = codec.extras_of_text(text)
    return merged, more


# -- update and patch


def update(table: Table[T], key: Key, fn: Callable[[T], T], default: T = MISSING) -> Operation[T]:
    if not callable(fn):
        raise UsageError(
            f"update() takes a function of the document, not {type(fn).__name__}.",
            action="To set some fields use patch(key, {...}).",
        )
    return Operation(_update(table, key, fn, default), "write", False, (table,))


def _update(table: Table[T], key: Key, fn: Callable[[T], T], default: T) -> Plan[T]:
    codec = table.codec
    text = yield Get(table, key)
    if text is None and default is MISSING:
        raise _not_found(table, key, "update")
    doc = fn(default if text is None else codec.decode(text))
    if doc is None or inspect.isawaitable(doc):
        if inspect.iscoroutine(doc):
            doc.close()
        raise UsageError(
            f"The function given to update() of {table.name} returned "
            f"{'None' if doc is None else 'an awaitable'}; nothing was written.",
            action="Return the document (dict.update() and list.append() return None); "
            "a coroutine belongs in db.run().",
        )
    found = codec.key_of(doc)
    if found is None:
        doc = codec.with_key(doc, key)
    elif key_order.encode_key(found) != key_order.encode_key(key):
        raise InvalidKey(
            f"The function given to update() changed the key from {key!r} to {found!r}.",
            action="A key never changes: put a new document and delete the old one.",
        )
    extras = codec.extras(doc) if codec.has_extras else None
    yield from _put(table, codec.row(doc), extras, "put")
    return doc


def patch(table: Table[T], key: Key, changes: Mapping[str, Any]) -> Operation[T]:
    changes = checked(table, changes)
    return Operation(
        _patch(table, key, changes), "write", False, (table,), False, table.codec.decode
    )


def _patch(table: Table[T], key: Key, changes: Mapping[str, Any]) -> Plan[str]:
    text = yield Get(table, key)
    if text is None:
        raise _not_found(table, key, "patch")
    row, extras = changed_row(table, text, changes)
    result = yield from _replace(table, [(key, text, row, extras)])
    if result.failures:
        raise result.failures[0]
    return row[1]  # type: ignore[no-any-return]


def patch_many(
    table: Table[T],
    patches: Mapping[Any, Mapping[str, Any]] | Iterable[tuple[Key, Mapping[str, Any]]],
) -> Operation[list[Key]]:
    pairs: Any = patches.items() if isinstance(patches, Mapping) else patches
    refuse_single(pairs, "patch_many", "(key, changes) pairs")
    items: list[Any] = list(pairs)
    failures: dict[int, HomeportError] = {}
    wanted: list[tuple[int, Key, Mapping[str, Any]]] = []
    for position, item in enumerate(items):
        try:
            key, changes = _pair(item)
            key_order.encode_key(key)
            wanted.append((position, key, checked(table, changes)))
        except HomeportError as error:
            failures[position] = error
    plan = _patch_many(table, wanted, failures)
    finish = _bulk(table, "patch_many", len(items), failures)
    return Operation(plan, "write", False, (table,), False, finish)


def _patch_many(
    table: Table[T],
    wanted: list[tuple[int, Key, Mapping[str, Any]]],
    failures: dict[int, HomeportError],
) -> Plan[PartResult]:
    texts: list[str | None] = (
        (yield GetMany(table, [key for _, key, _ in wanted])) if wanted else []
    )
    # A key named twice is patched twice; both patches become one row.
    latest: dict[Any, tuple[Key, str, Row, Extras | None]] = {}
    for (position, key, changes), text in zip(wanted, texts, strict=True):
        name = key_order.encode_key(key)
        before = latest.get(name)
        try:
            if text is None:
                raise _not_found(table, key, "patch_many")
            row, extras = changed_row(table, text if before is None else before[2][1], changes)
        except HomeportError as error:
            failures[position] = error
            continue
        latest[name] = (key, text, row, extras)
    result = yield from _replace(table, list(latest.values()))
    refused = {name: result.failures[n] for n, name in enumerate(latest) if n in result.failures}
    for position, key, _ in wanted:
        refusal = refused.get(key_order.encode_key(key))
        if refusal is not None:
            failures.setdefault(position, refusal)
    return PartResult([key for position, key, _ in wanted if position not in failures])


def _pair(item: Any) -> tuple[Key, Mapping[str, Any]]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise UsageError(
            f"patch_many() takes (key, changes) pairs, not {item!r}.",
            action='For example patch_many({"w1": {"depth_m": 2800}}).',
        )
    return item[0], item[1]


def patch_where(table: Table[T], query: QueryValue, changes: Mapping[str, Any]) -> Operation[int]:
    changes = checked(table, changes)
    return Operation(_patch_where(table, query, changes), "write", False, (table,), False, _counted)


def _patch_where(
    table: Table[T], query: QueryValue, changes: Mapping[str, Any]
) -> Plan[PartResult]:
    entries = yield from _matching(table, query)
    edits = [(key, text, *changed_row(table, text, changes)) for key, text in entries]
    result = yield from _replace(table, edits)
    # A condition that matches many documents is one change: refused for one, refused for all.
    for error in result.failures.values():
        raise error
    return result


def _replace(
    table: Table[T], edits: Sequence[tuple[Key, str, Row, Extras | None]]
) -> Plan[PartResult]:
    """Write rows whose stored text the plan has read already."""
    if not edits:
        return PartResult([])
    if table.synced:
        captured = [Edit(key, old, row, extras, "put") for key, old, row, extras in edits]
        return (yield from captured_write(table, captured))
    rows = [row for _, _, row, _ in edits]
    extras = [extras for _, _, _, extras in edits] if table.codec.has_extras else None
    olds = [old for _, old, _, _ in edits]
    (result,) = yield Write((Put(table, rows, extras, olds=olds),))  # type: ignore[arg-type]
    return result  # type: ignore[no-any-return]


# -- delete


def delete(table: Table[T], key: Key) -> Operation[int]:
    key_order.encode_key(key)
    return Operation(_delete(table, (key,)), "write", False, (table,), False, _counted)


def delete_many(table: Table[T], keys: Iterable[Key]) -> Operation[int]:
    refuse_single(keys, "delete_many", "keys")
    wanted = list({key_order.encode_key(key): key for key in keys}.values())
    return Operation(_delete(table, wanted), "write", False, (table,), False, _counted)


def _delete(table: Table[T], keys: Sequence[Key]) -> Plan[PartResult]:
    if not keys:
        return PartResult([])
    if not table.synced:
        (result,) = yield Write((Delete(table, keys),))
        return result  # type: ignore[no-any-return]
    olds: list[str | None] = yield GetMany(table, keys)
    return (yield from _delete_found(table, [*zip(keys, olds, strict=True)]))


def _delete_found(table: Table[T], entries: Sequence[tuple[Key, str | None]]) -> Plan[PartResult]:
    edits = [Edit(key, old, None, None, "put") for key, old in entries if old is not None]
    if not edits:
        return PartResult([])
    if table.synced:
        return (yield from captured_write(table, edits))
    keys, olds = [edit.key for edit in edits], [edit.old for edit in edits]
    (result,) = yield Write((Delete(table, keys, olds=olds),))
    return result  # type: ignore[no-any-return]


def delete_where(table: Table[T], query: QueryValue) -> Operation[int]:
    return Operation(_delete_where(table, query), "write", False, (table,), False, _counted)


def _delete_where(table: Table[T], query: QueryValue) -> Plan[PartResult]:
    if not (table.synced or query.predicates):
        return PartResult((yield DeleteWhere(table, query)))
    entries = yield from _matching(table, query)
    return (yield from _delete_found(table, entries))


# -- shared


def _matching(table: Table[T], query: QueryValue) -> Plan[list[tuple[Key, str]]]:
    if not query.predicates:
        return (yield Find(table, query, "entries"))  # type: ignore[no-any-return]
    entries = yield Find(table, unfiltered(query), "entries")
    return [entry for entry, _ in passing(table, query, entries)]


def _counted(result: PartResult) -> int:
    return sum(1 for key in result.keys if key is not None)


def _not_found(table: Table[T], key: Key, verb: str) -> NotFound:
    return NotFound(
        f"{verb}: there is no document {key!r} in {table.name}.", collection=table.name, key=key
    )


def _bulk(
    table: Table[T], verb: str, total: int, failures: dict[int, HomeportError]
) -> Callable[[PartResult], list[Key]]:
    """Join what failed before the write with what failed in it, by the caller's positions."""

    def finish(result: PartResult) -> list[Key]:
        if not failures and not result.failures:
            return result.keys  # type: ignore[return-value]
        tried = [position for position in range(total) if position not in failures]
        keys: list[Key | None] = [None] * total
        for n, (position, key) in enumerate(zip(tried, result.keys, strict=True)):
            if n in result.failures:
                failures[position] = result.failures[n]
            else:
                keys[position] = key
        position, error = min(failures.items())
        raise BulkError(
            f"{verb} into {table.name}: {len(failures)} of {total} failed, all others were "
            f"written; the first at position {position}: {error.message}",
            failures=dict(sorted(failures.items())),
            keys=keys,
        )

    return finish
