"""The replication session: events in, actions out. No clock, no network, no storage.

``Session.on(event)`` is the only door; times come in with the events (ms), and so does the random
fraction that spreads the back-off. The pump (``transport.pump``) carries the actions out.

    off ──Started──▶ idle ◀──Answered(quiet)── syncing ──Failed──▶ offline ──Timer──▶ syncing
                      │                           ▲  └──Failed──▶ needs-auth, refused, wrong-user …
                      └──Woken, Timer─────────────┘
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

State: TypeAlias = Literal[
    "off",
    "idle",
    "syncing",
    "offline",
    "needs-auth",
    "wrong-user",
    "forbidden",
    "incompatible",
    "refused",
    "standby",
    "paused",
    "needs-recovery",
]

# What a failure makes of the session, by the code of its error.
FAILURES: Final[dict[str, State]] = {
    "unreachable": "offline",
    "busy": "offline",
    "rate-limited": "offline",
    "needs-auth": "needs-auth",
    "wrong-user": "wrong-user",
    "forbidden": "forbidden",
    "protocol-mismatch": "incompatible",
    "upgrade-required": "incompatible",
    "history-broken": "needs-recovery",
    "identity-broken": "needs-recovery",
}
WAITING: Final = frozenset[State](("offline", "needs-auth", "forbidden", "incompatible", "refused"))
"""States that a timer leaves again by itself."""

FAILED: Final[tuple[State, ...]] = (*dict.fromkeys(FAILURES.values()), "refused")
STATES: Final[tuple[State, ...]] = (
    "off", "idle", "syncing", "standby", "paused", *FAILED,
)  # fmt: skip

MAX_RETRY_AFTER_MS: Final = 600_000
"""A server's wish is followed up to here: what asks for more may be a proxy's mistake."""
FIRST_DELAY_MS: Final = 1_000
LAST_DELAY_MS: Final = 30_000
AWAY_DELAY_MS: Final = 60_000
"""Where the system says that there is no network, and will say when it is back."""
STALL_MS: Final = 60_000


class Started(NamedTuple):
    """``retry_at_ms`` and ``failures`` are what an earlier run of the program left."""

    now_ms: int
    failures: int = 0
    retry_at_ms: int | None = None


class Stopped(NamedTuple):
    now_ms: int


class Paused(NamedTuple):
    now_ms: int


class Resumed(NamedTuple):
    """Also: the user asked now, or gave another token. Forgets the back-off."""

    now_ms: int


class Woken(NamedTuple):
    """commit: something was queued here. hint: something moved on the server."""

    now_ms: int
    reason: Literal["commit", "hint"]


class Timer(NamedTuple):
    now_ms: int


class Standby(NamedTuple):
    """Another process holds the lease, or this one has it again."""

    now_ms: int
    other: bool


class Answered(NamedTuple):
    """A round succeeded. quiet: nothing more to send or fetch. contact: the server was asked
    (False: there was nothing to ask it)."""

    now_ms: int
    quiet: bool
    contact: bool = True


class Failed(NamedTuple):
    """An exchange failed. fraction: random, 0..1. renewable: the token comes from a function.
    away: the system says that there is no network."""

    now_ms: int
    code: str
    message: str
    fraction: float
    retry_after_s: float | None = None
    renewable: bool = False
    away: bool = False


class Watched(NamedTuple):
    """A look at the queue. mark: changes whenever the queue or an exchange moves; None = nothing
    that could be sent waits."""

    now_ms: int
    mark: tuple[int, ...] | None


Event: TypeAlias = (
    Started | Stopped | Paused | Resumed | Woken | Timer | Standby | Answered | Failed | Watched
)


_RESTING: Final[tuple[State, ...]] = ("off", "paused", "standby")
_RUNNING: Final[tuple[State, ...]] = tuple(s for s in STATES if s not in _RESTING)


def _from(states: Iterable[State], *ways: State) -> dict[State, tuple[State, ...]]:
    return dict.fromkeys(states, ways)


TRANSITIONS: Final[Mapping[type, Mapping[State, tuple[State, ...]]]] = {
    Started: _from(("off",), "syncing", "offline"),
    Stopped: _from(STATES, "off"),
    Paused: _from((state for state in STATES if state != "off"), "paused"),
    Resumed: _from((state for state in STATES if state not in ("off", "standby")), "syncing"),
    Standby: {**_from(_RUNNING, "standby"), **_from(("standby",), "syncing")},
    Woken: _from(("idle", "offline", "syncing"), "syncing"),
    Timer: _from((state for state in STATES if state in WAITING or state == "idle"), "syncing"),
    Answered: _from(("syncing",), "idle", "syncing"),
    Failed: _from(("syncing",), *FAILED, "syncing"),
    Watched: {state: ("syncing",) if state == "idle" else (state,) for state in STATES},
}
"""By event and state, the states that may follow; the state may also stay as it is. An event that
has no entry for a state is ignored in it."""


class Exchange(NamedTuple):
    """Do one round. pull: ask the server even when nothing is to be sent."""

    pull: bool


class Refresh(NamedTuple):
    """Get a new token before the next exchange."""


class Sleep(NamedTuple):
    """Send ``Timer`` at this time; None = no timer."""

    until_ms: int | None


class Save(NamedTuple):
    """Keep the back-off in the file, so that it survives a restart."""

    failures: int
    retry_at_ms: int | None


class Restart(NamedTuple):
    """Throw the running exchange away and begin again."""


class Tell(NamedTuple):
    kind: str
    detail: str = ""


Action: TypeAlias = Exchange | Refresh | Sleep | Save | Restart | Tell


def delay_ms(failures: int, fraction: float) -> int:
    """Full jitter below 1, 2, 4 … 30 s."""
    ceiling = min(LAST_DELAY_MS, FIRST_DELAY_MS << min(max(failures - 1, 0), 10))
    return int(ceiling * fraction)


def asked_pause_ms(retry_after_s: float, jitter_ms: int) -> int:
    """The pause a server asked for, and the jitter on top of it: all who were turned away at one
    moment are told the same."""
    return min(max(0, int(retry_after_s * 1000)), MAX_RETRY_AFTER_MS) + jitter_ms


class Session:
    """State of the replication of one file in one process."""

    def __init__(self, *, poll_ms: int) -> None:
        self.poll_ms = poll_ms
        self.state: State = "off"
        self.failures = 0
        self.retry_at_ms: int | None = None
        self.last_attempt_ms: int | None = None
        self.last_success_ms: int | None = None
        self.last_error: str | None = None
        self._refreshed = False
        self._asked_to_wait = False
        """The server said when to come back: no hint is a reason to come sooner."""
        self._again: bool | None = None
        """What came in while an exchange was under way; True = it needs a pull."""
        self._pull = True
        self._mark: tuple[int, ...] | None = None
        self._marked_ms = 0

    def on(self, event: Event) -> list[Action]:
        before = self.state
        ways = TRANSITIONS[type(event)].get(before)
        if ways is None:
            return []
        actions = self._act(event)
        if self.state != before and self.state not in ways:
            raise AssertionError(f"no way from {before} by {type(event).__name__} to {self.state}")
        return actions

    def _act(self, event: Event) -> list[Action]:
        match event:
            case Started():
                return self._start(event)
            case Stopped():
                return self._rest("off")
            case Paused():
                return self._rest("paused")
            case Resumed():
                return self._resume(event.now_ms)
            case Standby():
                return self._standby(event)
            case Woken():
                return self._wake(event)
            case Timer():
                return self._timer(event.now_ms)
            case Answered():
                return self._answered(event)
            case Failed():
                return self._failed(event)
            case Watched():
                return self._watch(event)

    def _to(self, state: State) -> list[Action]:
        if state == self.state:
            return []
        self.state = state
        return [Tell("state", state)]

    def _rest(self, state: State) -> list[Action]:
        self._again = None
        return [*self._to(state), Sleep(None)]

    def _exchange(self, now_ms: int, *, pull: bool) -> list[Action]:
        self.last_attempt_ms = now_ms
        self._again = None
        self._pull = pull
        return [*self._to("syncing"), Exchange(pull)]

    def _start(self, event: Started) -> list[Action]:
        self.failures = event.failures
        self._refreshed = False
        # A retry that is further away than the longest pause was written by another clock.
        longest = MAX_RETRY_AFTER_MS + LAST_DELAY_MS
        if event.retry_at_ms is not None and 0 < event.retry_at_ms - event.now_ms <= longest:
            self.retry_at_ms = event.retry_at_ms
            return [*self._to("offline"), Sleep(event.retry_at_ms)]
        return self._exchange(event.now_ms, pull=True)

    def _resume(self, now_ms: int) -> list[Action]:
        if self.state == "syncing":
            self._again = True
            return []
        self._refreshed = False
        return [Refresh(), *self._exchange(now_ms, pull=True)]

    def _standby(self, event: Standby) -> list[Action]:
        if event.other:
            return [] if self.state == "standby" else self._rest("standby")
        return self._exchange(event.now_ms, pull=True) if self.state == "standby" else []

    def _wake(self, event: Woken) -> list[Action]:
        pull = event.reason == "hint"
        if self.state == "syncing":
            self._again = bool(self._again) or pull
            return []
        if self.state == "idle" or (self.state == "offline" and pull and not self._asked_to_wait):
            return self._exchange(event.now_ms, pull=pull)
        return []

    def _timer(self, now_ms: int) -> list[Action]:
        renew = [Refresh()] if self.state == "needs-auth" else []
        return [*renew, *self._exchange(now_ms, pull=True)]

    def _answered(self, event: Answered) -> list[Action]:
        actions: list[Action] = []
        if event.contact:
            self.last_success_ms = event.now_ms
            self.last_error = None
            self._refreshed = False
        if event.contact and self.failures:
            self.failures, self.retry_at_ms = 0, None
            actions.append(Save(0, None))
        if not event.quiet:
            return [*actions, *self._exchange(event.now_ms, pull=self._pull or bool(self._again))]
        if self._again is not None:
            return [*actions, *self._exchange(event.now_ms, pull=self._again)]
        return [*actions, *self._to("idle"), Sleep(event.now_ms + self.poll_ms)]

    def _failed(self, event: Failed) -> list[Action]:
        self.last_error = event.message
        if event.code == "needs-auth" and event.renewable and not self._refreshed:
            self._refreshed = True
            return [Refresh(), *self._exchange(event.now_ms, pull=self._pull)]
        self._again = None
        state = FAILURES.get(event.code, "refused")
        if event.away and state == "offline" and event.retry_after_s is None:
            return self._rest_away(event)
        self.failures += 1
        pause = delay_ms(self.failures, event.fraction)
        self._asked_to_wait = event.retry_after_s is not None
        if event.retry_after_s is not None:
            pause = asked_pause_ms(event.retry_after_s, pause)
        until: int | None = event.now_ms + pause
        if state != "offline":
            # Nothing gets better within a second; and a fixed token or user not at all.
            waits = state in WAITING and (state != "needs-auth" or event.renewable)
            until = event.now_ms + LAST_DELAY_MS if waits else None
        self.retry_at_ms = until
        told = [Tell("failed", event.message)]
        # A program that is started again may well bring another token.
        kept = None if state == "needs-auth" else until
        return [*told, *self._to(state), Save(self.failures, kept), Sleep(until)]

    def _rest_away(self, event: Failed) -> list[Action]:
        """No attempt says anything of the server: none is counted, and a program that is started
        again begins with one."""
        self.failures = max(1, self.failures)
        self._asked_to_wait = False
        self.retry_at_ms = event.now_ms + AWAY_DELAY_MS
        actions: list[Action] = [Tell("failed", event.message), *self._to("offline")]
        return [*actions, Save(self.failures, None), Sleep(self.retry_at_ms)]

    def _watch(self, event: Watched) -> list[Action]:
        """A queue that could move and does not, while we claim to be connected (R2)."""
        moving = event.mark is None or event.mark != self._mark
        if moving or self.state not in ("idle", "syncing"):
            self._mark, self._marked_ms = event.mark, event.now_ms
            return []
        if event.now_ms - self._marked_ms < STALL_MS:
            return []
        self._marked_ms = event.now_ms
        told = Tell("stalled", f"nothing moved for {STALL_MS // 1000} s; starting again")
        restart = [Restart()] if self.state == "syncing" else []
        return [told, *restart, *self._exchange(event.now_ms, pull=True)]
