"""Token buckets: exact against a plain model, bounded, and never a dead end."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeport as hp
from homeport.server import limits
from homeport.server.limits import Buckets, Limits, RateLimit
from homeport.server.rules import Claims

ANN = Claims("ann", "t1", time.time() + 60, {})
BOB = Claims("bob", "t1", time.time() + 60, {})


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 8)), max_size=60))
def test_no_more_than_burst_and_rate_and_no_less(asked):
    clock = Clock()
    buckets = Buckets(RateLimit(2, 5), clock)
    began, spent, level = clock.now, 0, 5.0
    for pause, cost in asked:
        clock.now += pause
        level = min(5.0, level + 2 * pause)
        wait = buckets.wait_s("k")
        if abs(level - 1) > 1e-6:
            assert (wait == 0) == (level >= 1)
        if wait:
            clock.now += wait + 1e-6
            level = min(5.0, level + 2 * (wait + 1e-6))
            assert buckets.wait_s("k") == 0
        buckets.take("k", cost)
        spent += cost
        level -= cost
        # One request may overdraw; together they may not.
        assert spent <= 5 + 2 * (clock.now - began) + 8


def test_the_number_of_buckets_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "MOST_KEPT", 10)
    buckets = Buckets(RateLimit(1, 1), Clock())
    for n in range(100):
        buckets.take(n, 1)
    assert len(buckets) == 10
    assert buckets.wait_s(99) > 0 and buckets.wait_s(0) == 0


def test_devices_and_users_have_buckets_of_their_own():
    clock = Clock()
    made = Limits(
        clock,
        device_requests=RateLimit(1, 2),
        user_requests=RateLimit(1, 3),
        user_bytes=RateLimit(10, 100),
    )

    def ask(claims, client, size=1):
        made.enter(claims)
        made.read(claims, client, size)

    ask(ANN, "a")
    ask(ANN, "a")
    with pytest.raises(hp.errors.RateLimited, match="device") as caught:
        ask(ANN, "a")
    assert 0 < caught.value.context["retry_after_s"] <= 1.1
    with pytest.raises(hp.errors.RateLimited, match="user asks"):
        ask(ANN, "b")
    ask(BOB, "a", 150)
    with pytest.raises(hp.errors.RateLimited, match="sends") as caught:
        ask(BOB, "b")
    # The debt of the large one is paid off at the rate.
    assert 5 <= caught.value.context["retry_after_s"] <= 5.1
    clock.now += 5.2
    ask(BOB, "b")
    ask(ANN, "a")


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0), (-1, 1), ("1", 1), (float("inf"), 1), (True, 1), (1, 0.5)])
def test_bad_limits(numbers):
    with pytest.raises(hp.errors.UsageError):
        RateLimit(*numbers)
