"""The blocking driver: operations are stepped in the caller's thread."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from homeport.drivers.engine import Engine
from homeport.drivers.watch import Watch

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.planner import Explanation
    from homeport.core.query import QueryValue

R = TypeVar("R")

class Transaction:
    """``with db.transaction():`` commits at the end, rolls back when an error leaves it.

    Inside another transaction of the same thread and task it is a savepoint: rolling it back keeps
    what the outer one did before.
    """

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> None:
        self._engine.enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._engine.leave(commit=kind is None)


class InlineDriver:
    """Runs operations at once, in the calling thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.run = engine.run  # bound once: it is called for every operation

    def call(self, fn: Callable[[], R], what: str) -> R:
        """Run ``fn`` under the lock, outside any transaction."""
        return self.engine.call(fn, what)

    def explain(self, table: Table[Any], query: QueryValue) -> Explanation:
        return self.engine.explain(table, query)

    def cheap(self, table: Table[Any], query: QueryValue) -> bool:
        """Of no interest here: everything is stepped in place."""
        return False

    def transaction(self) -> Transaction:
        return Transaction(self.engine)

    def watch(self) -> Watch:
        return Watch(self.engine)

    def close(self) -> None:
        self.engine.close()
