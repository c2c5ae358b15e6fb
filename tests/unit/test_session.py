"""The session as a machine: no clock, no network."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homeport.core import session as s


def started(now=0, **kw):
    session = s.Session(poll_ms=30_000)
    actions = session.on(s.Started(now, **kw))
    return session, actions


def kinds(actions):
    return [type(a).__name__ for a in actions]


def idle(now=0):
    session, _ = started(now)
    session.on(s.Answered(now, quiet=True))
    return session


def test_start_exchanges_and_rests_until_the_next_poll():
    session, actions = started(1000)
    assert s.Exchange(True) in actions and session.state == "syncing"
    assert s.Sleep(31_000) in session.on(s.Answered(1000, quiet=True))
    assert session.state == "idle"
    assert s.Exchange(True) in session.on(s.Timer(31_000))


def test_a_commit_pushes_and_a_hint_pulls():
    assert s.Exchange(False) in idle().on(s.Woken(5, "commit"))
    assert s.Exchange(True) in idle().on(s.Woken(5, "hint"))


def test_what_comes_in_while_syncing_is_not_forgotten():
    session, _ = started()
    assert session.on(s.Woken(1, "commit")) == []
    assert session.on(s.Woken(2, "hint")) == []
    assert s.Exchange(True) in session.on(s.Answered(3, quiet=True))
    assert session.on(s.Answered(4, quiet=True))[-1] == s.Sleep(30_004)


def test_r01_failures_are_retried_by_a_timer_without_writes():
    session, _ = started()
    now = 0
    for n in range(1, 9):
        actions = session.on(s.Failed(now, "unreachable", "no", 1.0))
        assert session.state == "offline"
        sleep = next(a for a in actions if isinstance(a, s.Sleep))
        assert sleep.until_ms - now == min(30_000, 1000 * 2 ** (n - 1))
        assert s.Save(n, sleep.until_ms) in actions
        # A commit does not shorten the pause.
        assert session.on(s.Woken(now, "commit")) == []
        now = sleep.until_ms
        assert s.Exchange(True) in session.on(s.Timer(now))
    assert s.Save(0, None) in session.on(s.Answered(now, quiet=True))


def test_r01_the_back_off_survives_a_restart_but_not_another_clock():
    session, actions = started(1000, failures=4, retry_at_ms=5000)
    assert session.state == "offline" and s.Sleep(5000) in actions and session.failures == 4
    session, actions = started(1000, failures=4, retry_at_ms=10**12)
    assert s.Exchange(True) in actions


@given(st.integers(1, 40), st.floats(0, 1, allow_nan=False))
def test_full_jitter_is_bounded(failures, fraction):
    assert 0 <= s.delay_ms(failures, fraction) <= 30_000


def test_retry_after_is_honoured():
    session, _ = started()
    actions = session.on(s.Failed(0, "busy", "later", 0.0, retry_after_s=7))
    assert s.Sleep(7000) in actions


def test_r01_without_a_network_no_attempt_is_counted_and_a_restart_begins_with_one():
    session, _ = started()
    now = 0
    for _ in range(5):
        actions = session.on(s.Failed(now, "unreachable", "no network", 1.0, away=True))
        assert session.state == "offline"
        assert s.Sleep(now + 60_000) in actions
        assert s.Save(1, None) in actions, "so it is known as offline, and asks at once when it starts"
        assert session.on(s.Woken(now, "commit")) == []
        now += 60_000
        assert s.Exchange(True) in session.on(s.Timer(now))
    assert s.Sleep(now + 2_000) in session.on(s.Failed(now, "unreachable", "no answer", 1.0))
    assert s.Exchange(True) in session.on(s.Resumed(now))
    assert session.on(s.Failed(now, "rate-limited", "later", 0.0, retry_after_s=7, away=True))[-1] == s.Sleep(
        now + 7_000
    )


def test_r20_a_token_is_refreshed_once_then_needs_auth_keeps_waiting():
    session, _ = started()
    first = session.on(s.Failed(0, "needs-auth", "old", 0.5, renewable=True))
    assert kinds(first) == ["Refresh", "Exchange"]
    second = session.on(s.Failed(1, "needs-auth", "old", 0.5, renewable=True))
    assert session.state == "needs-auth" and s.Sleep(30_001) in second
    assert s.Save(1, None) in second, "a restart, perhaps with another token, need not wait"
    assert kinds(session.on(s.Timer(30_001)))[0] == "Refresh"


def test_r20_a_fixed_token_waits_for_the_user():
    session, _ = started()
    assert s.Sleep(None) in session.on(s.Failed(0, "needs-auth", "bad", 0.5))
    assert session.state == "needs-auth"
    assert session.on(s.Woken(1, "commit")) == []
    assert s.Exchange(True) in session.on(s.Resumed(2))


def test_r20_another_user_sends_nothing():
    session, _ = started()
    assert s.Sleep(None) in session.on(s.Failed(0, "wrong-user", "no", 0.5))
    assert session.state == "wrong-user"
    assert session.on(s.Timer(99_999)) == []
    assert session.on(s.Woken(1, "hint")) == []


def test_r02_the_watchdog_restarts_a_queue_that_does_not_move():
    session = idle()
    assert session.on(s.Watched(0, (1, 5))) == []
    assert session.on(s.Watched(30_000, (1, 5))) == []
    actions = session.on(s.Watched(61_000, (1, 5)))
    assert kinds(actions)[0] == "Tell" and s.Exchange(True) in actions
    # Still nothing while the exchange hangs: it is thrown away.
    actions = session.on(s.Watched(122_000, (1, 5)))
    assert s.Restart() in actions
    # A queue that moves, is empty or waits for a person is no stall.
    session = idle()
    for n in range(10):
        assert session.on(s.Watched(n * 60_000, (1, n))) == []
        assert session.on(s.Watched(n * 60_000 + 1, None)) == []


def test_pause_and_stop_silence_everything():
    for event, state in ((s.Paused(0), "paused"), (s.Stopped(0), "off")):
        session = idle()
        session.on(event)
        assert session.state == state
        for later in (s.Woken(1, "hint"), s.Timer(2), s.Answered(3, quiet=False)):
            assert session.on(later) == []


def test_r16_standby_while_another_process_leads():
    session = idle()
    session.on(s.Standby(1, other=True))
    assert session.state == "standby" and session.on(s.Woken(2, "commit")) == []
    assert s.Exchange(True) in session.on(s.Standby(3, other=False))


events = st.one_of(
    st.builds(s.Started, st.integers(0, 10**6)),
    st.builds(s.Stopped, st.integers(0, 10**6)),
    st.builds(s.Paused, st.integers(0, 10**6)),
    st.builds(s.Resumed, st.integers(0, 10**6)),
    st.builds(s.Woken, st.integers(0, 10**6), st.sampled_from(["commit", "hint"])),
    st.builds(s.Timer, st.integers(0, 10**6)),
    st.builds(s.Standby, st.integers(0, 10**6), st.booleans()),
    st.builds(s.Answered, st.integers(0, 10**6), st.booleans()),
    st.builds(
        s.Failed,
        st.integers(0, 10**6),
        st.sampled_from(["unreachable", "needs-auth", "forbidden", "wrong-user", "odd"]),
        st.just("m"),
        st.floats(0, 1),
        st.none(),
        st.booleans(),
    ),
    st.builds(s.Watched, st.integers(0, 10**6), st.sampled_from([None, (1,), (2,)])),
)


@given(st.lists(events, max_size=30))
def test_it_never_forgets_to_come_back(events):
    """In every state but those that wait for the user there is an exchange or a timer."""
    session = s.Session(poll_ms=30_000)
    exchanging, timer = False, False
    for event in events:
        if isinstance(event, (s.Answered, s.Failed)):
            if not exchanging:
                continue
            exchanging = False
        if isinstance(event, s.Timer):
            timer = False
        for action in session.on(event):
            if isinstance(action, s.Exchange):
                exchanging = True
            elif isinstance(action, s.Sleep):
                timer = action.until_ms is not None
        if session.state == "syncing":
            assert exchanging
        elif session.state in ("idle", "offline", "forbidden"):
            # A timer event that came in another state was for nothing.
            assert timer or isinstance(event, s.Timer)
