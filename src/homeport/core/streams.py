"""Which kind of live stream to open next, how quiet it may be, and how long to wait before.

Pure: times (ms) and the random fraction come in. The best kind is tried first; a kind that a proxy
on the way does not let through, or keeps cutting, gives way to the next, and some minutes later the
best is tried again. A lost hint costs only time, so every doubt is decided for less traffic.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from homeport.core.session import asked_pause_ms, delay_ms

Kind: TypeAlias = Literal["websocket", "sse", "long-poll"]
KINDS: Final[tuple[Kind, ...]] = ("websocket", "sse", "long-poll")

Reason: TypeAlias = Literal["refused", "silent", "unreachable", "cut", "bye", "busy", "auth", "old"]
"""refused: whoever answers does not speak this kind. silent: opened, and no first message came.
unreachable: nobody answers. cut: ended without a word. bye: the node said so. busy: 429 or 503.
auth: the token. old: ended by the device, to try a better kind."""

HEARTBEAT_MS: Final = 20_000
LEAST_HEARTBEAT_MS: Final = 1_000
STEADY_MS: Final = 10_000
"""A stream that lasted as long is no failure when it ends."""
CUTS: Final = 3
"""So many streams in a row that ended sooner than that: the next kind."""
BETTER_AFTER_MS: Final = 600_000
"""So long the device stays with less than the best."""


class Ended(NamedTuple):
    """A stream ended. lasted_ms: from its first message, None = there was none. fraction: random,
    0..1."""

    now_ms: int
    reason: Reason
    lasted_ms: int | None
    fraction: float
    retry_after_s: float | None = None


class Choice:
    """The kind for the next stream.

    Attributes:
        kind: to be opened next.
        heartbeat_ms: longest silence on the stream; of a long poll, how long the node may wait.
    """

    def __init__(self) -> None:
        self._level = 0
        self._failures = 0
        self._cuts = 0
        self._worse_since_ms: int | None = None
        self.heartbeat_ms = HEARTBEAT_MS

    @property
    def kind(self) -> Kind:
        return KINDS[self._level]

    def better_in_ms(self, now_ms: int) -> int | None:
        """When to end a stream to try a better kind; None = this is the best."""
        if self._worse_since_ms is None or not self._level:
            return None
        return max(0, self._worse_since_ms + BETTER_AFTER_MS - now_ms)

    def ended(self, event: Ended) -> int:
        """What to do next is in the attributes → the pause before, in ms. Never none at all."""
        steady = event.lasted_ms is not None and event.lasted_ms >= STEADY_MS
        if steady or event.reason == "old":
            self._failures = self._cuts = 0
        since = self._worse_since_ms
        if since is not None and event.now_ms - since >= BETTER_AFTER_MS:
            self._level, self._worse_since_ms = 0, None
            self.heartbeat_ms = HEARTBEAT_MS
            return self._pause(event)
        if event.reason in ("refused", "silent"):
            self._next_kind(event.now_ms)
        elif event.reason == "cut":
            if event.lasted_ms is not None:
                self._shorter_silence(event.now_ms, event.lasted_ms)
            self._cuts += not steady
            if self._cuts >= CUTS:
                self._next_kind(event.now_ms)
        return self._pause(event)

    def _pause(self, event: Ended) -> int:
        self._failures += 1
        pause = delay_ms(self._failures, event.fraction)
        if event.retry_after_s is not None:
            pause = asked_pause_ms(event.retry_after_s, pause)
        return max(pause, 20)

    def _next_kind(self, now_ms: int) -> None:
        self._cuts = 0
        if self._worse_since_ms is None:
            self._worse_since_ms = now_ms
        if self._level + 1 < len(KINDS):
            self._level += 1
            self._failures = 0

    def _shorter_silence(self, now_ms: int, lasted_ms: int) -> None:
        """It may have been cut for its silence, which was at most as long as it lasted."""
        shorter = max(LEAST_HEARTBEAT_MS, int(lasted_ms / 2.5))
        if shorter < self.heartbeat_ms:
            self.heartbeat_ms = shorter
            if self._worse_since_ms is None:
                self._worse_since_ms = now_ms
