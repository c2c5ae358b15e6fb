"""Reads that are answered from memory where that is right, and fill it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from homeport.core.keys import encode_key
from homeport.core.requests import Get, GetMany, Request
from homeport.core.resultkeys import key_of

if TYPE_CHECKING:
    from homeport.storage.indexeddb import IndexedDBStore
    from homeport.storage.indexeddb_read import Reads

R = TypeVar("R")
Stepped: TypeAlias = Generator[str, str, R]


def at_hand(store: IndexedDBStore, request: Any) -> Any:
    """The answer where that needs no look at the database: it is in memory, and nobody else can
    have written. Else None."""
    kind = type(request)
    if kind is not Get and not store.keeps(request):
        return None
    if not store.sure(request.table):
        return None
    kept, table = store.kept, request.table
    if kind is Get:
        return kept.text(table, encode_key(request.key))
    if kind is GetMany:
        texts = []
        for key in request.keys:
            text = kept.text(table, encode_key(key))
            if text is None:
                return None
            texts.append(text)
        return texts
    name = key_of(request)
    found = None if name is None else kept.answer(table, (kind, name))
    return found.copy() if type(found) is list else found


def kept_answer(
    store: IndexedDBStore, reads: Reads, request: Any, answer: Callable[[Any], Stepped[Any]]
) -> Stepped[Any] | None:
    """The steps of a read that may use memory or fill it; None for any other request."""
    kind: type[Request] = type(request)
    if kind is Get:
        return _one(store, reads, request) if store.sure(request.table) else None
    if not store.keeps(request):
        return None
    return _many(store, reads, request) if kind is GetMany else _whole(store, request, answer)


def _one(store: IndexedDBStore, reads: Reads, request: Get) -> Stepped[str | None]:
    """It is kept where nobody else can have written from its first step to its last."""
    kept, table, period = store.kept, request.table, store.alone.period
    state = kept.state
    text = yield from reads.get(request)
    still = kept.state == state and store.alone.period == period and store.sure(table)
    if text is not None and still:
        kept.keep_text(table, encode_key(request.key), text)
    return text


def _whole(
    store: IndexedDBStore, request: Any, answer: Callable[[Any], Stepped[Any]]
) -> Stepped[Any]:
    kept, table = store.kept, request.table
    store.known(table)
    asked = type(request), key_of(request)
    current = asked[1] is not None and (yield from kept.current())
    if current:
        found = kept.answer(table, asked)
        if found is not None:
            return found.copy() if type(found) is list else found
    state = kept.state
    found = yield from answer(request)
    if current and kept.state == state:
        kept.keep_answer(table, asked, found.copy() if type(found) is list else found)
    return found


def _many(store: IndexedDBStore, reads: Reads, request: GetMany) -> Stepped[list[str | None]]:
    kept, table = store.kept, request.table
    store.known(table)
    names = [encode_key(key) for key in request.keys]
    if not (yield from kept.current()):
        return (yield from reads.get_many(request))
    state = kept.state
    texts = [kept.text(table, name) for name in names]
    missing = [n for n, text in enumerate(texts) if text is None]
    wanted = GetMany(table, [request.keys[n] for n in missing])
    for n, text in zip(missing, (yield from reads.get_many(wanted)), strict=True):
        texts[n] = text
        if text is not None and kept.state == state:
            kept.keep_text(table, names[n], text)
    return texts
