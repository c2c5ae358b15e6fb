"""What the worker thread of the asyncio driver is given to do, and how its outcome gets back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from homeport.core.requests import Operation, Request
from homeport.core.stores import StoreSession

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

R = TypeVar("R")


class Cancelled(BaseException):
    """Thrown into the plan of a job whose caller was cancelled; ``except Exception`` is no stop."""


class Watched:
    """The session as one job sees it: between two requests it looks whether it was cancelled."""

    __slots__ = ("_answer", "_job", "begin", "close", "commit", "interrupt", "release", "rollback",
                 "rollback_to", "savepoint", "session")  # fmt: skip

    def __init__(self, session: StoreSession, job: Job[Any]) -> None:
        self.session = session
        self._answer = session.answer
        self._job = job
        self.begin = session.begin
        self.commit = session.commit
        self.rollback = session.rollback
        self.savepoint = session.savepoint
        self.release = session.release
        self.rollback_to = session.rollback_to
        self.interrupt = session.interrupt
        self.close = session.close

    @property
    def in_transaction(self) -> bool:
        return self.session.in_transaction

    def write_row(self, *_: object) -> bool:
        """The long way: it is looked at between requests."""
        return False

    def answer(self, request: Request) -> Any:
        if self._job.cancelled:
            raise Cancelled
        return self._answer(request)


class Job(Generic[R]):
    """An operation (or a plain function) on its way through the worker."""

    __slots__ = ("cancelled", "error", "fn", "future", "loop", "operation", "released", "result",
                 "session", "settled")  # fmt: skip

    def __init__(
        self,
        loop: AbstractEventLoop,
        operation: Operation[R] | None,
        fn: Callable[[], R] | None = None,
    ) -> None:
        self.loop = loop
        self.future: Future[R] = loop.create_future()
        self.operation = operation
        self.fn = fn
        self.cancelled = False
        self.session: StoreSession | None = None  # interrupted for it, when it alone uses it
        self.settled = False
        self.released: Future[None] | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """On the job's own loop: hand over the outcome."""
        self.settled = True
        if not self.future.done():
            if self.error is not None:
                self.future.set_exception(self.error)
            else:
                self.future.set_result(self.result)
        if self.released is not None and not self.released.done():
            self.released.set_result(None)


def settle(jobs: list[Job[Any]]) -> None:
    """Hand outcomes to the loops of the callers, one wake-up per loop."""
    loops: dict[AbstractEventLoop, list[Job[Any]]] = {}
    for job in jobs:
        loops.setdefault(job.loop, []).append(job)
    for loop, mine in loops.items():
        try:
            loop.call_soon_threadsafe(settled_here, mine)
        except RuntimeError:
            continue  # that loop is closed: nobody waits any more


def settled_here(jobs: list[Job[Any]]) -> None:
    for job in jobs:
        job.settle()


def finish(job: Job[Any]) -> None:
    if job.operation is None or job.error is not None or job.cancelled:
        return
    try:
        job.result = job.operation.finished(job.result)
    except BaseException as error:
        job.error = error
