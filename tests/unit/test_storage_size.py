"""Sizes, quota and cleaning up: what a database takes, may take, and gives back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import homeport as hp
from homeport.core.outbox import BASE, OUTBOX
from homeport.core.query import EMPTY
from homeport.core.requests import Count, Operation
from homeport.errors import QuotaExceeded, TransactionError, UsageError

MB = 1024 * 1024
DOCS = hp.Collection("docs", indexes=["n", hp.Multi("tags"), hp.FullText("text")])
CACHE = hp.Collection("cache", ttl_s=0.05, sync=False)
NOWHERE = "http://127.0.0.1:9"


def documents(count: int, start: int = 0, size: int = 500) -> Iterator[dict[str, Any]]:
    for n in range(start, start + count):
        yield {"id": f"d{n:06}", "n": n, "tags": [f"t{n % 7}"], "text": f"word{n} " + "x" * size}


def open_at(path: Any, **options: Any) -> hp.Database:
    return hp.open(path, collections=[DOCS, CACHE], durability="relaxed", **options)


def on_disk(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))


# -- sizes


def test_sizes_add_up_to_the_files_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with open_at(path) as db:
        for step in range(3):
            db[DOCS].put_many(documents(300, step * 300))
            if step == 1:
                db.sync(NOWHERE, token="t")  # from here on the outbox grows too
            sizes = db.size()
            parts = {name: size for name, size in sizes.items() if name != "total"}
            assert sizes["total"] == sum(parts.values()) == on_disk(path)
            assert all(size >= 0 for size in parts.values()), parts
        assert sizes["docs"] >= 900 * 500
        for index in ("docs.key", "docs.n", "docs.tags_m", "docs.text"):
            assert sizes[index] > 4_000, index
        assert sizes["_outbox"] > 300 * 500 and sizes["_base"] > 0 and sizes["homeport.changes"] > 0
        assert sizes["homeport.log"] > 0
        db[DOCS].delete_many(f"d{n:06}" for n in range(0, 900, 2))
        db[DOCS].clear()
        after = db.size()
        assert after["docs"] < sizes["docs"] and after["homeport.free"] > 100_000
        assert after["total"] == sum(s for n, s in after.items() if n != "total") == on_disk(path)


def test_storage_info_tells_the_whole_story(tmp_path: Path) -> None:
    with open_at(tmp_path / "a.db") as db:
        db[DOCS].put_many(documents(200))
        with pytest.raises(hp.LoadFailed):
            db[DOCS].load([*documents(2), {"id": 2**60}], chunk=1, resume="monday")
        info = db.storage_info()
        sizes = db.size()
    assert info.path == str(tmp_path / "a.db") and info.engine == "sqlite"
    assert info.engine_version.startswith("3.") and info.version == hp.__version__
    assert info.total_bytes == sizes["total"]
    assert info.used_bytes + info.free_bytes + info.log_bytes == info.total_bytes
    docs, cache = info.collections
    assert (docs.name, docs.documents, cache.documents) == ("docs", 200, 0)
    assert docs.indexes == {i: sizes[f"docs.{i}"] for i in ("key", "n", "tags_m", "text")}
    assert docs.bytes == sizes["docs"] + sum(docs.indexes.values())
    assert info.system_bytes + docs.bytes + cache.bytes == info.used_bytes
    free = shutil.disk_usage(tmp_path).free
    assert info.limit_bytes is not None and abs(info.limit_bytes - free) < free / 5
    assert info.max_bytes is None and not info.near_limit
    (load,) = info.unfinished_loads
    assert (load.collection, load.name, load.taken) == ("docs", "monday", 2)


def test_a_database_in_memory_has_sizes_too() -> None:
    with open_at(":memory:", max_bytes=2 * MB) as db:
        db[DOCS].put_many(documents(10))
        info = db.storage_info()
        assert info.engine == "memory" and info.used_bytes == info.total_bytes > 5_000
        assert info.limit_bytes == info.max_bytes == 2 * MB
        assert info.collections[0].documents == 10


async def test_sizes_are_read_beside_a_running_transaction(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[DOCS]) as db:
        await db[DOCS].put_many(list(documents(50)))
        assert (await db.size())["docs"] > 0
        assert (await db.storage_info()).collections[0].documents == 50
        assert (await db.cleanup()).skipped == ()


# -- quota


@pytest.fixture(params=["memory", "file"])
def small(request: Any, tmp_path: Path) -> Iterator[hp.Database]:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    with open_at(path, max_bytes=2 * MB) as db:
        yield db


def fill(db: hp.Database) -> int:
    """→ how many documents were acknowledged before the quota was reached."""
    for n in range(10_000):
        try:
            db[DOCS].put({"id": f"f{n:05}", "n": n, "text": "y" * 2_000})
        except QuotaExceeded:
            return n
    raise AssertionError("the quota was never reached")


def test_r19_a_quota_is_told_before_the_write_is_acknowledged(small: hp.Database) -> None:
    stored = fill(small)
    assert stored > 300
    assert small[DOCS].count() == stored, "everything acknowledged is there, nothing else"
    with pytest.raises(QuotaExceeded, match=r"quota of 2,097,152 bytes.*cleanup|larger max_bytes"):
        small[DOCS].put_many(documents(50, size=3_000))
    assert small[DOCS].count() == stored, "nothing of a refused write stays"
    with pytest.raises(QuotaExceeded), small.transaction():
        small[DOCS].delete("f00000")
        small[DOCS].put_many(documents(50, size=3_000))
    assert small[DOCS].get("f00000") is not None
    assert small.storage_info().near_limit


def test_at_the_limit_deletes_make_room(small: hp.Database) -> None:
    stored = fill(small)
    for n in range(stored):
        assert small[DOCS].delete(f"f{n:05}") == 1
    assert small[DOCS].count() == 0
    assert fill(small) > stored * 0.8


def test_r19_at_the_limit_deletes_are_still_queued_for_the_server(tmp_path: Path) -> None:
    with open_at(tmp_path / "a.db", max_bytes=2 * MB) as db:
        db.sync(NOWHERE, token="t")
        db[DOCS].put_many(documents(50))
        with db.transaction():
            db[DOCS].patch("d000000", n=-1)  # an entry of its own for these, which cannot coalesce
        stored = fill(db)
        for n in range(50):
            assert db[DOCS].delete(f"d{n:06}") == 1
        assert db[DOCS].count() == stored


def test_a_file_never_passes_its_quota(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with open_at(path, max_bytes=2 * MB) as db:
        report = None
        with pytest.raises(QuotaExceeded):
            report = db[DOCS].load(documents(5_000), chunk=100)
        assert report is None and db[DOCS].count() % 100 == 0
        fill(db)
        db.checkpoint()
        assert path.stat().st_size <= 2 * MB
    with open_at(path, max_bytes=64 * MB) as db:
        db[DOCS].put_many(documents(5_000))
    with open_at(path, max_bytes=2 * MB) as db:
        # Larger than it may be: reading and deleting go on, growing does not.
        assert db[DOCS].count() >= 5_000
        assert fill(db) < 20, "what fits into pages that are there"
        assert db[DOCS].where(hp.F.n < 5_000).delete() > 4_000


@pytest.mark.parametrize("wrong", [0, -1, 1.5, 100_000, "1 MB"])
def test_a_quota_too_small_to_work_with_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="max_bytes"):
        open_at(":memory:", max_bytes=wrong)


FULL_DISK = """
    import resource, signal, sys
    import homeport as hp
    sys.path.insert(0, sys.argv[2])
    from test_storage_size import DOCS, CACHE, documents, open_at

    path = sys.argv[1]
    with open_at(path) as db:
        db[DOCS].load(documents(500), chunk=100)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, resource.RLIM_INFINITY))
    with open_at(path) as db:
        try:
            db[DOCS].load(documents(50_000, 500), chunk=100)
        except hp.errors.QuotaExceeded as error:
            count = db[DOCS].count()
            assert count >= 500 and count % 100 == 0, count
            print("full at", count)
        report = db.cleanup(aggressive=True)
        assert report.skipped, "no room to write the file anew, and that is said"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with open_at(path) as db:
        assert db[DOCS].count() == count
        assert db._driver.engine.store.check() == []
        db[DOCS].load(documents(100, count))
        assert db[DOCS].where(hp.F.n >= 0).count() == count + 100
"""


def test_r19_a_full_disk_stops_a_load_behind_whole_chunks(tmp_path: Path) -> None:
    """The limit on the size of files is one that a test may set; SQLite meets it as a full disk."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path / "a.db"),
         str(Path(__file__).parent)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "full at" in done.stdout


DELETES = """
    import os, resource, signal, sys
    import homeport as hp
    sys.path.insert(0, sys.argv[2])
    from test_storage_size import DOCS, documents, open_at

    path, way = sys.argv[1], sys.argv[3]
    with open_at(path) as db:
        db[DOCS].put_many(documents(2_000))
    size = os.path.getsize(path)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, resource.RLIM_INFINITY))
    with open_at(path) as db:
        w, refused, done = db[DOCS], 0, 0
        keys = w.keys()
        while done < (4 if way == "rows" else 40):  # each round changes every tenth document: the log fills many times
            try:
                if way == "unit":
                    with db.transaction():
                        for key in keys[done % 10 :: 10]:
                            w.patch(key, {"n": -done})
                elif way == "rows":
                    for key in keys[done % 10 :: 10]:
                        try:
                            w.put({"id": key, "n": -done})
                        except hp.errors.QuotaExceeded:
                            refused += 1
                            w.put({"id": key, "n": -done})
                else:
                    w.patch_many((key, {"n": -done}) for key in keys[done % 10 :: 10])
                done += 1
            except hp.errors.QuotaExceeded:
                refused += 1
                assert refused <= 2 * done + 2, "what was refused is done when it is repeated"
        assert refused, "the disk was full"
        for start in range(0, 2_000, 50):
            try:
                w.delete_many(keys[start : start + 50])
            except hp.errors.QuotaExceeded:
                assert w.delete_many(keys[start : start + 50]) == 50
        assert w.count() == 0
        assert db._driver.engine.store.check() == []
"""


@pytest.mark.parametrize("way", ["unit", "rows", "many"])
def test_r19_on_a_full_disk_a_repeated_write_finds_room_in_the_log(way: str, tmp_path: Path) -> None:
    """Deletes above all: they need room in the log before they give any."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DELETES), str(tmp_path / "a.db"),
         str(Path(__file__).parent), way],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# -- cleaning up


def test_a_clean_up_removes_what_expired_and_says_what_it_gave(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with open_at(path) as db:
        db[CACHE].put_many({"id": n, "text": "z" * 200} for n in range(2_000))
        db[DOCS].put_many(documents(50))
        while db[CACHE].count():
            pass
        report = db.cleanup()
        assert report.expired > 500, "more than one step of the background"
        assert report.reusable_bytes > 200_000 and report.skipped == ()
        assert report.before_bytes >= report.after_bytes == on_disk(path)
        again = db.cleanup(aggressive=True)
        assert again.reusable_bytes == 0 and again.freed_bytes > 200_000
        assert again.after_bytes == on_disk(path) == db.size()["total"]
        assert db[DOCS].count() == 50
        assert db[DOCS].where(hp.F.text.matches("word7")).count() == 1
        assert db._driver.engine.store.check() == []


def test_r18_the_file_shrinks_and_the_change_log_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with open_at(path) as db:
        live = db[DOCS].where(hp.F.n >= 0).live()
        live.next(timeout_s=5)
        for n in range(300):
            db[DOCS].put({"id": f"k{n}", "n": n})
        db[DOCS].put_many(documents(3_000))
        db[DOCS].where(hp.F.n >= 10).delete()
        before = on_disk(path)
        report = db.cleanup(aggressive=True)
        assert report.changes >= 200 and report.freed_bytes > MB
        assert on_disk(path) < before / 2
        # Who was behind the log reads anew, and misses nothing.
        change = live.next(timeout_s=5)
        assert change is not None and change.reset and len(change.rows) == db[DOCS].count()


def test_r19_nothing_that_waits_for_the_server_is_ever_cleaned_up(tmp_path: Path) -> None:
    with open_at(tmp_path / "a.db") as db:
        db[DOCS].put_many(documents(100))
        db.sync(NOWHERE, token="t")
        db[DOCS].put_many(documents(100, 100))
        db[DOCS].delete_many(f"d{n:06}" for n in range(50))
        run = db._driver.engine.run

        def pending() -> tuple[list[str], int, int]:
            return (
                [text for text in run(_texts())],
                run(Operation(Count(BASE, EMPTY), "read", True)),
                db[DOCS].count(),
            )

        kept = pending()
        assert len(kept[0]) == 100
        for aggressive in (False, True, True):
            db.cleanup(aggressive=aggressive)
            assert pending() == kept
    with open_at(tmp_path / "a.db") as db:
        run = db._driver.engine.run
        assert pending() == kept


def _texts() -> Any:
    from homeport.core.requests import Find

    return Operation(Find(OUTBOX, EMPTY.with_order("id"), "texts"), "read", True)


def test_expired_documents_of_a_synced_collection_are_left_to_the_server(tmp_path: Path) -> None:
    shared = hp.Collection("shared", ttl_s=0.01)
    with hp.open(tmp_path / "a.db", collections=[shared]) as db:
        db.sync(NOWHERE, token="t")
        db[shared].put({"id": "a"})
        while db[shared].get("a"):
            pass
        assert db.cleanup(aggressive=True).expired == 0
        assert b'"id":"a"' in (tmp_path / "a.db").read_bytes()


def test_a_reader_in_the_way_is_said(tmp_path: Path) -> None:
    import apsw

    path = tmp_path / "a.db"
    with hp.open(path, collections=[DOCS], busy_timeout_s=0.05) as db:
        db[DOCS].put_many(documents(10))
        other = apsw.Connection(str(path))
        other.execute("begin")
        other.execute("select count(*) from c_docs").fetchall()
        db[DOCS].put_many(documents(10, 10))
        assert "another connection" in db.cleanup().skipped[0]
        other.close()
        assert db.cleanup().skipped == ()


def test_inside_a_transaction_there_is_nothing_to_clean(tmp_path: Path) -> None:
    with open_at(tmp_path / "a.db") as db, db.transaction():
        with pytest.raises(TransactionError):
            db.cleanup()
        with pytest.raises(TransactionError):
            db.size()


def test_a_clean_up_in_memory() -> None:
    with open_at(":memory:") as db:
        db[CACHE].put_many({"id": n} for n in range(700))
        while db[CACHE].count():
            pass
        report = db.cleanup(aggressive=True)
        assert report.expired > 0 and report.after_bytes == 0




@pytest.mark.parametrize("kind", ["memory", "file"])
def test_r19_a_warning_comes_before_the_quota(kind: str, tmp_path: Path) -> None:
    docs = hp.Collection("docs", sync=False)
    path = ":memory:" if kind == "memory" else tmp_path / "a.db"
    heard: list[hp.QuotaNotice] = []
    with hp.open(path, collections=[docs], max_bytes=2_000_000, durability="relaxed") as db:
        db.on_quota(lambda _: 1 / 0)  # its error is not the writer's
        forget = db.on_quota(heard.append, levels=(0.5, 0.9))

        def fill() -> int:
            n = 0
            try:
                for n in range(10_000):
                    db[docs].put({"id": n, "text": "x" * 3_000})
            except hp.errors.QuotaExceeded:
                return n
            raise AssertionError("no quota")

        wrote = fill()
        assert [notice.level for notice in heard] == [0.5, 0.9]
        assert all(n.level <= n.fraction < n.level + 0.05 for n in heard)
        assert [n.max_bytes for n in heard] == [2_000_000] * 2
        db[docs].where(hp.F.id >= wrote // 4).delete()
        db[docs].put({"id": "small"})
        fill()
        assert [notice.level for notice in heard] == [0.5, 0.9] * 2, "told anew after a fall"
        forget()
        db[docs].clear()
        fill()
        assert len(heard) == 4
        for wrong in ((), (1.5,), (0,), "0.8", 0.8, ("a",)):
            with pytest.raises(hp.errors.UsageError, match="levels"):
                db.on_quota(heard.append, levels=wrong)  # type: ignore[arg-type]
    with hp.open(":memory:", collections=[docs]) as db:
        with pytest.raises(hp.errors.UsageError, match="no quota"):
            db.on_quota(heard.append)
