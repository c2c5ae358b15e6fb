"""The asyncio driver.

Reads of bounded cost are stepped on the event loop itself while the lock is free: a hop to another
thread costs ten times the read. Everything else goes as a whole plan to one worker thread. Writes
that queue up there are committed together, each behind a savepoint of its own: the price of a
durable commit is shared, and a call returns only after it.

Cancelling: the job is marked, its statement interrupted if it alone holds the session, and the
worker's word awaited; only then is the cancellation raised, so nothing is written after it. A job
whose commit is under way cannot be cancelled any more: its effect stands, although the caller gets
the cancellation. ``asyncio`` is imported by whoever runs an event loop, never by us first.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from homeport.core.operations import BOUNDED_KEYS
from homeport.core.planner import plan
from homeport.core.requests import Operation
from homeport.core.stores import StoreSession
from homeport.core.units import UnitOperation
from homeport.drivers.engine import Engine
from homeport.drivers.jobs import Cancelled, Job, Watched, finish, settle
from homeport.drivers.readers import Readers
from homeport.drivers.snapshots import SnapshotRunner
from homeport.drivers.steps import read, refuse_block, refuse_closed, running
from homeport.drivers.watch import AsyncWatch
from homeport.errors import Busy, Closed

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from homeport.core.codec import Table
    from homeport.core.explanation import Explanation
    from homeport.core.query import QueryValue
    from homeport.drivers.inline import Transaction

R = TypeVar("R")

BUSY_SLICE_S = 0.1
GROUP_JOBS = 256
GROUP_S = 0.02
"""A group commit takes in no more jobs than this and starts none after this time."""


class WorkerDriver:
    """Runs operations for asyncio code; may serve several event loops."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._look: Any = getattr(engine, "look", None)  # of an engine with a result cache
        self._queue: SimpleQueue[Job[Any] | None] = SimpleQueue()
        queue = self._queue  # and not self: what nobody uses any more shall go at once
        engine.queued = lambda: not queue.empty()
        self._next: deque[Job[Any] | None] = deque()  # taken from the queue, not begun
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._ended = False
        self._working = False
        self._readers = Readers(self._read_beside)
        self._guard = threading.Lock()

    # -- on the event loop

    def run(self, operation: Operation[R]) -> Awaitable[R]:
        """→ an awaitable of the operation's result."""
        return self._run(operation)

    async def _run(self, operation: Operation[R]) -> R:
        engine = self.engine
        self._forbid_worker()
        if operation.bounded and (engine.store.multiprocess or not engine.taken):
            # With the lock taken it reads beside, on a session of its own: it waits for nobody.
            return engine.run(operation)
        if self._look is not None and (engine.store.multiprocess or not engine.taken):
            hit, operation = self._look(operation)
            if hit is not None:
                made: Callable[[], R] = hit.result
                return await self._submit(Job(_loop(), None, made)) if hit.large else made()
        return await self._submit(Job(_loop(), operation))

    def call(self, fn: Callable[[], R], what: str) -> Awaitable[R]:
        """Run ``fn`` on the worker, under the lock."""
        return self._submit(Job(_loop(), None, lambda: self.engine.call(fn, what)))

    async def _submit(self, job: Job[R]) -> R:
        from asyncio import CancelledError  # noqa: PLC0415 - a loop runs, so it is loaded already

        self._forbid_worker()
        self._enqueue(job)
        try:
            return await job.future
        except CancelledError:
            if not job.settled:
                self._cancel(job)
            while not job.settled:
                job.released = job.loop.create_future()
                try:
                    await job.released
                except CancelledError:
                    continue
            raise

    def _enqueue(self, job: Job[Any], *, last: bool = False) -> None:
        with self._starting:
            if self._ended or self.engine.forked:
                refuse_closed(forked=self.engine.forked)
            held = self.engine.held
            if held is not None and held.left_s < 0:
                held.tell()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="homeport-worker", daemon=True
                )
                self._thread.start()
            reading = job.operation is not None and job.operation.mode == "read"
            if reading and self._working and self.engine.store.multiprocess:
                self._readers.put(job)
                return
            self._queue.put(job)
            if last:
                self._ended = True
                self._queue.put(None)
                self._readers.end()

    async def aside(self, fn: Callable[[], R], what: str) -> R:
        """Run ``fn``, which only reads on a session of its own, beside whatever is going on."""
        from asyncio import to_thread  # noqa: PLC0415 - a loop runs

        self._forbid_worker()
        return await (to_thread(fn) if self.engine.store.multiprocess else self.call(fn, what))

    async def pause(self, seconds: float) -> None:
        from asyncio import sleep  # noqa: PLC0415 - a loop runs

        await sleep(seconds)

    def explain(
        self, table: Table[Any], query: QueryValue, *, run: bool = False
    ) -> Awaitable[Explanation]:
        return self.call(lambda: self.engine.store.explain(table, query, run=run), "explain()")

    def cheap(self, table: Table[Any], query: QueryValue) -> bool:
        """Few rows, and an index leads to them: then the event loop is not held up."""
        if query.limit is None or query.limit > BOUNDED_KEYS or query.predicates or query.offset:
            return False
        access = plan(query, table.codec)
        return access.kind != "scan" and access.ordered and not access.left

    def held(self, what: str) -> SnapshotRunner:
        """The newest state, for several operations; ``end`` it."""
        self.engine.forbid_inside(what)
        state = SnapshotRunner(self.engine)
        state.begin()
        return state

    def forbid_inside(self, what: str) -> None:
        self.engine.forbid_inside(what)

    def transaction(self) -> Transaction:
        """There is none here: an open transaction would stay open over every await."""
        refuse_block()

    def snapshot(self) -> SnapshotRunner:
        refuse_block("snapshot")

    def watch(self) -> AsyncWatch:
        return AsyncWatch(self.engine, self.run)

    async def close(self) -> None:
        """Answer what is queued with ``Closed``, let the running job end, close the store."""
        if self._ended or self.engine.forked:
            return
        closing = Job(_loop(), None, self.engine.close)
        self._enqueue(closing, last=True)
        from asyncio import shield  # noqa: PLC0415

        # A cancelled close() goes on closing; there is nothing to take back.
        await shield(closing.future)

    def _cancel(self, job: Job[Any]) -> None:
        job.cancelled = True
        with self._guard:
            if job.session is not None:
                job.session.interrupt()

    def _forbid_worker(self) -> None:
        if self.engine.held_here or threading.current_thread() is self._thread:
            self.engine.check_owner()

    # -- on the worker thread

    def _work(self) -> None:
        while (job := self._take()) is not None:
            done = [job]
            try:
                if job.fn is not None:
                    self._do(job, job.fn)
                elif self._ended:
                    job.error = Closed("The database was closed before this call began.")
                elif job.operation is not None and job.operation.mode == "read":
                    self._read(job, job.operation)
                else:
                    self._group(done)
            except BaseException as error:
                # Nothing may end this thread while callers wait for it.
                for one in done:
                    one.error = one.error or error
            settle(done)

    def _take(self) -> Job[Any] | None:
        if self._next:
            return self._next.popleft()
        self._working = False
        job = self._queue.get()
        self._working = True
        return job

    def _do(self, job: Job[Any], fn: Callable[[], Any]) -> None:
        try:
            job.result = fn()
        except BaseException as error:
            job.error = error

    def _read(self, job: Job[Any], operation: Operation[Any]) -> None:
        if job.cancelled:
            return
        engine = self.engine
        if type(operation) is UnitOperation or not engine.try_acquire():
            self._read_aside(job, operation)
            return
        try:
            job.result = read(self._watched(engine.session, job), operation)
        except BaseException as error:
            job.error = error
        finally:
            self._unmark(job)
            engine.release()
        finish(job)

    def _read_aside(self, job: Job[Any], operation: Operation[Any]) -> None:
        try:
            job.result = self.engine.read_aside(operation, lambda s: self._watched(s, job))
        except BaseException as error:
            job.error = error
        finally:
            self._unmark(job)
        finish(job)

    def _read_beside(self, job: Job[Any]) -> None:
        """On a thread of the readers."""
        if job.operation is not None and not job.cancelled:
            self._read_aside(job, job.operation)
        settle([job])

    def _watched(self, session: StoreSession, job: Job[Any]) -> Watched:
        """The session for this job alone, which may be interrupted."""
        with self._guard:
            job.session = session
        return Watched(session, job)

    def _unmark(self, job: Job[Any]) -> None:
        with self._guard:
            job.session = None

    def _group(self, jobs: list[Job[Any]]) -> None:
        """Commit the write in ``jobs`` with those queued behind it, which join the list."""
        if jobs[0].cancelled:
            return
        engine = self.engine
        engine.acquire()
        try:
            self._begin(jobs[0])
            try:
                self._fill(jobs)
                if engine.session.in_transaction:
                    engine.session.commit()
                else:
                    # The engine rolled back as a whole (a full disk, an interrupted write):
                    # nothing stands.
                    engine.session.rollback()
                    error = next((job.error for job in jobs if job.error is not None), None)
                    for job in jobs:
                        job.error = job.error or error
            except BaseException:
                engine.session.rollback()
                raise
            if engine.expiring:
                engine.purge()
        finally:
            engine.release()
        engine.announce()
        for job in jobs:
            finish(job)

    def _begin(self, job: Job[Any]) -> None:
        """In slices, so that a cancelled caller need not wait for another process's lock."""
        engine = self.engine
        deadline = time.monotonic() + engine.busy_timeout_s
        while True:
            remaining = deadline - time.monotonic()
            try:
                engine.session.begin("write", None, max(0.0, min(BUSY_SLICE_S, remaining)))
            except Busy:
                if job.cancelled or remaining <= BUSY_SLICE_S:
                    raise
                self._read_meanwhile()
            else:
                return

    def _read_meanwhile(self) -> None:
        """Reads that queued up behind a write that waits need not wait with it."""
        if not self.engine.store.multiprocess:
            return
        for _ in range(self._queue.qsize()):
            job = self._queue.get_nowait()
            operation = None if job is None else job.operation
            if job is None or operation is None or operation.mode != "read":
                self._next.append(job)
                continue
            if not job.cancelled:
                self._read_aside(job, operation)
            settle([job])

    def _fill(self, jobs: list[Job[Any]]) -> None:
        """Step the first job and the writes queued behind it in the open transaction."""
        session, queue = self.engine.session, self._queue
        until = time.monotonic() + GROUP_S
        self._step(jobs[0], alone=queue.empty())
        while session.in_transaction and len(jobs) < GROUP_JOBS and time.monotonic() < until:
            try:
                job = self._next.popleft() if self._next else queue.get_nowait()
            except Empty:
                return
            if job is None or job.operation is None or job.operation.mode == "read":
                self._next.appendleft(job)
                return
            jobs.append(job)
            self._step(job, alone=False)

    def _step(self, job: Job[Any], *, alone: bool) -> None:
        """One job of a group. It may be interrupted only when nobody else's work is in the
        transaction, because an interrupted write rolls back everything."""
        operation = job.operation
        if job.cancelled or operation is None:
            return
        session = self.engine.session
        info = running(session)
        info.unit, info.changes, info.bytes = self.engine.unit_of(operation), 0, 0
        depth = session.savepoint()
        try:
            watched = self._watched(session, job) if alone else Watched(session, job)
            job.result = self.engine.perform(watched, operation)
            if job.cancelled:
                raise Cancelled  # noqa: TRY301 - one way back for both
        except BaseException as error:
            job.error = error
            if session.in_transaction:
                session.rollback_to(depth)
        else:
            session.release(depth)
        finally:
            if alone:
                self._unmark(job)


def _loop() -> AbstractEventLoop:
    from asyncio import get_running_loop  # noqa: PLC0415

    return get_running_loop()
