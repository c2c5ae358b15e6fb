"""Units of several documents under policies of whole documents: a conserved sum stays conserved."""

from __future__ import annotations

import random

import pytest

from .test_exchange import pair, settle


def move(device, source, target, amount):
    """A transfer between two accounts, as one unit."""
    device.unit(
        lambda: device.patch(source, n=device.get(source)["n"] - amount),
        lambda: device.patch(target, n=device.get(target)["n"] + amount),
    )


def opened(policy="remote-wins", names="pqr"):
    server, a, b = pair(policy)
    a.put_many([{"id": name, "n": 100} for name in names])
    settle(a, b)
    return server, a, b


def balances(device):
    return {key: doc["n"] for key, doc in device.all().items()}


def test_r24_what_was_built_on_a_lost_unit_is_lost_with_it():
    server, a, b = opened()
    move(a, "p", "q", 10)
    a.sync()
    move(b, "p", "r", 20)  # loses: p moved
    move(b, "r", "q", 5)  # r did not move on the server, but 5 came out of the 20
    b.sync()
    settle(a, b)
    assert balances(b) == balances(a) == {"p": 90, "q": 110, "r": 100}
    lost = {(r.key, r.local["n"]) for r in a.log()}
    assert lost >= {("p", 80), ("r", 120), ("r", 115)}


def test_r24_the_same_value_on_both_sides_is_no_agreement_within_a_unit():
    server, a, b = opened()
    move(a, "p", "q", 10)
    a.sync()
    move(b, "p", "r", 10)  # both brought p to 90: two different tens
    b.sync()
    settle(a, b)
    assert balances(b) == balances(a) == {"p": 90, "q": 110, "r": 100}
    assert {r.key for r in a.log()} == {"p", "r"}


def test_manual_holds_it_too():
    server, a, b = opened("manual")
    move(a, "p", "q", 10)
    a.sync()
    move(b, "p", "r", 10)
    b.sync()
    (conflict,) = b.conflicts()
    assert conflict.key == "p"
    move(b, "r", "q", 5)  # built on the ten that are in question
    b.resolve(conflict.id, "theirs")
    settle(a, b)
    # Rule D: resolved whole, and what was built on it went along, with a record of each.
    assert balances(b) == balances(a) == {"p": 90, "q": 110, "r": 100}
    assert {(r.key, r.local["n"]) for r in a.log()} >= {("p", 90), ("r", 110), ("r", 105)}


def test_manual_mine_keeps_the_unit_and_what_was_built_on_it():
    server, a, b = opened("manual")
    move(a, "p", "q", 10)
    a.sync()
    b.unit(lambda: b.patch("p", n=70), lambda: b.patch("r", n=130))
    b.sync()
    (conflict,) = b.conflicts()
    b.unit(lambda: b.patch("r", n=125), lambda: b.patch("p", n=75))
    b.resolve(conflict.id, "mine")
    settle(a, b)
    assert balances(b) == balances(a) == {"p": 75, "q": 110, "r": 125}


def test_a_unit_that_is_there_already_is_done():
    server, a, b = opened()
    move(a, "p", "q", 10)
    a.round(lose=True)
    a.reset(a.ask())
    settle(a, b)
    assert balances(a) == balances(b) == {"p": 90, "q": 110, "r": 100}
    assert not a.log()


def test_r03_a_rejected_unit_takes_along_what_was_built_on_it():
    server, a, b = opened("merge")
    server.reject = lambda change: "check" if change.set.get("n") == 80 else None
    move(a, "p", "q", 20)
    move(a, "q", "r", 5)
    a.sync()
    settle(a, b)
    assert balances(a) == balances(b) == {"p": 100, "q": 100, "r": 100}
    assert [letter.code for letter in a.dead()] == ["check", "depends"]


def test_a_correction_of_a_rejected_document_is_kept():
    server, a, b = opened("merge")
    server.reject = lambda change: "check" if change.set.get("n") == -1 else None
    a.patch("p", n=-1)
    question = a.ask()  # frozen: the correction is a change of its own
    a.patch("p", n=7)
    a.answer(question, server.sync(question.body, a.user))
    settle(a, b)
    assert b.get("p") == {"id": "p", "n": 7}


@pytest.mark.parametrize("seed", range(40))
def test_r24_the_sum_is_conserved_in_every_view(seed):
    chance = random.Random(seed)
    server, a, b = opened(names="pqrs")
    for _ in range(40):
        device = chance.choice((a, b))
        action = chance.random()
        if action < 0.7:
            move(device, *chance.sample("pqrs", 2), chance.randint(1, 3))
        elif action < 0.8:
            device.round(lose=True)
        elif action < 0.95:
            device.round()
        else:
            device.reset(device.ask())
        for one in (a, b):
            assert sum(balances(one).values()) == 400, balances(one)
        assert sum(d["n"] for d in server.state("wells").values()) == 400
    settle(a, b)
    assert balances(a) == balances(b)
    assert sum(balances(a).values()) == 400
