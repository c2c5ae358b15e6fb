"""The blocking driver for an engine that answers later: Python is suspended until it has answered.

WebAssembly can be suspended where a promise of JavaScript stands at the bottom of the stack, so in
``runPythonAsync`` and in tasks of asyncio, not in the callbacks of events. Where it cannot, every
call says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from homeport.core.requests import Operation
from homeport.errors import TransactionError, UsageError

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.explanation import Explanation
    from homeport.core.query import QueryValue
    from homeport.drivers.browser import BrowserDriver
    from homeport.drivers.engine import Engine
    from homeport.drivers.inline import Transaction
    from homeport.drivers.snapshots import SnapshotRunner
    from homeport.drivers.subscription import LiveQuery, Subscription
    from homeport.drivers.watch import AsyncWatch

R = TypeVar("R")


def wait_for(awaitable: Awaitable[R]) -> R:
    """Suspend Python until this is done → its value; ``UsageError`` where that cannot be."""
    from pyodide.ffi import (  # type: ignore[import-not-found] # noqa: PLC0415
        can_run_sync,
        run_sync,
    )

    if not can_run_sync():
        close = getattr(awaitable, "close", None)
        if close is not None:
            close()  # it was never begun
        raise UsageError(
            "A blocking call cannot wait for the browser here: this browser cannot suspend Python, "
            "or it is inside the callback of an event.",
            action="Use `await hp.open_async(...)`, or call from a task.",
        )
    result: R = run_sync(awaitable)
    return result


class SuspendingDriver:
    """Runs operations for blocking code, by way of the asyncio driver."""

    def __init__(self, later: BrowserDriver) -> None:
        self._later = later

    @property
    def engine(self) -> Engine:
        return self._later.engine

    def run(self, operation: Operation[R]) -> R:
        return wait_for(self._later.run(operation))

    def call(self, fn: Callable[[], R], what: str) -> R:
        return wait_for(self._later.call(fn, what))

    def aside(self, fn: Callable[[], R], what: str) -> R:
        return wait_for(self._later.aside(fn, what))

    def pause(self, seconds: float) -> None:
        wait_for(self._later.pause(seconds))

    def explain(self, table: Table[Any], query: QueryValue, *, run: bool = False) -> Explanation:
        return wait_for(self._later.explain(table, query, run=run))

    def cheap(self, *_: object) -> bool:
        """Of no interest here: everything is waited for."""
        return False

    def held(self, what: str) -> None:
        """As the asyncio driver says: none can be held."""
        return self._later.held(what)

    def forbid_inside(self, what: str) -> None:
        self._later.forbid_inside(what)

    def transaction(self) -> Transaction:
        _refuse_block("transaction", "run(move, ...)")

    def snapshot(self) -> SnapshotRunner:
        _refuse_block("snapshot", "read(look, ...)")

    def watch(self) -> SuspendingWatch:
        return SuspendingWatch(self._later.watch())

    def close(self) -> None:
        wait_for(self._later.close())


class SuspendingWatch:
    """Waits for commits."""

    def __init__(self, later: AsyncWatch) -> None:
        self._later = later

    def wait(self, seen: int, timeout_s: float | None, until_ms: int | None) -> bool:
        return wait_for(self._later.wait(seen, timeout_s, until_ms))

    def follow(
        self,
        live: LiveQuery[Any],  # noqa: ARG002
        fn: Callable[[Any], object],  # noqa: ARG002
        on_error: Callable[[Exception], object] | None,  # noqa: ARG002
    ) -> Subscription:
        raise UsageError(
            "subscribe() of the blocking facade needs a thread, which Pyodide does not have.",
            action="Use the asyncio facade.",
        )

    def close(self) -> None:
        self._later.close()


def _refuse_block(what: str, instead: str) -> NoReturn:
    raise TransactionError(
        f"IndexedDB holds no {what} open over a with block: it ends one that is asked nothing.",
        action=f"Write a coroutine function and call `db.{instead}`.",
    )
