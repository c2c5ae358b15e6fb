"""The asyncio driver on real stores: inline reads, group commit, cancellation, closing."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import homeport as hp
from homeport.errors import Closed, TransactionError

PLAIN = hp.Collection("plain", indexes=["n"])
OTHER = hp.Collection("other", indexes=[hp.Unique("name")])


@pytest.fixture(params=["memory", "file"])
async def db(request: Any, tmp_path: Path) -> Any:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    async with hp.open_async(path, collections=[PLAIN, OTHER], durability="relaxed") as db:
        yield db


@pytest.fixture
async def file(tmp_path: Path) -> Any:
    async with hp.open_async(tmp_path / "a.db", collections=[PLAIN, OTHER]) as db:
        yield db


async def test_the_same_names_with_await(db: hp.AsyncDatabase) -> None:
    plain = db[PLAIN]
    assert await plain.put({"id": "a", "n": 1}) == "a"
    assert await plain.put_many([{"id": "b", "n": 2}, {"id": "c", "n": 3}]) == ["b", "c"]
    assert await plain.get("a") == {"id": "a", "n": 1}
    assert await plain.get_many(["c", "x"]) == [{"id": "c", "n": 3}, None]
    assert await plain.patch("a", {"m.k": 1}) == {"id": "a", "n": 1, "m": {"k": 1}}
    assert (await plain.update("a", lambda doc: {**doc, "n": 9}))["n"] == 9
    assert await plain.where(hp.F.n > 1).order_by("-n").keys() == ["a", "c", "b"]
    assert [doc["id"] async for doc in plain.where("n").between(2, 4)] == ["b", "c"]
    assert [doc["id"] async for doc in plain] == ["a", "b", "c"]
    assert await plain.where({"n": {"$gt": 2}}).count() == 2
    assert (await plain.where(hp.F.n == 2).one())["id"] == "b"
    assert await plain.where(hp.F.n == 2).exists()
    assert await plain.delete("b") == 1
    assert "plain" in str(await plain.where(hp.F.n > 1).explain())
    meta = await plain.meta("a")
    assert meta is not None
    assert meta.version == 3
    assert (await db.size())["total"] > 0
    assert await plain.clear() == 2


async def test_awaiting_open_without_with(tmp_path: Path) -> None:
    db = await hp.open_async(tmp_path / "a.db", collections=[PLAIN])
    await db[PLAIN].put({"id": "a"})
    await db.close()
    await db.close()
    with pytest.raises(Closed):
        await db[PLAIN].get("a")
    with pytest.raises(Closed):
        await db[PLAIN].put({"id": "a"})


async def test_there_is_no_transaction_block(db: hp.AsyncDatabase) -> None:
    with pytest.raises(TransactionError, match=r"db\.run"):
        db.transaction()


async def test_units(db: hp.AsyncDatabase) -> None:
    async def move(tx: hp.Tx, amount: int) -> int:
        doc = await tx[PLAIN].get("a")
        assert doc is not None
        await tx[PLAIN].put({**doc, "n": doc["n"] - amount})
        if doc["n"] < amount:
            raise ValueError("too little")
        return doc["n"] - amount

    await db[PLAIN].put({"id": "a", "n": 5})
    assert await db.run(move, 2) == 3
    with pytest.raises(ValueError, match="too little"):
        await db.run(move, amount=9)
    assert await db[PLAIN].get("a") == {"id": "a", "n": 3}

    async def foreign(tx: hp.Tx) -> None:
        await tx[PLAIN].delete("a")
        await asyncio.sleep(0.01)

    async def forgotten(tx: hp.Tx) -> None:
        tx[PLAIN].delete("a")

    async def outside(tx: hp.Tx) -> None:
        await db[PLAIN].get("a")

    for wrong in (foreign, forgotten, outside):
        with pytest.raises(TransactionError):
            await db.run(wrong)
    assert await db[PLAIN].get("a") == {"id": "a", "n": 3}


async def test_bounded_reads_are_stepped_on_the_loop(db: hp.AsyncDatabase) -> None:
    await db[PLAIN].put_many({"id": str(n), "n": n} for n in range(300))
    driver: Any = db._driver
    hops: list[Any] = []
    enqueue = driver._enqueue
    driver._enqueue = lambda job, **k: (hops.append(job), enqueue(job, **k))[1]
    plain = db[PLAIN]
    await plain.get("1")
    await plain.get_many(["1", "2"])
    await plain.where(hp.F.n > 5).order_by("n").limit(10).all()
    await plain.where(hp.F.n == 5).first()
    assert not hops
    await plain.where(hp.F.n > 5).limit(1000).all()
    await plain.where(hp.F.other == 5).limit(10).all()  # no index leads there
    await plain.where(hp.F.n > 5).order_by("m").limit(10).all()  # has to sort all
    await plain.filter(lambda doc: True).limit(1).all()
    await plain.count()
    await plain.put({"id": "x"})
    assert len(hops) == 6


async def test_group_commit_keeps_each_write_its_own_unit(file: hp.AsyncDatabase) -> None:
    other = file[OTHER]
    commits = 0
    engine = file._driver.engine
    commit = engine.session.commit

    def counted() -> None:
        nonlocal commits
        commits += 1
        commit()

    engine.session.commit = counted  # type: ignore[method-assign]
    docs = [{"id": str(n), "name": str(n % 50)} for n in range(100)]
    done = await asyncio.gather(*(other.add(doc) for doc in docs), return_exceptions=True)
    assert done[:50] == [str(n) for n in range(50)]
    assert all(isinstance(error, hp.UniqueViolation) for error in done[50:])
    assert await other.count() == 50
    assert commits < 30, "writes that wait together are committed together"


async def test_a_failing_unit_in_a_group_harms_nobody(file: hp.AsyncDatabase) -> None:
    async def half(tx: hp.Tx, n: int) -> None:
        await tx[PLAIN].put({"id": f"half-{n}"})
        raise ValueError(n)

    jobs: list[Any] = []
    for n in range(20):
        jobs += [file[PLAIN].put({"id": f"ok-{n}"}), file.run(half, n)]
    done = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(x) for x in done[1::2]] == [ValueError] * 20
    assert sorted(await file[PLAIN].keys()) == sorted(f"ok-{n}" for n in range(20))


async def test_cancelled_at_any_moment_nothing_is_written_afterwards(file: hp.AsyncDatabase) -> None:
    rng = random.Random(7)

    async def unit(tx: hp.Tx, n: int) -> None:
        for part in range(5):
            await tx[PLAIN].put_many({"id": f"{n}-{part}-{i}"} for i in range(200))

    async def background() -> None:
        n = 0
        while True:
            await file[OTHER].put({"id": str(n % 7), "name": str(n % 7)})
            n += 1

    noise = asyncio.create_task(background())
    cancelled = 0
    for n in range(60):
        task = asyncio.create_task(file.run(unit, n))  # type: ignore[arg-type]
        await asyncio.sleep(rng.random() * 0.004)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            cancelled += 1
        first = await file[PLAIN].where("id").starts_with(f"{n}-").count()
        assert first in (0, 1000), "whole or absent"
        await asyncio.sleep(0.001)
        assert await file[PLAIN].where("id").starts_with(f"{n}-").count() == first
    noise.cancel()
    with pytest.raises(asyncio.CancelledError):
        await noise
    assert cancelled > 20
    engine = file._driver.engine
    assert not engine.taken
    assert not engine.session.in_transaction
    assert await file[PLAIN].put({"id": "after"}) == "after"


async def test_a_long_statement_ends_soon_after_its_cancellation(file: hp.AsyncDatabase) -> None:
    await file[PLAIN].put_many({"id": str(n), "text": "x" * 300, "n": n} for n in range(50_000))
    task = asyncio.ensure_future(file[PLAIN].where(hp.F.text.matches("zz")).all())
    await asyncio.sleep(0.02)
    started = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    took = time.perf_counter() - started
    assert await file[PLAIN].get("1") is not None
    assert took < 2.0


async def test_a_cancelled_open_leaves_nothing_open(tmp_path: Path) -> None:
    async def opening() -> None:
        async with hp.open_async(tmp_path / "a.db", collections=[PLAIN]):
            await asyncio.sleep(10)

    task = asyncio.create_task(opening())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.2)
    with hp.open(tmp_path / "a.db", collections=[PLAIN]) as db:
        db[PLAIN].put({"id": "a"})


async def test_close_answers_what_is_queued(tmp_path: Path) -> None:
    db = await hp.open_async(tmp_path / "a.db", collections=[PLAIN])
    tasks = [asyncio.ensure_future(db[PLAIN].put({"id": str(n)})) for n in range(50)]
    await asyncio.sleep(0)
    await db.close()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(x, (str, Closed)) for x in done)
    written = sorted(x for x in done if isinstance(x, str))
    with hp.open(tmp_path / "a.db", collections=[PLAIN]) as again:
        assert sorted(again[PLAIN].keys()) == written, "acknowledged is written, refused is not"
    db._driver._thread.join(5)
    assert not db._driver._thread.is_alive()


def test_several_event_loops_on_one_database(tmp_path: Path) -> None:
    db: Any = asyncio.run(hp_open(tmp_path))

    async def work(k: int) -> None:
        await asyncio.gather(*(db[PLAIN].put({"id": f"{k}-{n}"}) for n in range(50)))

    threads = [threading.Thread(target=lambda k=k: asyncio.run(work(k))) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def end() -> int:
        count: int = await db[PLAIN].count()
        await db.close()
        return count

    assert asyncio.run(end()) == 150


async def hp_open(tmp_path: Path) -> hp.AsyncDatabase:
    return await hp.open_async(tmp_path / "a.db", collections=[PLAIN], durability="relaxed")


async def test_a_task_that_waits_for_a_write_does_not_stop_the_loop(file: hp.AsyncDatabase) -> None:
    """Another process-like writer holds the file: the loop goes on turning."""
    with hp.open(file.path, collections=[PLAIN, OTHER]) as other:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticker = asyncio.create_task(tick())
        with other.transaction():
            other[PLAIN].put({"id": "x"})
            task = asyncio.ensure_future(file[PLAIN].put({"id": "y"}))
            await asyncio.sleep(0.1)
            assert not task.done()
            assert await file[PLAIN].get("x") is None
        await task
        ticker.cancel()
        assert ticks > 8


async def test_live_on_an_event_loop(db: hp.AsyncDatabase) -> None:
    await db[PLAIN].put({"id": "a", "n": 1})
    seen: list[Any] = []

    async def follow() -> None:
        async with db[PLAIN].where(hp.F.n > 0).order_by("-n").live() as live:
            async for change in live:
                seen.append([doc["id"] for doc in change.rows])
                if len(change.rows) == 3:
                    return

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.05)
    await db[PLAIN].put({"id": "b", "n": 2})
    await asyncio.sleep(0.05)
    await db[PLAIN].put({"id": "c", "n": 3})
    await asyncio.wait_for(task, 5)
    assert seen == [["a"], ["b", "a"], ["c", "b", "a"]]

    live = db[PLAIN].live(timeout_s=0.05)
    assert (await live.__anext__()).reset
    assert await live.next(0.02) is None
    waiting = asyncio.create_task(live.next())  # type: ignore[arg-type]
    await asyncio.sleep(0.02)
    live.close()
    assert await asyncio.wait_for(waiting, 1) is None
