"""A transaction on its way: a generator of steps, advanced inside the callbacks of the engine."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from homeport.errors import Interrupted

if TYPE_CHECKING:
    from asyncio import Future

R = TypeVar("R")
Steps = Generator[str, Any, Any]


def _future() -> Future[Any]:
    from asyncio import get_running_loop  # noqa: PLC0415 - a loop runs

    return get_running_loop().create_future()


class Flight(Generic[R]):
    """One transaction of the helper, by number."""

    def __init__(self, number: int, helper: Any, steps: Steps, *, reading: bool = False) -> None:
        self.id = number
        self._reading = reading
        self.future: Future[R] = _future()
        self._helper = helper
        self._steps: Steps | None = steps
        self._result: Any = None
        self.error: BaseException | None = None
        self._cancelled = False

    def advance(self, results: str | bytes | None, error: BaseException | None = None) -> None:
        """Send the results of a step (or throw its error), and hand over the next step."""
        steps = self._steps
        if steps is None:
            return
        try:
            # The first step is sent nothing.
            step = steps.send(results) if error is None else steps.throw(error)
        except StopIteration as stop:
            self._steps, self._result = None, stop.value
            self._helper.commit(self.id)
            if self._reading and not self.future.done():
                self.future.set_result(self._result)  # nothing is left that could fail
        except BaseException as failure:
            self._steps, self.error = None, failure
            self._helper.abort(self.id)
        else:
            self._helper.step(self.id, step)

    def fail(self, error: BaseException) -> None:
        """A step failed. The steps may go on, unless the engine has given up."""
        self.advance(None, error)

    def end(self, error: BaseException | None) -> None:
        """The engine has committed (None) or given up."""
        steps, self._steps = self._steps, None
        if steps is not None:
            self.error = self.error or error
            steps.close()
        if self.future.done():
            return
        if isinstance(self.error, Interrupted) and error is not None:
            self.error = error  # in Firefox other requests fail before it says what for
        failure = self.error or error
        if failure is None or self._cancelled:  # who cancelled it raises that, and nobody this
            self.future.set_result(self._result)
        else:
            self.future.set_exception(failure)

    async def settled(self) -> None:
        """Wait for the end, whatever it is."""
        from asyncio import wait  # noqa: PLC0415 - a loop runs

        await wait((self.future,))

    async def landed(self) -> R:
        """The value of the steps, once the engine has committed.

        Cancelled, it aborts unless the commit is under way, waits for the end, and then raises.
        """
        from asyncio import CancelledError, shield  # noqa: PLC0415 - a loop runs

        try:
            return await shield(self.future)
        except CancelledError:
            if self._steps is not None:
                steps, self._steps = self._steps, None
                self._cancelled = True
                steps.close()
                self._helper.abort(self.id)
            while not self.future.done():
                try:
                    await self.settled()
                except CancelledError:
                    continue
            self.future.exception()  # looked at: nobody else will
            raise


class Opening:
    """A database that is being opened or deleted. steps: of the upgrade, where one is needed."""

    def __init__(self, number: int, steps: Callable[[], Steps] | None) -> None:
        self.id = number
        self.future: Future[tuple[int, int]] = _future()
        self._make = steps
        self._flight: Flight[Any] | None = None

    def upgrade(self, helper: Any, before: int) -> None:
        """Inside the upgrade: step what has to be made. before: the version that was, 0 = none."""
        del before
        assert self._make is not None
        self._flight = Flight(self.id, helper, self._make())
        self._flight.advance(None)

    def advance(self, results: str) -> None:
        assert self._flight is not None
        self._flight.advance(results)

    def fail(self, error: BaseException) -> None:
        assert self._flight is not None
        self._flight.fail(error)

    def limit(self, seconds: float, error: BaseException) -> None:
        """Give up after so many seconds."""
        from asyncio import get_running_loop  # noqa: PLC0415 - a loop runs

        def expire() -> None:
            if not self.future.done():
                self.future.set_exception(error)

        get_running_loop().call_later(seconds, expire)

    def succeed(self, opened: tuple[int, int]) -> bool:
        """False when nobody waits any more."""
        if self.future.done():
            return False
        self.future.set_result(opened)
        return True

    def refuse(self, error: BaseException) -> None:
        if not self.future.done():
            flight = self._flight
            cause = None if flight is None else flight.error
            self.future.set_exception(cause or error)

    async def settled(self) -> None:
        from asyncio import wait  # noqa: PLC0415 - a loop runs

        await wait((self.future,))
