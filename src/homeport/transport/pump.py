"""The replication worker: carries out the session's actions where its host runs it.

What to do next is decided by ``core.session`` alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from homeport.core import session as s
from homeport.core.backend import Backend
from homeport.core.codec import Table
from homeport.core.context import Event
from homeport.core.verify import VerifyReport
from homeport.core.wire import Hint
from homeport.core.worker import Retry, claim, load_retry, queue_mark, release, save_retry
from homeport.drivers.engine import Engine
from homeport.errors import Closed, HomeportError, NeedsAuth, Unreachable
from homeport.transport import lease
from homeport.transport.comparing import compare, load_verified
from homeport.transport.hosts import Host, PageHost, Perform, ThreadHost
from homeport.transport.listening import Listener
from homeport.transport.recovery import OnReset
from homeport.transport.rounds import Rounds, Token, now_ms

if TYPE_CHECKING:
    from homeport.transport.tabs import News

__all__ = ["Pump", "Token"]

R = TypeVar("R")

DEBOUNCE_S = 0.015
"""Commits that follow each other closely travel in one batch."""
TICK_S = 1.0
LATE_S = 3.0
"""A tick that comes so late was not let run: others may have taken the lease meanwhile."""
LEASE_MS = 15_000
MAX_HINTS = 1_000
"""Hints kept while an exchange runs; when there are more, the device just pulls."""


class Pump:
    """Replicates the synced tables of one engine with one server.

    Public methods may be called from any thread. ``tell`` receives events where the worker runs.
    later: operations of an engine that answers later; then it runs on the loop of the caller.
    """

    def __init__(
        self,
        engine: Engine,
        tables: Mapping[str, Table[Any]],
        url: str,
        token: Token,
        *,
        live: bool,
        poll_s: float,
        tell: Callable[[Event], None],
        on_reset: OnReset = "recover",
        path: str = ":memory:",
        verify_s: float | None = None,
        backend: Backend | None = None,
        later: Perform | None = None,
    ) -> None:
        self.engine = engine
        self.host: Host = (
            ThreadHost(engine, self._entered) if later is None else PageHost(later, self._entered)
        )
        self.rounds = Rounds(
            self.host.perform, tables, url, token, tell, on_reset, path, backend=backend
        )
        self.rounds.recovery.encrypted = getattr(engine.store, "encrypted", False)
        self.live = live
        self.verify_ms = None if verify_s is None else int(verify_s * 1000)
        self.tell = tell
        self.session = s.Session(poll_ms=int(poll_s * 1000))
        self.owner = lease.owner_name()
        self._signalled = False
        self._renew_at = 0.0
        self._unfollow: Callable[[], None] = lambda: None
        self._away = False
        """The system says that there is no network."""
        self.listener: Listener | None = None
        """Of the live streams, while it replicates in the background."""
        self.attempted: s.State | None = None
        """How the last explicit attempt ended, None when it succeeded."""

    def submit(self, work: Callable[[], Coroutine[Any, Any, R]]) -> Future[R]:
        """Run a coroutine as the worker, which is started on first use. From any thread."""
        return self.host.submit(work)

    @property
    def running(self) -> bool:
        """Is there something to be ended?"""
        return self.host.running

    @property
    def stream(self) -> str | None:
        """What hints come by at this moment."""
        using = None if self.listener is None else self.listener.using
        return using if using is None or self.rounds.backend is None else "backend"

    # -- as the worker

    def _entered(self) -> None:
        """A loop begins: nothing of the last one is used again."""
        self._exchange: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.listener = None
        self._hints: list[Hint] = []
        self._weighing: asyncio.Task[None] | None = None
        self._signalled = False
        self.rounds.reopen()

    async def start(self) -> None:
        """Begin to replicate in the background."""
        if self.session.state != "off":
            return
        forget = self.engine.on_commit(self._committed)
        retry = await self.rounds.read(load_retry())
        await lease.show_life(self.owner)
        self._away = lease.offline()
        self._unfollow = lease.follow(self._told)
        if await self._lead():
            self._handle(s.Started(now_ms(), retry.failures, retry.retry_at_ms))
        else:
            self.session.state = "idle"
            self._handle(s.Standby(now_ms(), other=True))
        self.host.task(self._tick(forget))
        if self.live:
            self.listener = Listener(self.rounds, self._hinted)
            self.host.task(self.listener.run())
            self._may_listen()

    async def stop(self) -> None:
        """End all work and the thread, and give the lease back. The queue stays."""
        if self.session.state != "off":
            self._handle(s.Stopped(now_ms()))
            with contextlib.suppress(HomeportError):
                await self.rounds.run(release(self.owner))
        self._unfollow()
        lease.end_life(self.owner)
        if self._timer is not None:
            self._timer.cancel()
        await self.host.cancel()
        await self.rounds.close()
        await self.host.leave()

    async def pause(self) -> None:
        self._handle(s.Paused(now_ms()))
        if self._exchange is not None:
            self._exchange.cancel()

    async def recover(self, strategy: OnReset) -> None:
        """Begin anew with the server, and go on."""
        async with self.rounds.alone():
            await self.rounds.recovery.begin_by(strategy, None, "asked for")
        await self.resume()

    async def resume(self) -> None:
        self.rounds.forget_token()
        self._handle(s.Resumed(now_ms()))

    def _told(self, news: News) -> None:
        """The system says that the network is gone, or back. The first is looked at rather than
        believed: a node may be nearer than what was lost."""
        self._away = news == "offline"
        if self.session.state == "syncing" and self._exchange is not None:
            self._exchange.cancel()  # it may hang on a connection of before
            self._exchange = self.host.task(self._background_round(pull=True))
        elif self.session.state == "idle":
            self._handle(s.Woken(now_ms(), "hint"))
        elif not self._away and self.session.state in ("offline", "needs-auth"):
            self._handle(s.Resumed(now_ms()))  # also where token() found no network
        if not self._away and self.listener is not None:
            self.listener.renew()

    def _committed(self) -> None:
        """Called after every commit, in the committing thread."""
        if not self._signalled and not self.host.inside():
            self._signalled = True
            self.host.call(lambda: self.host.task(self._wake()))

    async def _wake(self) -> None:
        await asyncio.sleep(DEBOUNCE_S)
        self._signalled = False
        with contextlib.suppress(HomeportError):
            if (await self.rounds.state()).queued:
                self._handle(s.Woken(now_ms(), "commit"))

    def _handle(self, event: s.Event) -> None:
        for action in self.session.on(event):
            match action:
                case s.Exchange(pull):
                    self._exchange = self.host.task(self._background_round(pull=pull))
                case s.Refresh():
                    self.rounds.forget_token()
                case s.Sleep(until_ms):
                    self._set_timer(until_ms)
                case s.Save(failures, retry_at_ms):
                    self.host.task(self._save(Retry(failures, retry_at_ms)))
                case s.Restart():
                    if self._exchange is not None:
                        self._exchange.cancel()
                case s.Tell(kind, detail):
                    self.tell(Event(kind, now_ms(), detail=detail))
        self._may_listen()

    def _may_listen(self) -> None:
        """Streams are opened while exchanges succeed: offline there is nothing to listen to."""
        if self.listener is not None:
            connected = self.session.state in ("idle", "syncing")
            if connected and self.session.last_success_ms is not None:
                self.listener.allowed.set()
            else:
                self.listener.allowed.clear()

    async def _save(self, retry: Retry) -> None:
        with contextlib.suppress(HomeportError):
            await self.rounds.run(save_retry(retry))

    def _set_timer(self, until_ms: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if until_ms is not None:
            pause_s = max(0.0, (until_ms - now_ms()) / 1000)
            self._timer = asyncio.get_running_loop().call_later(
                pause_s, lambda: self._handle(s.Timer(now_ms()))
            )

    async def _background_round(self, *, pull: bool) -> None:
        asked = self.rounds.requests
        try:
            quiet = await self.rounds.exchange(pull=pull)
            if quiet and pull and await self._verify_due():
                await self._compare()
        except asyncio.CancelledError:
            raise
        except Closed:
            self._handle(s.Stopped(now_ms()))
        except HomeportError as error:
            self._handle(self._failure(error))
        except Exception as error:  # a bug must not end the replication for good
            self._handle(self._failure(Unreachable(f"{type(error).__name__}: {error}")))
        else:
            self._handle(s.Answered(now_ms(), quiet, contact=self.rounds.requests > asked))

    async def _verify_due(self) -> bool:
        if self.verify_ms is None:
            return False
        last = await self.rounds.read(load_verified())
        # A report from the future was written by another clock.
        return last is None or not 0 <= now_ms() - last.at_ms < self.verify_ms

    async def _compare(self) -> VerifyReport:
        report = await compare(self.rounds, now_ms())
        if report.different:
            detail = f"{report.repaired} documents repaired, {report.remaining} slots differ still"
            self.tell(Event("verified", now_ms(), detail=detail))
        return report

    async def verify(self, timeout_s: float) -> VerifyReport:
        """Compare with the server now."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._compare()
        except TimeoutError as error:
            raise Unreachable(f"Not compared after {timeout_s:g} s.") from error

    def _failure(self, error: HomeportError) -> s.Failed:
        pause = error.context.get("retry_after_s")
        # Without a network token() can have none either.
        no_token = self._away and isinstance(error, NeedsAuth) and error.__cause__ is not None
        return s.Failed(
            now_ms(),
            Unreachable.code if no_token else error.code,
            str(error),
            random.random(),  # noqa: S311 - spreads retries, guards nothing
            pause if isinstance(pause, (int, float)) else None,
            renewable=self.rounds.renewable,
            away=self._away,
        )

    # -- asked for by the user

    async def now(self, timeout_s: float, then: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Push and pull until nothing is left to do, or raise why not → what ``then`` returns."""
        deadline = time.monotonic() + timeout_s
        failures = 0
        renewed = False
        last: HomeportError | None = None
        while True:
            left_s = deadline - time.monotonic()
            try:
                async with asyncio.timeout(left_s):
                    quiet = await self.rounds.exchange(pull=True)
            except TimeoutError as error:
                why = f" The last attempt: {last.message}" if last is not None else ""
                late = Unreachable(f"Not done after {timeout_s:g} s.{why}")
                self._note(late)
                raise late from error
            except NeedsAuth as error:
                if self.rounds.renewable and not renewed:
                    renewed = True
                    self.rounds.forget_token()
                    continue
                self._note(error)
                raise
            except HomeportError as error:
                self._note(error)
                last = error
                failures += 1
                pause = s.delay_ms(failures, random.random()) / 1000  # noqa: S311
                asked_s = error.context.get("retry_after_s")
                if isinstance(asked_s, (int, float)):
                    pause = s.asked_pause_ms(asked_s, int(pause * 1000)) / 1000
                passing = isinstance(error, Unreachable) or error.code == "busy"
                if not passing or time.monotonic() + pause >= deadline:
                    raise
                await asyncio.sleep(pause)
                continue
            failures, renewed = 0, False  # a long cut may outlive several tokens
            if quiet:
                self._succeeded()
                await self.rounds.check_unknown()
                return await then()

    def _note(self, error: HomeportError) -> None:
        """Let the status say what the explicit attempt met, when nobody works in the background."""
        self.session.last_attempt_ms = now_ms()
        self.session.last_error = str(error)
        self.attempted = s.FAILURES.get(error.code, "refused")

    def _succeeded(self) -> None:
        now = now_ms()
        self.session.last_attempt_ms = self.session.last_success_ms = now
        self.session.last_error = None
        self.attempted = None
        if self.session.state in s.WAITING:
            self._handle(s.Resumed(now))

    # -- beside the exchange

    async def _tick(self, forget: Callable[[], None]) -> None:
        """Renew the lease, notice other processes' writes, watch that the queue moves."""
        seen = None
        try:
            while True:
                began = time.monotonic()
                await asyncio.sleep(TICK_S)
                if time.monotonic() - began > LATE_S:
                    self._renew_at = 0.0
                try:
                    mine = await self._lead()
                    await self.rounds.roll_back_late()
                    mark = await self.rounds.read(queue_mark())
                except Closed:
                    return
                except HomeportError:
                    continue
                self._handle(s.Standby(now_ms(), other=not mine))
                if mark[0] != seen and mark[1]:
                    self._handle(s.Woken(now_ms(), "commit"))
                seen = mark[0]
                waits = mark[1] > self.rounds.blocked
                self._handle(s.Watched(now_ms(), (*mark, self.rounds.requests) if waits else None))
        finally:
            forget()

    async def _lead(self) -> bool:
        """Have, or get, the lease; asked of the file only when it has to be renewed."""
        if not self.engine.store.multiprocess or time.monotonic() < self._renew_at:
            return True
        mine = await self.rounds.run(claim(self.owner, LEASE_MS, await lease.known_dead()))
        self._renew_at = time.monotonic() + LEASE_MS / 3000 if mine else 0.0
        return mine

    def _hinted(self, hint: Hint) -> None:
        """Weigh a hint as soon as no exchange runs: the answer that is on its way may hold it."""
        self._hints.append(hint)
        if len(self._hints) > MAX_HINTS:
            self._hints = [Hint("resync")]
        if self._weighing is None or self._weighing.done():
            self._weighing = self.host.task(self._weigh())

    async def _weigh(self) -> None:
        while self._hints:
            async with self.rounds.alone():
                hints, self._hints = self._hints, []
            if any(hint.is_news(self.rounds.seen) for hint in hints):
                self._handle(s.Woken(now_ms(), "hint"))
