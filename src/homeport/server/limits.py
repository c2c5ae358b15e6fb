"""Protection against floods: token buckets for each device and each user.

A node counts for itself, in memory: with N nodes behind one address a client that is spread over
all of them may do N times as much, and a node that starts again begins with full buckets. That is
enough against programs that run away; what must be exact belongs into the proxy.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from homeport.errors import RateLimited, UsageError

from .rules import Claims

MOST_KEPT = 100_000
"""Buckets that are remembered; the one that was used longest ago is forgotten first."""
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class RateLimit:
    """A token bucket.

    Args:
        per_s: tokens that come each second: requests, or bytes.
        burst: tokens that a full bucket holds.

    Raises:
        UsageError: one of them is not a number above 0.
    """

    per_s: float
    burst: float

    def __post_init__(self) -> None:
        for value in (self.per_s, self.burst):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise UsageError("A rate limit has numbers.")
            if not 0 < value < math.inf:
                raise UsageError("The numbers of a rate limit are above 0.")
        if self.burst < 1:
            raise UsageError("A bucket that holds less than one token lets nothing through.")


def rate_limit(text: str, what: str) -> RateLimit | None:
    """``PER_S/BURST`` of a command line, or ``none``; BURST left out = ten times PER_S.

    Raises:
        UsageError: it is neither. what: the option, for the message.
    """
    if text.strip().lower() == "none":
        return None
    per_s, slash, burst = text.partition("/")
    try:
        rate = float(per_s)
        return RateLimit(rate, float(burst) if slash else max(1.0, rate * 10))
    except (ValueError, UsageError) as error:
        raise UsageError(
            f"{what} is {text!r:.60}, which is no rate.",
            action="Say 50/500 for 50 a second and 500 at once, or none.",
        ) from error


DEVICE_REQUESTS = RateLimit(50, 500)
USER_REQUESTS = RateLimit(500, 5_000)
USER_BYTES = RateLimit(20_000_000, 200_000_000)


class Buckets:
    """One bucket for each key.

    A bucket may go below zero by one costly request, which then keeps the next ones waiting: what
    costs more than a whole burst is slowed down and never impossible.
    """

    def __init__(self, limit: RateLimit, clock_s: Callable[[], float]) -> None:
        self._limit = limit
        self._clock_s = clock_s
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def wait_s(self, key: Hashable) -> float:
        """Seconds until there is a token; 0 = there is one now."""
        level = self._level(key)
        return 0.0 if level >= 1 else (1 - level) / self._limit.per_s

    def take(self, key: Hashable, cost: float) -> None:
        """Pay for what is done now."""
        self._levels[key] = (self._level(key) - cost, self._clock_s())
        self._levels.move_to_end(key)
        if len(self._levels) > MOST_KEPT:
            self._levels.popitem(last=False)

    def _level(self, key: Hashable) -> float:
        level, at_s = self._levels.get(key, (self._limit.burst, 0.0))
        grown = level + (self._clock_s() - at_s) * self._limit.per_s
        return min(self._limit.burst, grown)


class Limits:
    """What a node allows; None = no such limit.

    Args:
        device_requests: requests of one device (user and client id).
        user_requests: requests of one user, from all devices, and streams that are opened.
        user_bytes: unpacked bytes that one user sends.
    """

    def __init__(
        self,
        clock_s: Callable[[], float],
        *,
        device_requests: RateLimit | None,
        user_requests: RateLimit | None,
        user_bytes: RateLimit | None,
    ) -> None:
        def made(limit: RateLimit | None) -> Buckets | None:
            return None if limit is None else Buckets(limit, clock_s)

        self._device = made(device_requests)
        self._user = made(user_requests)
        self._bytes = made(user_bytes)

    def enter(self, claims: Claims) -> None:
        """A user asks something; called before anything of the request is read.

        Raises:
            RateLimited: too often, or too much was sent.
        """
        user = (claims.tenant, claims.subject)
        _refuse_over(self._bytes, user, "This user sends more than the server takes.")
        _refuse_over(self._user, user, "This user asks more often than the server allows.")
        if self._user is not None:
            self._user.take(user, 1)

    def read(self, claims: Claims, client: str, size: int) -> None:
        """The request of a device was read.

        Raises:
            RateLimited: too often.
        """
        user = (claims.tenant, claims.subject)
        if self._bytes is not None:
            self._bytes.take(user, size)
        device = (*user, client)
        _refuse_over(self._device, device, "This device asks more often than the server allows.")
        if self._device is not None:
            self._device.take(device, 1)


def _refuse_over(buckets: Buckets | None, key: Hashable, message: str) -> None:
    wait_s = 0.0 if buckets is None else buckets.wait_s(key)
    if wait_s:
        raise RateLimited(message, retry_after_s=round(min(wait_s, LONGEST_WAIT_S), 3))
