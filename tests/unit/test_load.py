"""Bulk loads: chunks, errors, resuming, crashes, readers and writers beside them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

import homeport as hp
from homeport.core.outbox import OUTBOX
from homeport.core.query import EMPTY
from homeport.core.requests import Count, Operation
from homeport.errors import LoadFailed, QueueFull, TransactionError, UsageError

PLAIN = hp.Collection("plain", indexes=["n", ("kind", "n"), "name"])
NOWHERE = "http://127.0.0.1:9"


class Well(msgspec.Struct):
    id: str
    name: str
    depth_m: float = 0.0
    tags: list[str] = []


WELLS = hp.Collection(
    "wells", Well, indexes=["depth_m", hp.Multi("tags"), hp.Unique("name"), hp.FullText("name")]
)


def plain(count: int, start: int = 0) -> Iterator[dict[str, Any]]:
    for n in range(start, start + count):
        yield {"id": f"k{n:07}", "n": n, "kind": "ab"[n % 2], "name": f"name {n % 97}"}


@pytest.fixture(params=["memory", "file"])
def db(request: Any, tmp_path: Path) -> Iterator[hp.Database]:
    path = ":memory:" if request.param == "memory" else tmp_path / "field.db"
    with hp.open(path, collections=[WELLS, PLAIN], durability="relaxed") as db:
        yield db


def indexes(path: Path) -> set[str]:
    with apsw.Connection(str(path)) as raw:
        return {name for (name,) in raw.execute("select name from sqlite_schema where type='index'")}


def test_a_load_stores_everything_and_says_what_it_did(db: hp.Database) -> None:
    seen: list[hp.LoadProgress] = []
    report = db[PLAIN].load(plain(2_500), chunk=1_000, progress=seen.append, total=2_500)
    assert (report.rows, report.failed, report.skipped) == (2_500, 0, 0)
    assert report.bytes == sum(len(msgspec.json.encode(doc)) for doc in plain(2_500))
    loading = [p for p in seen if p.phase == "loading"]
    assert [p.rows for p in loading] == [1_000, 2_000, 2_500]
    assert seen[-1].phase == "done" and seen[-1].total == 2_500 and seen[-1].rows_per_s > 0
    assert db[PLAIN].count() == 2_500
    assert db[PLAIN].get("k0000042") == next(plain(1, 42))
    assert db[PLAIN].where(hp.F.n.between(10, 12)).order_by("n").keys() == [
        "k0000010", "k0000011", "k0000012",
    ]  # fmt: skip
    assert db[PLAIN].load([]).rows == 0


def test_a_list_says_how_long_it_is(db: hp.Database) -> None:
    seen: list[hp.LoadProgress] = []
    db[PLAIN].load(list(plain(30)), progress=seen.append)
    assert seen[0].total == 30


def test_models_with_every_kind_of_index(db: hp.Database) -> None:
    wells = [Well("", f"Brent-{n} north", float(n), ["oil", f"t{n % 3}"]) for n in range(60)]
    report = db[WELLS].load(iter(wells), chunk=25)
    assert report.rows == 60
    found = db[WELLS]
    assert found.where(hp.F.tags.contains("t1")).count() == 20
    assert found.where(hp.F.name.matches("brent north")).count() == 60
    one = found.where(hp.F.name == "Brent-7 north").one()
    assert one.id and one.depth_m == 7.0  # a key was made for it
    report = found.load(
        [Well("a", "Brent-7 north"), Well("b", "new")], on_error="collect"
    )
    assert report.failed == 1 and report.failures[0][0] == 0
    assert isinstance(report.failures[0][1], hp.UniqueViolation)
    assert found.get("b") is not None and found.get("a") is None


def test_the_first_bad_document_stops_it_behind_whole_chunks(db: hp.Database) -> None:
    def documents() -> Iterator[dict[str, Any]]:
        yield from plain(250)
        yield {"id": "bad", "n": float("nan")}
        yield from plain(50, 250)

    with pytest.raises(LoadFailed, match=r"Document 250 .* The 200 before") as caught:
        db[PLAIN].load(documents(), chunk=100)
    assert (caught.value.position, caught.value.loaded) == (250, 200)
    assert "islice(documents, 200, None)" in str(caught.value)
    assert db[PLAIN].count() == 200


def test_bad_documents_are_collected_with_their_positions(db: hp.Database) -> None:
    documents: list[Any] = [*plain(5), {"id": "x", "n": 2**60}, *plain(5, 5), "no document"]
    report = db[PLAIN].load(documents, chunk=4, on_error="collect")
    assert (report.rows, report.failed) == (10, 2)
    assert [place for place, _ in report.failures] == [5, 11]
    assert db[PLAIN].count() == 10


def test_add_refuses_what_is_there(db: hp.Database) -> None:
    db[PLAIN].put({"id": "k0000003", "n": -1})
    with pytest.raises(LoadFailed, match="already") as caught:
        db[PLAIN].load(plain(5), mode="add")
    assert caught.value.position == 3 and isinstance(caught.value.__cause__, hp.KeyExists)
    assert db[PLAIN].count() == 1, "nothing of the chunk"
    report = db[PLAIN].load(plain(5), mode="add", on_error="collect")
    assert report.rows == 4 and report.failures[0][0] == 3
    assert db[PLAIN].get("k0000003") == {"id": "k0000003", "n": -1}
    assert db[PLAIN].load(plain(5)).rows == 5, "put replaces"


def test_a_named_load_goes_on_where_it_stopped(db: hp.Database) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield from plain(350)
        raise ConnectionError("the source went away")

    with pytest.raises(ConnectionError):
        db[PLAIN].load(broken(), mode="add", chunk=100, resume="import")
    assert db[PLAIN].count() == 300
    report = db[PLAIN].load(plain(1_000), mode="add", chunk=100, resume="import")
    assert (report.skipped, report.rows) == (300, 700)
    assert db[PLAIN].count() == 1_000
    # It came to its end, so its name begins anew.
    with pytest.raises(LoadFailed):
        db[PLAIN].load(plain(1), mode="add", resume="import")
    assert "resume=" in str(pytest.raises(LoadFailed, db[PLAIN].load, plain(1), mode="add", resume="x").value)


def test_positions_of_a_resumed_load_count_from_the_beginning(db: hp.Database) -> None:
    documents: list[Any] = [*plain(10), {"id": ["x", None]}, *plain(10, 10)]
    with pytest.raises(LoadFailed) as caught:
        db[PLAIN].load(documents, chunk=5, resume="r")
    assert (caught.value.position, caught.value.loaded) == (10, 10)
    report = db[PLAIN].load(documents, chunk=5, resume="r", on_error="collect")
    assert report.skipped == 10 and report.failures[0][0] == 10 and db[PLAIN].count() == 20


def test_indexes_of_an_empty_collection_are_built_behind_the_load(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    wanted = {"i_plain.n", "i_plain.kind_n", "i_plain.name"}
    during: list[set[str]] = []
    with hp.open(path, collections=[PLAIN, WELLS], durability="relaxed") as db:

        def look(progress: hp.LoadProgress) -> None:
            during.append(indexes(path) & wanted)
            # A query answers the same without them.
            assert db[PLAIN].where(hp.F.n < 3).order_by("-n").keys()[-1] == "k0000000"

        db[PLAIN].load(plain(900), chunk=300, progress=look)
        assert during[0] == set() and during[-1] == wanted
        during.clear()
        db[PLAIN].load(plain(900, 900), chunk=300, progress=look)
        assert during[0] == wanted, "they stay where documents are"
        # What refuses duplicates stays in place.
        db[WELLS].load(
            (Well(str(n), str(n)) for n in range(5)),
            progress=lambda p: during.append(indexes(path)),
        )
        assert "i_wells.name" in during[-1]
        assert "i_wells.depth_m" in indexes(path)


def test_a_load_that_fails_leaves_indexes_behind_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    def broken() -> Iterator[dict[str, Any]]:
        yield from plain(50)
        raise KeyboardInterrupt

    with hp.open(path, collections=[PLAIN], durability="relaxed") as db:
        with pytest.raises(KeyboardInterrupt):
            db[PLAIN].load(broken(), chunk=20)
        assert "i_plain.n" in indexes(path) and db[PLAIN].count() == 40


CHILD = """
    import sys
    import homeport as hp
    sys.path.insert(0, sys.argv[2])
    from test_load import PLAIN, plain

    with hp.open(sys.argv[1], collections=[PLAIN]) as db:
        db[PLAIN].load(
            plain(10_000_000), chunk=500, mode="add", resume="big",
            progress=lambda p: print(p.rows, flush=True),
        )
"""


def test_r06_kill_9_leaves_whole_chunks_and_their_indexes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    code = textwrap.dedent(CHILD)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), str(Path(__file__).parent)],
        stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= 3_000:
                break
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    with hp.open(path, collections=[PLAIN]) as db:
        count = db[PLAIN].count()
        assert count >= 3_000 and count % 500 == 0, "whole chunks"
        assert db[PLAIN].order_by("id").keys() == [f"k{n:07}" for n in range(count)], "a prefix"
        assert {"i_plain.n", "i_plain.kind_n", "i_plain.name"} <= indexes(path)
        assert db._driver.engine.store.check() == []
        assert "i_plain.n" in str(db[PLAIN].where(hp.F.n == 7).explain())
        report = db[PLAIN].load(plain(count + 700), mode="add", resume="big")
        assert (report.skipped, report.rows) == (count, 700)


def test_who_opens_the_file_during_a_load_leaves_its_indexes_to_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[PLAIN], durability="relaxed") as db:

        def documents() -> Iterator[dict[str, Any]]:
            yield from plain(100)
            with hp.open(path, collections=[PLAIN], durability="relaxed") as other:
                assert other[PLAIN].where(hp.F.n == 5).keys() == ["k0000005"]
                assert "i_plain.n" not in indexes(path)
                other[PLAIN].put({"id": "other", "n": 5})
            yield from plain(100, 100)

        db[PLAIN].load(documents(), chunk=50)
        assert "i_plain.n" in indexes(path)
        assert db[PLAIN].where(hp.F.n == 5).order_by("id").keys() == ["k0000005", "other"]


def test_readers_and_writers_have_their_turn_between_chunks(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[PLAIN], durability="relaxed") as db:
        reads: list[int] = []
        writes: list[int] = []

        def beside() -> None:
            count = db[PLAIN].count()
            reads.append(count)
            db[PLAIN].put({"id": f"w{len(writes)}", "n": -1})
            writes.append(count)

        def documents() -> Iterator[dict[str, Any]]:
            for n, document in enumerate(plain(1_000)):
                if n and n % 250 == 0:
                    # Another thread: it would wait for the whole load if that were one transaction.
                    thread = threading.Thread(target=beside)
                    thread.start()
                    thread.join()
                yield document

        db[PLAIN].load(documents(), chunk=100)
        assert reads == [200, 501, 702]
        assert db[PLAIN].where(hp.F.n == -1).count() == 3


def test_a_live_query_sees_the_chunks(db: hp.Database) -> None:
    live = db[PLAIN].where(hp.F.n >= 0).live()
    assert live.next(timeout_s=5) is not None
    db[PLAIN].load(plain(600), chunk=200)
    change = live.next(timeout_s=5)
    assert change is not None and len(change.added) == 600
    live.close()


def test_on_a_synced_collection_every_document_is_queued(db: hp.Database) -> None:
    db.sync(NOWHERE, token="t", max_queue=2_500)
    db[PLAIN].load(plain(2_000))
    queued = Operation(Count(OUTBOX, EMPTY), "read", True)
    assert db._driver.engine.run(queued) == 2_000
    with pytest.raises(QueueFull):
        db[PLAIN].load(plain(2_000, 2_000), resume="r")
    assert db[PLAIN].count() == db._driver.engine.run(queued) == 2_000, "whole chunks"


def test_inside_a_transaction_it_is_refused(db: hp.Database) -> None:
    with db.transaction(), pytest.raises(TransactionError, match="load"):
        db[PLAIN].load(plain(3))

    async def unit(tx: hp.Tx) -> None:
        await tx[PLAIN].load(plain(3))

    with pytest.raises(TransactionError, match="put_many"):
        db.run(unit)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chunk": 0}, "chunk"),
        ({"mode": "replace"}, "mode"),
        ({"on_error": "ignore"}, "on_error"),
        ({"total": -1}, "total"),
        ({"resume": ""}, "resume"),
    ],
)
def test_wrong_options_are_named(db: hp.Database, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        db[PLAIN].load(plain(1), **options)


@pytest.mark.parametrize("wrong", [{"id": "a"}, "text", 7])
def test_a_single_document_is_no_iterable_of_them(db: hp.Database, wrong: Any) -> None:
    with pytest.raises(UsageError, match="load"):
        db[PLAIN].load(wrong)


def test_an_async_iterable_needs_an_event_loop(db: hp.Database) -> None:
    async def documents() -> AsyncIterator[dict[str, Any]]:
        yield {"id": "a"}

    with pytest.raises(UsageError, match="open_async"):
        db[PLAIN].load(documents())


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_async_generators_and_plain_ones(kind: str, tmp_path: Path) -> None:
    async def documents() -> AsyncIterator[dict[str, Any]]:
        for document in plain(700):
            await asyncio.sleep(0)
            yield document

    path = ":memory:" if kind == "memory" else tmp_path / "a.db"
    async with hp.open_async(path, collections=[PLAIN], durability="relaxed") as db:
        report = await db[PLAIN].load(documents(), chunk=300)
        assert report.rows == 700 and await db[PLAIN].count() == 700
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await db[PLAIN].load(plain(5_000, 700), chunk=2_500)
        assert ticks > 10, "the event loop goes on meanwhile"
        ticking.cancel()
        assert await db[PLAIN].count() == 5_700


async def test_a_cancelled_load_leaves_whole_chunks_and_indexes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    chunks = asyncio.Event()
    async with hp.open_async(path, collections=[PLAIN], durability="relaxed") as db:
        loading = asyncio.create_task(
            db[PLAIN].load(plain(10_000_000), chunk=200, progress=lambda _: chunks.set())
        )
        await chunks.wait()
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        count = await db[PLAIN].count()
        assert count and count % 200 == 0
        assert "i_plain.n" in indexes(path)
