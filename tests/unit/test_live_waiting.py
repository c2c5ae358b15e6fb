"""Waiting for changes: subscriptions, event loops, other processes, expiry, ends and leftovers."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import homeport as hp
from homeport.drivers import subscription as subscription_module
from homeport.errors import Closed, TransactionError, UsageError

DOCS = hp.Collection("docs", indexes=["n"])
BRIEF = hp.Collection("brief", indexes=["n"], ttl_s=1.0)


@pytest.fixture(params=["memory", "file"])
def db(request: Any, tmp_path: Path) -> Iterator[hp.Database]:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[DOCS, BRIEF], durability="relaxed") as db:
        yield db


@pytest.fixture
def file(tmp_path: Path) -> Iterator[hp.Database]:
    with hp.open(tmp_path / "a.db", collections=[DOCS, BRIEF], durability="relaxed") as db:
        yield db


def ids(docs: Any) -> list[Any]:
    return [doc["id"] for doc in docs]


def until(test: Callable[[], object], timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while not test():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)


def threads(name: str) -> int:
    return sum(thread.name == f"homeport-{name}" for thread in threading.enumerate())


def put_elsewhere(path: str, *documents: dict[str, Any]) -> None:
    """By another process."""
    program = f"""
import homeport as hp
docs = hp.Collection("docs", indexes=["n"])
with hp.open({path!r}, collections=[docs]) as db:
    db[docs].put_many({list(documents)!r})
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# -- subscriptions


def test_a_subscription_is_called_with_every_change_in_a_thread_of_its_own(db: hp.Database) -> None:
    db[DOCS].put({"id": "a", "n": 1})
    got: list[tuple[Any, str]] = []
    subscription = db[DOCS].where(hp.F.n > 0).order_by("n").subscribe(
        lambda change: got.append((ids(change.rows), threading.current_thread().name))
    )
    until(lambda: got)
    db[DOCS].put({"id": "b", "n": 2})
    until(lambda: len(got) == 2)
    assert [rows for rows, _ in got] == [["a"], ["a", "b"]]
    assert {name for _, name in got} == {"homeport-subscription"}
    assert not subscription.closed
    subscription.close()
    assert subscription.closed
    until(lambda: not threads("subscription"))
    db[DOCS].put({"id": "c", "n": 3})
    assert len(got) == 2
    subscription.close()


def test_the_handle_need_not_be_kept_and_may_be_a_block(db: hp.Database) -> None:
    got: list[int] = []
    db[DOCS].subscribe(lambda change: got.append(len(change.rows)))
    gc.collect()
    until(lambda: got == [0])
    db[DOCS].put({"id": "a"})
    until(lambda: got == [0, 1])
    with db[DOCS].subscribe(lambda change: None) as other:
        assert "docs" in repr(other)
    assert other.closed


def test_an_exception_in_the_function_does_not_end_it(
    db: hp.Database, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[str] = []
    got: list[int] = []

    def fn(change: hp.LiveChange[Any]) -> None:
        got.append(len(change.rows))
        raise ValueError(f"at {len(change.rows)}")

    first = db[DOCS].subscribe(fn, on_error=lambda error: errors.append(str(error)))
    until(lambda: errors == ["at 0"])
    db[DOCS].put({"id": "a"})
    until(lambda: errors == ["at 0", "at 1"])
    first.close()

    def worse(error: Exception) -> None:
        raise RuntimeError("on_error too")

    with caplog.at_level(logging.ERROR, "homeport"):
        second = db[DOCS].subscribe(fn)
        until(lambda: "goes on" in caplog.text)
        third = db[DOCS].subscribe(fn, on_error=worse)
        until(lambda: "on_error of a subscription failed" in caplog.text)
        assert "ValueError: at 1" in caplog.text
    calls = len(got)
    db[DOCS].put({"id": "b"})
    until(lambda: len(got) == calls + 2)
    assert not second.closed
    assert not third.closed


def test_an_evaluation_that_fails_is_told_and_tried_again(
    db: hp.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_module, "FIRST_PAUSE_S", 0.01)
    faulty = threading.Event()

    def pick(doc: Any) -> bool:
        if faulty.is_set():
            raise ValueError("bad predicate")
        return True

    errors: list[Exception] = []
    got: list[Any] = []
    db[DOCS].filter(pick).subscribe(lambda change: got.append(ids(change.added)), on_error=errors.append)
    until(lambda: got == [[]])
    faulty.set()
    db[DOCS].put({"id": "a"})
    until(lambda: len(errors) >= 2)
    faulty.clear()
    until(lambda: got == [[], ["a"]])


def test_a_slow_function_gets_one_merged_change(db: hp.Database) -> None:
    go, got = threading.Event(), []

    def slow(change: hp.LiveChange[Any]) -> None:
        got.append(change)
        go.wait(10)

    db[DOCS].subscribe(slow)
    until(lambda: len(got) == 1)
    for n in range(40):
        db[DOCS].put({"id": str(n % 4), "n": n})
    db[DOCS].delete("0")
    assert len(got) == 1, "nothing is queued up, and nothing runs beside the first call"
    go.set()
    until(lambda: len(got) == 2)
    assert sorted(ids(got[1].added)) == ["1", "2", "3"]
    assert {doc["n"] for doc in got[1].rows} == {37, 38, 39}


def test_a_subscription_may_write_and_may_close_itself(db: hp.Database) -> None:
    handles: list[hp.Subscription] = []
    there = threading.Event()
    seen: list[int] = []

    def count(change: hp.LiveChange[Any]) -> None:
        seen.append(len(change.rows))
        there.wait(10)
        if len(change.rows) < 5:
            db[DOCS].put({"id": str(len(change.rows))})
        else:
            handles[0].close()

    handles.append(db[DOCS].subscribe(count))
    there.set()
    until(lambda: seen == [0, 1, 2, 3, 4, 5])
    until(lambda: not threads("subscription"))
    assert handles[0].closed


def test_the_end_of_the_database_ends_subscriptions(tmp_path: Path) -> None:
    for path in (":memory:", tmp_path / "a.db"):
        db = hp.open(path, collections=[DOCS])
        got: list[Any] = []
        errors: list[Any] = []
        handles = [db[DOCS].subscribe(got.append, on_error=errors.append) for _ in range(3)]
        until(lambda: len(got) == 3)
        db.close()
        until(lambda: not threads("subscription") and not threads("pulse"))
        assert all(handle.closed for handle in handles)
        assert not errors


def test_what_cannot_be_subscribed(db: hp.Database) -> None:
    with pytest.raises(UsageError, match="functions"):
        db[DOCS].subscribe("not a function")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="functions"):
        db[DOCS].subscribe(print, on_error=1)  # type: ignore[arg-type]
    assert not threads("subscription")
    live = db[DOCS].live()
    with db.transaction(), pytest.raises(TransactionError, match="inside a transaction"):
        live.next()


async def test_subscriptions_on_an_event_loop(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[DOCS]) as db:
        got: list[Any] = []
        errors: list[str] = []
        loop_thread = threading.get_ident()

        async def slow(change: hp.LiveChange[Any]) -> None:
            assert threading.get_ident() == loop_thread
            await asyncio.sleep(0.01)
            got.append(sorted(ids(change.rows)))
            if len(change.rows) == 1:
                raise ValueError("once")

        async def told(error: Exception) -> None:
            errors.append(str(error))

        plain: list[int] = []
        first = db[DOCS].subscribe(slow, on_error=told)
        second = db[DOCS].subscribe(lambda change: plain.append(len(change.rows)))
        for key in ("a", "b", "c"):
            await db[DOCS].put({"id": key})
            await asyncio.sleep(0.05)
        assert got[-1] == ["a", "b", "c"]
        assert plain[-1] == 3
        assert errors in (["once"], [])
        first.close()
        await db[DOCS].put({"id": "d"})
        await asyncio.sleep(0.05)
        assert got[-1] == ["a", "b", "c"]
        assert plain[-1] == 4
        assert first.closed
        assert not second.closed
    await asyncio.sleep(0.02)
    assert second.closed


async def test_subscribe_needs_a_running_loop(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[DOCS]) as db:

        def outside() -> str:
            with pytest.raises(UsageError, match="no event loop runs"):
                db[DOCS].subscribe(print)
            return "told"

        assert await asyncio.to_thread(outside) == "told"
        assert not db._driver.engine.pulse._bells


# -- event loops


async def test_a_wait_that_is_cancelled_loses_no_change(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[DOCS], durability="relaxed") as db:
        live = db[DOCS].order_by("n").live()
        await live.next()
        rows: list[Any] = []
        cancelled = 0
        for batch in range(30):
            # More than is evaluated on the loop, so that the wait meets the worker at its work.
            await db[DOCS].put_many({"id": f"{batch:02}-{n:03}", "n": batch} for n in range(150))
            timeout_s = 0.0003
            while True:
                try:
                    change = await asyncio.wait_for(live.next(), timeout_s)
                except TimeoutError:
                    cancelled += 1
                    timeout_s *= 1.2
                else:
                    break
            assert change is not None
            rows += ids(change.added)
            assert sorted(rows) == ids(change.rows)
        assert len(rows) == 30 * 150
        assert cancelled, "the timeout never met a wait"


async def test_closing_wakes_tasks_that_wait(tmp_path: Path) -> None:
    for path in (":memory:", tmp_path / "a.db"):
        db = await hp.open_async(path, collections=[DOCS])

        async def follow(live: Any) -> int:
            return sum([1 async for _ in live])

        lives = [db[DOCS].live() for _ in range(3)]
        tasks = [asyncio.create_task(follow(live)) for live in lives]
        await asyncio.sleep(0.05)
        lives[0].close()
        assert await asyncio.wait_for(tasks[0], 5) == 1
        await db.close()
        assert await asyncio.wait_for(asyncio.gather(*tasks), 5) == [1, 1, 1]
        with pytest.raises(Closed):
            db[DOCS].live()


async def test_small_changes_are_evaluated_on_the_loop_and_large_ones_beside_it(
    tmp_path: Path,
) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[DOCS], durability="relaxed") as db:
        where: set[int] = set()

        def pick(doc: Any) -> bool:
            where.add(threading.get_ident())
            return True

        live = db[DOCS].filter(pick).live()
        await live.next()
        await db[DOCS].put({"id": "a"})
        assert len((await live.next()).rows) == 1  # type: ignore[union-attr]
        assert where == {threading.get_ident()}
        where.clear()
        await db[DOCS].put_many({"id": str(n)} for n in range(1000))
        assert len((await live.next()).rows) == 1001  # type: ignore[union-attr]
        assert where
        assert threading.get_ident() not in where


# -- other processes


def test_b12_other_processes_wake_a_waiting_thread_and_a_waiting_task(file: hp.Database) -> None:
    live = file[DOCS].order_by("n").live()
    live.next()
    put_elsewhere(file.path, {"id": "theirs", "n": 1})
    change = live.next(timeout_s=20)
    assert change is not None
    assert ids(change.added) == ["theirs"]

    async def follow() -> None:
        async with hp.open_async(file.path, collections=[DOCS]) as db:
            live = db[DOCS].order_by("n").live()
            assert ids((await live.next()).rows) == ["theirs"]  # type: ignore[union-attr]
            waiting = asyncio.create_task(live.next(timeout_s=20))
            await asyncio.to_thread(put_elsewhere, file.path, {"id": "more", "n": 2})
            change = await waiting
            assert change is not None
            assert ids(change.rows) == ["theirs", "more"]

    asyncio.run(follow())


def test_b12_one_pulse_serves_all_and_ends_with_the_last(file: hp.Database) -> None:
    """Nobody looks for commits of others while nobody wants them; a hint that never comes costs
    latency only."""
    assert not threads("pulse")
    lives = [file[DOCS].live() for _ in range(20)]
    subscriptions = [file[DOCS].subscribe(lambda change: None) for _ in range(5)]
    assert threads("pulse") == 1
    for handle in (*lives, *subscriptions):
        handle.close()
    until(lambda: not threads("pulse"))
    live = file[DOCS].live()
    assert threads("pulse") == 1
    live.close()


def test_r22_a_hint_that_is_lost_costs_latency_only(
    file: hp.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeport.drivers.watch.LOOK_S", 0.05)
    live = file[DOCS].live()
    live.next()
    # Neither bell reaches it.
    file._driver.engine._listeners.clear()
    file._driver.engine.pulse._bells.clear()
    threading.Timer(0.1, lambda: file[DOCS].put({"id": "a"})).start()
    change = live.next(timeout_s=20)
    assert change is not None
    assert ids(change.added) == ["a"]


WRITER = """
import sys
import homeport as hp
accounts, ledger = hp.Collection("accounts", indexes=["n"]), hp.Collection("ledger")
path, seed = sys.argv[1], int(sys.argv[2])
with hp.open(path, collections=[accounts, ledger], durability="relaxed", busy_timeout_s=60) as db:
    n = seed
    print("ready", flush=True)
    sys.stdin.readline()
    while db[ledger].get("stop") is None:
        n += 1
        a, b, c = (str((n * k + seed) % 8) for k in (1, 3, 5))
        if len({a, b, c}) < 3:
            continue
        with db.transaction():
            for key, by in ((a, -2), (b, 1), (c, 1)):
                db[accounts].update(key, lambda doc: {**doc, "n": doc["n"] + by})
            db[ledger].put({"id": f"{seed}-{n % 50}", "of": [a, b, c]})
"""


def test_no_reader_sees_half_of_a_unit_of_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes move amounts between three documents a unit; live queries in two threads and
    on an event loop see the same total in every one of thousands of snapshots."""
    monkeypatch.setattr("homeport.drivers.pulse.BUSY_POLL_S", 0.0002)
    accounts, ledger = hp.Collection("accounts", indexes=["n"]), hp.Collection("ledger")
    path = str(tmp_path / "a.db")
    with hp.open(path, collections=[accounts, ledger], durability="relaxed") as db:
        db[accounts].put_many({"id": str(n), "n": 100} for n in range(8))
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, path, str(seed)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for seed in (1, 100_000)
        ]  # fmt: skip
        snapshots, torn = [0, 0, 0], []
        end = time.monotonic() + 60

        def check(which: int, change: hp.LiveChange[Any] | None) -> bool:
            if change is None:
                return False
            amounts = [doc["n"] for doc in change.rows]
            if sum(amounts) != 800 or amounts != sorted(amounts) or len(amounts) != 8:
                torn.append(amounts)
            snapshots[which] += 1
            return min(snapshots) < 800 and time.monotonic() < end

        def in_thread(which: int) -> None:
            live = db[accounts].order_by("n").live()
            while check(which, live.next(timeout_s=20)):
                pass

        async def on_a_loop() -> None:
            async with hp.open_async(path, collections=[accounts, ledger]) as other:
                live = other[accounts].order_by("n").live()
                while check(2, await live.next(timeout_s=20)):
                    pass

        try:
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "ready\n"
            readers = [threading.Thread(target=in_thread, args=(which,)) for which in (0, 1)]
            readers.append(threading.Thread(target=lambda: asyncio.run(on_a_loop())))
            for reader in readers:
                reader.start()
            for writer in writers:
                assert writer.stdin is not None
                writer.stdin.write("go\n")
                writer.stdin.flush()
            for reader in readers:
                reader.join()
        finally:
            db[ledger].put({"id": "stop"})
            for writer in writers:
                writer.communicate(timeout=30)
    assert not torn
    assert min(snapshots) >= 800
    assert all(writer.returncode == 0 for writer in writers)


# -- expiry


def test_expired_documents_leave_without_a_commit(db: hp.Database) -> None:
    db[BRIEF].put({"id": "a", "n": 1})
    live = db[BRIEF].where(hp.F.n > 0).order_by("n").live()
    page = db[BRIEF].order_by("-n").limit(1).live()
    assert ids(next(live).rows) == ids(next(page).rows) == ["a"]
    time.sleep(0.1)
    db[BRIEF].put({"id": "b", "n": 2})
    assert ids(next(live).rows) == ["a", "b"]
    assert ids(next(page).rows) == ["b"]
    head = db._driver.engine.run(live._view.refresh())
    change = live.next(timeout_s=20)
    assert change is not None
    assert (change.removed, ids(change.rows)) == (["a"], ["b"])
    assert live._view.head == head.news.head, "no commit had to come for that"
    assert live.next(timeout_s=20).removed == ["b"]  # type: ignore[union-attr]
    assert page.next(timeout_s=20).removed == ["b"]  # type: ignore[union-attr]
    assert live.next(timeout_s=0) is None


async def test_expired_documents_wake_a_task(tmp_path: Path) -> None:
    for path in (":memory:", tmp_path / "a.db"):
        async with hp.open_async(path, collections=[BRIEF]) as db:
            await db[BRIEF].put_many({"id": str(n), "n": n} for n in range(300))
            live = db[BRIEF].live()
            assert len((await live.next()).rows) == 300  # type: ignore[union-attr]
            left = 300
            while left:
                left = len((await live.next(timeout_s=20)).rows)  # type: ignore[union-attr]


def test_a_clock_that_is_set_back_brings_documents_back(tmp_path: Path) -> None:
    collection = hp.Collection("c", ttl_s=10.0)
    for path in (":memory:", tmp_path / "a.db"):
        with hp.open(path, collections=[collection]) as db:
            offset_ms = [0]
            store = db._driver.engine.store
            clock = store.clock_ms

            def shifted(clock: Any = clock, offset_ms: Any = offset_ms) -> int:
                return clock() + offset_ms[0]

            store.clock_ms = shifted
            main = db._driver.engine._main
            if hasattr(main, "reads"):
                main.reads.clock_ms = shifted
            db[collection].put({"id": "a"})
            live = db[collection].live()
            next(live)
            offset_ms[0] = 11_000
            assert next(live).removed == ["a"]
            offset_ms[0] = 0
            db[collection].delete("nothing")
            db[collection].put({"id": "b"})
            change = next(live)
            assert sorted(ids(change.rows)) == sorted(ids(db[collection].all())) == ["a", "b"]


# -- leftovers


def test_what_is_dropped_leaves_nothing_behind(file: hp.Database) -> None:
    engine = file._driver.engine
    for _ in range(3):
        lives = [file[DOCS].where(hp.F.n > n).live() for n in range(50)]
        for live in lives:
            live.next()
        assert len(engine._listeners) == len(engine.pulse._bells) == 50
        del live, lives
        assert len(engine._listeners) == len(engine.pulse._bells) == 0
    until(lambda: not threads("pulse"))


async def test_dropped_on_a_loop_leaves_nothing_behind(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[DOCS]) as db:
        engine = db._driver.engine
        lives = [db[DOCS].live() for _ in range(20)]
        for live in lives:
            await live.next()
            assert await live.next(timeout_s=0) is None
        del live, lives
        await asyncio.sleep(0)
        gc.collect()
        assert len(engine._listeners) == len(engine.pulse._bells) == 0


def test_a_database_that_is_dropped_ends_its_pulse(tmp_path: Path) -> None:
    db = hp.open(tmp_path / "a.db", collections=[DOCS])
    live = db[DOCS].live()
    live.next()
    assert threads("pulse") == 1
    del db, live
    gc.collect()
    until(lambda: not threads("pulse"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_is_told(file: hp.Database) -> None:
    live = file[DOCS].live()
    live.next()
    subscription = file[DOCS].subscribe(lambda change: None)

    def child(sink: Any) -> None:
        told = []
        for call in (live.next, lambda: live.next(timeout_s=1), lambda: file[DOCS].subscribe(print)):
            try:
                told.append(repr(call()))
            except BaseException as error:  # noqa: BLE001
                told.append(type(error).__name__)
        subscription.close()
        live.close()
        sink.send(told)

    context = multiprocessing.get_context("fork")
    source, sink = context.Pipe()
    process = context.Process(target=child, args=(sink,))
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    process.join(20)
    assert source.recv() == ["Closed"] * 3
    # The parent's go on.
    file[DOCS].put({"id": "a"})
    assert ids(live.next(timeout_s=20).rows) == ["a"]  # type: ignore[union-attr]
    assert not subscription.closed
