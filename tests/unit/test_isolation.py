"""Who sees what: snapshots and read units, many readers beside one writer, long transactions."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import homeport as hp
from homeport.errors import Closed, LongTransactionWarning, ReadOnly, TransactionError

DOCS = hp.Collection("docs", indexes=["n", hp.Multi("tags")])
OTHER = hp.Collection("other")
BOTH = [DOCS, OTHER]


@pytest.fixture(params=["memory", "file"])
def db(request: Any, tmp_path: Path) -> Iterator[hp.Database]:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=BOTH, durability="relaxed") as db:
        db[DOCS].put_many({"id": str(n), "n": n, "tags": ["old"]} for n in range(5))
        yield db


@pytest.fixture
def file(tmp_path: Path) -> Iterator[hp.Database]:
    with hp.open(tmp_path / "a.db", collections=BOTH, durability="relaxed") as db:
        db[DOCS].put_many({"id": str(n), "n": n, "tags": ["old"]} for n in range(5))
        yield db


def change_all(db: hp.Database) -> None:
    with db.transaction():
        db[DOCS].where(hp.F.n >= 0).patch(tags=["new"])
        db[DOCS].delete("0")
        db[DOCS].put({"id": "9", "n": 9, "tags": ["new"]})
        db[OTHER].put({"id": "x"})


def look(docs: Any) -> tuple[Any, ...]:
    return (
        [doc["id"] for doc in docs.order_by("n").all()],
        docs.where(hp.F.tags.contains("old")).count(),
        docs.where(hp.F.n > 3).keys(),
        docs.get("0") is not None,
        [doc["id"] for doc in docs],
        docs.get_many(["0", "9"])[1] is None,
        docs.where(hp.F.n > 100).exists(),
    )


# -- snapshots


def test_a_snapshot_is_one_state(db: hp.Database) -> None:
    with db.snapshot() as then:
        before = look(then[DOCS])
        assert before == look(db[DOCS])
        change_all(db)
        assert look(then[DOCS]) == before
        assert then["other"].count() == 0
        with db.snapshot() as now:
            assert look(now[DOCS]) == look(db[DOCS]) != before
        assert "open" in repr(then)
    assert look(db[DOCS]) != before


def test_a_snapshot_begins_where_it_is_entered(db: hp.Database) -> None:
    snapshot = db.snapshot()
    db[DOCS].delete("1")
    with snapshot as then:
        db[DOCS].delete("2")
        assert then[DOCS].get("1") is None
        assert then[DOCS].get("2") is not None


def test_a_snapshot_only_reads(db: hp.Database) -> None:
    with db.snapshot() as then:
        docs = then[DOCS]
        for write in (
            lambda: docs.put({"id": "x"}),
            lambda: docs.add_many([{"id": "x"}]),
            lambda: docs.patch("1", n=5),
            lambda: docs.update("1", lambda doc: doc),
            lambda: docs.delete("1"),
            lambda: docs.where(hp.F.n > 1).delete(),
            lambda: docs.clear(),
            lambda: docs.load([{"id": "x"}]),
        ):
            with pytest.raises(TransactionError, match="only reads"):
                write()
        with pytest.raises(TransactionError, match="nothing to follow"):
            docs.live()
        assert "docs" in str(docs.where(hp.F.n > 1).explain())
    assert db[DOCS].count() == 5


def test_a_snapshot_is_used_inside_its_block(db: hp.Database) -> None:
    snapshot = db.snapshot()
    with pytest.raises(TransactionError, match="not open"):
        snapshot[DOCS].get("1")
    with snapshot as then:
        documents = then[DOCS]
        with pytest.raises(TransactionError, match="already"):
            snapshot.__enter__()
        with pytest.raises(hp.UnknownCollection):
            then["nobody"]
    with pytest.raises(TransactionError, match="not open"):
        documents.get("1")
    with pytest.raises(ZeroDivisionError), db.snapshot():
        _ = 1 / 0
    with db.transaction(), pytest.raises(TransactionError, match="inside a transaction"):
        db.snapshot().__enter__()


def test_threads_share_a_snapshot_while_others_write(file: hp.Database) -> None:
    db = file
    seen: set[Any] = set()
    end = time.monotonic() + 0.6
    with db.snapshot() as then:

        def read() -> None:
            while time.monotonic() < end:
                seen.add(str(look(then[DOCS])))

        def write() -> None:
            n = 10
            while time.monotonic() < end:
                n += 1
                db[DOCS].put({"id": str(n), "n": n, "tags": ["old"]})

        threads = [threading.Thread(target=fn) for fn in (read, read, read, write, write)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen) == 1
    assert db[DOCS].count() > 10


def test_a_forgotten_snapshot_lets_go(file: hp.Database) -> None:
    file.snapshot().__enter__()
    assert not file._driver.engine._reading  # type: ignore[attr-defined]
    kept = file.snapshot().__enter__()
    assert len(file._driver.engine._reading) == 1  # type: ignore[attr-defined]
    del kept


# -- read units


def test_a_read_unit_is_one_state(file: hp.Database) -> None:
    db = file

    async def twice(tx: hp.Tx, meanwhile: Callable[[], None]) -> tuple[Any, Any]:
        first = await tx[DOCS].where(hp.F.tags.contains("old")).count(), await tx[OTHER].count()
        meanwhile()
        return first, (await tx[DOCS].where(hp.F.tags.contains("old")).count(), await tx[OTHER].count())

    def meanwhile() -> None:
        thread = threading.Thread(target=change_all, args=(db,))
        thread.start()
        thread.join()

    assert db.read(twice, meanwhile) == ((5, 0), (5, 0))
    assert db[OTHER].count() == 1


def test_a_read_unit_only_reads(db: hp.Database) -> None:
    async def write(tx: hp.Tx) -> None:
        await tx[DOCS].put({"id": "x"})

    with pytest.raises(TransactionError, match="only reads"):
        db.read(write)

    async def fine(tx: hp.Tx) -> int:
        return len([doc async for doc in tx[DOCS].where(hp.F.n >= 0)])

    assert db.read(fine) == 5
    with db.transaction():
        db[DOCS].put({"id": "mine", "n": 7})
        assert db.read(fine) == 6, "within a transaction it sees that"
    assert db.run(fine) == 6


async def test_read_units_on_the_async_side(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=BOTH) as db:
        await db[DOCS].put_many([{"id": "a", "n": 0}, {"id": "b", "n": 0}])

        async def both(tx: hp.Tx) -> tuple[int, int]:
            a = await tx[DOCS].get("a")
            time.sleep(0.001)
            b = await tx[DOCS].get("b")
            assert a is not None and b is not None
            return a["n"], b["n"]

        async def raise_both(tx: hp.Tx) -> None:
            for key in "ab":
                await tx[DOCS].update(key, lambda doc: {**doc, "n": doc["n"] + 1})

        async def writing() -> None:
            for _ in range(60):
                await db.run(raise_both)

        writer = asyncio.create_task(writing())
        seen = []
        while not writer.done():
            seen += await asyncio.gather(*(db.read(both) for _ in range(4)))
        await writer
        assert all(a == b for a, b in seen)
        assert len(set(seen)) > 2

        async def write(tx: hp.Tx) -> None:
            await tx[DOCS].put({"id": "x"})

        with pytest.raises(TransactionError, match="only reads"):
            await db.read(write)
        with pytest.raises(TransactionError, match=r"db\.read"):
            db.snapshot()


async def test_reads_do_not_wait_for_a_long_write_nor_for_each_other(tmp_path: Path) -> None:
    """On the async side too: whole plans that only read have threads of their own."""
    async with hp.open_async(tmp_path / "a.db", collections=BOTH) as db:
        await db[DOCS].put_many({"id": str(n), "n": n} for n in range(100))
        inside, go_on = threading.Event(), threading.Event()

        async def long(tx: hp.Tx) -> None:
            await tx[DOCS].put({"id": "new", "n": 0})
            inside.set()
            assert go_on.wait(20)

        writing = asyncio.ensure_future(db.run(long))
        while not inside.is_set():
            await asyncio.sleep(0.001)
        counts = await asyncio.gather(*(db[DOCS].where(hp.F.n >= 0).count() for _ in range(20)))
        assert counts == [100] * 20, "the state before the write"
        assert not writing.done()
        go_on.set()
        await writing
        assert await db[DOCS].count() == 101


# -- a database for reading only


def test_snapshots_of_a_readonly_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def count(tx: hp.Tx) -> int:
        return await tx[DOCS].count()

    with hp.open(path, collections=BOTH) as writer:
        writer[DOCS].put({"id": "a", "n": 1})
        with hp.open(path, collections=BOTH, readonly=True) as db:
            with db.snapshot() as then:
                assert then[DOCS].count() == 1
                writer[DOCS].put({"id": "b", "n": 2})
                assert then[DOCS].count() == 1
            assert db.read(count) == 2
            for refused in (lambda: db.transaction().__enter__(), lambda: db.run(count)):
                with pytest.raises(ReadOnly, match=r"db\.read"):
                    refused()


async def test_read_units_of_a_readonly_database_async(tmp_path: Path) -> None:
    async def count(tx: hp.Tx) -> int:
        return await tx[DOCS].count()

    with hp.open(tmp_path / "a.db", collections=BOTH) as writer:
        writer[DOCS].put({"id": "a", "n": 1})
    async with hp.open_async(tmp_path / "a.db", collections=BOTH, readonly=True) as db:
        assert await db.read(count) == 1
        with pytest.raises(ReadOnly, match=r"db\.read"):
            await db.run(count)


# -- many readers, one writer


def test_readers_never_see_half_of_a_transaction(file: hp.Database) -> None:
    """Four threads read pairs and sums while two move amounts: every state adds up."""
    db = file
    keys = [str(n) for n in range(5)]
    db[DOCS].put_many({"id": key, "n": 100} for key in keys)
    end = time.monotonic() + 1.0
    wrong: list[Any] = []
    sums = 0

    def move() -> None:
        rng = random.Random()
        while time.monotonic() < end:
            a, b = rng.sample(keys, 2)
            with db.transaction():
                db[DOCS].update(a, lambda doc: {**doc, "n": doc["n"] - 1})
                db[DOCS].update(b, lambda doc: {**doc, "n": doc["n"] + 1})

    def read() -> None:
        nonlocal sums
        while time.monotonic() < end:
            docs = db[DOCS].all()
            if sum(doc["n"] for doc in docs) != 500:
                wrong.append(docs)
            with db.snapshot() as then:
                parts = [then[DOCS].get(key) for key in keys]
            if sum(part["n"] for part in parts if part) != 500:
                wrong.append(parts)
            sums += 1

    threads = [threading.Thread(target=fn) for fn in (move, move, read, read, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sums > 20


# -- long transactions


@pytest.mark.filterwarnings("ignore::homeport.errors.LongTransactionWarning")
def test_who_keeps_others_waiting_is_named(tmp_path: Path, caplog: Any) -> None:
    with hp.open(
        tmp_path / "a.db", collections=BOTH, long_transaction_s=0.05, busy_timeout_s=10
    ) as db, caplog.at_level(logging.WARNING, "homeport.transactions"):
        with db.transaction():
            time.sleep(0.1)
        assert not caplog.records, "nobody waited"

        thread = threading.Thread(target=lambda: db[DOCS].put({"id": "a"}))
        caught: list[Any] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with db.transaction():
                thread.start()
                time.sleep(0.3)
            thread.join()
        (record,) = caplog.records
        assert record.file == __file__
        assert record.seconds >= 0.05
        (warning,) = caught
        assert warning.category is LongTransactionWarning
        assert warning.filename == __file__
        line = Path(__file__).read_text().splitlines()[warning.lineno - 1]
        assert "with db.transaction()" in line
        assert db[DOCS].get("a") == {"id": "a"}


@pytest.mark.filterwarnings("ignore::homeport.errors.LongTransactionWarning")
async def test_a_long_unit_is_named(tmp_path: Path, caplog: Any) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=BOTH, long_transaction_s=0.05) as db:
        begun, waited = threading.Event(), threading.Event()

        async def slow(tx: hp.Tx) -> None:
            begun.set()
            waited.wait(20)

        with caplog.at_level(logging.WARNING, "homeport.transactions"):
            unit = asyncio.ensure_future(db.run(slow))
            while not begun.is_set():
                await asyncio.sleep(0.001)
            put = asyncio.ensure_future(db[DOCS].put({"id": "a"}))
            await asyncio.sleep(0.1)
            waited.set()
            await asyncio.gather(unit, put)
        assert [record.line for record in caplog.records] == [slow.__code__.co_firstlineno]


@pytest.mark.filterwarnings("ignore::homeport.errors.LongTransactionWarning")
def test_it_is_told_when_another_process_waited(tmp_path: Path, caplog: Any) -> None:
    import subprocess
    import sys

    program = f"""
import homeport as hp
docs = hp.Collection("docs", indexes=["n", hp.Multi("tags")])
with hp.open({str(tmp_path / "a.db")!r}, collections=[docs]) as db:
    print("open", flush=True)
    input()
    db[docs].put({{"id": "theirs"}})
"""
    with hp.open(tmp_path / "a.db", collections=BOTH, long_transaction_s=0.05) as db:
        other = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "open\n"
        with caplog.at_level(logging.WARNING, "homeport.transactions"), db.transaction():
            other.stdin.write("\n")
            other.stdin.flush()
            deadline = time.monotonic() + 20
            while not db._driver.engine.session.others_wait():  # type: ignore[attr-defined]
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.06)
        assert len(caplog.records) == 1
        assert other.wait(30) == 0
        other.communicate()
        assert db[DOCS].get("theirs")


# -- closing


def test_closing_beside_reads_of_other_threads(file: hp.Database) -> None:
    """Reads that run are let finish; iterators, snapshots and later calls say that it is closed."""
    db = file
    db[DOCS].put_many({"id": f"k{n:05}", "n": n, "tags": ["x"] * 5} for n in range(5_000))
    outcomes: list[Any] = []
    begun = threading.Barrier(4)

    def read_all() -> None:
        begun.wait()
        try:
            while True:
                outcomes.append(len(db[DOCS].where(hp.F.tags.contains("x")).all()))
        except Exception as error:  # noqa: BLE001 - seen below
            outcomes.append(type(error))

    def iterate() -> None:
        begun.wait()
        try:
            while True:
                for _ in db[DOCS]:
                    pass
        except Exception as error:  # noqa: BLE001
            outcomes.append(type(error))

    snapshot = db.snapshot().__enter__()
    threads = [threading.Thread(target=fn) for fn in (read_all, read_all, iterate)]
    for thread in threads:
        thread.start()
    begun.wait()
    time.sleep(0.05)
    db.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert [o for o in outcomes if not isinstance(o, int)] == [Closed] * 3
    assert set(outcomes) <= {5_000, Closed}
    with pytest.raises(Closed):
        snapshot[DOCS].get("1")
    for act in (lambda: db.snapshot().__enter__(), lambda: db[DOCS].get("1"), lambda: next(iter(db[DOCS]))):
        with pytest.raises(Closed):
            act()


def test_closing_beside_a_transaction_of_another_thread(tmp_path: Path) -> None:
    db = hp.open(tmp_path / "a.db", collections=BOTH, busy_timeout_s=0.1)
    inside, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with db.transaction():
            db[DOCS].put({"id": "a"})
            inside.set()
            go_on.wait(20)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    with pytest.raises(hp.errors.Busy):
        db.close()
    go_on.set()
    thread.join()
    assert db[DOCS].get("a") == {"id": "a"}, "a close that was refused closes nothing"
    db.close()


def test_closing_from_inside_a_read_unit(file: hp.Database) -> None:
    async def close(tx: hp.Tx) -> None:
        await tx[DOCS].count()
        file.close()

    with pytest.raises(TransactionError, match=r"db\.read"):
        file.read(close)
    assert file[DOCS].count() == 5


def test_a_read_that_never_ends_is_interrupted(tmp_path: Path) -> None:
    db = hp.open(tmp_path / "a.db", collections=BOTH, busy_timeout_s=0.1)
    db[DOCS].put({"id": "a"})
    inside, go_on = threading.Event(), threading.Event()
    outcome: list[Any] = []

    async def endless(tx: hp.Tx) -> None:
        await tx[DOCS].count()
        inside.set()
        go_on.wait(20)
        await tx[DOCS].count()

    def work() -> None:
        try:
            db.read(endless)
        except Exception as error:  # noqa: BLE001
            outcome.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    db.close()  # waits 0.1 s, and one more; then it goes without
    go_on.set()
    thread.join(20)
    assert outcome == [Closed]
