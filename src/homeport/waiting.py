"""How the facade waits for the replication thread, in its two forms. Written by hand: the generator
of the blocking facade replaces the names of the first form by those of the second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from concurrent.futures import CancelledError, Future
from typing import TypeVar

from homeport.errors import Closed

R = TypeVar("R")


class AsyncWaiter:
    """Waits on the caller's event loop."""

    def wait(self, future: Future[R]) -> Awaitable[R]:
        return asyncio.wrap_future(future)


class Waiter:
    """Waits in the caller's thread."""

    def wait(self, future: Future[R]) -> R:
        try:
            return future.result()
        except CancelledError as error:
            raise Closed(
                "Replication was stopped meanwhile.", action="Start it again; the queue is kept."
            ) from error
        except BaseException:
            future.cancel()
            raise
