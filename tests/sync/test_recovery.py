"""R14: a server that is set back to a backup gets again what it had acknowledged and lost."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeport as hp
from homeport.core.acknowledged import KEEP_MS
from homeport.core.outbox import ACKED, META_CLIENT, META_FORMER
from homeport.core.query import EMPTY
from homeport.core.requests import Count
from homeport.core.wire import MAX_FORMER, PushRequest

from .device import Device
from .model import ModelServer


class Backup:
    """The server's state at one moment; restoring it makes all later cursors unknown."""

    def __init__(self, server: ModelServer) -> None:
        self.kept = {
            name: copy.deepcopy(getattr(server, name)) for name in ("docs", "seq", "log", "clients", "was_in")
        }

    def restore(self, server: ModelServer) -> None:
        for name, value in self.kept.items():
            setattr(server, name, copy.deepcopy(value))
        server.epoch += 1


def world(clients: int = 2, **synced: Any) -> tuple[ModelServer, list[Device]]:
    wells = hp.Collection("wells", sync=hp.Synced(**synced))
    fields = {path: kind.spec for path, kind in wells.sync.fields.items()}
    policies = {"wells": (wells.sync.policy, wells.sync.deletes), "_resolutions": ("merge", "delete-wins")}
    server = ModelServer(policies, fields={"wells": fields})
    return server, [Device(server, wells, name=f"d{n}") for n in range(clients)]


def settle(*devices: Device) -> None:
    for _ in range(3):
        for device in devices:
            device.sync()


def kept(device: Device) -> int:
    def plan() -> Any:
        return (yield Count(ACKED, EMPTY))

    return device.read(plan())


def test_r14_acknowledged_changes_come_back_from_the_devices() -> None:
    server, (a, b) = world()
    a.put({"id": "old", "n": 1})
    a.put({"id": "gone", "n": 1})
    settle(a, b)
    backup = Backup(server)
    a.patch("old", n=2)
    a.put({"id": "new", "n": 1})
    b.patch("old", m=3)
    b.delete("gone")
    settle(a, b)
    before = a.all()
    assert before == b.all() == server.state("wells")
    backup.restore(server)
    a.patch("new", later=True)
    settle(a, b)
    assert a.all() == b.all() == server.state("wells") == {
        "old": {"id": "old", "n": 2, "m": 3}, "new": {"id": "new", "n": 1, "later": True},
    }  # fmt: skip
    assert [e.kind for e in a.events].count("recovered") == 2
    assert a.outbox() == b.outbox() == []
    assert a.dead() == b.dead() == []


def test_r14_nothing_is_sent_again_that_the_server_has() -> None:
    server, (a,) = world(1, fields={"n": hp.Counter()})
    a.put({"id": "w", "n": 1})
    settle(a)
    a.patch("w", n=5)
    settle(a)
    server.epoch += 1  # history broke, and nothing was lost
    a.patch("w", n=6)
    settle(a)
    assert server.state("wells")["w"]["n"] == 6
    assert [e.kind for e in a.events].count("recovered") == 0


@pytest.mark.parametrize("arrived", [True, False])
def test_r14_the_batch_in_flight_is_counted_once(arrived: bool) -> None:
    """Its fate is asked for under the old id; nobody guesses."""
    server, (a,) = world(1, fields={"n": hp.Counter()})
    a.put({"id": "w", "n": 1})
    settle(a)
    a.patch("w", n=3)
    if arrived:
        a.round(lose=True)
    else:
        a.ask()  # frozen, never sent
    server.epoch += 1
    a.patch("w", n=10)
    a.round()
    assert a.meta(META_FORMER) is not None
    a.patch("w", n=11)
    a.reopen()
    settle(a)
    assert server.state("wells")["w"] == a.get("w") == {"id": "w", "n": 11}
    assert a.meta(META_FORMER) is None
    assert a.outbox() == []


def test_r14_the_server_is_set_back_twice() -> None:
    server, (a,) = world(1, fields={"n": hp.Counter()})
    a.put({"id": "w", "n": 1})
    settle(a)
    first = Backup(server)
    a.patch("w", n=2)
    settle(a)
    first.restore(server)
    settle(a)
    assert server.state("wells")["w"]["n"] == 2
    a.patch("w", n=4)
    settle(a)
    first.restore(server)
    settle(a)
    assert server.state("wells")["w"]["n"] == a.get("w")["n"] == 4
    first.restore(server)
    server.clients.clear()
    settle(a)
    assert a.get("w")["n"] == server.state("wells")["w"]["n"]


def test_r14_the_newest_former_ids_are_named_again_at_every_reset() -> None:
    """A server that was put back does not know that they are retired."""
    server, (a,) = world(1)
    settle(a)
    given_up: list[str] = []
    for n in range(MAX_FORMER + 5):
        a.put({"id": "w", "n": n})
        if n % 3:
            settle(a)
        else:
            a.ask()
        given_up.append(a.meta(META_CLIENT))
        server.epoch += 1
        a.round()
        asked = msgspec.json.decode(a.ask().body, type=PushRequest).pull.former
        assert asked == given_up[-MAX_FORMER:]
        settle(a)
        assert msgspec.json.decode(a.ask().body, type=PushRequest).pull.former == []


def test_r14_what_others_did_since_the_restore_is_merged() -> None:
    server, (a, b) = world()
    a.put({"id": "w", "x": 1, "y": 1})
    settle(a, b)
    backup = Backup(server)
    a.patch("w", x=2)
    settle(a, b)
    backup.restore(server)
    server.write("wells", "w", {"id": "w", "x": 1, "y": 9, "z": 9})
    settle(a, b)
    assert a.all() == b.all() == server.state("wells") == {"w": {"id": "w", "x": 2, "y": 9, "z": 9}}


def test_r14_a_conflict_with_the_restored_state_is_told() -> None:
    server, (a, b) = world()
    a.put({"id": "w", "x": 1})
    settle(a, b)
    backup = Backup(server)
    a.patch("w", x=2)
    settle(a, b)
    backup.restore(server)
    server.write("wells", "w", {"id": "w", "x": 7})
    settle(a, b)
    assert a.get("w") == b.get("w") == {"id": "w", "x": 2}
    [record] = b.log()
    assert (record.remote, record.fields) == ({"id": "w", "x": 7}, ["x"])


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("first", [0, 1])
def test_r14_a_document_that_was_lost_whole_is_made_again(first: int, together: bool) -> None:
    server, (a, b) = world()
    settle(a, b)
    backup = Backup(server)
    a.put({"id": "w", "x": 1, "y": 1})
    settle(a, b)
    b.patch("w", x=2)
    settle(a, b)
    backup.restore(server)
    order = (a, b) if first == 0 else (b, a)
    for device in order if together else ():
        device.round()
        device.round()  # both know what the server lost before either sends it
    settle(*order)
    assert a.get("w") == b.get("w") == server.state("wells")["w"] == {"id": "w", "x": 2, "y": 1}


def _a_second_life_comes_back(server, a, b, backup) -> None:
    a.delete("w")
    settle(a, b)
    a.put({"id": "w", "x": 2})
    settle(a, b)
    a.patch("w", x=3)
    settle(a, b)
    backup.restore(server)
    settle(a, b)
    assert a.all() == b.all() == server.state("wells") == {"w": {"id": "w", "x": 3}}


def test_r14_a_document_that_was_deleted_and_made_anew_comes_back_in_its_last_life() -> None:
    """The put after the delete was once taken for the first creation, and dropped with it."""
    server, (a, b) = world()
    a.put({"id": "w", "x": 1, "y": 1})
    settle(a, b)
    backup = Backup(server)
    _a_second_life_comes_back(server, a, b, backup)


def test_r14_a_document_that_died_twice_since_the_backup_is_made_once() -> None:
    server, (a, b) = world()
    settle(a, b)
    backup = Backup(server)
    a.put({"id": "w", "x": 1})
    settle(a, b)
    _a_second_life_comes_back(server, a, b, backup)


def test_r14_units_come_back_whole() -> None:
    server, (a, b) = world()
    a.put({"id": "p", "n": 10})
    a.put({"id": "q", "n": 0})
    settle(a, b)
    backup = Backup(server)
    a.unit(lambda: a.patch("p", n=7), lambda: a.patch("q", n=3))
    settle(a, b)
    backup.restore(server)
    question = a.ask()
    try:
        a.answer(question, server.sync(question.body, a.user))
    except Exception:
        a.reset(question)
    question = a.ask()
    a.answer(question, server.sync(question.body, a.user))
    assert len({entry.unit for entry in a.outbox()}) == 1 and len(a.outbox()) == 2
    settle(a, b)
    assert server.state("wells") == {"p": {"id": "p", "n": 7}, "q": {"id": "q", "n": 3}}


def test_r14_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    server, (a,) = world(1)
    for n in range(30):
        a.put({"id": f"w{n}", "text": "x" * 1_000})
        settle(a)
    assert kept(a) == 30
    monkeypatch.setattr("homeport.core.acknowledged.KEEP_BYTES", 20_000)
    a.put({"id": "more"})
    settle(a)
    assert 0 < kept(a) < 20
    monkeypatch.undo()
    a.clock.now += KEEP_MS + 1_000
    a.put({"id": "later"})
    settle(a)
    assert kept(a) == 1


def test_r14_a_node_that_does_not_speak_of_former_ids_gets_the_queue_only() -> None:
    server, (a,) = world(1)
    a.put({"id": "w", "n": 1})
    settle(a)
    backup = Backup(server)
    a.patch("w", n=2)
    settle(a)
    backup.restore(server)
    a.patch("w", m=1)
    pull = server._pull

    def older(*args: Any) -> Any:
        reply = pull(*args)
        reply.former = None
        return reply

    server._pull = older  # type: ignore[method-assign]
    settle(a)
    assert server.state("wells")["w"] == a.get("w") == {"id": "w", "n": 1, "m": 1}


steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["count", "count", "new", "sync", "sync", "lose", "freeze", "reopen"]),
        st.integers(1, 9),
    ),
    max_size=14,
)


@given(steps, steps, st.booleans(), st.booleans())
@settings(max_examples=150)
def test_r14_no_acknowledged_increment_is_lost_by_a_restored_backup(
    early: Any, late: Any, quiet: bool, on_disk: bool
) -> None:
    server, devices = world(3, fields={"hits": hp.Counter()})
    devices[0].put({"id": "w", "hits": 0})
    settle(*devices)
    total, made = 0, {"w"}

    def play(history: Any, mark: str) -> None:
        nonlocal total
        for n, (who, kind, value) in enumerate(history):
            device = devices[who]
            if kind == "count":
                total += value
                device.patch("w", hits=device.get("w")["hits"] + value)
            elif kind == "new":
                made.add(f"{mark}{n}")
                device.put({"id": f"{mark}{n}", "by": who})
            elif kind == "sync":
                device.sync()
            elif kind == "lose":
                device.round(lose=True)
            elif kind == "freeze":
                device.ask()
            elif kind == "reopen":
                device.reopen()

    play(early, "e")
    backup = Backup(server)
    play(late, "l")
    if quiet:
        settle(*devices)
    backup.restore(server)
    settle(*devices)
    states = [device.all() for device in devices]
    assert states[0] == states[1] == states[2] == server.state("wells")
    assert states[0]["w"]["hits"] == total
    assert set(states[0]) == made
