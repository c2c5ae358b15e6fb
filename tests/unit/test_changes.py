"""Capture: what a write to a synced collection leaves in the queue."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.core.diff import apply, parse, same
from homeport.core.outbox import META_OUTBOX, Entry, parsed, read_entry, read_state, write_json
from homeport.errors import (
    BulkError,
    InvalidDocument,
    InvalidKey,
    KeyExists,
    QueueFull,
    UniqueViolation,
    UnitTooLarge,
)
import homeport as hp

from tests.sync.device import Device
from tests.sync.model import ModelServer


def device(*collections, **options):
    return Device(ModelServer(), *collections, **options)


def test_r05_an_entry_keeps_old_values_changed_fields_and_base():
    a = device()
    a.put({"id": "w1", "a": {"b": 1, "c": 2}, "t": [1]})
    a.sync()
    a.put({"id": "w1", "a": {"b": 9, "c": 2}, "new": None})
    (entry,) = a.outbox()
    assert entry.op == "patch" and entry.set == {"a.b": 9, "new": None} and entry.unset == ["t"]
    assert entry.old == {"a.b": 1, "t": [1]}
    base = a.bases()["wells/w1"]
    assert parsed(base.doc) == {"id": "w1", "a": {"b": 1, "c": 2}, "t": [1]}


@given(
    st.builds(
        Entry,
        st.integers(1, 2**40),
        st.text(),
        st.text(),
        st.text(),
        st.sampled_from(["put", "patch", "delete"]),
        st.integers(0, 2**40),
        st.none() | st.text(),
        set=st.dictionaries(st.text(), st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text()),
        unset=st.lists(st.text()),
        held=st.booleans(),
    )
)
def test_r05_entries_survive_writing_and_reading(entry):
    text = write_json(entry)
    again = read_entry(text)
    assert write_json(again) == text and again.set == entry.set and again.unit == entry.unit


def test_r05_a_rolled_back_write_queues_nothing():
    a = device()
    with pytest.raises(ZeroDivisionError):
        a.unit(lambda: a.put({"id": "w1"}), lambda: 1 / 0)
    assert a.outbox() == [] and a.bases() == {} and a.all() == {}


def test_a_write_that_changes_nothing_queues_nothing():
    a = device()
    a.put({"id": "w1", "x": 1})
    a.sync()
    a.put({"x": 1, "id": "w1"})
    assert a.outbox() == []


def test_neighbours_of_one_document_are_one_entry():
    a = device()
    a.put({"id": "w1", "n": 0})
    for n in range(50):
        a.patch("w1", n=n)
    (entry,) = a.outbox()
    assert entry.op == "put" and parsed(entry.doc) == {"id": "w1", "n": 49}
    a.put({"id": "w2"})
    a.patch("w1", n=-1)
    assert [e.key for e in a.outbox()] == ["w1", "w2", "w1"]


def test_created_and_deleted_before_it_was_sent_is_nothing():
    a = device()
    a.put({"id": "w1"})
    a.delete("w1")
    assert a.outbox() == [] and a.bases() == {}
    assert read_state(a.meta(META_OUTBOX)).queued == 0


def test_changed_and_changed_back_is_nothing():
    a = device()
    a.put({"id": "w1", "x": 1})
    a.sync()
    a.patch("w1", x=2)
    a.patch("w1", x=1)
    assert a.outbox() == [] and a.bases() == {}


def test_a_base_keeps_its_token_when_the_row_goes():
    a = device()
    a.put({"id": "w1", "x": 1})
    a.sync()
    a.patch("w1", x=2)
    a.delete("w1")
    a.put({"id": "w1", "x": 3})
    a.sync()
    assert a.server.state("wells")["w1"] == {"id": "w1", "x": 3} and a.log() == []


def test_what_was_sent_is_never_extended():
    a = device()
    a.put({"id": "w1", "n": 1})
    a.ask()
    a.patch("w1", n=2)
    a.delete("w1")
    a.put({"id": "w1", "n": 3})
    first, second = a.outbox()
    assert first.op == "put" and parsed(first.doc)["n"] == 1
    assert second.op == "patch" and second.set == {"n": 3} and second.old == {"n": 1}


edits = st.lists(
    st.tuples(
        st.sampled_from(["put", "patch", "delete", "send"]),
        st.sampled_from(["p", "q"]),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=14,
)


@settings(max_examples=150)
@given(edits)
def test_the_queue_replayed_on_the_bases_gives_what_the_user_sees(edits):
    a = device()
    a.put_many([{"id": "p", "x": 0, "o": {"y": 0}}])
    a.sync()
    for kind, key, value, nested in edits:
        if kind == "put":
            a.put({"id": key, "x": value} | ({"o": {"y": value}} if nested else {}))
        elif kind == "patch" and a.get(key):
            a.patch(key, **({"o.y": value} if nested else {"x": value}))
        elif kind == "delete":
            a.delete(key)
        elif kind == "send":
            a.ask()
    states = {b.key: parsed(b.doc) for b in a.bases().values()}
    for entry in a.outbox():
        state = states[entry.key]
        if entry.op == "put":
            states[entry.key] = parsed(entry.doc)
        elif entry.op == "delete":
            assert same(parsed(entry.was), state)
            states[entry.key] = None
        else:
            for path, old in entry.old.items():
                assert same(old, __import__("homeport.core.diff", fromlist=["get"]).get(state, path))
            states[entry.key] = apply(state, entry.patch)
    view = a.all()
    for key, state in states.items():
        assert same(view.get(key), state)


def test_rows_that_fail_are_not_queued():
    wells = hp.Collection("wells", indexes=[hp.Unique("name")])
    a = device(wells)
    a.put({"id": "w1", "name": "x"})
    with pytest.raises(BulkError) as caught:
        a.put_many([{"id": "w2", "name": "x"}, {"id": "w3", "name": "y"}])
    assert isinstance(caught.value.failures[0], UniqueViolation)
    assert [e.key for e in a.outbox()] == ["w1", "w3"]
    from homeport.core import writes

    with pytest.raises(KeyExists):
        a.engine.run(writes.put(a.tables["wells"], {"id": "w1", "name": "z"}, str, "add"))
    assert len(a.outbox()) == 2


def test_rule_g_pulled_rows_are_never_refused():
    wells = hp.Collection("wells", indexes=[hp.Unique("name")])
    server = ModelServer()
    a, b = Device(server, wells, name="a"), Device(server, wells, name="b")
    a.put({"id": "w1", "name": "x"})
    b.put({"id": "w2", "name": "x"})
    for one in (a, b, a):
        one.sync()
    assert sorted(a.all()) == sorted(b.all()) == ["w1", "w2"]
    server.write("wells", "odd", {"id": "other", "name": None})
    server.write("wells", "keyless", {"name": 5})
    a.sync()
    assert sorted(a.all()) == ["keyless", "odd", "w1", "w2"]


def test_put_many_is_many_units():
    a = device()
    a.put_many([{"id": f"w{n}"} for n in range(3_000)])
    assert {e.unit for e in a.outbox()} == {None}


def test_a_key_named_twice_in_one_call():
    a = device()
    a.put_many([{"id": "w1", "n": 1}, {"id": "w1", "n": 2}])
    (entry,) = a.outbox()
    assert parsed(entry.doc) == {"id": "w1", "n": 2}
    a.sync()
    assert a.server.state("wells")["w1"]["n"] == 2


def test_limits_are_told_before_the_acknowledgement():
    a = device(max_queue=2)
    with pytest.raises(InvalidDocument, match="1,000,000"):
        a.put({"id": "big", "text": "x" * 1_000_001})
    with pytest.raises(InvalidKey):
        a.put({"id": "k" * 1_001})
    with pytest.raises(InvalidKey, match="string"):
        a.put({"id": 5})
    a.put({"id": "w1"})
    a.put({"id": "w2"})
    with pytest.raises(QueueFull):
        a.put({"id": "w3"})
    a.patch("w2", still="possible")
    assert sorted(a.all()) == ["w1", "w2"]
    b = device()
    with pytest.raises(UnitTooLarge):
        b.unit(*[lambda n=n: b.put({"id": f"w{n}", "t": "x" * 900_000}) for n in range(5)])
    assert b.all() == {} and b.outbox() == []
