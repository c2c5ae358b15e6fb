"""Writes that begin with reading: update by a function and patch of named fields, of one document
or of all that a query matches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from homeport.core import keys as key_order
from homeport.core.operations import refuse_single
from homeport.core.patching import changed_row, checked
from homeport.core.paths import MISSING
from homeport.core.query import QueryValue
from homeport.core.requests import Get, GetMany, Operation, PartResult, Plan
from homeport.core.writes import (
    bulk,
    counted,
    matching,
    not_found,
    put_,
    replace,
    store,
)
from homeport.errors import HomeportError, InvalidKey, UsageError

if TYPE_CHECKING:
    from homeport.core.codec import Extras, Row, Table
    from homeport.core.keyforms import AnyKey
    from homeport.core.keys import Key

T = TypeVar("T")


# -- by a function


def update(
    table: Table[T], key: AnyKey, fn: Callable[[T], T], default: T = MISSING
) -> Operation[T]:
    _check_function(fn)
    key = table.codec.keys.into(key)
    return Operation(_update(table, key, fn, default), "write", False, (table,))


def _check_function(fn: object) -> None:
    if not callable(fn):
        raise UsageError(
            f"update() takes a function of the document, not {type(fn).__name__}.",
            action="To set some fields use patch().",
        )


def _update(table: Table[T], key: Key, fn: Callable[[T], T], default: T) -> Plan[T]:
    codec = table.codec
    text = yield Get(table, key)
    if text is None and default is MISSING:
        raise not_found(table, key, "update")
    doc = _updated(table, key, fn, default if text is None else codec.decode(text))
    extras = codec.extras(doc) if codec.has_extras else None
    yield from put_(table, codec.row(doc), extras, "put")
    return doc


def _updated(table: Table[T], key: Key, fn: Callable[[T], T], doc: T) -> T:
    """What ``fn`` makes of a document, with the key that it had."""
    doc = fn(doc)
    if doc is None or inspect.isawaitable(doc):
        if inspect.iscoroutine(doc):
            doc.close()
        raise UsageError(
            f"The function given to update() of {table.name} returned "
            f"{'None' if doc is None else 'an awaitable'}; nothing was written.",
            action="Return the document (dict.update() and list.append() return None); "
            "a coroutine belongs in db.run().",
        )
    if not table.codec.fits(doc):
        kind = "dict" if table.collection.model is None else table.collection.model.__name__
        raise UsageError(
            f"The function given to update() of {table.name} returned a {type(doc).__name__}; "
            "nothing was written.",
            action=f"Return the document, a {kind}.",
        )
    found = table.codec.key_of(doc)
    if found is None:
        return table.codec.with_key(doc, key)
    if key_order.encode_key(found) != key_order.encode_key(key):
        raise InvalidKey(
            f"The function given to update() changed the key from {key!r} to {found!r}.",
            action="A key never changes: put a new document and delete the old one.",
        )
    return doc


def update_where(table: Table[T], query: QueryValue, fn: Callable[[T], T]) -> Operation[int]:
    _check_function(fn)
    plan = _update_where(table, query, fn)
    return Operation(plan, "write", False, (table,), False, counted)


def _update_where(table: Table[T], query: QueryValue, fn: Callable[[T], T]) -> Plan[PartResult]:
    codec = table.codec
    entries = yield from matching(table, query)
    # All of the user's code before the first write.
    docs = [_updated(table, key, fn, codec.decode(text)) for key, text in entries]
    if not docs:
        return PartResult([])
    extras = [codec.extras(doc) for doc in docs] if codec.has_extras else None
    result = yield from store(table, [codec.row(doc) for doc in docs], extras, "put")
    for error in result.failures.values():
        raise error
    return result


# -- named fields


def patch(table: Table[T], key: AnyKey, changes: Mapping[str, Any]) -> Operation[T]:
    changes = checked(table, changes)
    key = table.codec.keys.into(key)
    return Operation(
        _patch(table, key, changes), "write", False, (table,), False, table.codec.decode
    )


def _patch(table: Table[T], key: Key, changes: Mapping[str, Any]) -> Plan[str]:
    text = yield Get(table, key)
    if text is None:
        raise not_found(table, key, "patch")
    row, extras = changed_row(table, text, changes)
    result = yield from replace(table, [(key, text, row, extras)])
    if result.failures:
        raise result.failures[0]
    return row[1]  # type: ignore[no-any-return]


def patch_many(
    table: Table[T],
    patches: Mapping[Any, Mapping[str, Any]] | Iterable[tuple[AnyKey, Mapping[str, Any]]],
) -> Operation[list[Any]]:
    pairs: Any = patches.items() if isinstance(patches, Mapping) else patches
    refuse_single(pairs, "patch_many", "(key, changes) pairs")
    items: list[Any] = list(pairs)
    failures: dict[int, HomeportError] = {}
    wanted: list[tuple[int, Key, Mapping[str, Any]]] = []
    for position, item in enumerate(items):
        try:
            key, changes = _pair(item)
            key = table.codec.keys.into(key)
            wanted.append((position, key, checked(table, changes)))
        except HomeportError as error:
            failures[position] = error
    plan = _patch_many(table, wanted, failures)
    finish = bulk(table, "patch_many", len(items), failures)
    return Operation(plan, "write", False, (table,), False, finish)


def _patch_many(
    table: Table[T],
    wanted: list[tuple[int, Key, Mapping[str, Any]]],
    failures: dict[int, HomeportError],
) -> Plan[PartResult]:
    todo = wanted
    while todo:
        todo = yield from _patch_some(table, todo, failures)
    return PartResult([key for position, key, _ in wanted if position not in failures])


def _patch_some(
    table: Table[T],
    wanted: list[tuple[int, Key, Mapping[str, Any]]],
    failures: dict[int, HomeportError],
) -> Plan[list[tuple[int, Key, Mapping[str, Any]]]]:
    """→ those to try again, because they were built on a patch of the same key that failed."""
    texts: list[str | None] = yield GetMany(table, [key for _, key, _ in wanted])
    latest: dict[Any, str] = {}
    edits: list[tuple[Key, str, Row, Extras | None]] = []
    tried: list[tuple[int, Key, Mapping[str, Any]]] = []
    for item, text in zip(wanted, texts, strict=True):
        position, key, changes = item
        name = key_order.encode_key(key)
        try:
            if text is None:
                raise not_found(table, key, "patch_many")
            row, extras = changed_row(table, latest.get(name, text), changes)
        except HomeportError as error:
            failures[position] = error
            continue
        latest[name] = row[1]
        edits.append((key, text, row, extras))
        tried.append(item)
    result = yield from replace(table, edits)
    again = []
    refused = set()
    for n, item in enumerate(tried):
        if n not in result.failures:
            continue
        name = key_order.encode_key(item[1])
        if name in refused:
            again.append(item)
            continue
        refused.add(name)
        failures[item[0]] = result.failures[n]
    return again


def _pair(item: Any) -> tuple[Any, Mapping[str, Any]]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise UsageError(
            f"patch_many() takes (key, changes) pairs, not {item!r}.",
            action='For example patch_many({"w1": {"depth_m": 2800}}).',
        )
    return item[0], item[1]


def patch_where(table: Table[T], query: QueryValue, changes: Mapping[str, Any]) -> Operation[int]:
    changes = checked(table, changes)
    return Operation(_patch_where(table, query, changes), "write", False, (table,), False, counted)


def _patch_where(
    table: Table[T], query: QueryValue, changes: Mapping[str, Any]
) -> Plan[PartResult]:
    entries = yield from matching(table, query)
    edits = [(key, text, *changed_row(table, text, changes)) for key, text in entries]
    result = yield from replace(table, edits)
    # A condition that matches many documents is one change: refused for one, refused for all.
    for error in result.failures.values():
        raise error
    return result
