"""What every store has to do, as cases that run on any of them.

A store is an implementation of ``homeport.core.stores.Store``. To prove one::

    from homeport.testing import conformance


    @pytest.mark.parametrize("case", conformance.cases(), ids=str)
    def test_my_store(case, tmp_path):
        case.run(lambda clock_ms: MyStore(tmp_path / "db", clock_ms=clock_ms))

``cases(table)`` adds the semantic cases of ``semantics.json`` (documents, queries and the keys they
have to find), each with no index, with single, and with compound indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from homeport.core.codec import Table
from homeport.core.query import EMPTY, QueryValue
from homeport.core.requests import (
    Changes,
    ChangeSet,
    Count,
    Delete,
    DeleteWhere,
    Find,
    Get,
    GetMany,
    Meta,
    PartResult,
    Put,
    RowInfo,
    SetMeta,
    Write,
)
from homeport.core.schema import Collection
from homeport.core.stores import Store, StoreSession

MakeStore = Callable[[Callable[[], int]], Store]
"""A function that makes an empty store on a given clock (milliseconds since 1970)."""

START_MS = 1_800_000_000_000


class World:
    """One empty store with its session, a clock that a case moves, and short forms of requests."""

    def __init__(self, make_store: MakeStore) -> None:
        self.now_ms = START_MS
        self.store = make_store(lambda: self.now_ms)
        self.session: StoreSession = self.store.session()

    def close(self) -> None:
        self.session.close()
        self.store.close()

    def define(self, *collections: Collection[Any]) -> list[Table[Any]]:
        tables = [Table(collection) for collection in collections]
        self.store.define(tables)
        return tables

    def write(self, *parts: Put | Delete | SetMeta) -> list[PartResult]:
        results: list[PartResult] = self.session.answer(Write(parts))
        return results

    def put(self, table: Table[Any], *documents: dict[str, Any], **options: Any) -> PartResult:
        return self.write(part(table, *documents, **options))[0]

    def delete(self, table: Table[Any], *keys: Any) -> PartResult:
        return self.write(Delete(table, keys))[0]

    def delete_where(self, table: Table[Any], query: QueryValue) -> list[Any]:
        keys: list[Any] = self.session.answer(DeleteWhere(table, query))
        return keys

    def get(self, table: Table[Any], key: Any) -> Any:
        text = self.session.answer(Get(table, key))
        return None if text is None else table.codec.decode(text)

    def get_many(self, table: Table[Any], *keys: Any) -> list[Any]:
        texts = self.session.answer(GetMany(table, keys))
        return [None if text is None else table.codec.decode(text) for text in texts]

    def keys(self, table: Table[Any], query: QueryValue = EMPTY) -> list[Any]:
        """The keys of a query, after proving that every form and the count agree on it."""
        keys: list[Any] = self.session.answer(Find(table, query, "keys"))
        entries = self.session.answer(Find(table, query, "entries"))
        texts = self.session.answer(Find(table, query, "texts"))
        chunks = self.session.answer(Find(table, query, "text"))
        documents = [document for chunk in chunks for document in table.codec.decode_list(chunk)]
        # Without an order or a place in it, order and choice of rows are the store's own.
        free = not query.order and not query.offset and query.after is None
        if free and query.limit is not None:
            same(len(keys), len(entries), "keys and entries")
            same(self.session.answer(Count(table, query)), len(keys), "count and keys")
            return keys
        put = sorted if free else list
        same(put(map(repr, keys)), put(repr(key) for key, _ in entries), "keys and entries")
        same(put(texts), put(text for _, text in entries), "texts and entries")
        same(
            put(map(repr, documents)),
            put(repr(table.codec.decode(text)) for text in texts),
            "chunks and texts",
        )
        same(self.session.answer(Count(table, query)), len(keys), "count and keys")
        return keys

    def changes(self, after: int | None, *tables: Table[Any]) -> ChangeSet:
        found: ChangeSet = self.session.answer(Changes(after, tables))
        return found

    def head(self) -> int:
        return self.changes(None).head

    def meta(self, name: str) -> Any:
        return self.session.answer(Meta(name))

    def info(self, table: Table[Any], key: Any) -> RowInfo | None:
        found: RowInfo | None = self.session.answer(Meta("row", table, key))
        return found


class Case:
    """One thing that a store has to do. ``str(case)`` is its name."""

    def __init__(self, name: str, check: Callable[[World], None]) -> None:
        self.name = name
        self._check = check

    def run(self, make_store: MakeStore) -> None:
        """Run on a fresh store; ``AssertionError`` says what it did wrong."""
        world = World(make_store)
        try:
            self._check(world)
        finally:
            world.close()

    def __str__(self) -> str:
        return self.name


def cases(table: Mapping[str, Any] | None = None) -> list[Case]:
    """All cases; ``table``: the parsed ``semantics.json``, None leaves its cases out."""
    # The rooms below are made of World, so they are imported when they are wanted.
    from homeport.testing import (  # noqa: PLC0415
        conformance_data,
        conformance_semantics,
        conformance_transactions,
    )

    found = [
        Case(name.removeprefix("check_").replace("_", " "), check)
        for module in (conformance_data, conformance_transactions)
        for name, check in vars(module).items()
        if name.startswith("check_")
    ]
    return found if table is None else [*found, *conformance_semantics.cases(table)]


def run_conformance(make_store: MakeStore, table: Mapping[str, Any] | None = None) -> int:
    """Run every case → how many; the first failure is raised with the name of its case."""
    every = cases(table)
    for case in every:
        try:
            case.run(make_store)
        except Exception as error:
            error.add_note(f"conformance case: {case}")
            raise
    return len(every)


def part(
    table: Table[Any], *documents: dict[str, Any], given_extras: bool = True, **options: Any
) -> Put:
    """A Put as the operations of the library make it."""
    rows = [table.codec.row(document) for document in documents]
    extras = None
    if table.codec.has_extras and given_extras:
        extras = [table.codec.extras(document) for document in documents]
    return Put(table, rows, extras, **options)


def same(found: Any, expected: Any, what: str = "the answer") -> None:
    if found != expected:
        raise AssertionError(f"{what}: found {found!r}, expected {expected!r}")


def raises(error: type[Exception], call: Callable[[], Any]) -> Exception:
    try:
        call()
    except error as caught:
        return caught
    raise AssertionError(f"{error.__name__} was not raised")
