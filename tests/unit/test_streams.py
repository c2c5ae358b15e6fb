"""Which stream comes next, and when: decided without a network."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homeport.core import session as s
from homeport.core.streams import (
    BETTER_AFTER_MS,
    CUTS,
    HEARTBEAT_MS,
    KINDS,
    LEAST_HEARTBEAT_MS,
    Choice,
    Ended,
)


def test_a_kind_that_does_not_get_through_gives_way_and_is_tried_again():
    choice = Choice()
    assert choice.kind == "websocket" and choice.better_in_ms(0) is None
    choice.ended(Ended(0, "refused", None, 0.5))
    assert choice.kind == "sse"
    choice.ended(Ended(1_000, "silent", None, 0.5))
    assert choice.kind == "long-poll"
    # Nothing is below the long poll, whatever happens to it.
    for n in range(5):
        choice.ended(Ended(2_000 + n, "refused", None, 0.5))
    assert choice.kind == "long-poll"
    assert choice.better_in_ms(2_000) == BETTER_AFTER_MS - 2_000
    choice.ended(Ended(BETTER_AFTER_MS, "old", 500_000, 0.5))
    assert (choice.kind, choice.heartbeat_ms) == ("websocket", HEARTBEAT_MS)


def test_a_stream_that_is_cut_early_again_and_again_gives_way_and_one_that_lasts_does_not():
    choice = Choice()
    for n in range(20):
        choice.ended(Ended(n, "cut", 30_000, 0.5))
        assert choice.kind == "websocket"
    for n in range(CUTS):
        assert choice.kind == "websocket"
        choice.ended(Ended(n, "cut", 2_000, 0.5))
    assert choice.kind == "sse"


def test_a_cut_shortens_the_silence_below_what_it_may_have_been_cut_for():
    choice = Choice()
    choice.ended(Ended(0, "cut", 15_000, 0.5))
    assert choice.heartbeat_ms == 6_000
    choice.ended(Ended(0, "cut", 60_000, 0.5))
    assert choice.heartbeat_ms == 6_000
    choice.ended(Ended(0, "cut", 100, 0.5))
    assert choice.heartbeat_ms == LEAST_HEARTBEAT_MS


REASONS = ["refused", "silent", "unreachable", "cut", "bye", "busy", "auth", "old"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(REASONS),
            st.none() | st.integers(0, 100_000),
            st.floats(0, 1, exclude_max=True),
            st.none() | st.floats(0, 1e9),
        ),
        max_size=60,
    )
)
def test_never_a_busy_loop_and_never_sooner_than_asked(ends):
    choice, now = Choice(), 0
    for reason, lasted, fraction, wait_s in ends:
        pause = choice.ended(Ended(now, reason, lasted, fraction, wait_s))
        assert pause >= 20
        if wait_s is not None:
            assert pause >= min(wait_s * 1000 - 1, s.MAX_RETRY_AFTER_MS)
        assert pause <= s.MAX_RETRY_AFTER_MS + s.LAST_DELAY_MS
        assert choice.kind in KINDS
        assert LEAST_HEARTBEAT_MS <= choice.heartbeat_ms <= HEARTBEAT_MS
        now += (lasted or 0) + pause
    # Failures alone: the pauses grow, at full fraction, up to their ceiling.
    choice = Choice()
    pauses = [choice.ended(Ended(0, "unreachable", None, 0.999)) for _ in range(8)]
    assert pauses == sorted(pauses) and pauses[-1] > 0.9 * s.LAST_DELAY_MS


def _failed(fraction, wait_s):
    session = s.Session(poll_ms=1_000)
    session.on(s.Started(0))
    actions = session.on(s.Failed(0, "unreachable", "busy", fraction, wait_s))
    return session, next(a.until_ms for a in actions if isinstance(a, s.Sleep))


def test_retry_after_is_respected_with_jitter_on_top():
    waits = {_failed(n / 10, 5.0)[1] for n in range(10)}
    assert min(waits) >= 5_000 and len(waits) == 10
    # Longer than our own longest pause, too; but not for days.
    assert _failed(0.5, 120.0)[1] >= 120_000
    assert _failed(0.0, 1e7)[1] <= s.MAX_RETRY_AFTER_MS
    # A hint is no reason to come sooner than the server asked; a user's wish is.
    session, _ = _failed(0.5, 60.0)
    assert session.on(s.Woken(10, "hint")) == []
    assert any(isinstance(a, s.Exchange) for a in session.on(s.Resumed(10)))
    # Where nobody asked, a hint says that the way is open again.
    session, _ = _failed(0.5, None)
    assert any(isinstance(a, s.Exchange) for a in session.on(s.Woken(10, "hint")))
    # It survives a restart of the program.
    session, until = _failed(0.5, 120.0)
    again = s.Session(poll_ms=1_000)
    assert s.Sleep(until) in again.on(s.Started(10, 1, until))
