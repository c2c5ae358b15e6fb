"""Reads as plans, and the factories that the facade calls. Writes are in ``writes``.

A factory checks and encodes what it can before the lock is taken; its plan reads and writes. What
costs time or runs the user's code on results (decoding many documents, Python predicates) is the
operation's ``finish``, outside the lock.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from homeport.core.misfits import readable
from homeport.core.paths import MISSING, get_path
from homeport.core.query import QueryValue
from homeport.core.requests import Count, Find, Get, GetMany, Lookup, Operation
from homeport.errors import InvalidQuery, NotFound, NotUnique, UsageError, ValidationFailed

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.keyforms import AnyKey
    from homeport.core.keys import Key

T = TypeVar("T")
D = TypeVar("D")

BOUNDED_KEYS = 100
"""Up to so many keys or rows are cheap enough to be read on an event loop."""

CHUNK_ROWS = 500
"""An iteration reads so many rows at a time."""

KEY_ORDER: Final = (("", False),)


# -- by key


def get(table: Table[T], key: AnyKey, default: D) -> Operation[T | D]:
    forms = table.codec.keys
    stored: Any = key if type(key) in forms.stored else forms.into(key)
    return Lookup(Get(table, stored), decode=table.codec.decode, default=default)


def getter(runner: Any, table: Table[Any], *, own: bool = True) -> Callable[[Any, Any], Any]:
    """A function (key, default) that runs ``get``: that of the runner, where it has a shorter way
    (and ``own`` is true)."""
    shorter = getattr(runner, "getter", None) if own else None
    if shorter is not None:
        made: Callable[[Any, Any], Any] = shorter(table)
        return made
    run, decode, forms = runner.run, table.codec.decode, table.codec.keys
    stored = forms.stored

    # get() of above, without a call to it.
    def found(key: Any, default: Any) -> Any:
        known = key if type(key) in stored else forms.into(key)
        return run(Lookup(Get(table, known), decode=decode, default=default))

    return found


def get_many(table: Table[T], keys: Iterable[AnyKey]) -> Operation[list[T | None]]:
    refuse_single(keys, "get_many", "keys")
    codec = table.codec
    stored = codec.keys.stored
    wanted: list[Any] = [key if type(key) in stored else codec.keys.into(key) for key in keys]

    def finish(texts: list[str | None]) -> list[T | None]:
        if None in texts:
            return [None if text is None else codec.decode(text) for text in texts]
        return [*codec.decode_texts(texts)]  # type: ignore[arg-type]

    bounded = len(wanted) <= BOUNDED_KEYS
    return Operation(GetMany(table, wanted), "read", True, (table,), bounded, finish)


def refuse_single(items: object, verb: str, what: str) -> None:
    """``UsageError`` unless a bulk call was given several things.

    A text or a dict is a slip: ``delete_many("w1")`` would delete the documents "w" and "1".
    """
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise UsageError(
            f"{verb}() takes a list of {what}, not {type(items).__name__}.",
            action=f"Put it into a list, or call {verb.removesuffix('_many')}().",
        )


# -- by query


def all_of(table: Table[T], query: QueryValue, *, bounded: bool = False) -> Operation[list[T]]:
    """Every matching document, one snapshot."""
    if query.predicates:
        return _filtered(table, query, list)
    if query.limit is None or query.limit > CHUNK_ROWS:
        # Of many rows, joining the texts costs more than decoding them as one saves.
        plan = Find(table, query, "texts")
        decode = table.codec.decode_texts
        return Operation(plan, "read", True, (table,), bounded, decode, documents=True)
    decode_list = table.codec.decode_list

    def finish(chunks: list[str]) -> list[T]:
        if len(chunks) == 1:
            return decode_list(chunks[0])
        return [doc for chunk in chunks for doc in decode_list(chunk)]

    plan = Find(table, query, "text")
    return Operation(plan, "read", True, (table,), bounded, finish, documents=True)


def first(table: Table[T], query: QueryValue, *, bounded: bool = False) -> Operation[T | None]:
    query = _at_most(query, 1)
    if query.predicates:

        def first_of(docs: Iterable[T]) -> T | None:
            return next(iter(docs), None)

        return _filtered(table, query, first_of)
    decode = table.codec.decode

    def finish(texts: list[str]) -> T | None:
        return decode(texts[0]) if texts else None

    return Operation(Find(table, query, "texts"), "read", True, (table,), bounded, finish)


def last(table: Table[T], query: QueryValue) -> Operation[T | None]:
    """The other end of the order; of a window (limit, offset, position) its last row."""
    if query.limit is None and not query.offset and query.after is None:
        return first(table, query.reversed())
    if not query.order:
        query = query.with_bound_order(KEY_ORDER) if query.after is None else query
    if query.predicates:

        def last_of(docs: Iterable[T]) -> T | None:
            return next(iter(deque(docs, 1)), None)

        return _filtered(table, query, last_of)
    decode = table.codec.decode

    def finish(texts: list[str]) -> T | None:
        return decode(texts[-1]) if texts else None

    return Operation(Find(table, query, "texts"), "read", True, (table,), False, finish)


def one(table: Table[T], query: QueryValue, *, bounded: bool = False) -> Operation[T]:
    """The only match; ``NotFound`` or ``NotUnique`` otherwise."""
    name = table.name

    def only(docs: Iterable[T]) -> T:
        found = list(islice(docs, 2))
        if not found:
            raise NotFound(f"No document of {name} matches.", collection=name)
        if len(found) > 1:
            raise NotUnique(f"Several documents of {name} match.", collection=name)
        return found[0]

    query = _at_most(query, 2)
    if query.predicates:
        return _filtered(table, query, only)
    decode = table.codec.decode

    def finish(texts: list[str]) -> T:
        return only([decode(text) for text in texts])

    return Operation(Find(table, query, "texts"), "read", True, (table,), bounded, finish)


def texts_of(table: Table[T], query: QueryValue) -> Operation[list[str]]:
    """The stored texts of every match, one snapshot."""
    if query.predicates:
        return _filtered_entries(table, query, lambda found: [text for _, text in found])
    return Operation(Find(table, query, "texts"), "read", True, (table,))


def keys_of(table: Table[T], query: QueryValue, *, bounded: bool = False) -> Operation[list[Any]]:
    typed = table.codec.keys.typed
    if query.predicates:
        return _filtered_entries(
            table, query, lambda found: [key if typed is None else typed(key) for key, _ in found]
        )
    finish = None if typed is None else lambda keys: [typed(key) for key in keys]
    return Operation(Find(table, query, "keys"), "read", True, (table,), bounded, finish)


def count(table: Table[T], query: QueryValue) -> Operation[int]:
    if query.predicates:
        return _filtered(table, query, lambda docs: sum(1 for _ in docs))
    return Operation(Count(table, query), "read", True, (table,))


def exists(table: Table[T], query: QueryValue, *, bounded: bool = False) -> Operation[bool]:
    query = _at_most(query, 1)
    if query.predicates:
        return _filtered(table, query, lambda docs: any(True for _ in docs))
    return Operation(Find(table, query, "keys"), "read", True, (table,), bounded, bool)


class Chunks(Generic[T]):
    """An iteration over a query: one operation per chunk, each beginning behind the last row.

    Needs no state in the store, and no transaction stays open while the consumer works.
    """

    def __init__(self, table: Table[T], query: QueryValue) -> None:
        if not query.order:
            # Any order will do for the caller, but the next chunk has to know it.
            query = query.with_bound_order(KEY_ORDER) if query.after is None else query
        self._table = table
        self._query = query
        self._after = query.after
        self._skip = query.offset
        self._left = query.limit
        self._done = query.limit == 0

    def next(self) -> Operation[list[tuple[Key, str]]] | None:
        """The operation that reads the next chunk, None at the end."""
        if self._done:
            return None
        query = unfiltered(self._query).with_after(self._after)
        rows = CHUNK_ROWS
        if not self._query.predicates:
            query = query.with_offset(self._skip)
            self._skip = 0
            rows = rows if self._left is None else min(rows, self._left)
        self._rows = rows
        plan = Find(self._table, query.with_limit(rows), "entries")
        return Operation(plan, "read", True, (self._table,))

    def documents(self, entries: list[tuple[Key, str]]) -> Iterable[T]:
        """The documents of a chunk that was read."""
        if len(entries) < self._rows:
            self._done = True
        elif entries:
            self._after = position(self._query, *entries[-1])
        if self._query.predicates:
            return self._filtered(entries)
        if self._left is not None:
            self._left -= len(entries)
            self._done = self._done or not self._left
        codec, texts = self._table.codec, [text for _, text in entries]
        try:
            return codec.decode_texts(texts)
        except ValidationFailed:
            # Those before the one that does not fit are delivered first.
            return map(codec.decode, texts)

    def _filtered(self, entries: list[tuple[Key, str]]) -> Iterator[T]:
        decode, predicates = self._table.codec.decode, self._query.predicates
        for _, text in entries:
            doc = passed(decode, predicates, text)
            if doc is MISSING:
                continue
            if self._skip:
                self._skip -= 1
                continue
            yield doc
            if self._left is not None:
                self._left -= 1
                if not self._left:
                    self._done = True
                    return


def position(query: QueryValue, key: Key, text: str) -> tuple[Any, ...]:
    """Where a row stands in the order of its query: the values of the order columns and the key."""
    plain = msgspec.json.decode(text)
    values = [key if path == "" else get_path(plain, path) for path, _ in query.order]
    return (*values, key)


def _at_most(query: QueryValue, rows: int) -> QueryValue:
    return query if query.limit is not None and query.limit <= rows else query.with_limit(rows)


# -- Python predicates: every row that the conditions leave is decoded and asked


def unfiltered(query: QueryValue) -> QueryValue:
    """What the store can answer of a query with predicates: limit and offset count what passes."""
    if query.offset and not query.order and query.after is None:
        query = query.with_bound_order(KEY_ORDER)  # a place in the result needs an order
    return query.with_limit(None).with_offset(0)


def passing(
    table: Table[T], query: QueryValue, entries: Iterable[tuple[Key, str]]
) -> Iterable[tuple[tuple[Key, str], T]]:
    """Entries whose document passes all predicates, within offset and limit."""
    decode, predicates = table.codec.decode, query.predicates
    found = (
        (entry, doc)
        for entry in entries
        if (doc := passed(decode, predicates, entry[1])) is not MISSING
    )
    end = None if query.limit is None else query.offset + query.limit
    return islice(found, query.offset, end)


def holding(
    table: Table[T], query: QueryValue, entries: Iterable[tuple[Key, str]]
) -> list[tuple[Key, str]]:
    """Entries whose document passes all predicates, within offset and limit."""
    return [entry for entry, _ in passing(table, query, entries)]


def passed(
    decode: Callable[[str], T], predicates: Sequence[Callable[[Any], object]], text: str
) -> T:
    """The document of a text, ``MISSING`` when it does not pass all predicates."""
    doc = readable(decode, predicates, text)
    if doc is MISSING or all(holds(predicate, doc) for predicate in predicates):
        return doc
    return MISSING  # type: ignore[no-any-return]


def holds(predicate: Callable[[Any], object], doc: object) -> bool:
    answer = predicate(doc)
    if answer is True or answer is False:
        return answer
    if answer is None:
        raise InvalidQuery(
            f"The predicate {getattr(predicate, '__name__', predicate)!r} given to filter() "
            "returned None.",
            action="Return True or False.",
        )
    if inspect.isawaitable(answer):  # which is true, whatever it would come to
        if inspect.iscoroutine(answer):
            answer.close()
        raise InvalidQuery(
            f"The predicate {getattr(predicate, '__name__', predicate)!r} given to filter() "
            "returned an awaitable.",
            action="Return True or False.",
        )
    return bool(answer)


def _filtered(table: Table[T], query: QueryValue, end: Callable[[Iterable[T]], D]) -> Operation[D]:
    def finish(entries: list[tuple[Key, str]]) -> D:
        return end(doc for _, doc in passing(table, query, entries))

    wanted = Find(table, unfiltered(query), "entries")
    return Operation(wanted, "read", True, (table,), False, finish)


def _filtered_entries(
    table: Table[T], query: QueryValue, end: Callable[[Iterable[tuple[Key, str]]], D]
) -> Operation[D]:
    def finish(entries: list[tuple[Key, str]]) -> D:
        return end(entry for entry, _ in passing(table, query, entries))

    wanted = Find(table, unfiltered(query), "entries")
    return Operation(wanted, "read", True, (table,), False, finish)
