"""Optimistic updates and badges at the facade, in memory and on a file."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import homeport as hp
from homeport.errors import (
    NotFound,
    QueueFull,
    ReadOnly,
    RolledBack,
    TransactionError,
    UniqueViolation,
    UsageError,
)

NOWHERE = "http://127.0.0.1:9"
TASKS = hp.Collection("tasks", indexes=["state", hp.Unique("title")])
LOCAL = hp.Collection("local", sync=False)


@pytest.fixture(params=["memory", "file"])
def db(request: Any, tmp_path: Path) -> Iterator[hp.Database]:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[TASKS, LOCAL], durability="relaxed") as db:
        db.sync(NOWHERE, token="t", max_queue=10)
        db[TASKS].put({"id": "a", "title": "A", "state": "open"})
        yield db


def test_apply_is_seen_by_everybody_and_rollback_takes_it_away(db: hp.Database) -> None:
    tasks = db[TASKS]
    live = tasks.where(hp.F.state == "done").live()
    assert live.next(1).rows == []
    update = tasks.apply("a", {"state": "done"}, name="tick")
    assert [row["id"] for row in live.next(5).rows] == ["a"]
    assert tasks.where(hp.F.state == "open").count() == 0  # the index, too
    assert (update.name, update.documents) == ("tick", ["tasks/a"])
    assert [one.id for one in db.optimistic.list()] == [update.id]
    assert db.optimistic.get(update.id).rollback().reason == "asked"
    assert update.rollback().state == "rolled-back"  # silent the second time
    assert live.next(5).rows == [] and tasks.get("a")["state"] == "open"
    with pytest.raises(RolledBack):
        update.commit()
    with pytest.raises(NotFound):
        db.optimistic.get("nothing")


def test_a_block_commits_or_rolls_back(db: hp.Database) -> None:
    tasks = db[TASKS]
    with tasks.apply("a", lambda doc: {**doc, "n": 1}) as update:
        assert update.status().state == "open"
    assert update.status().state == "committed"
    with pytest.raises(ValueError), tasks.apply("a", None) as update:
        assert tasks.get("a") is None
        raise ValueError
    assert tasks.get("a")["n"] == 1 and update.status().state == "rolled-back"


def test_of_several_documents_as_a_whole(db: hp.Database) -> None:
    async def both(tx: hp.Tx, title: str) -> None:
        await tx[TASKS].patch("a", title=title)
        await tx[TASKS].put({"id": "b", "title": "B"})

    update = db.optimistic.apply(both, "A2")
    assert update.documents == ["tasks/a", "tasks/b"]
    update.rollback()
    assert db[TASKS].all() == [{"id": "a", "title": "A", "state": "open"}]

    async def elsewhere(tx: hp.Tx) -> None:
        await tx[TASKS].patch("a", title="x")
        await tx[LOCAL].put({"id": "n"})

    with pytest.raises(UsageError, match="local is not synced"):
        db.optimistic.apply(elsewhere)
    assert db[TASKS].get("a")["title"] == "A" and db[LOCAL].count() == 0


def test_what_is_refused_leaves_nothing(db: hp.Database) -> None:
    tasks = db[TASKS]
    tasks.put({"id": "b", "title": "B"})
    with pytest.raises(UniqueViolation):
        tasks.apply("b", {"title": "A"})
    with pytest.raises(NotFound):
        tasks.apply("z", {"title": "Z"})
    with pytest.raises(TransactionError), db.transaction():
        tasks.apply("a", {"title": "Z"})

    async def inside(tx: hp.Tx) -> None:
        await tx[TASKS].apply("a", {"title": "Z"})

    with pytest.raises(TransactionError):
        db.run(inside)
    for wrong in ({"timeout_s": -1}, {"name": 3}):
        with pytest.raises(UsageError):
            tasks.apply("a", {"title": "Z"}, **wrong)
    with pytest.raises(UsageError):
        tasks.apply("a", "title")  # type: ignore[arg-type]
    with pytest.raises(QueueFull):
        for n in range(20):
            tasks.apply("a", {"n": n})
    assert tasks.get("a")["n"] == 7
    with pytest.raises(UsageError, match="not synced"):
        db[LOCAL].apply("a", None)


def test_commit_and_rollback_in_a_transaction_end_with_it(db: hp.Database) -> None:
    tasks = db[TASKS]
    one, two = tasks.apply("a", {"n": 1}), tasks.apply("a", {"m": 1})
    with pytest.raises(ValueError), db.transaction():
        one.commit()
        two.rollback()
        assert "m" not in tasks.get("a")
        raise ValueError
    assert [one.status().state, two.status().state] == ["open", "open"]
    assert tasks.get("a")["m"] == 1


def test_badges_name_every_change_once(db: hp.Database) -> None:
    tasks = db[TASKS]
    badges = db.badges()
    assert badges.next() == [("tasks", "a", "pending", "synced")]
    update = tasks.apply("a", {"n": 1})
    assert tasks.badge("a") == "optimistic" == tasks.meta("a").sync_status
    assert badges.next(5) == [("tasks", "a", "optimistic", "pending")]
    update.commit()
    assert badges.next(5) == [("tasks", "a", "pending", "optimistic")]
    db[LOCAL].put({"id": "x"})
    assert db[LOCAL].badge("x") == "local"
    tasks.put({"id": "b", "title": "B"})
    with tasks.badges() as of_tasks:
        assert {change.key for change in of_tasks.next() or ()} == {"a", "b"}
    assert badges.next(5) == [("tasks", "b", "pending", "synced")]
    assert dict(badges.current) == {"tasks/a": "pending", "tasks/b": "pending"}
    assert badges.next(0) is None
    badges.close()
    assert badges.next() is None


def test_a_time_out_rolls_back_by_itself_and_tells(db: hp.Database) -> None:
    told = threading.Event()
    seen: list[Any] = []

    def listen(changes: list[hp.BadgeChange]) -> None:
        seen.extend(changes)
        if any(change.badge == "failed" for change in changes):
            told.set()

    with db.badges().subscribe(listen):
        db[TASKS].put({"id": "b", "title": "B"})
        update = db[TASKS].apply("n", lambda _: {"id": "n"}, default=None, timeout_s=0.05)
        assert told.wait(20)
    assert db[TASKS].get("n") is None
    assert update.wait(5).reason.startswith("timed-out")


def test_a_restart_keeps_what_is_open_and_rolls_back_what_is_late(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[TASKS]) as db:
        sync = db.sync(NOWHERE, token="t")
        db[TASKS].put({"id": "a", "title": "A"})
        late = db[TASKS].apply("a", {"late": 1}, timeout_s=0.001)
        open_ = db[TASKS].apply("a", {"open": 1})
        assert sync.status().optimistic in (1, 2)
        db.optimistic._stop()  # as if this process were killed before its alarm rang
    with hp.open(path, collections=[TASKS]) as db:
        assert db[TASKS].get("a") == {"id": "a", "title": "A", "open": 1}
        assert db.optimistic.get(late.id).status().reason.startswith("timed-out")
        assert db.optimistic.get(open_.id).commit().state == "committed"
    with (
        hp.open(path, collections=[TASKS], readonly=True) as db,
        pytest.raises(ReadOnly),
    ):
        db[TASKS].apply("a", {"n": 1})


def test_badges_of_another_process_come_too(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with (
        hp.open(path, collections=[TASKS]) as here,
        hp.open(path, collections=[TASKS]) as there,
    ):
        here.sync(NOWHERE, token="t")
        badges = here.badges()
        assert badges.next() == []
        update = there[TASKS].apply("a", lambda _: {"id": "a", "title": "A"}, default=None)
        assert badges.next(20) == [("tasks", "a", "optimistic", "synced")]
        here.optimistic.get(update.id).commit()
        assert badges.next(20) == [("tasks", "a", "pending", "optimistic")]


def test_on_an_event_loop(tmp_path: Path) -> None:
    async def main() -> None:
        async with hp.open_async(tmp_path / "a.db", collections=[TASKS]) as db:
            db.sync(NOWHERE, token="t")
            tasks = db[TASKS]
            badges = db.badges()
            assert await badges.next() == []
            async with await tasks.apply("a", lambda _: {"id": "a"}, default=None) as update:
                assert await tasks.badge("a") == "optimistic"
            assert (await update.wait(0)).state == "committed"
            assert await badges.next(5) == [("tasks", "a", "pending", "synced")]
            waiting = asyncio.ensure_future((await tasks.apply("a", {"n": 1})).wait())
            await asyncio.sleep(0.01)
            for one in await db.optimistic.list():
                if one.state == "open":
                    await (await db.optimistic.get(one.id)).rollback()
            assert (await asyncio.wait_for(waiting, 20)).reason == "asked"
            badges.close()

    asyncio.run(main())
