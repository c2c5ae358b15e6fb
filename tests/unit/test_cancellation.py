"""Cancelling on the asyncio side, at every step of every kind of operation and at random times:
whatever was cancelled is written whole or not at all, nothing is written later, and the database
goes on."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import homeport as hp

DOCS = hp.Collection(
    "docs", indexes=["n", hp.Unique("name"), hp.Multi("tags"), hp.FullText("text")]
)
OTHER = hp.Collection("other", key_generator="autoincrement")
BOTH = [DOCS, OTHER]


def document(key: str, n: int) -> dict[str, Any]:
    return {"id": key, "n": n, "name": key, "tags": [key, "t"], "text": f"word {key}"}


async def state(db: hp.AsyncDatabase) -> Any:
    return await db[DOCS].all(), await db[OTHER].all()


class Steps:
    """What the threads of the driver ask of their sessions; before the n-th step comes a hook."""

    def __init__(self, engine: Any) -> None:
        self.seen: list[str] = []
        self.at = 0
        self.hook: Callable[[], None] = lambda: None
        engine._main = Stepped(engine._main, self)
        lend, keep = engine._reader, engine._keep
        engine._reader = lambda: Stepped(lend(), self)
        engine._keep = lambda reader, **options: keep(reader.session, **options)

    def step(self, name: str) -> None:
        if threading.current_thread().name.startswith("homeport-"):
            self.seen.append(name)
            if len(self.seen) == self.at:
                self.hook()


class Stepped:
    """A session whose steps are seen."""

    def __init__(self, session: Any, steps: Steps) -> None:
        self.session = session
        self.steps = steps

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.session, name)
        if name in ("answer", "begin", "commit", "savepoint", "release", "rollback_to", "rollback"):

            def stepped(*arguments: Any) -> Any:
                self.steps.step(name)
                return found(*arguments)

            return stepped
        return found


async def update_two(tx: hp.Tx) -> None:
    await tx[DOCS].update("a", lambda doc: {**doc, "n": 100})
    try:
        await tx[DOCS].add(document("b", 5))
    except hp.KeyExists:
        await tx[DOCS].patch("b", n=101)
    await tx[OTHER].put({"v": "made"})


async def read_two(tx: hp.Tx) -> Any:
    return await tx[DOCS].get("a"), await tx[DOCS].where(hp.F.tags.contains("t")).all()


OPERATIONS: dict[str, Callable[[hp.AsyncDatabase], Awaitable[Any]]] = {
    "put": lambda db: db[DOCS].put(document("new", 7)),
    "add": lambda db: db[DOCS].add(document("new", 7)),
    "put over": lambda db: db[DOCS].put({**document("a", 7), "tags": ["u"]}),
    "numbered": lambda db: db[OTHER].put({"v": 1}),
    "put_many": lambda db: db[DOCS].put_many(document(str(n), n) for n in range(5)),
    "patch": lambda db: db[DOCS].patch("a", {"tags": ["x"]}),
    "patch_many": lambda db: db[DOCS].patch_many({"a": {"name": "b"}, "b": {"name": "a"}}),
    "update": lambda db: db[DOCS].update("a", lambda doc: {**doc, "n": 50}),
    "patch where": lambda db: db[DOCS].where(hp.F.n >= 0).patch(n=9),
    "update where": lambda db: db[DOCS].where(hp.F.n >= 0).update(lambda doc: {**doc, "n": 8}),
    "delete": lambda db: db[DOCS].delete("a"),
    "delete_many": lambda db: db[DOCS].delete_many(["a", "b"]),
    "delete where": lambda db: db[DOCS].where(hp.F.tags.contains("t")).delete(),
    "clear": lambda db: db[DOCS].clear(),
    "run": lambda db: db.run(update_two),
    "all": lambda db: db[DOCS].all(),
    "count": lambda db: db[DOCS].where(hp.F.n > 0).count(),
    "filter": lambda db: db[DOCS].filter(lambda doc: True).all(),
    "read": lambda db: db.read(read_two),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_cancelled_at_every_step(name: str, tmp_path: Path) -> None:
    operation = OPERATIONS[name]
    async with hp.open_async(tmp_path / "a.db", collections=BOTH, durability="relaxed") as db:
        await db[DOCS].put_many([document("a", 1), document("b", 2)])
        await db[OTHER].put({"v": 0})
        before = await state(db)
        engine = db._driver.engine
        steps = Steps(engine)
        loop = asyncio.get_running_loop()

        async def reset() -> None:
            async def again(tx: hp.Tx) -> None:
                await tx[DOCS].clear()
                await tx[DOCS].put_many(before[0])
                await tx[OTHER].where(hp.F.id > 1).delete()

            await db.run(again)

        outcomes = {"absent": 0, "whole": 0}
        after: Any = None
        for at in range(200):
            steps.seen.clear()
            steps.at = at
            running: Any = asyncio.ensure_future(operation(db))

            def cancel() -> None:
                """On the worker: let the loop cancel, and go on when it has."""
                done = threading.Event()
                loop.call_soon_threadsafe(lambda: (running.cancel(), loop.call_soon(done.set)))
                assert done.wait(10)

            steps.hook = cancel
            if at == 0:
                await operation(db)  # what it does when nobody cancels it
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await reset()
                await operation(db)
                after = await state(db)
                await reset()
                continue
            done = (await asyncio.gather(running, return_exceptions=True))[0]
            cancelled = isinstance(done, asyncio.CancelledError)
            assert cancelled or not isinstance(done, BaseException), done
            seen = list(steps.seen)
            steps.at = 0
            now = await state(db)
            assert not engine.taken
            assert not engine.session.in_transaction
            if now == before:
                outcomes["absent"] += 1
            else:
                assert [len(part) for part in now] == [len(part) for part in after], (at, seen)
                assert now[0] == after[0], (at, seen, "whole or absent")
                outcomes["whole"] += 1
                # Written although cancelled: only when it was done, and waited for the commit.
                assert not cancelled or seen[at - 1] in ("release", "commit"), (at, seen)
            await reset()
            if len(seen) < at:
                assert not cancelled
                break
        else:
            raise AssertionError("it never ends")
        assert at > 1
        writing = before != after
        if writing:
            assert outcomes["absent"] >= 2, outcomes
            assert outcomes["whole"] >= 1, outcomes
        assert await db[DOCS].put(document("after", 0)) == "after"


async def test_hundreds_of_cancellations_at_random_times(tmp_path: Path) -> None:
    """Every operation writes two documents or moves both counters; a model of what came back."""
    rng = random.Random(11)
    async with hp.open_async(tmp_path / "a.db", collections=BOTH, durability="relaxed") as db:
        await db[DOCS].put_many([document("left", 0), document("right", 0)])

        async def both(tx: hp.Tx) -> None:
            for key in ("left", "right"):
                await tx[DOCS].update(key, lambda doc: {**doc, "n": doc["n"] + 1})

        def one(n: int) -> Awaitable[Any]:
            kind = n % 6
            if kind == 0:
                return db.run(both)
            if kind == 1:
                return db[DOCS].put_many([document(f"{n}-x", n), document(f"{n}-y", n)])
            if kind == 2:
                return db[DOCS].where(hp.F.id.any_of(["left", "right"])).update(
                    lambda doc: {**doc, "n": doc["n"] + 1}
                )
            if kind == 3:
                return db[DOCS].where(hp.F.tags.contains("t")).all()
            if kind == 4:
                return db[DOCS].put_many(
                    {**document(f"{n}-{i}", n), "text": "many words " * 5} for i in range(60)
                )
            return db.read(read_nothing)

        async def read_nothing(tx: hp.Tx) -> int:
            return await tx[DOCS].where(hp.F.n >= 0).count()

        cancelled, whole, raised = 0, 0, 0
        for n in range(10_000):
            if cancelled >= 600:
                break
            beside = [asyncio.ensure_future(one(n * 7 + i)) for i in range(rng.randrange(3))]
            task: Any = asyncio.ensure_future(one(n))
            if rng.random() < 0.2:
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(rng.random() ** 2 * 0.0015)
            task.cancel()
            (done,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(done, asyncio.CancelledError):
                cancelled += 1
                # It is over: what it wrote, or did not, is the same from now on.
                first = await db[DOCS].get_many(["left", f"{n}-x", f"{n}-59"])
                await asyncio.sleep(0)
                if not beside:
                    assert first == await db[DOCS].get_many(["left", f"{n}-x", f"{n}-59"])
            elif isinstance(done, BaseException):
                raise done
            for other in beside:
                try:
                    await other
                except hp.HomeportError:
                    raised += 1
            if n % 10 == 0:
                docs = {doc["id"]: doc for doc in await db[DOCS].all()}
                assert docs["left"]["n"] == docs["right"]["n"]
                for key in docs:
                    if key.endswith("-x"):
                        assert key.replace("-x", "-y") in docs
                        whole += 1
                    if key.endswith("-59"):
                        assert key.replace("-59", "-0") in docs
                await db[DOCS].where(hp.F.id.none_of(["left", "right"])).delete()
        assert cancelled >= 600, cancelled
        assert whole > 5
        assert raised == 0, "a cancellation is nobody else's error"
        engine = db._driver.engine
        assert not engine.taken
        assert not engine.session.in_transaction
        assert engine.store.check() == []
        assert await db[DOCS].put(document("after", 0)) == "after"


async def test_cancelled_while_another_process_writes(tmp_path: Path) -> None:
    """The wait for the write lock ends soon, and nothing is written when the lock comes free."""
    path = tmp_path / "a.db"
    with hp.open(path, collections=BOTH) as holder:
        async with hp.open_async(path, collections=BOTH, busy_timeout_s=60) as db:
            for _ in range(5):
                with holder.transaction():
                    holder[DOCS].put(document("held", 0))
                    tasks = [asyncio.ensure_future(db[DOCS].put(document(f"w{n}", n))) for n in range(4)]
                    await asyncio.sleep(0.03)
                    for task in tasks:
                        task.cancel()
                    done = await asyncio.wait_for(
                        asyncio.gather(*tasks, return_exceptions=True), 20
                    )
                    assert [type(one) for one in done] == [asyncio.CancelledError] * 4
                assert await db[DOCS].keys() == ["held"]
            await db[DOCS].put(document("after", 0))
