"""The asyncio driver for an engine that answers later: IndexedDB.

An operation is stepped inside the callbacks of the engine's transaction; the caller awaits a future
that is settled after the commit. The engine queues transactions by itself: writers one behind the
other, readers of other collections beside them.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from homeport.core.requests import (
    Changes,
    Get,
    Meta,
    Mode,
    Operation,
    PartResult,
    Request,
    RowsWrite,
    RowWrite,
)
from homeport.core.textrequests import Search, Vocabulary
from homeport.core.units import Run, UnitOperation
from homeport.drivers.engine import PURGE_EVERY_S, PURGE_ROWS
from homeport.drivers.gathering import GatheredGets
from homeport.drivers.notify import tell
from homeport.drivers.steps import refuse_block, refuse_closed
from homeport.drivers.watch import AsyncWatch
from homeport.errors import StorageError

if TYPE_CHECKING:
    from homeport.core.advisor import SlowQueries
    from homeport.core.codec import Table
    from homeport.core.explanation import Explanation
    from homeport.core.query import QueryValue
    from homeport.drivers.engine import Engine
    from homeport.drivers.inline import Transaction
    from homeport.drivers.snapshots import SnapshotRunner

PAUSE_S = 0.002
"""Between two answers from memory: then something else had its turn."""

BUSY_S = 0.01
"""Answers from memory for so long, and the page has its turn."""

R = TypeVar("R")
Steps = Generator[Any, Any, R]


class LaterSession(Protocol):
    """A session whose methods are generators of engine steps."""

    def answer(self, request: Request) -> Steps[Any]: ...
    def write_rows(self, operation: RowsWrite[Any] | RowWrite[Any]) -> Steps[PartResult | None]:
        """The whole transaction of a write in one step; None: it has to be done in several."""
        ...

    def begin(
        self, mode: Mode, unit: str | None = None, timeout_s: float | None = None
    ) -> Steps[None]: ...
    def commit(self) -> Steps[None]: ...
    def savepoint(self) -> Steps[int]: ...
    def release(self, depth: int) -> Steps[None]: ...
    def rollback_to(self, depth: int) -> Steps[None]: ...


class LaterStore(Protocol):
    """A store that answers later. hinted: is called when another connection may have committed."""

    hinted: Callable[[], None]

    @property
    def multiprocess(self) -> bool: ...
    @property
    def tables(self) -> dict[str, Table[Any]]: ...
    @property
    def slow(self) -> SlowQueries: ...
    def session(self) -> LaterSession: ...
    def places_of(
        self, tables: Sequence[Table[Any]], *, writing: bool, log: bool
    ) -> Sequence[str] | None:
        """What a transaction over these tables has to name; none = all."""
        ...

    def keeps(self, request: Request) -> bool:
        """Does answering this read look at the log of changes?"""
        ...

    def at_hand(self, request: Request) -> Any:
        """The answer to a read that needs no transaction; None: ask for it."""
        ...

    def packed(self, operation: Operation[Any]) -> Operation[Any]:
        """The operation, or one with the same result that moves less."""
        ...

    def perform(
        self, steps: Steps[Any], mode: Mode, places: Sequence[str] | None
    ) -> Coroutine[Any, Any, Any]:
        """Step a generator in one transaction → its value, once that is committed."""
        ...

    def explain(
        self, table: Table[Any], query: QueryValue, *, run: bool = False
    ) -> Coroutine[Any, Any, Explanation]: ...
    def my_turn(self, every_s: float) -> Coroutine[Any, Any, bool]:
        """Should this connection remove what has expired, or does another one?"""
        ...

    def purge_expired(self, limit: int) -> Coroutine[Any, Any, int]: ...
    def close(self) -> Coroutine[Any, Any, None]: ...


class LaterEngine:
    """What the facade and live queries ask of an engine, for a store that answers later."""

    forked = False
    pulse = None  # there is no thread that could look for commits of other pages

    def __init__(
        self, store: LaterStore, answer: Callable[[Operation[Any]], Coroutine[Any, Any, Any]]
    ) -> None:
        self.store = store
        self.answer = answer
        self.closed = False
        self.pulse = self
        store.hinted = self.announce
        self._listeners: dict[object, Callable[[], None]] = {}

    def on_commit(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` after each commit of this page → a function that ends it."""
        name = object()
        self._listeners[name] = callback

        def forget() -> None:
            self._listeners.pop(name, None)

        return forget

    def join(self, bell: Callable[[], None]) -> Callable[[], None]:
        """Commits of other tabs ring the same bells (``pulse`` of other engines)."""
        return self.on_commit(bell)

    def announce(self) -> None:
        tell(self._listeners)

    def forbid_inside(self, what: str) -> None:
        """Nothing of the user's runs inside a transaction here, but units, which await only their
        own operations."""


class BrowserDriver:
    """Runs operations on a store that answers later."""

    def __init__(
        self, store: LaterStore, *, new_unit: Callable[[], str], expiring: bool = False
    ) -> None:
        self.later = LaterEngine(store, self._run)
        self._store = store
        self._new_unit = new_unit
        self._expiring = expiring
        self._next_purge = 0.0
        self._last_s = self._busy_since_s = 0.0
        self._reader = store.session()  # one that only reads has no state
        self._gets = GatheredGets(self._asked)

    @property
    def engine(self) -> Engine:
        # The part of an engine that the facade uses.
        return cast("Engine", self.later)

    def run(self, operation: Operation[R]) -> Awaitable[R]:
        return self._run(operation)

    async def _run(self, operation: Operation[R]) -> R:
        if self.later.closed:
            refuse_closed()
        asked, operation = operation, self._store.packed(operation)
        writing = operation.mode == "write"
        if not writing and isinstance(operation.plan, Request):
            known = self._store.at_hand(operation.plan)
            if known is not None:
                await self._breathe()
                return operation.finished(known)
            if type(operation.plan) is Get:
                return operation.finished(await self._gets.get(operation.plan))
        session = self._store.session() if writing else self._reader
        steps = self._write(session, operation) if writing else _steps(session, operation)
        start = time.perf_counter()
        result = await self._store.perform(steps, operation.mode, self._places(operation))
        seconds = time.perf_counter() - start
        if writing:
            self.later.announce()
            if self._expiring:
                await self._purge()
        found = operation.finished(result)
        self._note(asked.plan, result if operation is asked else found, seconds)
        return found

    def _asked(self, request: Request) -> Awaitable[Any]:
        operation: Operation[Any] = Operation(request, "read")
        steps = self._reader.answer(request)
        return self._store.perform(steps, "read", self._places(operation))

    async def _breathe(self) -> None:
        """Let the page have its turn when nothing but memory was asked for a while."""
        now = time.perf_counter()
        if now - self._last_s > PAUSE_S:
            self._busy_since_s = now
        elif now - self._busy_since_s > BUSY_S:
            from asyncio import sleep  # noqa: PLC0415 - a loop runs

            await sleep(0)
            now = self._busy_since_s = time.perf_counter()
        self._last_s = now

    def _write(self, session: LaterSession, operation: Operation[Any]) -> Steps[Any]:
        if isinstance(operation, (RowsWrite, RowWrite)):
            found = yield from session.write_rows(operation)
            if found is not None:
                return found if type(operation) is RowsWrite and operation.many else found.keys[0]
        unit = self._new_unit() if isinstance(operation, UnitOperation) else None
        yield from session.begin("write", unit)
        result = yield from _steps(session, operation)
        yield from session.commit()
        return result

    def _note(self, plan: Any, result: Any, seconds: float) -> None:
        """Slow queries are recorded, with what waiting for other transactions took."""
        slow = self._store.slow
        if slow.limit_s is not None and seconds >= slow.limit_s and hasattr(plan, "query"):
            slow.note(plan, result, seconds)

    def _places(self, operation: Operation[Any]) -> Sequence[str] | None:
        plan, scope, log = operation.plan, operation.scope, True
        if isinstance(plan, Request):
            kinds = (Changes, Meta, Search, Vocabulary)
            log = isinstance(plan, kinds) or self._store.keeps(plan)
            table = getattr(plan, "table", None)
            scope = scope or ((table,) if table is not None else ())
        if not scope and not (log and isinstance(plan, Request)):
            return None
        return self._store.places_of(scope, writing=operation.mode == "write", log=log)

    async def _purge(self) -> None:
        """Remove some expired documents, at most once a second of all tabs together."""
        now = time.monotonic()
        if now < self._next_purge:
            return
        self._next_purge = now + PURGE_EVERY_S
        with suppress(StorageError):  # the caller's write stands; what has expired can wait
            if await self._store.my_turn(PURGE_EVERY_S):
                await self._store.purge_expired(PURGE_ROWS)

    async def call(self, fn: Callable[[], R], what: str) -> R:  # noqa: ARG002 - as other drivers
        """Run ``fn`` of the store, and await what it returns."""
        if self.later.closed:
            refuse_closed()
        result: Any = fn()
        return await result if inspect.isawaitable(result) else result  # type: ignore[no-any-return]

    async def aside(self, fn: Callable[[], R], what: str) -> R:
        """As ``call``: reading stands in nobody's way."""
        return await self.call(fn, what)

    async def pause(self, seconds: float) -> None:
        from asyncio import sleep  # noqa: PLC0415 - a loop runs

        await sleep(seconds)

    async def explain(
        self, table: Table[Any], query: QueryValue, *, run: bool = False
    ) -> Explanation:
        if self.later.closed:
            refuse_closed()
        return await self._store.explain(table, query, run=run)

    def cheap(self, *_: object) -> bool:
        """Of no interest here: nothing holds the event loop up."""
        return False

    def held(self, what: str) -> None:
        """The engine cannot hold a state: a transaction ends when nothing is asked of it."""

    def forbid_inside(self, what: str) -> None:
        self.later.forbid_inside(what)

    def transaction(self) -> Transaction:
        refuse_block()

    def snapshot(self) -> SnapshotRunner:
        refuse_block("snapshot")

    def watch(self) -> AsyncWatch:
        return AsyncWatch(self.engine, self.run)

    async def close(self) -> None:
        if self.later.closed:
            return
        self.later.closed = True
        await self._gets.settled()
        await self._store.close()
        self.later.announce()


def _steps(session: LaterSession, operation: Operation[Any]) -> Steps[Any]:
    """The steps of a plan: those of each request it yields, one behind the other."""
    plan = operation.plan
    if isinstance(plan, Request):
        return (yield from session.answer(plan))
    try:
        request = next(plan)
        while True:
            try:
                if isinstance(request, Run):
                    value = yield from _nested(session, request.operation)
                else:
                    value = yield from session.answer(request)
            except GeneratorExit:
                plan.close()
                raise
            except BaseException as error:
                request = plan.throw(error)
            else:
                request = plan.send(value)
    except StopIteration as stop:
        return stop.value


def _nested(session: LaterSession, operation: Operation[Any]) -> Steps[Any]:
    """One operation of a unit: it happens whole or leaves nothing."""
    if operation.mode == "read":
        return (yield from _steps(session, operation))
    info = yield from session.answer(Meta("tx"))
    changes, size = info.changes, info.bytes
    depth = yield from session.savepoint()
    try:
        result = yield from _steps(session, operation)
    except GeneratorExit:
        raise
    except BaseException:
        yield from session.rollback_to(depth)
        info.changes, info.bytes = changes, size
        raise
    yield from session.release(depth)
    return result
