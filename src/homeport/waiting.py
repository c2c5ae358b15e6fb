"""How the facade waits for the replication thread, in its two forms. Written by hand: the generator
of the blocking facade replaces the names of the first form by those of the second."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from homeport.drivers.suspending import wait_for
from homeport.errors import Closed

R = TypeVar("R")


class AsyncWaiter:
    """Waits on the caller's event loop."""

    def wait(self, future: Future[R]) -> Awaitable[R]:
        return asyncio.wrap_future(future)

    def later(self, work: Coroutine[Any, Any, R]) -> Awaitable[R]:
        """Await an engine that answers later."""
        return work


class Waiter:
    """Waits in the caller's thread."""

    def wait(self, future: Future[R]) -> R:
        try:
            if sys.platform == "emscripten":  # what it waits for runs on this thread
                return wait_for(asyncio.wrap_future(future))
            return future.result()
        except CancelledError as error:
            raise Closed(
                "Replication was stopped meanwhile.", action="Start it again; the queue is kept."
            ) from error
        except BaseException:
            future.cancel()
            raise

    def later(self, work: Coroutine[Any, Any, R]) -> R:
        """Wait for an engine that answers later."""
        return wait_for(work)
