"""Replication through a log of files: the same checks as with the node, and a worse carrier."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.core.changelog import ChangeLog, Fold
from homeport.core.diff import dump
from homeport.core.schema import Collection, Synced
from homeport.errors import Unreachable

from .model import Problem
from .store import Carrier, Folder, device, settle
from .test_convergence import FIELDS, KEYS

clients = st.integers(0, 2)
keys = st.sampled_from(KEYS)
none = st.just("")
steps = st.one_of(
    st.tuples(st.just("set"), clients, keys, st.sampled_from(FIELDS)),
    st.tuples(st.just("put"), clients, keys, none),
    st.tuples(st.just("delete"), clients, keys, none),
    st.tuples(st.just("unit"), clients, keys, keys),
    st.tuples(st.just("sync"), clients, none, none),
    st.tuples(st.just("sync"), clients, none, none),
    st.tuples(st.just("lose"), clients, none, none),
    st.tuples(st.just("fail"), clients, st.integers(0, 6), none),
    st.tuples(st.just("reopen"), clients, none, none),
    st.tuples(st.just("restart"), clients, none, none),
    st.tuples(st.just("late"), clients, none, none),
    st.tuples(st.just("carry"), clients, st.integers(0, 20), st.sampled_from(["whole", "half", "copy"])),
    st.tuples(st.just("carry"), clients, st.integers(0, 20), st.just("whole")),
)


class World:
    def __init__(self, policy: str, deletes: str, folders: list[Folder] | None = None) -> None:
        self.folders = folders or [Folder() for _ in range(3)]
        self.shared = folders is not None
        self.carrier = Carrier(self.folders)
        wells = Collection("wells", sync=Synced(policy, deletes=deletes))
        self.wells = wells
        self.clients = [device(f, n, wells) for f, n in zip(self.folders, "abc", strict=True)]
        self.names = [c.meta("sync.client") for c in self.clients]
        self.values: set[str] = set()
        self.pending: dict[int, Any] = {}

    def value(self, n: int) -> str:
        name = f"{'abc'[n]}{len(self.values) + 1}"
        self.values.add(name)
        return name

    def step(self, one: tuple[Any, ...]) -> None:
        kind, n, key, extra = one
        client, folder = self.clients[n], self.folders[n]
        if kind == "set" and client.get(key) is not None:
            client.patch(key, **{extra: self.value(n)})
        elif kind == "put":
            client.put({"id": key, "x": self.value(n), "y": self.value(n)})
        elif kind == "delete":
            client.delete(key)
        elif kind == "unit":
            value, edits = self.value(n), []
            for name in dict.fromkeys((key, extra)):
                there = client.get(name) is not None
                edits.append(
                    (lambda name=name: client.patch(name, u=value))
                    if there
                    else (lambda name=name: client.put({"id": name, "u": value}))
                )
            client.unit(*edits)
        elif kind in ("sync", "lose", "fail"):
            if kind == "fail":
                folder.files.fail_in = key
            try:
                client.round(lose=kind == "lose")
            except (Unreachable, Problem):
                pass
            folder.files.fail_in = None
        elif kind == "reopen":
            client.reopen()
        elif kind == "restart":
            folder.restart()
        elif kind == "late":
            if n in self.pending:
                client.answer(*self.pending.pop(n))
            else:
                question = client.ask()
                try:
                    self.pending[n] = (question, folder.sync(question.body))
                except (Unreachable, Problem):
                    pass
        elif kind == "carry":
            self.carrier.carry(n, key, extra)

    def check(self) -> None:
        truth = self.folders[0].docs()
        for folder in self.folders:
            assert folder.docs() == truth
        fresh_folder = self.folders[0] if self.shared else Folder(self.folders[0].files)
        assert fresh_folder.docs() == truth, "the order in which files were read changed the outcome"
        fresh = device(fresh_folder, "f", self.wells)
        fresh.sync()
        for client in (*self.clients, fresh):
            assert client.all() == truth
            assert client.outbox() == [] and client.bases() == {}
            assert client.conflicts() == [] and client.dead() == []
            assert client.all("_resolutions") == fresh.all("_resolutions")
        assert [c.meta("sync.client") for c in self.clients] == self.names


def run(policy: str, deletes: str, plan: list[tuple[Any, ...]], folders: Any = None) -> World:
    world = World(policy, deletes, folders)
    replaced: set[str] = set()
    for one in plan:
        kind, n, key, extra = one
        client = world.clients[n]
        names = [name for name in (key, extra) if isinstance(name, str) and name in KEYS]
        before = {name: client.get(name) or {} for name in names}
        world.step(one)
        for name in names:
            now = client.get(name) or {}
            replaced |= {v for f, v in before[name].items() if now.get(f) != v}
    settle(world.clients, world.carrier)
    world.check()
    records = world.clients[0].all("_resolutions")
    found = dump([world.folders[0].docs(), records])
    for value in world.values:
        # In the documents, in a record that both sides have, or replaced by who had seen it.
        assert f'"{value}"' in found or value in replaced, value
    return world


@pytest.mark.parametrize("policy", ["merge", "last-write-wins", "remote-wins", "local-wins"])
@settings(max_examples=100)
@given(st.sampled_from(["delete-wins", "edit-wins"]), st.lists(steps, max_size=30))
def test_three_devices_converge_whatever_the_carrier_does(policy, deletes, plan):
    run(policy, deletes, plan)


def ours(base: Any, local: Any, remote: Any, meta: Any) -> Any:
    return {**remote, "x": local["x"] + remote["x"]}


def _in_order_of_arrival(monkeypatch: Any) -> None:
    def add(self: ChangeLog, commits: Any) -> None:
        real(self, {})
        for name, commit in commits.items():
            if all(parent in self.commits for parent in commit.parents):
                self._last = (0, "")
            real(self, {name: commit})

    real = ChangeLog.add
    monkeypatch.setattr(ChangeLog, "add", add)


def _without_waiting_for_parents(monkeypatch: Any) -> None:
    real = ChangeLog.add

    def add(self: ChangeLog, commits: Any) -> None:
        for name, commit in commits.items():
            known = [parent for parent in commit.parents if parent in self.commits]
            real(self, {name: msgspec.structs.replace(commit, parents=known)})

    monkeypatch.setattr(ChangeLog, "add", add)


def _a_version_without_content(monkeypatch: Any) -> None:
    def become(self: Any, body: Any) -> None:
        self.last = self.body if body is None and self.body is not None else self.last
        self.body, self.version = body, None if body is None else f"{self.digest:032x}"

    monkeypatch.setattr("homeport.core.changelog._State.become", become)


def _a_loser_without_a_record(monkeypatch: Any) -> None:
    real = Fold._settle

    def settle_quietly(self: Any, docs: Any, entries: Any) -> list[Any]:
        real(self, docs, entries)
        return []

    monkeypatch.setattr(Fold, "_settle", settle_quietly)


@pytest.mark.parametrize(
    "plant",
    [
        _in_order_of_arrival,
        _without_waiting_for_parents,
        _a_version_without_content,
        _a_loser_without_a_record,
    ],
)
def test_the_check_finds_a_planted_bug(monkeypatch, plant):
    plant(monkeypatch)
    chance = random.Random(5)
    kinds = ["set", "set", "put", "delete", "unit", "sync", "sync", "carry"]
    for _ in range(400):
        plan: list[tuple[Any, ...]] = []
        for _ in range(chance.randint(5, 30)):
            kind, n = chance.choice(kinds), chance.randrange(3)
            key: Any = chance.choice(KEYS)
            extra: Any = chance.choice(FIELDS if kind == "set" else KEYS if kind == "unit" else [""])
            if kind == "carry":
                key, extra = chance.randrange(20), "whole"
            plan.append((kind, n, key, extra))
        try:
            run(chance.choice(["merge", "remote-wins"]), "delete-wins", plan)
        except AssertionError:
            return
    raise AssertionError("the planted bug was not found")


# -- one schedule at a time


def pair(policy: str = "merge", deletes: str = "delete-wins", fields: Any = None) -> Any:
    folders = [Folder(), Folder()]
    chosen: Any = ours if policy == "ours" else policy
    wells = Collection("wells", sync=Synced(chosen, deletes=deletes, fields=fields))
    devices = [device(f, n, wells) for f, n in zip(folders, "ab", strict=True)]
    carrier = Carrier(folders)

    def meet() -> None:
        settle(devices, carrier)

    return (*devices, meet, folders, carrier)


def apart(a: Any, b: Any) -> None:
    """Both push; neither sees the other's file."""
    a.sync()
    b.sync()


def test_disjoint_fields_that_never_met_merge_without_a_word():
    a, b, meet, *_ = pair()
    a.put({"id": "w1", "x": 0, "y": 0})
    meet()
    a.patch("w1", x=1)
    b.patch("w1", y=2)
    apart(a, b)
    meet()
    assert a.get("w1") == b.get("w1") == {"id": "w1", "x": 1, "y": 2}
    assert a.log() == b.log() == []


@pytest.mark.parametrize("policy", ["merge", "last-write-wins", "local-wins", "remote-wins", "manual", "ours"])
def test_r23_one_field_written_apart_has_one_winner_and_a_record_on_both_sides(policy):
    a, b, meet, *_ = pair(policy)
    a.put({"id": "w1", "x": 0})
    meet()
    a.patch("w1", x=1)
    b.patch("w1", x=2)
    apart(a, b)
    meet()
    assert a.get("w1") == b.get("w1") and a.get("w1")["x"] in (1, 2)
    (record,) = a.log()
    assert b.log() == a.log() and record.policy == policy
    assert {record.local["x"], record.remote["x"]} == {1, 2} and record.base["x"] == 0
    assert record.winner == ("local" if policy in ("merge", "last-write-wins", "local-wins") else "remote")
    # Nobody could be asked; the one that lost can be had back by an ordinary write.
    from homeport.core import conflicts

    lost = {1, 2} - {a.get("w1")["x"]}
    a.write(conflicts.undo(a.synced, record.id, None))
    meet()
    assert {a.get("w1")["x"], b.get("w1")["x"]} == lost


@pytest.mark.parametrize("policy", ["manual", "ours"])
def test_where_the_files_have_met_a_person_or_a_function_is_asked_as_with_a_node(policy):
    folders = [Folder(), Folder()]

    wells = Collection("wells", sync=Synced(ours if policy == "ours" else policy))
    a, b = (device(f, n, wells) for f, n in zip(folders, "ab", strict=True))
    carrier = Carrier(folders)
    a.put({"id": "w1", "x": 0})
    settle([a, b], carrier)
    a.patch("w1", x=1)
    b.patch("w1", x=2)
    a.sync()
    carrier.all()
    b.sync()
    if policy == "manual":
        (conflict,) = b.conflicts()
        assert (conflict.base["x"], conflict.local["x"], conflict.remote["x"]) == (0, 2, 1)
        b.resolve(conflict.id, {"id": "w1", "x": 3})
    settle([a, b], carrier)
    assert a.get("w1")["x"] == b.get("w1")["x"] == 3


def test_counters_that_never_met_add_up():
    a, b, meet, *_ = pair(fields={"n": "counter"})
    a.put({"id": "w1", "n": 10})
    meet()
    a.patch("w1", n=11)
    b.patch("w1", n=15)
    apart(a, b)
    a.patch("w1", n=12)
    a.sync()
    meet()
    assert a.get("w1")["n"] == b.get("w1")["n"] == 17


@pytest.mark.parametrize("deletes", ["delete-wins", "edit-wins"])
def test_delete_against_edit_apart(deletes):
    a, b, meet, *_ = pair(deletes=deletes)
    a.put({"id": "w1", "x": 0, "y": 7})
    meet()
    a.delete("w1")
    b.patch("w1", x=2)
    apart(a, b)
    meet()
    expected = None if deletes == "delete-wins" else {"id": "w1", "x": 2, "y": 7}
    assert a.get("w1") == b.get("w1") == expected
    assert len(a.log()) == 1 and a.log() == b.log()


def test_r24_of_two_units_written_apart_under_remote_wins_one_is_gone_whole():
    a, b, meet, *_ = pair("remote-wins")
    a.put_many([{"id": k, "n": 100} for k in "pqr"])
    meet()
    a.unit(lambda: a.patch("p", n=90), lambda: a.patch("q", n=110))
    b.unit(lambda: b.patch("q", n=80), lambda: b.patch("r", n=120))
    apart(a, b)
    meet()
    for view in (a.all(), b.all()):
        assert sum(doc["n"] for doc in view.values()) == 300
    assert a.all() == b.all() and {r.key for r in a.log()} in ({"p", "q"}, {"q", "r"})


def test_a_file_is_used_only_when_all_that_its_author_saw_is_here():
    a, b, meet, folders, carrier = pair()
    c_folder = Folder()
    c = device(c_folder, "c", a.collections[0])
    a.put({"id": "w1", "x": 1})
    a.sync()
    carrier.all()
    b.sync()
    b.patch("w1", x=2)
    b.put({"id": "w2", "about": "w1"})
    b.sync()
    (later,) = set(folders[1].files.files) - set(folders[0].files.files)
    c_folder.files.files[later] = folders[1].files.files[later]
    c.sync()
    assert c.all() == {}, "nobody sees w2 without w1"
    assert step_report(c_folder).waiting == 1
    c_folder.files.files.update(folders[0].files.files)
    c.sync()
    assert c.all() == b.all() and step_report(c_folder).waiting == 0


def step_report(folder: Folder) -> Any:
    return folder.run(folder.backend.report())


def test_r14_an_emptied_folder_gets_back_what_it_lost():
    a, b, meet, folders, _ = pair()
    a.put({"id": "w1", "x": 1})
    meet()
    b.put({"id": "w2", "x": 2})
    meet()
    for folder in folders:
        folder.files.files.clear()
        folder.restart()
    meet()
    assert sorted(a.all()) == sorted(b.all()) == sorted(folders[0].docs()) == ["w1", "w2"]


def test_what_the_device_saw_and_is_only_half_here_is_waited_for():
    a, b, meet, folders, _ = pair()
    a.put({"id": "w1", "x": 1})
    meet()
    (name,) = folders[1].files.files
    whole = folders[1].files.files[name]
    folders[1].files.files[name] = whole[:50]
    folders[1].restart()
    b.patch("w1", x=2)
    with pytest.raises(Unreachable, match="not here yet"):
        b.sync()
    assert len(b.outbox()) == 1 and b.get("w1")["x"] == 2
    folders[1].files.files[name] = whole
    meet()
    assert a.get("w1")["x"] == 2


def test_r25_two_copies_of_one_device_file(tmp_path):
    import shutil

    folders = [Folder(), Folder()]
    a = device(folders[0], "a", Collection("wells"), path=tmp_path / "a.db")
    a.put({"id": "w1", "x": 1})
    a.sync()
    a.engine.close()
    shutil.copy(tmp_path / "a.db", tmp_path / "b.db")
    folders[1].files.files.update(folders[0].files.files)
    a.open()
    b = device(folders[1], "b", Collection("wells"), path=tmp_path / "b.db", enabled=False)
    assert a.meta("sync.client") == b.meta("sync.client")
    a.put({"id": "from-a"})
    b.put({"id": "from-b"})
    apart(a, b)
    a.put({"id": "again-a"})
    a.sync()
    settle([a, b], Carrier(folders))
    assert sorted(a.all()) == sorted(b.all()) == ["again-a", "from-a", "from-b", "w1"]


GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "other-backends.md"


def of_the_guide(name: str) -> Any:
    """A class that the guide shows, as it stands there."""
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "guide"}
    for block in blocks:
        if "class Memory" in block or "class Cautious" in block:
            exec(block.split("\nmemory = ")[0], names)
    return names[name]()


class Shared(Folder):
    """One back end that all devices see at once."""

    def __init__(self, backend: Any) -> None:
        self.only = backend
        super().__init__()

    def make(self) -> Any:
        return self.only

    def restart(self) -> None:
        super().restart()


@pytest.mark.parametrize("policy", ["merge", "last-write-wins", "remote-wins", "local-wins"])
@settings(max_examples=40)
@given(st.sampled_from(["delete-wins", "edit-wins"]), st.lists(steps, max_size=25))
def test_the_back_end_of_the_guide_passes_the_same_check(policy, deletes, plan):
    memory = of_the_guide("Memory")
    run(policy, deletes, plan, [Shared(memory) for _ in range(3)])


def test_resolve_conflicts_settles_once_and_is_told():
    cautious = of_the_guide("Cautious")
    folders = [Shared(cautious), Shared(cautious)]
    wells = Collection("wells")
    a, b = (device(f, n, wells) for f, n in zip(folders, "ab", strict=True))
    a.put({"id": "w1", "x": 0, "state": "new"})
    a.sync()
    b.sync()
    a.patch("w1", x=1)
    b.patch("w1", x=2)
    a.sync()
    b.round(lose=True)
    b.sync()
    a.sync()
    assert a.get("w1") == b.get("w1") == {"id": "w1", "x": 1, "state": "check"}
    (record,) = a.log()
    assert b.log() == a.log() and record.policy == "resolve_conflicts"
    assert (record.local["x"], record.remote["x"], record.result["state"]) == (2, 1, "check")
    assert [place for place in cautious.log].count(("wells", "w1")) == 3


def test_r13_the_copy_is_compared_with_the_files(tmp_path):
    from homeport.core.verify import sums_of, tokens_of

    a, b, meet, folders, _ = pair()
    a.put_many([{"id": f"w{n}"} for n in range(20)])
    meet()
    table = b.tables["wells"]
    versions = b.read(tokens_of(table, [f"w{n}" for n in range(20)]))
    pulled = folders[1].run(folders[1].backend.pull_changes(None, ["wells"], []))
    assert sums_of(versions) == sums_of({c.key: c.version for c in pulled.changes})
