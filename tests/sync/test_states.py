"""The states of the protocol: the document's tables are the code's, and the code runs by them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.core import lifecycle, merge
from homeport.core import session as s
from homeport.core.merge import Group, Rule, rebase
from homeport.core.outbox import Entry, raw
from homeport.core.policies import Doc
from homeport.core.wire import Verdict

ROOT = Path(__file__).parents[2]


def test_the_document_is_drawn_from_the_code():
    run = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "state_tables.py"), "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_difference_would_be_noticed(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import state_tables

    text = state_tables.DOCUMENT.read_text()
    assert state_tables.written(text) == text
    ways = {**lifecycle.UNITS, ("waiting", "freeze"): ("in-flight", "held")}
    monkeypatch.setattr(lifecycle, "UNITS", ways)
    assert state_tables.written(text) != text


events = st.one_of(
    st.builds(s.Started, st.just(5_000), st.integers(0, 3), st.sampled_from([None, 6_000])),
    st.just(s.Stopped(5_000)),
    st.just(s.Paused(5_000)),
    st.just(s.Resumed(5_000)),
    st.builds(s.Standby, st.just(5_000), st.booleans()),
    st.builds(s.Woken, st.just(5_000), st.sampled_from(["commit", "hint"])),
    st.just(s.Timer(5_000)),
    st.builds(s.Answered, st.just(5_000), st.booleans()),
    st.builds(
        s.Failed, st.just(5_000), st.sampled_from([*s.FAILURES, "bug"]), st.just(""), st.just(0.5),
        st.none(), st.booleans(),
    ),
    st.builds(s.Watched, st.sampled_from([1, 200_000]), st.just((1, 1))),
)  # fmt: skip


@given(st.lists(events, max_size=40))
def test_the_handle_takes_no_way_that_is_not_in_the_table(plan):
    session = s.Session(poll_ms=1_000)
    for event in plan:
        session.on(event)  # raises for any other way
        assert session.state in s.STATES


def test_every_way_of_the_table_is_taken():
    """A way that nothing takes would be a lie of the document."""
    taken: set[tuple[str, str, str]] = set()
    codes = [*s.FAILURES, "bug"]
    for before in s.STATES:
        for event in [
            s.Started(0), s.Started(0, 2, 5_000), s.Stopped(0), s.Paused(0), s.Resumed(0),
            s.Standby(0, other=True), s.Standby(0, other=False), s.Woken(0, "commit"),
            s.Woken(0, "hint"), s.Timer(0), s.Answered(0, quiet=True), s.Answered(0, quiet=False),
            *(s.Failed(0, code, "", 0.5, None, renew) for code in codes for renew in (True, False)),
            *(s.Failed(0, code, "", 0.5, away=True) for code in codes),
            s.Watched(10**9, (1,)),
        ]:  # fmt: skip
            session = s.Session(poll_ms=1_000)
            session.state, session._mark = before, (1,)
            session.on(event)
            taken.add((before, type(event).__name__, session.state))
    table = {
        (state, kind.__name__, to)
        for kind, by_state in s.TRANSITIONS.items()
        for state, ways in by_state.items()
        for to in ways
    }
    assert table <= taken
    assert {way for way in taken - table if way[0] != way[2]} == set()


def unit(op="put", *, held=False):
    entry = Entry(1, "c/k", "c", "k", op, 0, held=held)
    entry.doc = raw('{"id":"k","n":2}')
    return Group([entry])


@pytest.mark.parametrize("verdict", [None, "applied", "conflict", "retry", "rejected"])
@pytest.mark.parametrize("state", ["waiting", "in-flight", "held"])
@pytest.mark.parametrize("policy", ["merge", "remote-wins", "manual", "local-wins"])
@pytest.mark.parametrize("cur", [None, {"id": "k", "n": 1}, {"id": "k", "n": 2}, {"id": "k", "n": 3}])
def test_units_take_the_ways_of_their_table(state, verdict, policy, cur):
    group = unit(held=state == "held")
    group.in_flight = state == "in-flight" and verdict is None
    if verdict is not None:
        group.verdict = Verdict("e1", verdict, "code")
    doc = Doc("c", "k", {"id": "k", "n": 1}, cur)
    out = rebase({"c/k": doc}, [group], lambda name: Rule(policy))
    after = (
        "dead" if out.dead
        else "held" if out.kept and out.kept[0].held
        else "waiting" if out.kept
        else "lost" if any(clash.winner == "remote" for _, clash in out.logged)
        else "done"
    )  # fmt: skip
    event = verdict or "moved"
    here = "in-flight" if verdict in ("applied", "conflict", "retry") and state != "held" else state
    if group.in_flight:
        assert out.kept == group.entries
    elif here == "held" and verdict != "rejected":
        assert after == "held"
    else:
        assert after in lifecycle.UNITS[here, event], (here, event, after)


def test_a_way_that_is_not_in_the_table_is_an_error(monkeypatch):
    ways = {**lifecycle.UNITS, ("waiting", "moved"): ("held",)}
    monkeypatch.setattr(merge, "UNITS", ways)
    doc = Doc("c", "k", {"id": "k", "n": 1}, {"id": "k", "n": 1, "m": 1})
    with pytest.raises(AssertionError, match="no way from waiting by moved to waiting"):
        rebase({"c/k": doc}, [unit()], lambda name: Rule())


@pytest.mark.parametrize("table", [lifecycle.UNITS, lifecycle.CONFLICTS, lifecycle.PLACES])
def test_every_state_is_reached(table):
    starts = {"waiting", "none", "new"}
    states = {state for state, _ in table} | {to for ways in table.values() for to in ways}
    reached = {state for state in states if state in starts}
    for _ in states:
        reached |= {to for (state, _), ways in table.items() if state in reached for to in ways}
    assert reached == states
