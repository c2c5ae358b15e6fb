"""Any interleaving of three clients, edits, exchanges, lost replies and restarts ends well.

Checked at the end of each run: every client and the server hold the same documents; nothing is
queued that could be sent; every acknowledged value is in the final state, in a record of
``_resolutions``, or was overwritten by its own writer or by somebody who had seen it; units are
whole; nothing was invented.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from homeport.core.diff import dump

from .device import Device
from .model import ModelServer, Problem

KEYS = ["p", "q", "r"]
FIELDS = ["x", "y"]

clients = st.integers(0, 2)
keys = st.sampled_from(KEYS)
steps = st.one_of(
    st.tuples(st.just("set"), clients, keys, st.sampled_from(FIELDS)),
    st.tuples(st.just("put"), clients, keys, st.just("")),
    st.tuples(st.just("delete"), clients, keys, st.just("")),
    st.tuples(st.just("unit"), clients, keys, keys),
    st.tuples(st.just("sync"), clients, st.just(""), st.just("")),
    st.tuples(st.just("sync"), clients, st.just(""), st.just("")),
    st.tuples(st.just("lose"), clients, st.just(""), st.just("")),
    st.tuples(st.just("freeze"), clients, st.just(""), st.just("")),
    st.tuples(st.just("reopen"), clients, st.just(""), st.just("")),
    st.tuples(st.just("ask"), clients, st.just(""), st.just("")),
    st.tuples(st.just("late"), clients, st.just(""), st.just("")),
    st.tuples(st.just("replay"), clients, st.just(""), st.just("")),
    st.tuples(st.just("outside"), clients, keys, st.sampled_from(FIELDS)),
)
rare = st.tuples(st.just("break"), clients, st.just(""), st.just(""))


class World:
    def __init__(self, policy: str, deletes: str, page: int, tmp=None) -> None:
        self.server = ModelServer(
            {"wells": (policy, deletes), "_resolutions": ("merge", "delete-wins")}, page=page
        )
        self.clients = [
            Device(self.server, name=n, path=tmp / f"{n}.db" if tmp else None) for n in "abc"
        ]
        self.stamp = 0
        self.values: set[str] = set()
        self.pending: dict[int, tuple[Any, bytes]] = {}
        self.sent: list[bytes] = []
        self.seen: list[set[str]] = [set(), set(), set()]
        self.cursors = [(0, 0)] * 3
        self.names = [c.meta("sync.client") for c in self.clients]

    def value(self, client: int) -> str:
        self.stamp += 1
        name = f"{'abc'[client]}{self.stamp}"
        self.values.add(name)
        return name

    def step(self, step: tuple[str, int, str, str]) -> None:
        kind, n, key, extra = step
        client = self.clients[n]
        if kind == "set":
            if client.get(key) is not None:
                client.patch(key, **{extra: self.value(n)})
        elif kind == "put":
            client.put({"id": key, "x": self.value(n), "y": self.value(n)})
        elif kind == "delete":
            client.delete(key)
        elif kind == "unit":
            value = self.value(n)
            edits = []
            for name in dict.fromkeys((key, extra)):
                if client.get(name) is None:
                    edits.append(lambda name=name: client.put({"id": name, "u": value}))
                else:
                    edits.append(lambda name=name: client.patch(name, u=value))
            client.unit(*edits)
        elif kind == "sync":
            client.round()
        elif kind == "lose":
            client.round(lose=True)
        elif kind == "freeze":
            client.ask()
        elif kind == "reopen":
            client.reopen()
        elif kind == "ask":
            question = client.ask()
            self.sent.append(question.body)
            try:
                self.pending[n] = (question, self.server.sync(question.body))
            except Problem:
                self.pending.pop(n, None)
        elif kind == "late":
            if n in self.pending:
                client.answer(*self.pending.pop(n))
        elif kind == "replay":
            if self.sent:
                try:
                    self.server.sync(self.sent[n % len(self.sent)])
                except Problem:
                    pass
        elif kind == "outside":
            place = ("wells", key)
            doc = self.server.state("wells").get(key)
            if doc is not None:
                self.server.write(*place, {**doc, extra: self.value(n)})
        elif kind == "break":
            self.server.epoch += 1

    def settle(self) -> None:
        for _ in range(4):
            for client in self.clients:
                client.sync()

    def check(self, *, lost_history: bool) -> None:
        truth = self.server.state("wells")
        fresh = Device(self.server, name="f")
        fresh.sync()
        for client in (*self.clients, fresh):
            assert client.all() == truth
            assert client.outbox() == [] and client.bases() == {}
            assert client.conflicts() == [] and client.dead() == []
        found = dump([truth, self.server.state("_resolutions")])
        told = {v for v in self.values if f'"{v}"' in found}
        if lost_history:
            return
        # Nobody took a new identity without need.
        assert [c.meta("sync.client") for c in self.clients] == self.names
        history = dump([h for hs in self.server.history.values() for h in hs])
        for value in self.values - told:
            # It was replaced by its own writer before it was ever sent, or …
            assert f'\\"{value}\\"' in history or value in self.replaced, value
        for writer, before, after in self.server.drops:
            # … by somebody whose user had seen it.
            if writer is not None:
                seen = self.seen[self.names.index(writer)]
                for value in self.values - told - seen:
                    if f'"{value}"' in (before or ""):
                        assert f'"{value}"' in (after or ""), (writer, value)

    def watch(self, n: int) -> None:
        """What a client's user sees, and that its cursor only grows."""
        client = self.clients[n]
        text = dump(client.all())
        self.seen[n] |= {v for v in self.values if f'"{v}"' in text}
        cursor = client.meta("sync.cursor")
        if cursor is not None:
            epoch, _, seq = cursor.partition(":")
            place = (int(epoch), int(seq))
            assert place >= self.cursors[n]
            self.cursors[n] = place

    replaced: set[str] = set()


def run(policy: str, deletes: str, page: int, plan: list[Any], tmp: Any = None) -> World:
    world = World(policy, deletes, page, tmp)
    replaced: set[str] = set()
    for step in plan:
        kind, n, key, extra = step
        client = world.clients[n]
        before = client.get(key) if kind in ("set", "put", "delete", "unit") else None
        more = client.get(extra) if kind == "unit" else None
        world.watch(n)
        world.step(step)
        world.watch(n)
        # What its holder overwrites or deletes in his own view is no loss.
        for old, name in ((before, key), (more, extra)):
            now = client.get(name) if old else None
            replaced |= {v for f, v in (old or {}).items() if (now or {}).get(f) != v}
    world.replaced = replaced
    world.settle()
    world.check(lost_history=any(step[0] == "break" for step in plan))
    return world


@pytest.mark.parametrize("policy", ["merge", "last-write-wins", "remote-wins", "local-wins"])
@settings(max_examples=120)
@given(
    st.sampled_from(["delete-wins", "edit-wins"]),
    st.sampled_from([1000, 3]),
    st.lists(steps, max_size=25),
)
def test_three_clients_converge_and_nothing_acknowledged_is_lost(policy, deletes, page, plan):
    run(policy, deletes, page, plan)


@settings(max_examples=80)
@given(st.lists(st.one_of(steps, rare), max_size=25))
def test_r14_also_when_history_breaks_in_between(plan):
    run("merge", "delete-wins", 1000, plan)


@settings(max_examples=25)
@given(st.lists(steps, max_size=20))
def test_also_on_files(tmp_path_factory, plan):
    run("merge", "delete-wins", 4, plan, tmp_path_factory.mktemp("devices"))


@settings(max_examples=100)
@given(st.lists(st.tuples(clients, st.sampled_from("pq"), st.booleans()), max_size=20))
def test_r24_units_are_whole_in_every_view(plan):
    """Each unit writes the same stamp into three documents; no view ever shows two stamps."""
    server = ModelServer({"wells": ("remote-wins", "delete-wins"), "_resolutions": ("merge", "delete-wins")})
    world = [Device(server, name=n) for n in "abc"]
    world[0].put_many([{"id": k, "u": "0"} for k in "123"])
    for client in world:
        client.sync()
    for number, (n, _, sync) in enumerate(plan):
        client = world[n]
        if sync:
            client.round()
        else:
            client.unit(*(lambda k=k: client.patch(k, u=str(number)) for k in "123"))
        for view in (*(c.all() for c in world), server.state("wells")):
            assert len({doc["u"] for doc in view.values()}) == 1
