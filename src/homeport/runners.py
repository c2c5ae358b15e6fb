"""What the facade asks of a driver, in its two forms. Written by hand: the generator of the
blocking facade replaces the names of the first form by those of the second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from homeport.core.requests import Operation

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.explanation import Explanation
    from homeport.core.query import QueryValue
    from homeport.drivers.engine import Engine
    from homeport.drivers.inline import Transaction
    from homeport.drivers.snapshots import SnapshotRunner
    from homeport.drivers.subscription import AsyncLiveQuery, LiveQuery, Subscription

R = TypeVar("R")
C = TypeVar("C")


class State(Protocol):
    """A committed state of the database, read by one thread at a time; end it."""

    def run(self, operation: Operation[R]) -> R: ...

    def end(self) -> None: ...


class AsyncWatch(Protocol):
    """Waits for commits."""

    def wait(self, seen: int, timeout_s: float | None, until_ms: int | None) -> Awaitable[bool]: ...

    def follow(
        self,
        live: AsyncLiveQuery[C],
        fn: Callable[[C], object],
        on_error: Callable[[Exception], object] | None,
    ) -> Subscription: ...

    def close(self) -> None: ...


class AsyncRunner(Protocol):
    """Runs operations: the driver, or a unit."""

    def run(self, operation: Operation[R]) -> Awaitable[R]: ...

    def explain(
        self, table: Table[Any], query: QueryValue, /, *, run: bool = False
    ) -> Awaitable[Explanation]: ...

    def watch(self) -> AsyncWatch: ...

    def held(self, what: str, /) -> State | None:
        """One committed state for several operations; None where an engine cannot hold one."""
        ...

    def forbid_inside(self, what: str, /) -> None:
        """Raise ``TransactionError`` inside a transaction."""
        ...

    def cheap(self, table: Table[Any], query: QueryValue, /) -> bool:
        """Is this query worth running on the event loop itself?"""
        ...


class AsyncDriver(AsyncRunner, Protocol):
    """A driver of an open database."""

    @property
    def engine(self) -> Engine: ...

    def call(self, fn: Callable[[], R], what: str) -> Awaitable[R]: ...

    def aside(self, fn: Callable[[], R], what: str) -> Awaitable[R]: ...

    def pause(self, seconds: float, /) -> Awaitable[None]:
        """Let others work."""
        ...

    def transaction(self) -> Transaction: ...

    def snapshot(self) -> SnapshotRunner: ...

    def close(self) -> Awaitable[None]: ...


class Watch(Protocol):
    """Waits for commits."""

    def wait(self, seen: int, timeout_s: float | None, until_ms: int | None) -> bool: ...

    def follow(
        self,
        live: LiveQuery[C],
        fn: Callable[[C], object],
        on_error: Callable[[Exception], object] | None,
    ) -> Subscription: ...

    def close(self) -> None: ...


class Runner(Protocol):
    """Runs operations."""

    def run(self, operation: Operation[R]) -> R: ...

    def explain(
        self, table: Table[Any], query: QueryValue, /, *, run: bool = False
    ) -> Explanation: ...

    def watch(self) -> Watch: ...

    def held(self, what: str, /) -> State | None: ...

    def forbid_inside(self, what: str, /) -> None: ...

    def cheap(self, table: Table[Any], query: QueryValue, /) -> bool: ...


class Driver(Runner, Protocol):
    """A driver of an open database."""

    @property
    def engine(self) -> Engine: ...

    def call(self, fn: Callable[[], R], what: str) -> R: ...

    def aside(self, fn: Callable[[], R], what: str) -> R: ...

    def pause(self, seconds: float, /) -> None: ...

    def transaction(self) -> Transaction: ...

    def snapshot(self) -> SnapshotRunner: ...

    def close(self) -> None: ...
