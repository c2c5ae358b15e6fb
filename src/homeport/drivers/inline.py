"""The blocking driver: operations are stepped in the caller's thread."""

from __future__ import annotations

from collections.abc import Callable
from time import sleep
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, TypeVar

from homeport.drivers.engine import Engine
from homeport.drivers.snapshots import SnapshotRunner
from homeport.drivers.watch import Watch
from homeport.errors import NotCopyable, TransactionError

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.explanation import Explanation
    from homeport.core.query import QueryValue

R = TypeVar("R")


class _Block:
    __slots__ = ("_engine", "_level")

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise NotCopyable("A transaction belongs to its thread.", action="Begin another one there.")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._level = 0


class _Ended(_Block):
    """A transaction that was ended as it should: it has no ``__del__``, because a Ctrl-C that meets
    one is lost."""

    __slots__ = ()

    def __enter__(self) -> NoReturn:
        raise TransactionError(
            "This transaction is over.", action="Write `with db.transaction():` for a new one."
        )

    def __exit__(self, *_: object) -> NoReturn:
        self.__enter__()

    def __repr__(self) -> str:
        return "<Transaction, ended>"


class Transaction(_Block):
    """``with db.transaction():`` commits at the end, rolls back when an error leaves it.

    Inside another transaction of the same thread and task it is a savepoint: rolling it back keeps
    what the outer one did before.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Transaction, {'open' if self._level else 'not begun'}>"

    def __enter__(self) -> None:
        self._level = self._engine.enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._engine.leave(self._level, commit=kind is None)
        except BaseException:
            # Whatever went wrong, the block is over: nothing of it may stay open.
            self._engine.abandon(self._level)
            raise
        finally:
            self.__class__ = _Ended  # type: ignore[assignment]

    def __del__(self) -> None:
        # A Ctrl-C can meet __exit__ before its first line; then this is what ends the transaction.
        level = getattr(self, "_level", 0)  # one can meet __init__, too
        if level:
            self._engine.abandon(level)


class InlineDriver:
    """Runs operations at once, in the calling thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.run = engine.run  # bound once: it is called for every operation
        self.getter: Any = getattr(engine, "getter", None)

    def call(self, fn: Callable[[], R], what: str) -> R:
        """Run ``fn`` under the lock, outside any transaction."""
        return self.engine.call(fn, what)

    def aside(self, fn: Callable[[], R], what: str) -> R:
        """Run ``fn``, which only reads on a session of its own, beside whatever is going on."""
        self.engine.forbid_inside(what)
        return fn() if self.engine.store.multiprocess else self.engine.call(fn, what)

    def pause(self, seconds: float) -> None:
        sleep(seconds)

    def explain(self, table: Table[Any], query: QueryValue, *, run: bool = False) -> Explanation:
        return self.engine.explain(table, query, run=run)

    def cheap(self, *_: object) -> bool:
        """Of no interest here: everything is stepped in place."""
        return False

    def held(self, what: str) -> SnapshotRunner:
        """The newest state, for several operations; ``end`` it."""
        self.engine.forbid_inside(what)
        state = SnapshotRunner(self.engine)
        state.begin()
        return state

    def forbid_inside(self, what: str) -> None:
        self.engine.forbid_inside(what)

    def transaction(self) -> Transaction:
        return Transaction(self.engine)

    def snapshot(self) -> SnapshotRunner:
        return SnapshotRunner(self.engine)

    def watch(self) -> Watch:
        return Watch(self.engine)

    def close(self) -> None:
        self.engine.close()
