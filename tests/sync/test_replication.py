"""The handle, its thread and its HTTP, against the model of the node on a real socket."""

from __future__ import annotations

import threading
import time

import pytest

import homeport as hp
from homeport.transport.hosts import at_once
from homeport.core import session as machine
from homeport.core.outbox import META_STAGED
from homeport.core.requests import Meta

from .model import ModelServer
from .node import HttpNode, token

wells = hp.Collection("wells")
local = hp.Collection("local", sync=False)


@pytest.fixture
def node():
    node = HttpNode()
    yield node
    node.stop()


@pytest.fixture
def db(tmp_path):
    with hp.open(tmp_path / "a.db", collections=[wells, local], durability="relaxed") as db:
        yield db


@pytest.fixture
def quick(monkeypatch):
    """Back-off that a test can wait for."""
    monkeypatch.setattr(machine, "FIRST_DELAY_MS", 20)
    monkeypatch.setattr(machine, "LAST_DELAY_MS", 100)


def until(condition, timeout_s=8.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def test_now_works_without_start(node, db):
    sync = db.sync(node.url, token=token())
    db["wells"].put({"id": "w1", "x": 1})
    db["local"].put({"id": "secret"})
    status = sync.now(timeout_s=10)
    assert (status.queued, status.pushed, status.last_error, status.state) == (0, 1, None, "off")
    assert node.model.state("wells") == {"w1": {"id": "w1", "x": 1}}
    assert node.model.state("local") == {}
    assert abs(status.clock_offset_ms) > 0 and status.lag_s < 5


def test_the_background_pushes_and_hints_pull(node, db):
    sync = db.sync(node.url, token=token(), poll_s=600)
    sync.start()
    until(lambda: node.live)
    db["wells"].put({"id": "w1"})
    until(lambda: node.model.state("wells"))
    node.model.write("wells", "w2", {"id": "w2"})
    node.hint()
    until(lambda: db["wells"].get("w2"))
    until(lambda: sync.status().state == "idle")
    assert sync.status().queued == 0


def test_r22_without_hints_polling_finds_it(node, db):
    sync = db.sync(node.url, token=token(), poll_s=0.2, live=False)
    sync.start()
    node.model.write("wells", "w2", {"id": "w2"})
    until(lambda: db["wells"].get("w2"))


def test_bursts_become_few_requests(node, db):
    sync = db.sync(node.url, token=token(), poll_s=600)
    sync.start()
    until(lambda: sync.status().state == "idle")
    db["wells"].put_many([{"id": f"w{n}"} for n in range(1_200)])
    until(lambda: len(node.model.state("wells")) == 1_200)
    until(lambda: sync.status().queued == 0)
    status = sync.status()
    assert status.pushed == 1_200 and status.requests < 12 and status.calls_saved > 1_100


def test_r01_it_drains_by_itself_after_failures(node, db, quick):
    node.status = 503
    sync = db.sync(node.url, token=token(), poll_s=600, live=False)
    db["wells"].put({"id": "w1"})
    sync.start()
    until(lambda: sync._pump.session.failures >= 3)
    status = sync.status()
    assert status.state in ("offline", "syncing") and "busy" in status.last_error
    assert status.queued == 1 and status.oldest_s >= 0
    node.status = None
    until(lambda: sync.status().queued == 0)
    assert node.model.state("wells")


def test_r01_also_after_a_restart_of_the_program(node, tmp_path, monkeypatch):
    node.status = 503
    with hp.open(tmp_path / "a.db", collections=[wells]) as db:
        sync = db.sync(node.url, token=token(), live=False)
        db["wells"].put({"id": "w1"})
        sync.start()
        until(lambda: sync._pump.session.failures == 1)
    node.status = None
    with hp.open(tmp_path / "a.db", collections=[wells]) as db:
        sync = db.sync(node.url, token=token(), live=False)
        sync.start()
        assert sync._pump.session.failures == 1 or sync.status().queued == 0
        until(lambda: sync.status().queued == 0)
    assert node.model.state("wells")


def test_r04_lost_replies_cost_nothing(node, db, quick):
    node.lose = 3
    sync = db.sync(node.url, token=token(), live=False)
    db["wells"].put({"id": "w1", "n": 1})
    sync.now(timeout_s=10)
    assert len(node.model.history["wells", "w1"]) == 1
    assert sync.status().queued == 0


def test_unreachable_says_so_and_keeps_the_queue(db, quick):
    sync = db.sync("http://127.0.0.1:9", token=token())
    db["wells"].put({"id": "w1"})
    with pytest.raises(hp.errors.Unreachable):
        sync.now(timeout_s=0.5)
    status = sync.status()
    assert (status.state, status.queued) == ("offline", 1) and "127.0.0.1:9" in status.last_error


def test_r20_a_callable_token_is_asked_again_once(node, db):
    given = [token(signature="old"), token(signature="good")]
    sync = db.sync(node.url, token=lambda: given.pop(0))
    db["wells"].put({"id": "w1"})
    sync.now(timeout_s=10)
    assert node.model.state("wells") and not given


def test_r20_a_coroutine_may_give_the_token(node, db):
    async def give():
        return token()

    assert db.sync(node.url, token=give).now(timeout_s=10).last_error is None


@pytest.mark.parametrize("none", [None, "", b"bytes"], ids=repr)
def test_r20_a_function_without_a_token_sends_nothing(node, db, none):
    """It was sent as the text "None"."""
    given = [none, none]
    sync = db.sync(node.url, token=lambda: given.pop(0) if given else token(), live=False)
    db["wells"].put({"id": "w1"})
    with pytest.raises(hp.errors.NeedsAuth, match=r"token\(\) returned"):
        sync.now(timeout_s=10)
    assert sync.status().state == "needs-auth" and sync.status().queued == 1
    sync.now(timeout_s=10)
    assert node.model.state("wells")


def test_r20_a_bad_token_is_no_verdict(node, db):
    sync = db.sync(node.url, token=token(signature="bad"))
    db["wells"].put({"id": "w1"})
    with pytest.raises(hp.errors.NeedsAuth):
        sync.now(timeout_s=10)
    assert sync.status().state == "needs-auth" and sync.status().queued == 1
    db.sync(node.url, token=token()).now(timeout_s=10)
    assert node.model.state("wells")


def test_r20_another_user_sends_nothing(node, db):
    db.sync(node.url, token=token("alice")).now(timeout_s=10)
    db["wells"].put({"id": "hers"})
    requests = node.requests
    sync = db.sync(node.url, token=token("bob"))
    with pytest.raises(hp.errors.WrongUser, match="alice"):
        sync.now(timeout_s=10)
    assert node.requests == requests and sync.status().state == "wrong-user"
    assert sync.status().queued == 1


def test_unknown_collections_stay_queued_and_are_named(db):
    node = HttpNode(ModelServer({"_resolutions": ("merge", "delete-wins")}, open_world=False))
    sync = db.sync(node.url, token=token())
    db["wells"].put({"id": "w1"})
    try:
        sync.now(timeout_s=10)
    except hp.errors.UnknownRemoteCollection:
        pass
    status = sync.status()
    assert status.queued == 1 and status.unknown == ["wells"] and "wells" in status.last_error
    node.model.policies["wells"] = ("merge", "delete-wins")
    sync.now(timeout_s=10)
    assert sync.status().queued == 0 and sync.status().last_error is None
    node.stop()


def test_now_inside_a_transaction_is_refused(node, db):
    sync = db.sync(node.url, token=token())
    with db.transaction(), pytest.raises(hp.errors.TransactionError):
        sync.now()


def test_a_full_queue_is_told_before_the_write_is_made(node, db):
    sync = db.sync(node.url, token=token(), max_queue=3)
    for n in range(3):
        db["wells"].put({"id": f"w{n}"})
    with pytest.raises(hp.errors.QueueFull):
        db["wells"].put({"id": "w3"})
    assert db["wells"].count() == 3
    sync.now(timeout_s=10)
    db["wells"].put({"id": "w3"})


def test_an_oversized_unit_is_refused_at_its_write(node, db):
    db.sync(node.url, token=token())
    with pytest.raises(hp.errors.UnitTooLarge), db.transaction():
        db["wells"].put_many([{"id": f"w{n}"} for n in range(2_001)])
    assert db["wells"].count() == 0
    db["wells"].put_many([{"id": f"w{n}"} for n in range(2_001)])


def test_pause_and_resume(node, db):
    sync = db.sync(node.url, token=token(), poll_s=600)
    sync.start()
    until(lambda: sync.status().state == "idle")
    sync.pause()
    db["wells"].put({"id": "w1"})
    time.sleep(0.1)
    assert sync.status().state == "paused" and not node.model.state("wells")
    sync.resume()
    until(lambda: node.model.state("wells"))


def test_stop_and_start_again_and_the_thread_ends(node, db):
    before = threading.active_count()
    sync = db.sync(node.url, token=token())
    for n in range(3):
        sync.start()
        db["wells"].put({"id": f"w{n}"})
        until(lambda n=n: f"w{n}" in node.model.state("wells"))
        sync.stop()
        until(lambda: threading.active_count() <= before + 1)  # the node's own
    sync.stop()


def test_r16_a_second_process_stands_by_and_takes_over(node, tmp_path, monkeypatch):
    from homeport.transport import lease

    path = tmp_path / "a.db"
    with hp.open(path, collections=[wells]) as one, hp.open(path, collections=[wells]) as two:
        first = one.sync(node.url, token=token(), live=False)
        second = two.sync(node.url, token=token(), live=False)
        first.start()
        until(lambda: first.status().state == "idle")
        second.start()
        assert second.status().state == "standby"
        two["wells"].put({"id": "w1"})
        until(lambda: node.model.state("wells"))
        first.stop()
        until(lambda: second.status().state == "idle", 5)
        # An explicit now() needs no lease, and two at once are harmless.
        first.start()
        one["wells"].put({"id": "w2"})
        two["wells"].put({"id": "w3"})
        threads = [threading.Thread(target=s.now, args=(10,)) for s in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(node.model.state("wells")) == ["w1", "w2", "w3"]
        assert all(len(h) == 1 for (c, _), h in node.model.history.items() if c == "wells")
        assert lease.is_dead(f"{lease.HOST}/999999999/x") and not lease.is_dead(lease.owner_name())


def test_events_tell_what_happened(node, db):
    node.model.reject = lambda change: "no" if change.key == "bad" else None
    sync = db.sync(node.url, token=token())
    events = sync.events()
    db["wells"].put({"id": "good"})
    db["wells"].put({"id": "bad"})
    sync.now(timeout_s=10)
    seen = {}
    for event in events:
        if event.key:
            seen[event.key] = event.kind
        if len(seen) == 2:
            events.close()
    assert seen == {"good": "committed", "bad": "rejected"}
    (letter,) = sync.dead_letters()
    node.model.reject = lambda change: None
    sync.retry(letter.id)
    sync.now(timeout_s=10)
    assert "bad" in node.model.state("wells") and sync.dead_letters() == []


async def test_the_async_handle(node, tmp_path):
    async with hp.open_async(tmp_path / "a.db", collections=[wells]) as db:
        sync = db.sync(node.url, token=token())
        await db["wells"].put({"id": "w1"})
        events = sync.events()
        status = await sync.now(timeout_s=10)
        assert status.queued == 0
        async for event in events:
            if event.kind == "committed":
                break
        await sync.start()
        await db["wells"].put({"id": "w2"})
        for _ in range(200):
            if "w2" in node.model.state("wells"):
                break
            import asyncio

            await asyncio.sleep(0.02)
        assert "w2" in node.model.state("wells")
        assert await sync.conflicts() == []
        await sync.stop()


def test_reads_and_writes_go_on_while_the_server_hangs(node, db):
    node.delay_s = 3.0
    sync = db.sync(node.url, token=token())
    sync.start()
    db["wells"].put({"id": "w0"})
    time.sleep(0.1)
    started = time.monotonic()
    for n in range(50):
        db["wells"].put({"id": f"w{n}"})
    assert time.monotonic() - started < 1.0
    sync.stop()
    assert time.monotonic() - started < 2.5


def test_r17_what_was_written_during_a_large_cut_is_sent_by_the_same_now(db):
    """A first sync was cut off; the next ``now()`` finishes it and sends what came in between."""
    node = HttpNode(ModelServer(page=2))
    try:
        for n in range(6):
            node.model.write("wells", f"w{n}", {"id": f"w{n}"})
        sync = db.sync(node.url, token=token(), live=False)
        node.lose = 100
        node.model.policies["wells"] = ("merge", "delete-wins")
        with pytest.raises(hp.HomeportError):
            sync.now(timeout_s=0.3)
        node.lose = 0
        pump = sync._pump
        while at_once(pump.rounds.read(staged())) is None:  # the first page has come
            pump.submit(lambda: pump.rounds.exchange(pull=True)).result(10)
        db["wells"].put({"id": "mine"})
        status = sync.now(timeout_s=10)
        assert status.queued == 0
        assert node.model.state("wells")["mine"] == {"id": "mine"}
    finally:
        node.stop()


def staged():
    return (yield Meta(META_STAGED))
