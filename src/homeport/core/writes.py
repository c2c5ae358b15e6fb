"""Writes as plans.

Every operation ends in one ``Write`` (or ``DeleteWhere``), so it happens whole or not at all even
where it is one step of a larger transaction. The old rows are read once, and only when the
collection is synced (the outbox needs them) or its model may know less than the stored text.

Rows that fail alone in a bulk call must not undo the others: the plan returns them, the commit
happens, and ``finish`` raises ``BulkError``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from homeport.core import keys as key_order
from homeport.core.changes import Edit, captured_write
from homeport.core.numbering import keyed
from homeport.core.operations import passing, refuse_single, unfiltered
from homeport.core.query import QueryValue
from homeport.core.requests import (
    Delete,
    DeleteWhere,
    Find,
    GetMany,
    Operation,
    PartResult,
    Plan,
    Put,
    RowsWrite,
    RowWrite,
    Write,
)
from homeport.errors import BulkError, HomeportError, NotFound

if TYPE_CHECKING:
    from homeport.core.codec import Extras, Row, Table
    from homeport.core.keyforms import AnyKey
    from homeport.core.keys import Key

T = TypeVar("T")
WriteMode = Literal["put", "add"]
NewKey = Callable[[], str]


# -- put and add


def put(table: Table[T], doc: T, new_key: NewKey, mode: WriteMode = "put") -> Operation[Any]:
    codec = table.codec
    row = codec.row(doc)
    extras = None
    if row[0] is None or codec.has_extras:
        row, extras = encoded(table, doc, new_key)
    plan, typed = put_(table, row, extras, mode), codec.keys.typed
    if extras is None and mode == "put":
        return RowWrite(plan, scope=(table,), finish=typed, table=table, row=row)
    return RowsWrite(
        plan,
        scope=(table,),
        finish=typed,
        table=table,
        rows=(row,),
        extras=None if extras is None else (extras,),
        adding=mode == "add",
    )


def put_(table: Table[T], row: Row, extras: Extras | None, mode: WriteMode) -> Plan[Key]:
    more = None if extras is None else (extras,)
    if table.synced or table.keep_unknown or table.keyed:
        result = yield from store(table, (row,), more, mode)
    else:
        (result,) = yield Write((Put(table, (row,), more, mode=mode),))
    if result.failures:
        raise result.failures[0]
    return result.keys[0]  # type: ignore[return-value]


def put_many(
    table: Table[T], docs: Iterable[T], new_key: NewKey, mode: WriteMode = "put"
) -> Operation[list[Any]]:
    rows: list[Row] = []
    extras: list[Extras] | None = [] if table.codec.has_extras else None
    failures: dict[int, HomeportError] = {}
    verb = f"{mode}_many"
    refuse_single(docs, verb, "documents")
    position = -1
    for position, doc in enumerate(docs):
        try:
            row, extra = encoded(table, doc, new_key)
        except HomeportError as error:
            failures[position] = error
            continue
        rows.append(row)
        if extras is not None:
            extras.append(extra)  # type: ignore[arg-type]
    plan = _put_many(table, rows, extras, mode)
    finish = bulk(table, verb, position + 1, failures)
    return RowsWrite(
        plan,
        scope=(table,),
        finish=finish,
        table=table,
        rows=rows,
        extras=extras,
        adding=mode == "add",
        many=True,
    )


def _put_many(
    table: Table[T], rows: list[Row], extras: list[Extras] | None, mode: WriteMode
) -> Plan[PartResult]:
    if not rows:
        return PartResult([])
    return (yield from store(table, rows, extras, mode))


def encoded(table: Table[T], doc: T, new_key: NewKey) -> tuple[Row, Extras | None]:
    """The row of a document; a missing key is made, or left to ``store``."""
    codec = table.codec
    row = codec.row(doc)
    if row[0] is None and not table.keyed:
        doc = codec.with_key(doc, new_key())
        row = codec.row(doc)
    return row, codec.extras(doc) if codec.has_extras else None


def store(
    table: Table[T], rows: Sequence[Row], extras: Sequence[Extras] | None, mode: WriteMode
) -> Plan[PartResult]:
    """Write rows of one table, captured for the outbox when it is synced."""
    if not table.keyed:
        return (yield from _store(table, rows, extras, mode))
    made = yield from keyed(table, rows, extras)
    result = PartResult([])
    if made.rows:
        result = yield from _store(table, made.rows, made.extras, mode)
    if made.meta is not None:
        yield Write((made.meta,))
    if not made.failures:
        return result
    keys: list[Key | None] = [None] * len(rows)
    for place, key in zip(made.places, result.keys, strict=True):
        keys[place] = key
    failures = {made.places[n]: error for n, error in result.failures.items()}
    return PartResult(keys, {**made.failures, **failures})


def _store(
    table: Table[T], rows: Sequence[Row], extras: Sequence[Extras] | None, mode: WriteMode
) -> Plan[PartResult]:
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


# -- delete


def delete(table: Table[T], key: AnyKey) -> Operation[int]:
    key = table.codec.keys.into(key)
    return Operation(_delete(table, (key,)), "write", False, (table,), False, counted)


def delete_many(table: Table[T], keys: Iterable[AnyKey]) -> Operation[int]:
    refuse_single(keys, "delete_many", "keys")
    stored_keys = map(table.codec.keys.into, keys)
    wanted = list({key_order.encode_key(key): key for key in stored_keys}.values())
    return Operation(_delete(table, wanted), "write", False, (table,), False, counted)


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
    return Operation(_delete_where(table, query), "write", False, (table,), False, counted)


def _delete_where(table: Table[T], query: QueryValue) -> Plan[PartResult]:
    if not (table.synced or query.predicates):
        return PartResult((yield DeleteWhere(table, query)))
    entries = yield from matching(table, query)
    return (yield from _delete_found(table, entries))


# -- shared


def replace(
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


def matching(table: Table[T], query: QueryValue) -> Plan[list[tuple[Key, str]]]:
    if not query.predicates:
        return (yield Find(table, query, "entries"))  # type: ignore[no-any-return]
    entries = yield Find(table, unfiltered(query), "entries")
    return [entry for entry, _ in passing(table, query, entries)]


def counted(result: PartResult) -> int:
    return sum(1 for key in result.keys if key is not None)


def not_found(table: Table[T], key: Key, verb: str) -> NotFound:
    return NotFound(
        f"{verb}: there is no document {key!r} in {table.name}.", collection=table.name, key=key
    )


def bulk(
    table: Table[T], verb: str, total: int, failures: dict[int, HomeportError]
) -> Callable[[PartResult], list[Any]]:
    """Join what failed before the write with what failed in it, by the caller's positions."""
    typed = table.codec.keys.typed

    def finish(result: PartResult) -> list[Any]:
        if not failures and not result.failures:
            found: list[Key] = result.keys  # type: ignore[assignment]
            return found if typed is None else [typed(key) for key in found]
        tried = [position for position in range(total) if position not in failures]
        keys: list[Key | None] = [None] * total
        for n, (position, key) in enumerate(zip(tried, result.keys, strict=True)):
            if n in result.failures:
                failures[position] = result.failures[n]
            else:
                keys[position] = key if typed is None else typed(key)
        position, error = min(failures.items())
        raise BulkError(
            f"{verb} into {table.name}: {len(failures)} of {total} failed, all others were "
            f"written; the first at position {position}: {error.message}",
            failures=dict(sorted(failures.items())),
            keys=keys,
        )

    return finish
