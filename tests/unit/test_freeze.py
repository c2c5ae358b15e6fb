"""Which units a batch takes, and that its bytes never change."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from homeport.core import freeze as freezing
from homeport.core.wire import Batch, PushRequest
from tests.sync.device import Device
from tests.sync.model import ModelServer


def sent(device):
    request = msgspec.json.decode(device.ask().body, type=PushRequest)
    assert hashlib.sha256(bytes(request.batch)).hexdigest() == request.hash
    return msgspec.json.decode(request.batch, type=Batch)


def keys(batch):
    return [[c.key for c in u.changes] for u in batch.units]


def test_a_batch_is_frozen_byte_for_byte_and_numbers_are_dense():
    a = Device(ModelServer(), name="a")
    a.put({"id": "w1", "n": 1})
    first = a.ask()
    a.put({"id": "w2"})
    a.patch("w1", n=2)
    assert a.ask().body == first.body
    a.answer(first, a.server.sync(first.body))
    second = sent(a)
    assert second.number == 2 and keys(second) == [["w2"], ["w1"]]


def test_a_document_occurs_once_and_its_later_units_wait():
    a = Device(ModelServer(), name="a")
    a.put({"id": "p"})
    a.put({"id": "q"})
    a.patch("p", n=1)
    a.unit(lambda: a.patch("q", n=1), lambda: a.put({"id": "r"}))
    a.put({"id": "s"})
    a.patch("r", n=2)
    assert keys(sent(a)) == [["p"], ["q"], ["s"]]


def test_r3_limits_of_a_batch(monkeypatch):
    a = Device(ModelServer(), name="a")
    a.put_many([{"id": f"w{n}"} for n in range(750)])
    batch = sent(a)
    assert len(batch.units) == 500
    b = Device(ModelServer(), name="b")
    b.put_many([{"id": f"w{n}", "t": "x" * 300_000} for n in range(7)])
    assert len(sent(b).units) == 3


def test_a_large_unit_travels_alone_and_whole(monkeypatch):
    monkeypatch.setattr(freezing, "SCAN", 10)  # the unit spans many pages
    a = Device(ModelServer(), name="a")
    a.put({"id": "first"})
    a.unit(*[lambda n=n: a.put({"id": f"u{n}"}) for n in range(700)])
    a.put({"id": "last"})
    assert keys(sent(a)) == [["first"]]
    a.round()
    (unit,) = keys(sent(a))
    assert len(unit) == 700
    a.sync()
    assert len(a.server.state("wells")) == 702


def test_a_held_unit_does_not_hide_what_is_far_behind_it(monkeypatch):
    monkeypatch.setattr(freezing, "SCAN", 5)
    server = ModelServer({"wells": ("manual", "delete-wins"), "_resolutions": ("merge", "delete-wins")})
    a, b = Device(server, name="a"), Device(server, name="b")
    a.put({"id": "hot", "x": 0})
    a.sync()
    b.sync()
    a.patch("hot", x=1)
    b.patch("hot", x=2)
    a.sync()
    b.sync()
    for n in range(30):
        b.unit(lambda n=n: b.patch("hot", n=n), lambda n=n: b.put({"id": f"w{n}"}))
    b.put({"id": "free"})
    assert keys(sent(b)) == [["free"]]
    # Resolving lets all of it go, unit by unit.
    b.round()
    b.resolve(b.conflicts()[0].id, "mine")
    b.sync(100)
    assert server.state("wells")["hot"] == {"id": "hot", "x": 2, "n": 29}
    assert len(server.state("wells")) == 32


def test_the_base_that_is_sent_is_the_current_one():
    server = ModelServer()
    a = Device(server, name="a")
    a.put({"id": "w1", "x": 0, "y": 0})
    a.sync()
    a.patch("w1", x=1)
    server.write("wells", "w1", {"id": "w1", "x": 0, "y": 5})
    question = a.ask()
    server.write("wells", "w1", {"id": "w1", "x": 0, "y": 6})
    a.answer(question, server.sync(question.body))
    a.patch("w1", x=2)
    (unit,) = sent(a).units
    assert unit.changes[0].base == server.docs["wells", "w1"].token


@pytest.mark.parametrize("policy", ["last-write-wins", "local-wins"])
def test_whole_document_policies_send_whole_documents(policy):
    server = ModelServer({"wells": (policy, "delete-wins"), "_resolutions": ("merge", "delete-wins")})
    a = Device(server, name="a")
    a.put({"id": "w1", "x": 0, "y": 0})
    a.sync()
    a.patch("w1", x=1)
    (change,) = sent(a).units[0].changes
    assert change.op == "put" and change.base and b'"y":0' in bytes(change.doc)
