"""A session with scripted answers: unit tests of plans need no database, and any request of a real
one can be made to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from homeport.core.requests import Operation, Request
from homeport.core.stores import StoreSession
from homeport.drivers.steps import perform

R = TypeVar("R")


class ReplaySession:
    """Answers requests from a script, in order, and remembers what was asked.

    An answer may be a value, an exception (raised), or a function of the request.
    """

    def __init__(self, answers: Iterable[Any] = ()) -> None:
        self._answers = iter(answers)
        self.asked: list[Request] = []
        self.log: list[str] = []
        self.in_transaction = True

    def answer(self, request: Request) -> Any:
        self.asked.append(request)
        try:
            answer = next(self._answers)
        except StopIteration:
            raise AssertionError(
                f"The script has no answer for request {len(self.asked)}, {request!r}."
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer(request) if callable(answer) else answer

    def begin(
        self,
        mode: str,
        unit: str | None = None,  # noqa: ARG002
        timeout_s: float | None = None,  # noqa: ARG002
    ) -> None:
        self.log.append(f"begin {mode}")

    def write_row(self, *_: object) -> bool:
        """The long way: every request is seen."""
        return False

    def commit(self) -> None:
        self.log.append("commit")

    def rollback(self) -> None:
        self.log.append("rollback")

    def savepoint(self) -> int:
        self.log.append("savepoint")
        return 1

    def release(self, depth: int) -> None:  # noqa: ARG002
        self.log.append("release")

    def rollback_to(self, depth: int) -> None:  # noqa: ARG002
        self.log.append("rollback to")

    def interrupt(self) -> None:
        self.log.append("interrupt")

    def close(self) -> None:
        self.log.append("close")


def replay(operation: Operation[R], *answers: Any) -> tuple[R, list[Request]]:
    """Run an operation against scripted answers → its result and the requests it made."""
    session = ReplaySession(answers)
    return operation.finished(perform(session, operation)), session.asked


class FailingSession:
    """A real session whose n-th request fails (counted from 1 over all plans).

    error: makes the error. after True lets the request happen first, as a lost answer would.
    """

    def __init__(
        self,
        session: StoreSession,
        at: int,
        error: Callable[[], BaseException],
        *,
        after: bool = False,
    ) -> None:
        self._session = session
        self._at = at
        self._error = error
        self._after = after
        self.seen = 0

    def answer(self, request: Request) -> Any:
        self.seen += 1
        if self.seen != self._at:
            return self._session.answer(request)
        if self._after:
            self._session.answer(request)
        raise self._error()

    def write_row(self, *_: object) -> bool:
        """The long way: every request is counted."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
