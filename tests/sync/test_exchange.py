"""The device against a model of the node, one schedule at a time."""

from __future__ import annotations

import pytest

from homeport.core.schema import Collection, Synced

from .device import Device
from .model import ModelServer


def pair(policy="merge", deletes="delete-wins", **options):
    server = ModelServer({"wells": (policy, deletes), "_resolutions": ("merge", "delete-wins")}, **options)
    return server, Device(server, name="a"), Device(server, name="b")


def settle(*devices):
    for _ in range(3):
        for device in devices:
            device.sync()


def test_a_write_travels():
    server, a, b = pair()
    a.put({"id": "w1", "name": "Brent-7", "depth": 1})
    settle(a, b)
    assert b.get("w1") == {"id": "w1", "name": "Brent-7", "depth": 1} == server.state("wells")["w1"]
    assert a.outbox() == [] and a.bases() == {}


def test_disjoint_fields_merge_without_a_word():
    server, a, b = pair()
    a.put({"id": "w1", "x": 0, "y": 0})
    settle(a, b)
    a.patch("w1", x=1)
    b.patch("w1", y=2)
    settle(a, b)
    assert a.get("w1") == b.get("w1") == {"id": "w1", "x": 1, "y": 2}
    assert a.log() == b.log() == []


def test_r23_the_same_field_the_later_arrival_wins_and_both_are_told():
    server, a, b = pair()
    a.put({"id": "w1", "x": 0})
    settle(a, b)
    a.patch("w1", x=1)
    b.patch("w1", x=2)
    a.sync()
    b.sync()
    a.sync()
    assert a.get("w1") == b.get("w1") == {"id": "w1", "x": 2}
    for device in (a, b):
        (record,) = device.log()
        assert (record.base["x"], record.local["x"], record.remote["x"]) == (0, 2, 1)
        assert record.result["x"] == 2 and record.fields == ["x"] and record.policy == "merge"


@pytest.mark.parametrize("deleter_first", [True, False])
@pytest.mark.parametrize("deletes", ["delete-wins", "edit-wins"])
def test_delete_against_edit_in_both_orders(deleter_first, deletes):
    server, a, b = pair(deletes=deletes)
    a.put({"id": "w1", "x": 0})
    settle(a, b)
    a.delete("w1")
    b.patch("w1", x=2)
    for device in (a, b) if deleter_first else (b, a):
        device.sync()
    settle(a, b)
    expected = None if deletes == "delete-wins" else {"id": "w1", "x": 2}
    assert a.get("w1") == b.get("w1") == expected
    assert server.state("wells").get("w1") == expected
    assert any((r.local or r.remote or {}).get("x") == 2 for r in a.log() + b.log()) or expected
    assert len(a.log()) == len(b.log()) == 1


@pytest.mark.parametrize("policy", ["last-write-wins", "local-wins"])
def test_the_later_document_wins_whole(policy):
    server, a, b = pair(policy)
    a.put({"id": "w1", "x": 0, "y": 0})
    settle(a, b)
    a.patch("w1", x=1)
    b.patch("w1", y=2)
    a.sync()
    b.sync()
    a.sync()
    assert a.get("w1") == b.get("w1") == {"id": "w1", "x": 0, "y": 2}
    assert a.log()[0].remote == {"id": "w1", "x": 1, "y": 0}


def test_remote_wins_drops_the_unit_as_a_whole_into_the_log():
    server, a, b = pair("remote-wins")
    a.put_many([{"id": "p", "n": 100}, {"id": "q", "n": 100}])
    settle(a, b)
    a.patch("p", n=90)
    b.unit(lambda: b.patch("p", n=80), lambda: b.patch("q", n=120))
    a.sync()
    b.sync()
    settle(a, b)
    assert server.state("wells") == {"p": {"id": "p", "n": 90}, "q": {"id": "q", "n": 100}}
    assert b.all() == a.all() == server.state("wells")
    assert {r.key for r in a.log()} == {"p", "q"} and all(r.winner == "remote" for r in a.log())


def test_rule_d_a_unit_arrives_whole():
    server, a, b = pair()
    a.unit(
        lambda: a.put({"id": "p", "n": 1}),
        lambda: a.patch("p", n=2),
        lambda: a.put({"id": "q", "n": 1}),
        lambda: a.delete("q"),
        lambda: a.put({"id": "r", "n": 3}),
    )
    assert [(e.key, e.op) for e in a.outbox()] == [("p", "put"), ("r", "put")]
    assert len({e.unit for e in a.outbox()}) == 1
    settle(a, b)
    assert b.all() == {"p": {"id": "p", "n": 2}, "r": {"id": "r", "n": 3}}


def test_r03_a_rejected_unit_is_a_dead_letter_and_the_queue_goes_on():
    server, a, b = pair()
    server.reject = lambda change: "unique" if change.doc and b'"bad"' in bytes(change.doc) else None
    a.put({"id": "w1", "name": "good"})
    a.unit(lambda: a.put({"id": "w2", "name": "bad"}), lambda: a.put({"id": "w3", "name": "ok"}))
    a.put({"id": "w4", "name": "good"})
    a.patch("w2", depth=5)
    a.sync()
    assert sorted(a.all()) == ["w1", "w4"] == sorted(server.state("wells"))
    first, second = a.dead()
    assert first.code == "unique" and [c["key"] for c in first.changes] == ["w2", "w3"]
    assert second.code == "depends" and first.unit in second.message
    assert [e.kind for e in a.events].count("rejected") == 3
    assert a.outbox() == []


def test_manual_is_held_and_later_edits_of_it_wait_while_others_pass():
    server, a, b = pair("manual")
    a.put_many([{"id": "w1", "x": 0}, {"id": "w2", "x": 0}])
    settle(a, b)
    a.patch("w1", x=1)
    b.patch("w1", x=2)
    a.sync()
    b.sync()
    (conflict,) = b.conflicts()
    assert (conflict.base["x"], conflict.local["x"], conflict.remote["x"]) == (0, 2, 1)
    assert b.get("w1")["x"] == 2 and server.state("wells")["w1"]["x"] == 1
    b.patch("w1", note="later")
    b.patch("w2", x=7)
    b.sync()
    assert server.state("wells")["w2"]["x"] == 7
    assert server.state("wells")["w1"] == {"id": "w1", "x": 1}
    assert len(b.outbox()) == 2
    # The remote moves on while the person thinks.
    a.patch("w1", x=5)
    a.sync()
    b.sync()
    (conflict,) = b.conflicts()
    assert (conflict.base["x"], conflict.local["x"], conflict.remote["x"]) == (0, 2, 5)
    b.resolve(conflict.id, "theirs")
    settle(b, a)
    assert a.get("w1") == b.get("w1") == {"id": "w1", "x": 5, "note": "later"}
    assert b.outbox() == [] and b.conflicts() == []
    assert [r.winner for r in a.log()] == ["remote"]


@pytest.mark.parametrize("choice", ["mine", {"id": "w1", "x": 9}])
def test_a_resolution_is_an_ordinary_write(choice):
    server, a, b = pair("manual")
    a.put({"id": "w1", "x": 0})
    settle(a, b)
    a.patch("w1", x=1)
    b.patch("w1", x=2)
    a.sync()
    b.sync()
    b.resolve(b.conflicts()[0].id, choice)
    settle(b, a)
    assert a.get("w1")["x"] == b.get("w1")["x"] == (2 if choice == "mine" else 9)


def join_names(base, local, remote, meta):
    return {**remote, "names": sorted({*local["names"], *remote["names"]})}


def test_a_function_settles():
    server = ModelServer({"wells": ("join_names", "delete-wins"), "_resolutions": ("merge", "delete-wins")})
    wells = Collection("wells", sync=Synced(join_names))
    a, b = Device(server, wells, name="a"), Device(server, wells, name="b")
    a.put({"id": "w1", "names": ["x"]})
    settle(a, b)
    a.patch("w1", names=["x", "a"])
    b.patch("w1", names=["x", "b"])
    settle(a, b)
    assert a.get("w1") == b.get("w1") == {"id": "w1", "names": ["a", "b", "x"]}
    assert a.log()[0].policy == "join_names"


def test_a_function_that_this_program_has_not_is_held():
    server, a, b = pair("their_function")
    a.put({"id": "w1", "x": 0})
    settle(a, b)
    a.patch("w1", x=1)
    b.patch("w1", x=2)
    a.sync()
    b.sync()
    assert "their_function" in b.conflicts()[0].reason


# -- the wire


def test_r04_lost_reply_then_more_edits():
    server, a, b = pair()
    a.put({"id": "w1", "n": 1})
    a.sync()
    for n in (2, 3, 4):
        a.patch("w1", n=n)
    a.round(lose=True)
    assert server.state("wells")["w1"]["n"] == 4
    a.patch("w1", n=5)
    assert len(a.outbox()) == 2, "what was sent is not touched"
    a.round(lose=True)
    a.sync()
    assert server.state("wells")["w1"] == {"id": "w1", "n": 5}
    assert [h for h in server.history["wells", "w1"]] == [
        '{"id":"w1","n":1}', '{"id":"w1","n":4}', '{"id":"w1","n":5}'
    ]
    assert a.log() == []


@pytest.mark.parametrize("on_disk", [False, True])
def test_r06_killed_between_freeze_and_send_and_between_reply_and_commit(tmp_path, on_disk):
    server = ModelServer()
    a = Device(server, name="a", path=tmp_path / "a.db" if on_disk else None)
    a.put({"id": "w1", "n": 1})
    question = a.ask()
    a.reopen()
    a.put({"id": "w2", "n": 1})
    again = a.ask()
    assert again.body == question.body
    server.sync(again.body)
    a.reopen()
    third = a.ask()
    assert third.body == question.body
    a.sync()
    assert sorted(server.state("wells")) == ["w1", "w2"]
    assert server.history["wells", "w1"] == ['{"id":"w1","n":1}']


def test_r07_a_write_between_request_and_apply_is_kept():
    server, a, b = pair()
    a.put({"id": "w1", "x": 0, "y": 0})
    settle(a, b)
    a.patch("w1", x=1)
    a.sync()
    question = b.ask()
    reply = server.sync(question.body)
    b.patch("w1", y=5)
    b.put({"id": "w2"})
    b.answer(question, reply)
    assert b.get("w1") == {"id": "w1", "x": 1, "y": 5} and b.get("w2")
    settle(b, a)
    assert a.all() == b.all() == server.state("wells")


def test_r16_two_workers_and_late_replies_are_harmless():
    server, a, b = pair()
    a.put({"id": "w1", "n": 1})
    one, two = a.ask(), a.ask()
    assert one.body == two.body
    first, second = server.sync(one.body), server.sync(two.body)
    assert a.answer(two, second).kind == "applied"
    a.patch("w1", n=2)
    assert a.answer(one, first).kind == "dropped"
    a.sync()
    assert a.get("w1")["n"] == 2 == server.state("wells")["w1"]["n"]


def test_a_reply_of_before_does_not_take_the_device_back():
    server, a, b = pair()
    a.put({"id": "w1", "n": 1})
    a.sync()
    b.sync()
    b.patch("w1", n=2)
    b.sync()
    old = a.ask()
    stale = server.sync(old.body)
    a.patch("w1", m=1)
    a.sync()
    assert a.answer(old, stale).kind == "dropped"
    assert a.get("w1") == {"id": "w1", "n": 2, "m": 1}


def test_retry_stays_queued():
    server, a, b = pair()
    server.put_off = lambda unit: True
    a.put({"id": "w1", "n": 1})
    received = a.round()
    assert received.retried == 1 and len(a.outbox()) == 1
    server.put_off = lambda unit: False
    a.sync()
    assert server.state("wells")["w1"]["n"] == 1 and a.dead() == []


def test_a_hot_document_ends_as_a_listed_conflict_and_not_in_a_loop():
    server, a, b = pair("local-wins")
    a.put({"id": "w1", "n": 1})
    a.sync()
    a.patch("w1", n=2)
    for beat in range(20):
        question = a.ask()
        server.write("wells", "w1", {"id": "w1", "n": 1, "beat": beat})
        a.answer(question, server.sync(question.body))
    assert len(a.conflicts()) == 1 and "in a row" in a.conflicts()[0].reason


def test_a_patch_under_merge_passes_a_hot_document():
    server, a, b = pair()
    a.put({"id": "w1", "n": 1})
    a.sync()
    a.patch("w1", n=2)
    question = a.ask()
    server.write("wells", "w1", {"id": "w1", "n": 1, "beat": 1})
    a.answer(question, server.sync(question.body))
    assert server.state("wells")["w1"] == {"id": "w1", "n": 2, "beat": 1} == a.get("w1")
    assert a.outbox() == []


def test_r17_a_large_first_sync_is_staged_and_resumes(tmp_path):
    server = ModelServer(page=10)
    for n in range(95):
        server.write("wells", f"w{n:03}", {"id": f"w{n:03}", "n": n})
    a = Device(server, name="a", path=tmp_path / "a.db")
    for _ in range(4):
        assert a.round().kind == "staged"
    assert a.all() == {}
    a.reopen()
    server.write("wells", "w000", {"id": "w000", "n": -1})
    requests = server.requests
    a.sync()
    assert server.requests - requests < 9
    assert a.all() == server.state("wells")


def test_a_batch_is_answered_on_the_last_page_only():
    server = ModelServer(page=3)
    a, b = Device(server, name="a"), Device(server, name="b")
    a.sync()
    b.put_many([{"id": f"w{n}"} for n in range(10)])
    b.sync()
    a.put({"id": "mine", "n": 1})
    kinds = []
    while a.outbox():
        received = a.round()
        kinds.append(received.kind)
        if received.kind == "staged":
            assert a.get("mine") == {"id": "mine", "n": 1} and len(a.outbox()) == 1
            assert sorted(a.all()) == ["mine"]
    assert kinds == ["staged"] * 3 + ["applied"]
    assert len(a.all()) == 11


# -- scope, identity, history


def scoped():
    grants = {"u": {"north"}, "v": {"north", "south"}}
    server = ModelServer(
        bucket=lambda c, d: d.get("field", "") if c == "wells" else "",
        allowed=lambda user, c: set(grants[user]) if c == "wells" else {""},
    )
    return grants, server


def test_r10_left_and_joined():
    grants, server = scoped()
    a, b = Device(server, name="a", user="u"), Device(server, name="b", user="v")
    b.put_many([{"id": "n1", "field": "north"}, {"id": "s1", "field": "south"}])
    settle(b, a)
    assert sorted(a.all()) == ["n1"]
    grants["u"] = {"south"}
    a.patch("n1", note="mine")
    a.sync()
    assert sorted(a.all()) == ["s1"]
    (letter,) = a.dead()
    assert letter.changes[0]["set"] == {"note": "mine"}
    assert "n1" in server.state("wells")
    grants["u"] = {"north", "south"}
    a.sync()
    assert sorted(a.all()) == ["n1", "s1"]


def test_r10_a_row_that_walks_out_of_sight_is_gone_and_one_that_was_missed_too():
    grants, server = scoped()
    a = Device(server, name="a", user="u")
    server.write("wells", "n1", {"id": "n1", "field": "north"})
    server.write("wells", "n2", {"id": "n2", "field": "north"})
    a.sync()
    server.write("wells", "n1", {"id": "n1", "field": "south"})
    a.sync()
    assert sorted(a.all()) == ["n2"]
    # A rescan: the server forgot to log a deletion (truncate), and bumps the generation.
    del server.docs["wells", "n2"], server.log["wells", "n2"]
    server.generation += 1
    a.sync()
    assert a.all() == {}


def test_r14_history_breaks_and_the_queue_is_merged_against_a_fresh_cut():
    server, a, b = pair()
    a.put_many([{"id": "w1", "x": 0}, {"id": "w2", "x": 0}, {"id": "w3", "x": 0}])
    settle(a, b)
    a.patch("w1", x=1)
    a.put({"id": "new", "x": 1})
    a.round(lose=True)
    a.patch("w2", x=2)
    server.epoch += 1
    server.write("wells", "w2", {"id": "w2", "x": 0, "y": 7})
    server.docs.pop(("wells", "w3")), server.log.pop(("wells", "w3"))
    a.sync()
    assert server.state("wells") == a.all()
    assert a.get("w2") == {"id": "w2", "x": 2, "y": 7} and a.get("new") and "w3" not in a.all()
    assert a.outbox() == []


def test_r25_a_copied_file_takes_a_new_identity(tmp_path):
    import shutil

    server = ModelServer()
    a = Device(server, name="a", path=tmp_path / "a.db")
    a.put({"id": "w1", "x": 0})
    a.sync()
    a.engine.close()
    shutil.copy(tmp_path / "a.db", tmp_path / "b.db")
    a.open()
    b = Device(server, name="b", path=tmp_path / "b.db", enabled=False)
    a.patch("w1", a=1)
    b.patch("w1", b=1)
    settle(a, b)
    assert a.all() == b.all() == {"w1": {"id": "w1", "x": 0, "a": 1, "b": 1}}
    assert a.meta("sync.client") != b.meta("sync.client")


# -- adoption


def test_adoption_creates_recognises_and_lists():
    server = ModelServer()
    server.write("wells", "same", {"id": "same", "x": 1})
    server.write("wells", "other", {"id": "other", "x": 1})
    server.write("wells", "theirs", {"id": "theirs"})
    a = Device(server, name="a", enabled=False)
    a.put_many([{"id": "same", "x": 1}, {"id": "other", "x": 2}, {"id": "mine"}])
    assert a.outbox() == []
    a.enable()
    a.round()  # a cut arrives before anything is queued
    a.sync()
    assert sorted(server.state("wells")) == ["mine", "other", "same", "theirs"]
    (conflict,) = a.conflicts()
    assert (conflict.key, conflict.local["x"], conflict.remote["x"], conflict.base) == ("other", 2, 1, None)
    assert a.get("other")["x"] == 2 and server.state("wells")["other"]["x"] == 1
    a.resolve(conflict.id, "mine")
    a.sync()
    assert server.state("wells") == a.all()


def test_edits_during_adoption_are_creations():
    server = ModelServer()
    a = Device(server, name="a", enabled=False)
    a.put_many([{"id": f"w{n}", "x": 0} for n in range(5)])
    a.enable()
    a.patch("w1", x=1)
    a.delete("w2")
    a.put({"id": "w9", "x": 9})
    a.sync()
    assert server.state("wells") == a.all()
    assert sorted(a.all()) == ["w0", "w1", "w3", "w4", "w9"]
