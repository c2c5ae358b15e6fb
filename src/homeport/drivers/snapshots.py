"""A read transaction that stays open for several operations, on a session of its own."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from homeport.core.requests import Operation
from homeport.core.stores import StoreSession
from homeport.core.units import refuse_write
from homeport.drivers.steps import perform, refuse_closed
from homeport.errors import TransactionError

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.explanation import Explanation
    from homeport.core.query import QueryValue
    from homeport.drivers.engine import Engine

R = TypeVar("R")


class SnapshotRunner:
    """Runs the operations of one snapshot, one at a time; from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = RLock()  # a Ctrl-C may come between any two lines of the thread that holds it
        self._session: StoreSession | None = None

    @property
    def is_open(self) -> bool:
        return self._session is not None

    def begin(self) -> None:
        with self._lock:
            if self._session is not None:
                raise TransactionError("This snapshot is open already.")
            self._session = self._engine.open_snapshot(self)

    def end(self) -> None:
        """Let go of the state; silent when that is done."""
        with self._lock:
            session, self._session = self._session, None
            if session is not None:
                self._engine.end_snapshot(self, session)

    def orphan(self) -> object:
        """In a forked child: let go without a call to the session, which is the parent's."""
        self._lock = RLock()
        session, self._session = self._session, None
        return session

    def run(self, operation: Operation[R]) -> R:
        if operation.mode == "write":
            refuse_write(operation)
        with self._lock:
            session = self._session
            if session is None:
                self._refuse()
            result = perform(session, operation)
        return operation.finished(result)

    def _refuse(self) -> NoReturn:
        if self._engine.closed:
            refuse_closed(forked=self._engine.forked)
        raise TransactionError(
            "This snapshot is not open.", action="Use it inside `with db.snapshot() as then:`."
        )

    def explain(self, table: Table[Any], query: QueryValue, *, run: bool = False) -> Explanation:
        return self._engine.explain(table, query, run=run)

    def cheap(self, *_: object) -> bool:
        """Of no interest here: everything is stepped in place."""
        return False

    def watch(self) -> NoReturn:
        raise TransactionError(
            "Nothing ever changes in a snapshot, so there is nothing to follow.",
            action="Follow the query on the database.",
        )

    def forbid_inside(self, what: str) -> NoReturn:
        raise TransactionError(f"{what} writes, and a snapshot only reads.")

    def held(self, what: str) -> Lent:  # noqa: ARG002 - as of other runners
        """This very state."""
        return Lent(self)

    def __del__(self) -> None:
        if getattr(self, "_session", None) is not None:  # it may not have been made to its end
            self.end()


class Lent:
    """A snapshot that somebody else will end."""

    def __init__(self, owner: SnapshotRunner) -> None:
        self.run = owner.run

    def end(self) -> None:
        """Its owner does."""
