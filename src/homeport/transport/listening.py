"""Keeps a live stream to the node open, of the best kind that the way there lets through.

The loss of hints costs time and nothing else, so all failures are silent: the timer goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable

from homeport.core.streams import Choice, Ended, Kind, Reason
from homeport.core.wire import Hint
from homeport.errors import HomeportError
from homeport.transport.answers import StreamEnded
from homeport.transport.rounds import Rounds, now_ms


class Listener:
    """The streams of one pump, one after the other. Used from its event loop.

    Attributes:
        using: the kind of stream that is open now and has said something; None = none.
        allowed: set while there is reason to listen.
    """

    def __init__(self, rounds: Rounds, hinted: Callable[[Hint], None]) -> None:
        self.using: Kind | None = None
        self.allowed = asyncio.Event()
        self._rounds = rounds
        self._hinted = hinted
        self._choice = Choice()
        self._since: str | None = None
        self._limit: asyncio.Timeout | None = None
        self._hurried = asyncio.Event()

    def renew(self) -> None:
        """The network is another one: what is open may be dead without a sign of it, and the pause
        before the next stream is over."""
        if self._limit is not None:
            self._limit.reschedule(0.0)
        self._hurried.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.allowed.wait()
            began_ms: int | None = None
            reason: Reason = "cut"
            wait_s: float | None = None
            try:
                better_ms = self._choice.better_in_ms(now_ms())
                better_s = None if better_ms is None else better_ms / 1000
                async with asyncio.timeout(better_s) as self._limit:
                    async with contextlib.aclosing(self._stream()) as stream:
                        async for hint in stream:
                            if self.using is None:
                                self.using, began_ms = self._choice.kind, now_ms()
                            if hint.t == "bye":
                                reason = "bye"
                                break
            except StreamEnded as error:
                reason, wait_s = error.reason, error.wait_s
            except TimeoutError:
                reason = "old"
            except HomeportError:  # no token can be had
                reason = "auth"
            finally:
                self.using = self._limit = None
            if reason in ("auth", "bye"):  # a stream ends with its token (R20)
                self._rounds.forget_token()
            now = now_ms()
            lasted_ms = None if began_ms is None else max(0, now - began_ms)
            fraction = random.random()  # noqa: S311 - spreads retries, guards nothing
            pause_ms = self._choice.ended(Ended(now, reason, lasted_ms, fraction, wait_s))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), pause_ms / 1000)
            self._hurried.clear()

    async def _stream(self) -> AsyncGenerator[Hint, None]:
        hello = await self._rounds.hello(self._since)
        hints = self._rounds.net.hints(hello, self._choice.kind, self._choice.heartbeat_ms / 1000)
        async with contextlib.aclosing(hints) as stream:
            async for hint in stream:
                self._since = hint.id or self._since
                yield hint
                # Where the node goes on from the last message, its greeting is no news.
                if hint.t != "ready" or hello.since is None:
                    self._hinted(hint)
