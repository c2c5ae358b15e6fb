"""What every store has to do, as cases that run on any of them.

A case is a coroutine that awaits what it wants of the store and nothing else, so it can be stepped
by plain calls, and inside the callbacks of an engine that answers later (IndexedDB).

A store is an implementation of ``homeport.core.stores.Store``. To prove one::

    from homeport.testing import conformance


    @pytest.mark.parametrize("case", conformance.cases(), ids=str)
    def test_my_store(case, tmp_path):
        case.run(lambda clock_ms: MyStore(tmp_path / "db", clock_ms=clock_ms))

``cases(table)`` adds the semantic cases of ``semantics.json`` (documents, queries and the keys they
have to find), each with no index, with single, and with compound indexes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
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
    Mode,
    PartResult,
    Put,
    Request,
    RowInfo,
    SetMeta,
    Write,
)
from homeport.core.schema import Collection
from homeport.core.stores import Store

MakeStore = Callable[[Callable[[], int]], Store]
"""A function that makes an empty store on a given clock (milliseconds since 1970)."""

START_MS = 1_800_000_000_000


class Ask:
    """One thing that a case wants of its store: awaited there, answered by whoever steps the case.

    part: ``session`` or ``store``; name, arguments: the method of it.
    """

    __slots__ = ("arguments", "name", "part")

    def __init__(self, part: str, name: str, *arguments: Any) -> None:
        self.part = part
        self.name = name
        self.arguments = arguments

    def __await__(self) -> Generator[Ask, Any, Any]:
        return (yield self)

    def call(self, world: World) -> Any:
        """What the method returns; on an engine that answers later, how to get it."""
        owner = world.session if self.part == "session" else world.store
        return getattr(owner, self.name)(*self.arguments)


class World:
    """One empty store with its session, a clock that a case moves, and short forms of requests.

    Whoever runs a case sets ``store`` and ``session``. log_kept: how many rows of the change log
    the store keeps at least.
    """

    store: Any
    session: Any

    def __init__(self, *, log_kept: int = 10_000) -> None:
        self.now_ms = START_MS
        self.log_kept = log_kept

    def clock_ms(self) -> int:
        return self.now_ms

    @property
    def in_transaction(self) -> bool:
        found: bool = self.session.in_transaction
        return found

    async def answer(self, request: Request) -> Any:
        return await Ask("session", "answer", request)

    async def begin(self, mode: Mode, unit: str | None = None) -> None:
        await Ask("session", "begin", mode, unit)

    async def commit(self) -> None:
        await Ask("session", "commit")

    async def rollback(self) -> None:
        await Ask("session", "rollback")

    async def savepoint(self) -> int:
        depth: int = await Ask("session", "savepoint")
        return depth

    async def release(self, depth: int) -> None:
        await Ask("session", "release", depth)

    async def rollback_to(self, depth: int) -> None:
        await Ask("session", "rollback_to", depth)

    async def define(self, *collections: Collection[Any]) -> list[Table[Any]]:
        tables = [Table(collection) for collection in collections]
        await Ask("store", "define", tables)
        return tables

    async def explain(self, table: Table[Any], query: QueryValue) -> Any:
        return await Ask("store", "explain", table, query)

    async def size(self) -> dict[str, int]:
        sizes: dict[str, int] = await Ask("store", "size")
        return sizes

    async def write(self, *parts: Put | Delete | SetMeta) -> list[PartResult]:
        results: list[PartResult] = await self.answer(Write(parts))
        return results

    async def put(
        self, table: Table[Any], *documents: dict[str, Any], **options: Any
    ) -> PartResult:
        return (await self.write(part(table, *documents, **options)))[0]

    async def delete(self, table: Table[Any], *keys: Any) -> PartResult:
        return (await self.write(Delete(table, keys)))[0]

    async def delete_where(self, table: Table[Any], query: QueryValue) -> list[Any]:
        keys: list[Any] = await self.answer(DeleteWhere(table, query))
        return keys

    async def get(self, table: Table[Any], key: Any) -> Any:
        text = await self.answer(Get(table, key))
        return None if text is None else table.codec.decode(text)

    async def get_many(self, table: Table[Any], *keys: Any) -> list[Any]:
        texts = await self.answer(GetMany(table, keys))
        return [None if text is None else table.codec.decode(text) for text in texts]

    async def keys(self, table: Table[Any], query: QueryValue = EMPTY) -> list[Any]:
        """The keys of a query, after proving that every form and the count agree on it."""
        keys: list[Any] = await self.answer(Find(table, query, "keys"))
        entries = await self.answer(Find(table, query, "entries"))
        texts = await self.answer(Find(table, query, "texts"))
        chunks = await self.answer(Find(table, query, "text"))
        total = await self.answer(Count(table, query))
        documents = [document for chunk in chunks for document in table.codec.decode_list(chunk)]
        same(total, len(keys), "count and keys")
        # Without an order or a place in it, order and choice of rows are the store's own.
        free = not query.order and not query.offset and query.after is None
        if free and query.limit is not None:
            same(len(keys), len(entries), "keys and entries")
            return keys
        put = sorted if free else list
        same(put(map(repr, keys)), put(repr(key) for key, _ in entries), "keys and entries")
        same(put(texts), put(text for _, text in entries), "texts and entries")
        same(
            put(map(repr, documents)),
            put(repr(table.codec.decode(text)) for text in texts),
            "chunks and texts",
        )
        return keys

    async def changes(
        self, after: int | None, *tables: Table[Any], since_ms: int | None = None
    ) -> ChangeSet:
        found: ChangeSet = await self.answer(Changes(after, tables, since_ms))
        return found

    async def head(self) -> int:
        return (await self.changes(None)).head

    async def meta(self, name: str) -> Any:
        return await self.answer(Meta(name))

    async def info(self, table: Table[Any], key: Any) -> RowInfo | None:
        found: RowInfo | None = await self.answer(Meta("row", table, key))
        return found


Check = Callable[[World], Coroutine[Ask, Any, None]]


class Case:
    """One thing that a store has to do. ``str(case)`` is its name."""

    def __init__(self, name: str, check: Check) -> None:
        self.name = name
        self._check = check

    def run(self, make_store: MakeStore) -> None:
        """Run on a fresh store; ``AssertionError`` says what it did wrong."""
        world = World()
        world.store = make_store(world.clock_ms)
        world.session = world.store.session()
        try:
            _step(self.steps(world), world)
        finally:
            world.session.close()
            world.store.close()

    def steps(self, world: World) -> Coroutine[Ask, Any, None]:
        """The case on a world of one's own, for who steps it otherwise."""
        return self._check(world)

    def __str__(self) -> str:
        return self.name


def cases(table: Mapping[str, Any] | None = None) -> list[Case]:
    """All cases; ``table``: the parsed ``semantics.json``, None leaves its cases out."""
    # The rooms below are made of World, so they are imported when they are wanted.
    from homeport.testing import (  # noqa: PLC0415
        conformance_data,
        conformance_semantics,
        conformance_text,
        conformance_transactions,
        conformance_unique,
    )

    rooms = (conformance_data, conformance_transactions, conformance_unique, conformance_text)
    found = [
        Case(name.removeprefix("check_").replace("_", " "), check)
        for module in rooms
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


async def raises(error: type[Exception], wanted: Awaitable[Any]) -> Exception:
    try:
        await wanted
    except error as caught:
        return caught
    raise AssertionError(f"{error.__name__} was not raised")


def _step(case: Coroutine[Ask, Any, None], world: World) -> None:
    """Answer what a case asks by plain calls."""
    try:
        ask = case.send(None)
        while True:
            try:
                value = ask.call(world)
            except Exception as error:
                ask = case.throw(error)
            else:
                ask = case.send(value)
    except StopIteration:
        return
