"""Threads for reads that find the worker of the asyncio driver busy: many readers, one writer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from homeport.drivers.jobs import Job

THREADS = 4


class Readers:
    """Up to ``THREADS`` daemon threads, begun when they are wanted; ``do`` is given each job."""

    def __init__(self, do: Callable[[Job[Any]], None]) -> None:
        self._do = do
        self._jobs: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._guard = threading.Lock()
        self._threads = 0
        self._waiting = 0  # threads without a job, minus jobs without a thread

    def put(self, job: Job[Any]) -> None:
        with self._guard:
            self._waiting -= 1
            if self._waiting < 0 and self._threads < THREADS:
                self._threads += 1
                self._waiting += 1
                threading.Thread(target=self._work, name="homeport-reader", daemon=True).start()
        self._jobs.put(job)

    def end(self) -> None:
        """Let the threads go when they have done what waits."""
        with self._guard:
            for _ in range(self._threads):
                self._jobs.put(None)
            self._threads = THREADS  # none is begun any more

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(job)
            with self._guard:
                self._waiting += 1
