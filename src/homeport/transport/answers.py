"""What the ways of a network have in common: what is asked for, and what an answer means."""

from __future__ import annotations

import base64
import email.utils
import math
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from homeport.core.streams import Reason
from homeport.core.wire import PROTOCOL, Hello, Hint, Problem, Reply
from homeport.errors import (
    Forbidden,
    HistoryBroken,
    IdentityBroken,
    NeedsAuth,
    ProtocolMismatch,
    RateLimited,
    ServerRefused,
    SyncError,
    Unreachable,
    UpgradeRequired,
)

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
"""Longest silence of the server within one exchange."""
READY_S = 8.0
"""From the beginning of a stream to its first message; longer means that it is kept back."""
LOST_AFTER = 2.5
"""So many heartbeats without a sound, and a stream is given up."""
POLL_GAP_S = 0.2
"""Longest pause between a long poll that brought something and the next."""
POLL_GRACE_S = 15.0

_ERRORS: Final[dict[int, type[SyncError]]] = {
    401: NeedsAuth,
    403: Forbidden,
    409: IdentityBroken,
    410: HistoryBroken,
    426: ProtocolMismatch,
}
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
_CLOSED: Final[dict[int, Reason]] = {1012: "bye", 1013: "busy", 4401: "auth", 4429: "busy"}

_reply = msgspec.json.Decoder(Reply)
_problem = msgspec.json.Decoder(Problem)
hint_of = msgspec.json.Decoder(Hint).decode


class Identity(NamedTuple):
    """Whom a token speaks for, as it says itself (the server verifies it, the device cannot)."""

    tenant: str
    subject: str


def identity_of(token: str) -> Identity | None:
    """Claims of a JWT without verification; None when it is no JWT or does not say."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    payload = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        claims: Any = msgspec.json.decode(base64.urlsafe_b64decode(payload))
        return Identity(str(claims["tenant"]), str(claims["sub"]))
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError):
        return None


def retry_after_s(header: str | None) -> float | None:
    """The header ``Retry-After``: seconds, or a date."""
    if header is None:
        return None
    try:
        wait_s = float(header)
    except ValueError:
        try:
            wait_s = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(0.0, wait_s) if math.isfinite(wait_s) else None


def reply_of(url: str, status: int, answer: bytes, wait_s: float | None) -> Reply:
    """The reply of a node, or raise what the answer means."""
    if status != 200:
        raise _refusal(url, status, answer, wait_s)
    try:
        reply = _reply.decode(answer)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ServerRefused(
            f"{url} answers, but not as a Homeport node does.", action="Check the address."
        ) from error
    if reply.v != PROTOCOL:
        raise ProtocolMismatch(
            f"{url} speaks version {reply.v} of the protocol, this device {PROTOCOL}."
        )
    return reply


def _refusal(url: str, status: int, answer: bytes, wait_s: float | None) -> SyncError:
    try:
        problem = _problem.decode(answer)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        problem = Problem("", f"{url} answered with status {status}.")
    if status in _PASSING:
        # A proxy knows the header only; the node says the same in both, the body more finely.
        after_s = problem.retry_after_s if problem.retry_after_s is not None else wait_s
        passing = RateLimited if problem.code == RateLimited.code else Unreachable
        return passing(problem.message, retry_after_s=after_s)
    kind = _ERRORS.get(status, ServerRefused)
    if problem.code == UpgradeRequired.code:
        kind = UpgradeRequired
    action = None
    if status == 404:
        action = "Check the address: there is no Homeport node at it."
    return kind(problem.message, action=action, status=status)


class StreamEnded(Exception):
    """Why a stream ended, for ``core.streams.Choice``."""

    def __init__(self, reason: Reason, wait_s: float | None = None) -> None:
        self.reason: Reason = reason
        self.wait_s = wait_s
        super().__init__(reason)


def stream_refused(status: int, retry_after: str | None) -> StreamEnded:
    """A stream was answered with another status than 200."""
    wait_s = retry_after_s(retry_after)
    if status == 401:
        return StreamEnded("auth")
    if status == 429 or (status == 503 and wait_s is not None):
        return StreamEnded("busy", 2.0 if wait_s is None else wait_s)
    # Without a wish of when to come back, 5xx is as likely a proxy that cannot pass this kind on.
    return StreamEnded("cut" if status >= 500 else "refused", wait_s)


def stream_closed(code: int) -> StreamEnded | None:
    """A WebSocket was closed with this code; None = it just ended."""
    if code in _CLOSED:
        return StreamEnded(_CLOSED[code], 2.0 if _CLOSED[code] == "busy" else None)
    return StreamEnded("refused") if 4400 <= code < 4500 else None


def authorization(token: str) -> Mapping[str, str]:
    """The header that says who asks."""
    return {"Authorization": f"Bearer {token}"}


def stream_query(hello: Hello, since: str | None, pause_s: float) -> list[tuple[str, str]]:
    """The query of an address that streams."""
    asked = [("v", str(hello.v)), ("client", hello.client), ("pause_s", f"{pause_s:g}")]
    if since is not None:
        asked.append(("since", since))
    return asked + [("collection", name) for name in hello.collections]


def poll_pause_s(*, early: bool, heartbeat_s: float, fraction: float) -> float:
    """Between a long poll and the next. Whoever answers at once without news must not be asked
    again at once. fraction: random, 0..1."""
    longest_s = heartbeat_s if early else POLL_GAP_S
    return longest_s / 2 * (1 + fraction)
