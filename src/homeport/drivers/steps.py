"""Stepping a plan on a session, and the few things every driver asks."""

from __future__ import annotations

import sys
from typing import Any, NoReturn, TypeVar

from homeport.core.requests import Changes, Operation, Plan, Request, TxInfo
from homeport.core.requests import Meta as MetaRequest
from homeport.core.stores import StoreSession
from homeport.core.units import Run, UnitOperation
from homeport.errors import Closed, TransactionError

R = TypeVar("R")


def step(session: StoreSession, plan: Plan[Any] | Request) -> Any:
    """Answer the requests of a plan until it returns."""
    answer = session.answer
    if isinstance(plan, Request):
        return answer(plan)
    try:
        request = next(plan)
        while True:
            try:
                value = answer(request)
            except BaseException as error:
                request = plan.throw(error)
            else:
                request = plan.send(value)
    except StopIteration as stop:
        return stop.value


def perform(session: StoreSession, operation: Operation[R]) -> R:
    """Step an operation inside the transaction that the caller has begun."""
    plan = operation.plan
    if isinstance(plan, Request) or not isinstance(operation, UnitOperation):
        plain: R = step(session, plan)
        return plain
    try:
        request = next(plan)
        while True:
            try:
                value = (
                    nested(session, request.operation)
                    if isinstance(request, Run)
                    else session.answer(request)
                )
            except BaseException as error:
                request = plan.throw(error)
            else:
                request = plan.send(value)
    except StopIteration as stop:
        result: R = stop.value
        return result


def nested(session: StoreSession, operation: Operation[R]) -> R:
    """One operation of a larger transaction: it happens whole or leaves nothing."""
    if operation.mode == "read" or operation.single:
        return perform(session, operation)
    info = running(session)
    changes, size = info.changes, info.bytes
    depth = session.savepoint()
    try:
        result = perform(session, operation)
    except BaseException:
        if session.in_transaction:
            session.rollback_to(depth)
        info.changes, info.bytes = changes, size
        raise
    session.release(depth)
    return result


def read(session: StoreSession, operation: Operation[R]) -> R:
    """Step a read; several requests see one snapshot."""
    if operation.single:
        result: R = step(session, operation.plan)
        return result
    return snapshot(session, operation)


def snapshot(session: StoreSession, operation: Operation[R]) -> R:
    session.begin("read")
    try:
        result = perform(session, operation)
    finally:
        session.rollback()
    return result


def head() -> Operation[int]:
    """The number of the last change of the file."""
    return Operation(_head(), "read", single=True, bounded=True)


def _head() -> Plan[int]:
    changes = yield Changes(None, ())
    return changes.head  # type: ignore[no-any-return]


def running(session: StoreSession) -> TxInfo:
    info: TxInfo = session.answer(MetaRequest("tx"))
    return info


def current_task() -> object:
    """The asyncio task that runs in this thread, or None; never imports asyncio."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def refuse_closed(*, forked: bool = False) -> NoReturn:
    if forked:
        raise Closed(
            "The database belongs to the process from which this one was forked.",
            action="Open it again here, or open it after the fork only.",
        )
    raise Closed("The database is closed.")


def refuse_block(name: str = "transaction") -> NoReturn:
    """The asyncio drivers have no ``with db.transaction()``: it would stay open over an await."""
    how = "run" if name == "transaction" else "read"
    raise TransactionError(
        f"AsyncDatabase has no {name}() block: it would stay open while other tasks run.",
        action=f"Write `async def work(tx, ...)` and call `await db.{how}(work, ...)`.",
    )


class ClosedSession:
    """Stands where a session was, so that no path has to ask whether the database is open."""

    in_transaction = False

    def __init__(self, *, forked: bool = False) -> None:
        self._forked = forked

    def answer(self, request: Request) -> NoReturn:  # noqa: ARG002
        refuse_closed(forked=self._forked)

    def begin(
        self,
        mode: str,  # noqa: ARG002
        unit: str | None = None,  # noqa: ARG002
        timeout_s: float | None = None,  # noqa: ARG002
    ) -> NoReturn:
        refuse_closed(forked=self._forked)

    def savepoint(self) -> NoReturn:
        refuse_closed(forked=self._forked)

    def write_row(self, *_: object) -> NoReturn:
        refuse_closed(forked=self._forked)

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def release(self, depth: int) -> None: ...

    def rollback_to(self, depth: int) -> None: ...

    def interrupt(self) -> None: ...

    def close(self) -> None: ...
