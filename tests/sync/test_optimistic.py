"""Optimistic updates on the plans of sync: stacks of them, cuts beneath them, a plain model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import homeport as hp
from homeport.core import optimistic, updates, writes
from homeport.core.layers import Layer
from homeport.core.requests import Operation
from homeport.core.units import unit
from homeport.errors import NotFound, RolledBack, UsageError
from homeport.transactions import Tx

from .device import Device
from .model import ModelServer

KEYS = ["p", "q"]
FIELDS = ["x", "y"]


def pair(*, policy: str = "merge", deletes: str = "delete-wins", **fields: Any) -> tuple[Any, Any]:
    types = {path: kind.spec for path, kind in fields.get("fields", {}).items()}
    server = ModelServer(
        {"wells": (policy, deletes), "_resolutions": ("merge", "delete-wins")},
        fields={"wells": types},
    )
    wells = hp.Collection("wells", sync=hp.Synced(policy, deletes=deletes, **fields))
    device = Device(server, wells)
    return server, device


def apply(device: Device, work: Operation[Any], timeout_s: float | None = None) -> Layer:
    return device.engine.run(optimistic.applied(work, name="", timeout_s=timeout_s))


def patch(device: Device, key: str, **changes: Any) -> Layer:
    return apply(device, updates.patch(device.tables["wells"], key, changes))


def patch_all(device: Device, **changes: Any) -> Layer:
    async def work(tx: Tx) -> None:
        for key in KEYS:
            await tx["wells"].patch(key, changes)

    tables = device.tables
    return apply(device, unit(work, (), {}, lambda runner: Tx(runner, tables)))


def commit(device: Device, layer: Layer) -> Layer:
    return device.write(optimistic.commit(layer.id))


def roll_back(device: Device, layer: Layer) -> None:
    device.events += device.write(optimistic.roll_back(device.tables, layer.id)).events
    device.check()


def record(device: Device, layer: Layer) -> Layer:
    return device.engine.run(optimistic.one(layer.id))


# -- the property: whatever happens in whatever order, what is seen is the base and the rest

steps = st.one_of(
    st.tuples(st.just("layer"), st.sampled_from(KEYS), st.sampled_from(FIELDS)),
    st.tuples(st.just("layer"), st.sampled_from(KEYS), st.sampled_from(FIELDS)),
    st.tuples(st.just("both"), st.just(""), st.just("")),
    st.tuples(st.just("patch"), st.sampled_from(KEYS), st.sampled_from(FIELDS)),
    st.tuples(st.just("outside"), st.sampled_from(KEYS), st.sampled_from(FIELDS)),
    st.tuples(st.just("commit"), st.integers(0, 9), st.just("")),
    st.tuples(st.just("rollback"), st.integers(0, 9), st.just("")),
    st.tuples(st.just("sync"), st.just(""), st.just("")),
    st.tuples(st.just("freeze"), st.just(""), st.just("")),
    st.tuples(st.just("reopen"), st.just(""), st.just("")),
)


class Model:
    """base: what the device has of the server. ops: [layer or None, {key: {field: value}}], in
    order; those of open layers, and whatever came after them on the same documents, stay."""

    def __init__(self) -> None:
        self.base: dict[str, dict[str, Any]] = {}
        self.server: dict[str, dict[str, Any]] = {}
        self.ops: list[list[Any]] = []
        self.open: dict[str, Layer] = {}

    def visible(self) -> dict[str, Any]:
        docs = {key: dict(doc) for key, doc in self.base.items()}
        for _, changes in self.ops:
            for key, fields in changes.items():
                docs[key].update(fields)
        return docs

    def sync(self) -> None:
        left, waiting = [], set()
        for op in self.ops:
            if op[0] in self.open or not waiting.isdisjoint(op[1]):
                waiting |= op[1].keys()
                left.append(op)
                continue
            for key, fields in op[1].items():
                self.server[key].update(fields)
        self.ops = left
        self.base = {key: dict(doc) for key, doc in self.server.items()}


def run(plan: list[tuple[str, Any, str]], path: Path | None) -> None:
    server = ModelServer({"wells": ("merge", "delete-wins"), "_resolutions": ("merge", "delete-wins")})
    device, model = Device(server, name="a", path=path), Model()
    for key in KEYS:
        device.put({"id": key})
        model.server[key] = {"id": key}
    device.sync()
    model.base = {key: dict(doc) for key, doc in model.server.items()}
    for n, (kind, where, field) in enumerate([*plan, ("end", "", ""), ("sync", "", "")]):
        note(f"{kind} {where} {field}")
        if kind == "layer":
            layer = patch(device, where, **{field: n})
            model.open[layer.id] = layer
            model.ops.append([layer.id, {where: {field: n}}])
        elif kind == "both":
            layer = patch_all(device, **{f"u{n}": n})
            model.open[layer.id] = layer
            model.ops.append([layer.id, {key: {f"u{n}": n} for key in KEYS}])
        elif kind == "patch":
            device.patch(where, **{field: n})
            model.ops.append([None, {where: {field: n}}])
        elif kind == "outside":
            model.server[where][field] = n
            server.write("wells", where, dict(model.server[where]))
        elif kind == "commit" and model.open:
            layer = list(model.open.values())[where % len(model.open)]
            del model.open[layer.id]
            assert commit(device, layer).state == "committed"
        elif kind == "rollback" and model.open:
            layer = list(model.open.values())[where % len(model.open)]
            del model.open[layer.id]
            roll_back(device, layer)
            assert record(device, layer).reason == "asked"
            model.ops = [op for op in model.ops if op[0] != layer.id]
        elif kind == "end":
            for number, layer in enumerate(list(model.open.values())):
                del model.open[layer.id]
                if number % 2:
                    commit(device, layer)
                else:
                    roll_back(device, layer)
                    model.ops = [op for op in model.ops if op[0] != layer.id]
        elif kind == "sync":
            device.sync()
            model.sync()
        elif kind == "freeze":
            device.ask()
        elif kind == "reopen":
            device.reopen()
        assert device.all() == model.visible()
        device.check()
    assert server.state("wells") == device.all() == model.server
    assert device.outbox() == [] and device.dead() == []
    assert device.read(optimistic.all_layers(ended=False)) == []
    assert {one.state for one in device.read(optimistic.all_layers(ended=True))} <= {
        "synced", "rolled-back",
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=25))
def test_any_stack_is_the_base_and_the_layers_that_are_left(plan: list[Any]) -> None:
    run(plan, None)


@settings(max_examples=15, deadline=None)
@given(plan=st.lists(steps, max_size=20))
def test_the_same_on_a_file(plan: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    run(plan, tmp_path_factory.mktemp("f") / "a.db")


# -- one by one


def test_an_open_layer_is_seen_and_not_sent_and_holds_back_what_is_above_it() -> None:
    server, device = pair()
    device.put({"id": "p", "x": 0})
    device.put({"id": "q", "x": 0})
    device.sync()
    layer = patch(device, "p", x=1)
    device.patch("p", y=2)
    device.patch("q", y=2)
    device.sync()
    assert device.get("p") == {"id": "p", "x": 1, "y": 2}
    assert server.state("wells") == {"p": {"id": "p", "x": 0}, "q": {"id": "q", "x": 0, "y": 2}}
    commit(device, layer)
    assert commit(device, layer).state == "committed"  # silent the second time
    device.sync()
    assert server.state("wells")["p"] == {"id": "p", "x": 1, "y": 2}
    assert record(device, layer).state == "synced"
    with pytest.raises(UsageError, match="is committed"):
        roll_back(device, layer)


def test_a_creation_is_rolled_back_and_what_was_built_on_it_is_kept_as_a_dead_letter() -> None:
    _, device = pair()
    table = device.tables["wells"]
    layer = apply(device, writes.put(table, {"id": "n", "x": 1}, str))
    above = patch(device, "n", y=1)
    device.patch("n", z=1)
    roll_back(device, layer)
    assert device.get("n") is None
    assert [letter.code for letter in device.dead()] == ["depends", "depends"]
    assert record(device, above).reason.startswith("depends")
    with pytest.raises(RolledBack):
        commit(device, above)
    assert {(e.kind, e.key) for e in device.events} == {("rolled-back", "n"), ("rejected", "n")}


def test_an_update_of_several_documents_falls_with_what_it_had_overwritten() -> None:
    _, device = pair()
    for key in KEYS:
        device.put({"id": key, "x": 0})
    device.sync()
    below = patch(device, "p", x=1)
    above = patch_all(device, x=2)
    apart = patch_all(device, y=2)
    roll_back(device, below)
    assert record(device, above).state == "rolled-back"
    assert record(device, apart).state == "open"
    assert device.all() == {key: {"id": key, "x": 0, "y": 2} for key in KEYS}


def test_a_counter_keeps_what_each_layer_added() -> None:
    server, device = pair(fields={"n": hp.Counter()})
    device.put({"id": "p", "n": 100})
    device.sync()
    one, two, three = (patch(device, "p", n=100 + add) for add in (1, 11, 111))
    roll_back(device, one)
    assert device.get("p")["n"] == 210
    server.write("wells", "p", {"id": "p", "n": 200})
    device.sync()
    assert device.get("p")["n"] == 310
    roll_back(device, three)
    assert device.get("p")["n"] == 210
    commit(device, two)
    device.sync()
    assert server.state("wells")["p"]["n"] == device.get("p")["n"] == 210


@pytest.mark.parametrize(
    ("policy", "deletes", "state", "left"),
    [
        ("remote-wins", "delete-wins", "rolled-back", {"id": "p", "x": 9}),
        ("merge", "delete-wins", "open", {"id": "p", "x": 1}),
        ("last-write-wins", "delete-wins", "open", {"id": "p", "x": 1}),
        ("manual", "delete-wins", "open", {"id": "p", "x": 1}),
    ],
)
def test_a_cut_beneath_it_is_settled_by_the_policy(
    policy: str, deletes: str, state: str, left: Any
) -> None:
    server, device = pair(policy=policy, deletes=deletes)
    device.put({"id": "p", "x": 0})
    device.sync()
    layer = patch(device, "p", x=1)
    server.write("wells", "p", {"id": "p", "x": 9})
    device.sync()
    assert record(device, layer).state == state
    assert device.get("p") == left
    if state == "open":
        roll_back(device, layer)
    device.sync()
    assert device.get("p") == {"id": "p", "x": 9}
    assert device.conflicts() == [] and device.outbox() == []


def test_a_document_that_the_server_deleted_takes_the_layer_with_it() -> None:
    server, device = pair()
    device.put({"id": "p", "x": 0})
    device.sync()
    layer = patch(device, "p", x=1)
    server.write("wells", "p", None)
    device.sync()
    assert device.get("p") is None
    assert (record(device, layer).state, record(device, layer).reason) == ("rolled-back", "conflict")
    assert ("rolled-back", "p") in [(e.kind, e.key) for e in device.events]


def test_the_server_refuses_what_was_committed() -> None:
    server, device = pair()
    device.put({"id": "p", "x": 0})
    device.sync()
    server.reject = lambda change: "no" if change.collection == "wells" else None
    layer = patch(device, "p", x=1)
    commit(device, layer)
    device.sync()
    assert device.get("p") == {"id": "p", "x": 0}
    found = record(device, layer)
    assert found.state == "rolled-back" and "no" in found.reason
    assert len(device.dead()) == 1


def test_what_times_out_is_rolled_back_into_the_dead_letters() -> None:
    _, device = pair()
    device.put({"id": "p", "x": 0})
    work = updates.patch(device.tables["wells"], "p", {"x": 1})
    layer = apply(device, work, timeout_s=1)
    late = patch(device, "p", y=1)
    assert device.write(optimistic.expire(device.tables)).layers == []
    device.clock.now += 1_000
    device.reopen()
    assert [one.id for one in device.write(optimistic.expire(device.tables)).layers] == [layer.id]
    assert device.get("p") == {"id": "p", "x": 0, "y": 1}
    assert [letter.code for letter in device.dead()] == ["timed-out"]
    assert record(device, late).state == "open"
    device.clock.now += 2 * 24 * 3600 * 1000
    patch(device, "p", z=1)
    with pytest.raises(NotFound):
        record(device, layer)  # forgotten after a day


def test_a_document_that_is_not_adopted_yet_survives_a_rollback() -> None:
    server = ModelServer()
    device = Device(server, enabled=False)
    device.put({"id": "p", "x": 0})
    device.put({"id": "q", "x": 0})
    device.enable()
    layers = [patch(device, "p", x=1), apply(device, writes.delete(device.tables["wells"], "q"))]
    for layer in layers:
        roll_back(device, layer)
    assert device.all() == {key: {"id": key, "x": 0} for key in KEYS}
    device.sync()
    assert server.state("wells") == device.all()
