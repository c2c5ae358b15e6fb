"""A user's coroutine, stepped as a plan.

``async def move(tx, ...)`` awaits database operations only. No event loop takes part: each awaited
operation yields its storage requests through the coroutine to whoever steps the plan, so the same
function runs on every driver. What an event loop would hide is refused here: an operation that was
made and never awaited (its effect would be lost in silence), and an await of anything else (nobody
would ever wake it).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, NoReturn, TypeVar

from homeport.core.requests import Mode, Operation, Plan, Request
from homeport.errors import TransactionError, UsageError

R = TypeVar("R")

_ONLY_OPERATIONS = (
    "A unit may await database operations of its tx only: it holds the write lock, "
    "and no event loop runs inside it."
)


class Run(Request):
    """What a unit yields for each operation it awaits → the plan's result.

    The driver steps the operation in the open transaction, behind a savepoint where the engine has
    them: an error that the unit catches leaves no half of an operation.
    """

    __slots__ = ("operation",)

    def __init__(self, operation: Operation[Any]) -> None:
        self.operation = operation


class UnitOperation(Operation[R], gc=False, eq=False):
    """An explicit transaction: what it writes is one unit for the server too. place: file and line
    of the user's function."""

    place: tuple[str, int] = ("", 0)


class Op(Generic[R]):
    """An operation of a unit: awaited once, inside the unit that made it."""

    __slots__ = ("_operation", "_unit")

    def __init__(self, unit: UnitRunner, operation: Operation[R]) -> None:
        self._unit = unit
        self._operation = operation

    def __await__(self) -> Generator[Request, Any, R]:
        return self._unit.start(self._operation)

    def __repr__(self) -> str:
        return f"<operation {name_of(self._operation)}, not awaited yet>"


class UnitRunner:
    """Runs the operations of one unit, and knows which of them were never awaited."""

    __slots__ = ("_open", "_reading", "_unstarted")

    def __init__(self, mode: Mode = "write") -> None:
        self._unstarted: dict[int, Operation[Any]] = {}
        self._open = True
        self._reading = mode == "read"

    def run(self, operation: Operation[R]) -> Op[R]:
        self._check_open()
        if self._reading and operation.mode == "write":
            refuse_write(operation)
        self._unstarted[id(operation)] = operation
        return Op(self, operation)

    def cheap(self, *_: object) -> bool:
        """Of no interest here: the driver of the unit decides where it runs."""
        return False

    def explain(self, *_: object, **__: object) -> NoReturn:
        raise TransactionError(
            "explain() has no place in a unit.", action="Call it on the database."
        )

    def watch(self) -> NoReturn:
        raise TransactionError(
            "A live query inside a unit would wait for that unit to end.",
            action="Follow the query outside the unit.",
        )

    def held(self, what: str) -> NoReturn:
        raise TransactionError(
            f"{what} reads one committed state, and a unit has a state of its own.",
            action="Export outside the unit.",
        )

    def forbid_inside(self, what: str) -> NoReturn:
        raise TransactionError(
            f"{what} works on many states of the database and has no place in a unit.",
            action="Call it on the database; inside a unit there are put_many() and all().",
        )

    def start(self, operation: Operation[R]) -> Generator[Request, Any, R]:
        self._check_open()
        if self._unstarted.pop(id(operation), None) is None:
            raise TransactionError(f"{name_of(operation)}() was awaited twice.")
        return _finished(operation)

    def end(self) -> list[str]:
        """Close the unit → names of the operations that were never awaited."""
        self._open = False
        names = [name_of(operation) for operation in self._unstarted.values()]
        for operation in self._unstarted.values():
            if not isinstance(operation.plan, Request):
                operation.plan.close()
        self._unstarted.clear()
        return names

    def _check_open(self) -> None:
        if not self._open:
            raise TransactionError(
                "The unit of this tx is over.",
                action="Use tx only inside the function that was given to db.run().",
            )


def refuse_write(operation: Operation[Any]) -> NoReturn:
    """A write in a snapshot."""
    if not isinstance(operation.plan, Request):
        operation.plan.close()
    raise TransactionError(
        "A snapshot only reads.",
        action="Use db.run() or db.transaction() for a transaction that writes.",
    )


def name_of(operation: Operation[Any]) -> str:
    plan = operation.plan
    name: str = getattr(plan, "__name__", None) or type(plan).__name__.lower()
    return name.strip("_")


def _finished(operation: Operation[R]) -> Generator[Request, Any, R]:
    result = yield Run(operation)
    return operation.finished(result)


def unit(
    fn: Callable[..., Coroutine[Any, Any, R]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    facade: Callable[[UnitRunner], Any],
    mode: Mode = "write",
) -> Operation[R]:
    """The operation that runs ``fn(tx, *args, **kwargs)`` as one transaction, or, with mode
    ``read``, on one snapshot.

    facade makes the ``tx`` that the user sees from the runner of this unit.
    """
    code = getattr(fn, "__code__", None)
    place = ("", 0) if code is None else (code.co_filename, code.co_firstlineno)
    return UnitOperation(_step(fn, args, kwargs, facade, mode), mode, place=place)


def _step(
    fn: Callable[..., Coroutine[Any, Any, R]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    facade: Callable[[UnitRunner], Any],
    mode: Mode,
) -> Plan[R]:
    runner = UnitRunner(mode)
    coroutine = _called(fn, facade(runner), args, kwargs)
    value: Any = None
    error: BaseException | None = None
    broken: TransactionError | None = None
    try:
        while True:
            try:
                request = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                result: R = stop.value
                break
            except RuntimeError as failure:
                if str(failure).startswith(("no running event loop", "There is no current event")):
                    raise TransactionError(_ONLY_OPERATIONS) from failure
                raise
            value, error = None, None
            if not isinstance(request, Request):
                # Kept: a function that swallows it must not commit either.
                error = broken = TransactionError(_ONLY_OPERATIONS)
                continue
            try:
                value = yield request
            except GeneratorExit:
                raise
            except BaseException as failure:
                error = failure
    finally:
        forgotten = runner.end()
        coroutine.close()
    if broken is not None:
        raise broken
    if forgotten:
        raise TransactionError(
            f"{', '.join(f'{name}()' for name in forgotten)} was called but never awaited; "
            "the unit is rolled back.",
            action="Write `await` before each operation of tx.",
        )
    return result


def _called(
    fn: Callable[..., Coroutine[Any, Any, R]],
    tx: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Coroutine[Any, Any, R]:
    if not callable(fn):
        raise UsageError(
            f"db.run() takes a coroutine function, not {fn!r:.60}.",
            action="Give it the function itself: async def fn(tx, ...): ...; db.run(fn, ...)",
        )
    made = fn(tx, *args, **kwargs)
    if inspect.iscoroutine(made):
        return made
    what = (
        "an async generator (it contains yield)"
        if inspect.isasyncgen(made)
        else f"a plain {type(made).__name__}"
    )
    raise TransactionError(
        f"db.run() was given {getattr(fn, '__name__', fn)!r}, which returned {what}.",
        action="Give it a coroutine function: async def fn(tx, ...): ... await tx[wells].get(key)",
    )
