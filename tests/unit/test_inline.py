"""The blocking driver on real stores: transactions, ownership, interruption, several processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import homeport as hp
from homeport.drivers.replay import FailingSession
from homeport.errors import Busy, Closed, StorageError, TransactionError

PLAIN = hp.Collection("plain", indexes=["n"])
OTHER = hp.Collection("other", indexes=[hp.Unique("name")])


@pytest.fixture(params=["memory", "file"])
def db(request: Any, tmp_path: Path) -> Iterator[hp.Database]:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[PLAIN, OTHER], durability="relaxed", busy_timeout_s=0.3) as db:
        yield db


@pytest.fixture
def file(tmp_path: Path) -> Iterator[hp.Database]:
    with hp.open(
        tmp_path / "a.db", collections=[PLAIN, OTHER], durability="relaxed", busy_timeout_s=0.3
    ) as db:
        yield db


def keys(db: hp.Database) -> list[Any]:
    return sorted(db[PLAIN].keys())


# -- transactions


def test_a_transaction_commits_or_rolls_back_as_a_whole(db: hp.Database) -> None:
    with db.transaction():
        db[PLAIN].put({"id": "a"})
        db[OTHER].put({"id": "a"})
        assert db[PLAIN].get("a") == {"id": "a"}, "a transaction sees its own writes"
    with pytest.raises(ZeroDivisionError), db.transaction():
        db[PLAIN].put({"id": "b"})
        db[PLAIN].delete("a")
        _ = 1 / 0
    assert keys(db) == ["a"]
    db[PLAIN].put({"id": "c"})
    assert keys(db) == ["a", "c"]


def test_inner_transactions_are_savepoints(db: hp.Database) -> None:
    with db.transaction():
        db[PLAIN].put({"id": "outer"})
        with pytest.raises(ZeroDivisionError), db.transaction():
            db[PLAIN].put({"id": "inner"})
            with db.transaction():
                db[PLAIN].put({"id": "innermost"})
            _ = 1 / 0
        with db.transaction():
            db[PLAIN].put({"id": "second"})
    assert keys(db) == ["outer", "second"]


def test_a_caught_error_leaves_no_half_operation(db: hp.Database) -> None:
    db[OTHER].put({"id": "x", "name": "taken"})
    with db.transaction():
        db[OTHER].put({"id": "ok", "name": "free"})
        with pytest.raises(hp.UniqueViolation):
            db[OTHER].put({"id": "y", "name": "taken"})
        with pytest.raises(hp.UniqueViolation):
            db[OTHER].where(hp.F.id == "ok").patch(name="taken")
        with pytest.raises(hp.BulkError):
            db[OTHER].put_many([{"id": "1", "name": "taken"}, {"id": "2", "name": "two"}])
    assert sorted(db[OTHER].keys()) == ["2", "ok", "x"]
    assert db[OTHER].get("ok") == {"id": "ok", "name": "free"}


def test_every_request_of_a_transaction_may_fail(db: hp.Database) -> None:
    """Fail the n-th request, for each n: the transaction is whole or absent, and the next works."""
    engine = db._driver.engine
    main = engine._main

    def work() -> None:
        with db.transaction():
            db[PLAIN].put({"id": "a", "n": 1})
            db[PLAIN].update("a", lambda doc: {**doc, "n": 2})
            db[PLAIN].patch("a", n=3)
            db[PLAIN].where(hp.F.n == 3).delete()
            db[PLAIN].put({"id": "b", "n": 4})

    for after in (False, True):
        for at in range(1, 100):
            session = FailingSession(main, at, lambda: StorageError("injected"), after=after)
            engine._main = session  # type: ignore[assignment]
            try:
                work()
                failed = False
            except StorageError:
                failed = True
            finally:
                engine._main = main
            assert keys(db) == ([] if failed else ["b"])
            assert not main.in_transaction
            assert not engine.taken
            if not failed:
                break
        assert at > 8, "the loop must have failed at least once per request"
        db[PLAIN].clear()


def test_what_would_wait_for_its_own_transaction_raises(db: hp.Database) -> None:
    live = db[PLAIN].live()
    with db.transaction():
        for act in (db.close, db.size, db.checkpoint, lambda: next(live)):
            with pytest.raises(TransactionError, match="inside a transaction"):
                act()
        db[PLAIN].put({"id": "a"})
    assert keys(db) == ["a"]


def test_a_closed_database_says_so(db: hp.Database) -> None:
    db[PLAIN].put({"id": "a"})
    db.close()
    db.close()
    for act in (
        lambda: db[PLAIN].get("a"),
        lambda: db[PLAIN].put({"id": "a"}),
        lambda: db[PLAIN].all(),
        lambda: db[PLAIN].where(hp.F.n > 1).count(),
        lambda: db.transaction().__enter__(),
        db.size,
    ):
        with pytest.raises(Closed):
            act()
    assert not db._driver.engine.taken


# -- functions of the user inside operations


def test_the_database_is_not_called_from_inside_an_operation(db: hp.Database) -> None:
    db[PLAIN].put({"id": "a", "n": 1})

    def nested(doc: Any) -> Any:
        db[PLAIN].put({"id": "b"})
        return doc

    with pytest.raises(TransactionError, match="one of its own operations"):
        db[PLAIN].update("a", nested)

    async def unit(tx: hp.Tx) -> None:
        db[PLAIN].get("a")

    with pytest.raises(TransactionError, match="use its tx"):
        db.run(unit)
    assert keys(db) == ["a"]
    # Results are filtered after the lock is given back, so a predicate may look something up.
    assert db[PLAIN].filter(lambda doc: db[PLAIN].get(doc["id"]) is not None).count() == 1


# -- threads and tasks


def test_another_thread_reads_the_committed_state_and_waits_to_write(file: hp.Database) -> None:
    db = file
    db[PLAIN].put({"id": "a", "n": 1})
    seen: list[Any] = []

    def other() -> None:
        seen.append(db[PLAIN].get("a"))
        try:
            db[PLAIN].put({"id": "b"})
        except Busy as error:
            seen.append(type(error))

    with db.transaction():
        db[PLAIN].patch("a", n=2)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == [{"id": "a", "n": 1}, Busy]
    db[PLAIN].put({"id": "b"})


def test_another_task_of_the_thread_is_refused_at_once(db: hp.Database) -> None:
    async def main() -> list[Any]:
        begun, end = asyncio.Event(), asyncio.Event()
        outcome: list[Any] = []

        async def first() -> None:
            with db.transaction():
                db[PLAIN].put({"id": "first"})
                begun.set()
                await end.wait()

        async def second() -> None:
            await begun.wait()
            for act in (
                lambda: db[PLAIN].put({"id": "second"}),
                lambda: db[PLAIN].get("first"),
                lambda: db.transaction().__enter__(),
            ):
                started = time.perf_counter()
                try:
                    act()
                except TransactionError as error:
                    outcome.append(("Another asyncio task" in str(error), time.perf_counter() - started))
            end.set()

        await asyncio.gather(first(), second())
        return outcome

    outcome = asyncio.run(main())
    assert [said for said, _ in outcome] == [True] * 3
    assert max(took for _, took in outcome) < 0.1
    assert keys(db) == ["first"]


def test_threads_increment_without_loss(file: hp.Database) -> None:
    file[PLAIN].put({"id": "a", "n": 0})

    def work() -> None:
        for _ in range(100):
            file[PLAIN].update("a", lambda doc: {**doc, "n": doc["n"] + 1})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file[PLAIN].get("a") == {"id": "a", "n": 400}


def increment(path: str, times: int) -> None:
    with hp.open(path, collections=[PLAIN, OTHER], durability="relaxed", busy_timeout_s=30) as db:
        for _ in range(times):
            db[PLAIN].update("a", lambda doc: {**doc, "n": doc["n"] + 1})


def test_processes_increment_without_loss(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    with hp.open(path, collections=[PLAIN, OTHER]) as db:
        db[PLAIN].put({"id": "a", "n": 0})
        spawn = multiprocessing.get_context("spawn")
        workers = [spawn.Process(target=increment, args=(path, 200)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        assert db[PLAIN].get("a") == {"id": "a", "n": 600}


# -- Ctrl-C


def test_ctrl_c_rolls_back(db: hp.Database) -> None:
    with pytest.raises(KeyboardInterrupt), db.transaction():
        db[PLAIN].put({"id": "a"})
        raise KeyboardInterrupt

    def interrupted(doc: Any) -> Any:
        raise KeyboardInterrupt

    db[PLAIN].put({"id": "b"})
    with pytest.raises(KeyboardInterrupt):
        db[PLAIN].update("b", interrupted)
    assert keys(db) == ["b"]


@pytest.mark.parametrize("then", ["get", "all", "put", "transaction", "thread"])
def test_ctrl_c_that_meets_a_rollback_is_made_good_by_the_next_call(
    file: hp.Database, then: str
) -> None:
    db = file
    db[PLAIN].put({"id": "a", "n": 1})
    session = db._driver.engine.session
    rollback = session.rollback
    session.rollback = lambda: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]

    async def unit(tx: hp.Tx) -> None:
        await tx[PLAIN].put({"id": "a", "n": 2})
        raise ValueError("no")

    with pytest.raises(KeyboardInterrupt):
        db.run(unit)
    session.rollback = rollback  # type: ignore[method-assign]
    assert session.in_transaction, "the test must have left it open"
    if then == "get":
        assert db[PLAIN].get("a") == {"id": "a", "n": 1}
    elif then == "all":
        assert db[PLAIN].all() == [{"id": "a", "n": 1}]
    elif then == "put":
        db[PLAIN].put({"id": "b"})
    elif then == "transaction":
        with db.transaction():
            db[PLAIN].put({"id": "b"})
    else:
        thread = threading.Thread(target=lambda: db[PLAIN].put({"id": "b"}))
        thread.start()
        thread.join()
    assert db[PLAIN].get("a") == {"id": "a", "n": 1}
    assert not session.in_transaction
    assert db[PLAIN].count() == (1 if then in ("get", "all") else 2)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer signal")
def test_ctrl_c_at_any_instant_leaves_the_database_usable(file: hp.Database) -> None:
    """A timer raises KeyboardInterrupt wherever it meets the code, a thousand times; on a machine
    that has no time for us, as often as it comes to in half a minute."""
    db = file
    armed = [False]

    def ring(*_: object) -> None:
        if armed[0]:
            armed[0] = False
            raise KeyboardInterrupt

    def work(n: int) -> None:
        with db.transaction():
            db[PLAIN].put({"id": "a", "n": n})
            db[PLAIN].put({"id": "b", "n": n})
        db[PLAIN].get("a")
        db[PLAIN].update("a", lambda doc: doc)
        db[PLAIN].where(hp.F.n >= 0).count()

    # An interrupt inside a collector's callback (a testing library has one) reaches nobody.
    callbacks, gc.callbacks[:] = gc.callbacks[:], []
    before = signal.signal(signal.SIGALRM, ring)
    hits = 0
    end = time.monotonic() + 30
    try:
        n = 0
        while hits < 1_000 and time.monotonic() < end:
            n += 1
            try:
                armed[0] = True
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + (n * 7919 % 1000) * 3e-7)
                work(n)
                armed[0] = False
            except KeyboardInterrupt:
                hits += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            armed[0] = False
            assert not db._driver.engine.taken, n
            assert db._driver.engine.try_acquire(), n
            db._driver.engine.release()
            a, b = db[PLAIN].get("a"), db[PLAIN].get("b")
            assert (a and a["n"]) == (b and b["n"]), "both or neither"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.callbacks[:] = callbacks
    assert hits > 50
    # Another thread can write: the lock was given back every time.
    thread = threading.Thread(target=lambda: db[PLAIN].put({"id": "after"}))
    thread.start()
    thread.join()
    assert db[PLAIN].get("after")


# -- what is loaded


def test_a_blocking_program_never_loads_asyncio(tmp_path: Path) -> None:
    program = f"""
import sys
import homeport as hp
c = hp.Collection("c", indexes=["n"])
with hp.open({str(tmp_path / "a.db")!r}, collections=[c]) as db:
    db[c].put({{"id": "a", "n": 1}})
    db[c].get("a")
    db[c].where(hp.F.n > 0).all()
    with db.transaction():
        db[c].delete("a")
loaded = [n for n in ("asyncio", "aiohttp", "homeport.replication") if n in sys.modules]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# -- units, blocking


def test_a_unit_runs_as_one_transaction(db: hp.Database) -> None:
    async def move(tx: hp.Tx, frm: str, to: str, amount: int) -> int:
        a, b = await tx[PLAIN].get_many([frm, to])
        assert a is not None
        assert b is not None
        await tx[PLAIN].patch(frm, n=a["n"] - amount)
        if a["n"] < amount:
            raise ValueError("too little")
        await tx["plain"].patch(to, n=b["n"] + amount)
        return b["n"] + amount

    db[PLAIN].put_many([{"id": "a", "n": 5}, {"id": "b", "n": 0}])
    assert db.run(move, "a", "b", amount=3) == 3
    with pytest.raises(ValueError, match="too little"):
        db.run(move, "a", "b", 3)
    assert db[PLAIN].get_many(["a", "b"]) == [{"id": "a", "n": 2}, {"id": "b", "n": 3}]


def test_a_unit_inside_a_transaction_is_a_savepoint(db: hp.Database) -> None:
    async def unit(tx: hp.Tx, fail: bool) -> None:
        await tx[PLAIN].put({"id": f"unit-{fail}"})
        if fail:
            raise ValueError("no")

    with db.transaction():
        db[PLAIN].put({"id": "outer"})
        with pytest.raises(ValueError, match="no"):
            db.run(unit, True)
        db.run(unit, False)
    assert keys(db) == ["outer", "unit-False"]


def test_queries_in_a_unit(db: hp.Database) -> None:
    async def unit(tx: hp.Tx) -> Any:
        documents = tx[PLAIN]
        found = [doc["id"] async for doc in documents.where(hp.F.n > 1).order_by("-n")]
        first = await documents.order_by("n").first()
        with pytest.raises(TransactionError):
            documents.live()
        with pytest.raises(TransactionError):
            documents.where(hp.F.n > 1).explain()
        return found, first, await documents.where(hp.F.n > 1).patch(n=0), await documents.count()

    db[PLAIN].put_many([{"id": str(n), "n": n} for n in range(4)])
    assert db.run(unit) == (["3", "2"], {"id": "0", "n": 0}, 2, 4)
    with pytest.raises(hp.UnknownCollection):

        async def wrong(tx: hp.Tx) -> None:
            tx["nope"]

        db.run(wrong)
