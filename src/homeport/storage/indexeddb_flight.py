"""A transaction on its way: a generator of steps, advanced inside the callbacks of the engine."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from homeport.errors import Interrupted
from homeport.storage.indexeddb_cache import Logged
from homeport.storage.indexeddb_landing import Landing

R = TypeVar("R")
Steps = Generator[str, Any, Any]


class Flight(Generic[R]):
    """One transaction of the helper, by number. ``landing`` is its end: cancelled, the transaction
    is aborted unless the commit is under way."""

    def __init__(self, number: int, helper: Any, steps: Steps, *, reading: bool = False) -> None:
        self.id = number
        self._reading = reading
        self.landing: Landing[R] = Landing(self._give_up)
        self._helper = helper
        self._steps: Steps | None = steps
        self._result: Any = None
        self.error: BaseException | None = None
        self.logged: Logged | None = None
        """The row of the log that it commits; None as long as it has not said so."""

    def advance(
        self, results: str | bytes | None, error: BaseException | None = None
    ) -> str | bool | None:
        """Send the results of a step (or throw its error) → the next step; True: it is to be
        committed, False: it is to be aborted, None: it is over already."""
        steps = self._steps
        if steps is None:
            return None
        try:
            # The first step is sent nothing.
            return steps.send(results) if error is None else steps.throw(error)
        except StopIteration as stop:
            self._steps, self._result = None, stop.value
            if self._reading:
                self.landing.succeed(stop.value)  # nothing is left that could fail
            return True
        except BaseException as failure:
            self._steps, self.error = None, failure
            return False

    def fail(self, error: BaseException) -> str | bool | None:
        """A step failed. The steps may go on, unless the engine has given up."""
        return self.advance(None, error)

    def end(self, error: BaseException | None) -> None:
        """The engine has committed (None) or given up."""
        steps, self._steps = self._steps, None
        if steps is not None:
            self.error = self.error or error
            steps.close()
        if isinstance(self.error, Interrupted) and error is not None:
            self.error = error  # in Firefox other requests fail before it says what for
        failure = self.error or error
        if failure is None:
            self.landing.succeed(self._result)
        else:
            self.landing.fail(failure)

    def _give_up(self) -> None:
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.close()
            self._helper.abort(self.id)


class Opening:
    """A database that is being opened or deleted. steps: of the upgrade, where one is needed.
    ``landing`` is its end: (version, number of the connection)."""

    def __init__(self, number: int, steps: Callable[[], Steps] | None) -> None:
        self.id = number
        self.landing: Landing[tuple[int, int]] = Landing(self._leave)
        self._make = steps
        self._flight: Flight[Any] | None = None

    def upgrade(self, helper: Any) -> str | bool | None:
        """Inside the upgrade: step what has to be made. False: nobody waits for it any more."""
        if self.landing.done():
            return False
        assert self._make is not None
        self._flight = Flight(self.id, helper, self._make())
        return self._flight.advance(None)

    def advance(self, results: str) -> str | bool | None:
        assert self._flight is not None
        return False if self.landing.done() else self._flight.advance(results)

    def fail(self, error: BaseException) -> str | bool | None:
        assert self._flight is not None
        return self._flight.fail(error)

    def limit(self, seconds: float, error: BaseException) -> None:
        """Give up after so many seconds."""
        self.landing.get_loop().call_later(seconds, self.landing.fail, error)

    def succeed(self, opened: tuple[int, int]) -> bool:
        """False when nobody waits any more."""
        if self.landing.done():
            return False
        self.landing.succeed(opened)
        return True

    def _leave(self) -> None:
        self.landing.fail(Interrupted("Nobody waits for this database any more."))

    def refuse(self, error: BaseException) -> None:
        cause = None if self._flight is None else self._flight.error
        self.landing.fail(cause or error)
