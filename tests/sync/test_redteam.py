"""What broke an earlier draft of the protocol (the list is in docs/coverage.md), where no other test
holds it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import homeport as hp
from homeport.core.freeze import read_in_flight
from homeport.core.integrity import list_integrity
from homeport.core.outbox import META_IN_FLIGHT
from homeport.core.schema import Collection
from homeport.core.wire import MAX_BATCH_CHANGES, Batch, PushRequest

from .device import Device
from .model import ModelServer
from .test_exchange import pair, settle

DAY_MS = 86_400_000


class Alarm(msgspec.Struct):
    id: str
    level: int


def with_ttl(server: ModelServer, name: str, path: Path | None) -> Device:
    return Device(server, Collection("wells", ttl_s=3_600), name=name, path=path)


@pytest.mark.parametrize("on_disk", [False, True])
def test_finding_13_a_clock_that_is_a_day_ahead_deletes_nothing_for_others(tmp_path, on_disk):
    """Expired documents are hidden on the device; a delete of them is never queued."""
    server = ModelServer()
    path = tmp_path / "b.db" if on_disk else None
    a, b = with_ttl(server, "a", None), with_ttl(server, "b", path)
    a.put({"id": "w1", "n": 1})
    settle(a, b)
    b.clock.now += DAY_MS
    if on_disk:
        b.reopen()
    assert b.get("w1") is None, "hidden here"
    assert b.store.purge_expired(1_000) == 0, "and not removed: the server decides"
    b.put({"id": "w2", "n": 2})
    b.sync()
    assert [e.op for e in b.outbox()] == []
    settle(a, b)
    assert sorted(server.state("wells")) == ["w1", "w2"]
    assert a.get("w1") == {"id": "w1", "n": 1}


def test_schedule_9_swap_unreadable_row_and_wrong_clock_in_one_cut(tmp_path):
    """One cut brings swapped unique values, a row that the model cannot read, and comes to a device
    whose clock is a day ahead: everything is stored, and an old typed program writes afterwards."""
    server = ModelServer()
    for key, level in (("a", 1), ("b", 2), ("c", 3)):
        server.write("wells", key, {"id": key, "level": level, "unit": "m"})
    typed = Collection("wells", Alarm, indexes=[hp.Unique("level")], ttl_s=3_600)
    device = Device(server, typed, name="d", path=tmp_path / "d.db")
    device.sync()
    server.write("wells", "a", {"id": "a", "level": 2, "unit": "m"})
    server.write("wells", "b", {"id": "b", "level": 1, "unit": "m"})
    server.write("wells", "c", {"id": "c", "level": "high", "unit": "m"})
    device.clock.now += DAY_MS
    device.sync()
    listed = device.read(list_integrity(device.tables)).conflicts
    assert {key for one in listed for key in one.keys} <= {"c"}
    table = device.tables["wells"]
    table.keep_unknown = True
    from homeport.core import writes

    device.engine.run(writes.put(table, Alarm("a", 7), lambda: "x"))
    device.sync()
    assert server.state("wells") == {
        "a": {"id": "a", "level": 7, "unit": "m"},
        "b": {"id": "b", "level": 1, "unit": "m"},
        "c": {"id": "c", "level": "high", "unit": "m"},
    }


def test_finding_6_overlapping_units_never_fuse():
    """A hundred units of three documents, all with one settings document in them: they are sent one
    after the other as they were made."""
    server, a, b = pair()
    a.put_many([{"id": f"k{n}", "n": 0} for n in range(60)] + [{"id": "settings", "n": 0}])
    a.sync()
    for number in range(1, 101):
        keys = ["settings", f"k{number * 7 % 60}", f"k{(number * 11 + 1) % 60}"]
        a.unit(*(lambda k=k: a.patch(k, n=number) for k in dict.fromkeys(keys)))
    sizes = []
    while a.outbox():
        question = a.ask()
        batch = msgspec.json.decode(question.body, type=PushRequest).batch
        units = msgspec.json.decode(batch, type=Batch).units
        assert len({(c.collection, c.key) for u in units for c in u.changes}) == sum(
            len(u.changes) for u in units
        )
        sizes += [len(unit.changes) for unit in units]
        a.answer(question, server.sync(question.body))
    assert max(sizes) <= 3 < MAX_BATCH_CHANGES and len(sizes) >= 100
    settle(a, b)
    assert a.all() == b.all() == server.state("wells")


def test_finding_18_a_unit_of_twenty_gets_in_beside_a_job_that_touches_its_rows():
    server, a, _ = pair()
    a.put_many([{"id": f"w{n}", "n": 0} for n in range(20)])
    a.sync()
    a.unit(*(lambda n=n: a.patch(f"w{n}", n=1) for n in range(20)))
    rounds = 0
    while a.outbox():
        rounds += 1
        question = a.ask()
        for n in range(20):
            doc = server.state("wells")[f"w{n}"]
            server.write("wells", f"w{n}", {**doc, "beat": rounds})
        a.answer(question, server.sync(question.body))
        assert rounds < 3, "it starves"
    assert all(doc["n"] == 1 for doc in server.state("wells").values()) and a.conflicts() == []


@pytest.mark.parametrize("policy", ["local-wins", "manual"])
def test_finding_18_a_hot_row_starves_nobody_else(policy):
    """A change that never gets in holds up neither its neighbours nor later batches."""
    server, a, _ = pair(policy)
    a.put_many([{"id": "hot", "n": 0}, {"id": "cold", "n": 0}])
    a.sync()
    a.patch("hot", n=1)
    for beat in range(12):
        a.patch("cold", n=beat + 1)
        question = a.ask()
        server.write("wells", "hot", {"id": "hot", "n": 0, "beat": beat})
        a.answer(question, server.sync(question.body))
    a.sync()
    assert server.state("wells")["cold"]["n"] == 12
    assert len(a.conflicts()) == 1 and a.get("hot")["n"] == 1


def test_finding_21_a_manual_conflict_whose_remote_moves_on_is_one_conflict():
    server, a, b = pair("manual")
    a.put({"id": "w1", "x": 0})
    settle(a, b)
    b.patch("w1", x=1)
    b.ask()
    for x in (5, 6, 7):
        a.patch("w1", x=x)
        a.sync()
        b.sync()
        (conflict,) = b.conflicts()
        found = (conflict.base["x"], conflict.local["x"], conflict.remote["x"])
        assert found == (0, 1, x)


def test_rule_b_what_was_sent_is_the_same_after_everything():
    """Edits, a restart, a retry and a cut in pages between: the bytes do not move."""
    server, a, b = pair(page=2)
    a.put({"id": "w1", "n": 1})
    first = read_in_flight((a.ask(), a.meta(META_IN_FLIGHT))[1])
    b.put_many([{"id": f"x{n}"} for n in range(9)])
    b.sync()
    kinds: list[Any] = []
    while (flying := read_in_flight(a.meta(META_IN_FLIGHT))) is not None and flying.number == 1:
        assert flying.body == first.body
        a.patch("w1", n=len(kinds) + 2)
        a.reopen()
        kinds.append(a.round())
    assert len(kinds) > 3
    settle(a, b)
    assert a.all() == b.all() == server.state("wells")


@pytest.mark.parametrize("deleter_first", [True, False])
@pytest.mark.parametrize("deletes", ["delete-wins", "edit-wins"])
@pytest.mark.parametrize("policy", ["merge", "last-write-wins", "local-wins", "remote-wins", "manual"])
def test_delete_against_edit_under_every_policy_in_both_orders(policy, deletes, deleter_first):
    """Whoever comes second: one outcome for all, and the side that lost is told."""
    server, a, b = pair(policy, deletes)
    a.put({"id": "w1", "x": 0})
    settle(a, b)
    a.delete("w1")
    b.patch("w1", x=2)
    for device in (a, b) if deleter_first else (b, a):
        device.sync()
    asked = a.conflicts() + b.conflicts()
    assert len(asked) == (policy == "manual")
    for device in (a, b):
        for conflict in device.conflicts():
            device.resolve(conflict.id, "mine")
    settle(a, b)
    assert a.all() == b.all() == server.state("wells")
    assert a.outbox() == b.outbox() == [] and a.log() == b.log()
    if policy != "manual":
        expected = {} if deletes == "delete-wins" else {"w1": {"id": "w1", "x": 2}}
        assert a.all() == expected
    (record,) = a.log()
    assert {"id": "w1", "x": 2} in (record.local, record.remote)


def test_the_tests_that_the_tables_name_are_there():
    """docs/coverage.md: findings, schedules, conflict engine and R1 to R26."""
    root = Path(__file__).parents[2]
    text = (root / "docs" / "coverage.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 80
    for file, name in named:
        assert (root / file).is_file(), file
        assert not name or f"def {name}(" in (root / file).read_text(), f"{file}::{name}"
    assert [n for n in range(1, 22) if f"\n| {n} | " not in text] == []
    assert [n for n in range(1, 27) if f"\n| R{n} | " not in text] == []
