"""Opening a file: every place, state and moment that is not good, each with its own error."""

from __future__ import annotations

import copy
import os
import pickle
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import apsw
import pytest

import homeport as hp
from homeport.errors import (
    Busy,
    CannotOpen,
    Closed,
    Corrupted,
    RiskyPlaceWarning,
    SchemaMismatch,
    UsageError,
)
from homeport.storage import places

DOCS = hp.Collection("docs", indexes=["n", hp.Unique("name"), hp.Multi("tags"), hp.FullText("text")])


def fill(path: Path) -> None:
    with hp.open(path, collections=[DOCS]) as db:
        db[DOCS].put_many(
            {"id": f"k{n}", "n": n, "name": f"n{n}", "tags": ["a", "b"], "text": f"words {n}"}
            for n in range(200)
        )


# -- places


def test_places_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    unix = socket.socket(socket.AF_UNIX)
    folder = tempfile.mkdtemp()  # the name of a socket is short
    unix.bind(f"{folder}/s")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("x")
    for place, words in (
        (tmp_path, "folder"),
        (tmp_path / "pipe", "pipe"),
        (f"{folder}/s", "not a file"),
        ("/dev/null", "device"),
        (tmp_path / "loop", "."),
        (tmp_path / "file" / "a.db", "folder"),
        (tmp_path / "no" / "a.db", "does not exist"),
        (tmp_path / ("x" * 300), "."),
    ):
        for readonly in (False, True):
            with pytest.raises(CannotOpen, match=words) as caught:
                hp.open(place, collections=[DOCS], readonly=readonly)
            assert caught.value.action
    unix.close()
    for wrong in (b"bytes.db", "", 5, None):
        with pytest.raises((UsageError, TypeError)):
            hp.open(wrong, collections=[DOCS])  # type: ignore[arg-type]


async def test_the_same_on_the_async_side(tmp_path: Path) -> None:
    with pytest.raises(CannotOpen, match="folder"):
        await hp.open_async(tmp_path, collections=[DOCS])
    with pytest.raises(CannotOpen, match="does not exist"):
        async with hp.open_async(tmp_path / "no" / "a.db", collections=[DOCS]):
            pass


def test_one_file_by_several_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link, a relative path and one with dots lead to one log and one lock."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "a.db")
    paths = [tmp_path / "link.db", "real/a.db", "linked/a.db", "real/../linked/./a.db"]
    opened = [hp.open(path, collections=[DOCS], busy_timeout_s=0.05) for path in paths]
    for n, db in enumerate(opened):
        assert db.path == str(paths[n])
        db[DOCS].put({"id": str(n), "n": n, "name": str(n)})
    for db in opened:
        assert db[DOCS].where(hp.F.n >= 0).order_by("n").keys() == ["0", "1", "2", "3"]
        assert db.size()["total"] > 0
    with opened[0].transaction():
        opened[0][DOCS].put({"id": "x"})
        with pytest.raises(Busy, match="another open database of this one"):
            opened[2][DOCS].put({"id": "y"})
    assert sorted(p.name for p in (tmp_path / "real").iterdir() if p.suffix != ".db-turn") == [
        "a.db", "a.db-shm", "a.db-wal",
    ]  # fmt: skip
    for db in opened:
        db.close()
    assert [p.name for p in (tmp_path / "real").iterdir()] == ["a.db"]
    assert (tmp_path / "link.db").is_symlink()
    # A link to nothing yet: the file is made where it points.
    (tmp_path / "next.db").symlink_to(tmp_path / "real" / "next.db")
    fill(tmp_path / "next.db")
    assert (tmp_path / "real" / "next.db").exists()


def test_a_file_with_two_names_is_warned_of(tmp_path: Path) -> None:
    fill(tmp_path / "a.db")
    os.link(tmp_path / "a.db", tmp_path / "b.db")
    with pytest.warns(RiskyPlaceWarning, match="hard links") as caught:
        hp.open(tmp_path / "b.db", collections=[DOCS]).close()
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hp.open(tmp_path / "a.db", collections=[DOCS], readonly=True).close()


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:26 / /tmp rw - tmpfs tmpfs rw,size=100k
41 22 0:48 / /home/ida/lab rw,relatime shared:26 - nfs4 server:/lab rw,vers=4.2
42 22 0:49 / /mnt/pc rw master:1 propagate_from:2 - cifs //pc/c rw
43 22 0:50 / /mnt/ssh rw - fuse.sshfs ida@server: rw
"""


def test_network_file_systems_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for minor, kind in ((48, "nfs4"), (49, "cifs"), (50, "fuse.sshfs"), (26, "tmpfs"), (99, "")):
        assert places.mounted_kind(MOUNTS, os.makedev(0, minor)) == kind
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    monkeypatch.setattr(places, "MOUNTS", str(mounts))
    monkeypatch.setattr(places, "_kinds", {})
    found = os.stat(tmp_path)
    device = os.makedev(0, 48)
    monkeypatch.setattr(
        places, "_check_network", lambda path, _, check=places._check_network: check(path, device)
    )
    with pytest.warns(RiskyPlaceWarning, match="nfs4") as caught:
        hp.open(tmp_path / "a.db", collections=[DOCS]).close()
    assert caught[0].filename == __file__
    assert places.network_kind("x", os.makedev(0, 26)) == ""
    assert places.network_kind("x", found.st_dev) == ""
    monkeypatch.setattr(places, "MOUNTS", str(tmp_path / "none"))
    assert places.network_kind("x", os.makedev(0, 49)) == "", "unknown is no reason to refuse"


# -- damaged files


def test_whatever_is_wrong_with_the_bytes_the_error_is_typed(tmp_path: Path) -> None:
    """Cut off, flipped, overwritten, with a foreign log: never a raw error, on any call."""
    good = tmp_path / "good.db"
    fill(good)
    data = good.read_bytes()
    rng = random.Random(5)
    seen: dict[str, int] = {}

    def call(fn: Any) -> None:
        try:
            fn()
        except hp.HomeportError as error:
            seen[type(error).__name__] = seen.get(type(error).__name__, 0) + 1

    def use(path: Path, readonly: bool) -> None:
        with hp.open(path, collections=[DOCS], readonly=readonly) as db:
            docs = db[DOCS]
            for fn in (
                lambda: docs.get("k5"),
                docs.all,
                docs.count,
                lambda: docs.where(hp.F.n > 5).order_by("n").all(),
                lambda: docs.where(hp.F.tags.contains("a")).count(),
                lambda: docs.where(hp.F.text.matches("words")).keys(),
                lambda: docs.meta("k9"),
                db.size,
            ):
                call(fn)
            if not readonly:
                call(lambda: docs.put({"id": "k7", "n": 1, "name": "new", "tags": ["q"]}))
                call(lambda: docs.where(hp.F.n < 10).delete())

    for n in range(120):
        path = tmp_path / f"{n}.db"
        damaged = bytearray(data)
        kind = n % 6
        if kind == 0:
            del damaged[rng.randrange(len(damaged)) :]
        elif kind == 1:
            for _ in range(rng.randrange(1, 40)):
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            page = rng.randrange(len(damaged) // 4096) * 4096
            damaged[page : page + 4096] = rng.randbytes(4096)
        elif kind == 3:
            damaged[rng.randrange(100)] = rng.randrange(256)
        elif kind == 4:
            at = damaged.find(b'"columns"') + rng.randrange(-20, 60)
            damaged[at] = rng.randrange(256)
        path.write_bytes(damaged)
        if kind == 5:
            (tmp_path / f"{n}.db-wal").write_bytes(rng.randbytes(rng.randrange(20_000)))
            (tmp_path / f"{n}.db-shm").write_bytes(rng.randbytes(32_768))
        call(lambda path=path: use(path, readonly=n % 3 == 0))
    assert seen.get("Corrupted", 0) > 30, seen


def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    fill(tmp_path / "a.db")
    (tmp_path / "b.db").touch()
    with pytest.raises(Corrupted, match="empty"):
        hp.open(tmp_path / "b.db", collections=[DOCS], readonly=True)


# -- moments


def test_opening_waits_for_who_has_the_file_alone(tmp_path: Path) -> None:
    """The change to a log needs the file alone, and SQLite does not wait for that by itself."""
    path = tmp_path / "a.db"
    holder = apsw.Connection(str(path))
    holder.execute("BEGIN EXCLUSIVE").fetchall()
    with pytest.raises(Busy):
        hp.open(path, collections=[DOCS], busy_timeout_s=0.1)
    timer = threading.Timer(0.3, lambda: holder.execute("ROLLBACK").fetchall())
    timer.start()
    fill(path)
    timer.join()
    holder.close()


def test_opening_while_another_process_changes_the_indexes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    fill(path)
    other = hp.Collection("other")
    with hp.open(path, collections=[DOCS]) as holder:
        with holder.transaction():
            holder[DOCS].put({"id": "x", "name": "x"})
            # Nothing to change: nothing to wait for.
            hp.open(path, collections=[DOCS], busy_timeout_s=0.05).close()
            with pytest.raises(Busy):
                hp.open(path, collections=[DOCS, other], busy_timeout_s=0.05)
        inside = threading.Event()

        def hold() -> None:
            with holder.transaction():
                holder[DOCS].put({"id": "y", "name": "y"})
                inside.set()
                time.sleep(0.3)

        thread = threading.Thread(target=hold)
        thread.start()
        inside.wait()
        with hp.open(path, collections=[DOCS, other]) as db:
            assert db[DOCS].get("y") is not None, "it waited"
            db[other].put({"id": "a"})
        thread.join()
        assert holder[DOCS].count() == 202


def test_many_processes_create_one_file_at_the_same_moment(tmp_path: Path) -> None:
    program = f"""
import sys
import homeport as hp
docs = hp.Collection("docs", indexes=["n", hp.Unique("name"), hp.Multi("tags"), hp.FullText("text")])
sys.stdin.readline()
with hp.open({str(tmp_path / "a.db")!r}, collections=[docs]) as db:
    db[docs].put({{"id": sys.argv[1], "n": 1, "name": sys.argv[1], "tags": [], "text": "x"}})
"""
    crew = [
        subprocess.Popen([sys.executable, "-c", program, str(n)], stdin=subprocess.PIPE)
        for n in range(4)
    ]
    time.sleep(0.5)
    for one in crew:
        assert one.stdin is not None
        one.stdin.write(b"\n")
        one.stdin.flush()
    for one in crew:
        assert one.wait(60) == 0
        assert one.stdin is not None
        one.stdin.close()
    with hp.open(tmp_path / "a.db", collections=[DOCS]) as db:
        assert sorted(db[DOCS].keys()) == list("0123")


def test_a_file_that_is_taken_away_or_replaced_while_open(tmp_path: Path) -> None:
    """As SQLite has it: the open database goes on with what it has; the next open is a new file."""
    path = tmp_path / "a.db"
    fill(path)
    with hp.open(path, collections=[DOCS]) as db:
        for name in ("a.db", "a.db-wal", "a.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        assert db[DOCS].count() == 200
        try:
            db[DOCS].put({"id": "x", "name": "x"})
        except hp.errors.StorageError:
            pass
    with hp.open(path, collections=[DOCS]) as db:
        assert db[DOCS].count() == 0


def test_two_declarations_in_one_process(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    fill(path)
    with hp.open(path, collections=[DOCS]) as one:
        with hp.open(path, collections=[hp.Collection("docs", indexes=["n"])]) as two:
            two[two.collections[0]].put({"id": "x", "n": 5000})
        with pytest.raises(SchemaMismatch):
            one[DOCS].put({"id": "y", "name": "y"})


# -- handles


def test_handles_are_neither_copied_nor_pickled(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[DOCS]) as db:
        groups = db[DOCS].group_by("n")
        handles = [db, db[DOCS], db[DOCS].where(hp.F.n > 1), db.snapshot(), groups]
        for act in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="its thread"):
                act(db.transaction())
        with db[DOCS].live() as live:
            for handle in [*handles, live]:
                for act in (copy.copy, copy.deepcopy, pickle.dumps):
                    with pytest.raises(TypeError, match="open it again there"):
                        act(handle)
        # What is a value can go anywhere.
        assert pickle.loads(pickle.dumps(hp.F.n > 1)) is not None


async def test_async_handles_are_neither_copied_nor_pickled(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[DOCS]) as db:
        for handle in (db, db[DOCS], db[DOCS].where(hp.F.n > 1)):
            for act in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match="open it again there"):
                    act(handle)


# -- the end of the program


ENDINGS = {
    "nothing": "",
    "open transaction": "t = db.transaction(); t.__enter__(); db[c].put({'id': 'never'})",
    "open snapshot": "s = db.snapshot().__enter__(); s[c].count()",
    "live query in a thread": (
        "import threading\n"
        "threading.Thread(target=lambda: list(db[c].live()), daemon=True).start()\n"
        "import time; time.sleep(0.2)"
    ),
    "reading thread": (
        "import threading\n"
        "def read():\n"
        "    while True: db[c].all()\n"
        "threading.Thread(target=read, daemon=True).start()\n"
        "import time; time.sleep(0.2)"
    ),
    "writing thread": (
        "import threading\n"
        "def write():\n"
        "    while True: db[c].put({'id': 'w'})\n"
        "threading.Thread(target=write, daemon=True).start()\n"
        "import time; time.sleep(0.2)"
    ),
    "asyncio": (
        "import asyncio\n"
        "async def main():\n"
        "    adb = await hp.open_async(path, collections=[c])\n"
        "    await adb[c].put({'id': 'from asyncio'})\n"
        "    asyncio.ensure_future(adb[c].put({'id': 'x'}))\n"
        "    asyncio.ensure_future(adb[c].all())\n"
        "asyncio.run(main())"
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_that_ends_without_closing(tmp_path: Path, ending: str) -> None:
    """It ends, silently, and everything acknowledged is there."""
    program = f"""
import homeport as hp
path = {str(tmp_path / "a.db")!r}
c = hp.Collection("c", indexes=["n"])
db = hp.open(path, collections=[c])
db[c].put_many({{"id": str(n), "n": n}} for n in range(50))
{ENDINGS[ending]}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Error" not in done.stderr, done.stderr
    c = hp.Collection("c", indexes=["n"])
    with hp.open(tmp_path / "a.db", collections=[c]) as db:
        assert db[c].where(hp.F.n >= 0).count() == 50
        assert db[c].get("never") is None
        assert (db[c].get("from asyncio") is not None) == (ending == "asyncio")
        assert db._driver.engine.store.check() == []  # type: ignore[attr-defined]


def test_a_database_that_nobody_holds_any_more_is_let_go(tmp_path: Path) -> None:
    import gc

    db = hp.open(tmp_path / "a.db", collections=[DOCS])
    db[DOCS].put({"id": "a"})
    documents = db[DOCS]
    del db
    gc.collect()
    assert documents.get("a") == {"id": "a"}, "the documents hold it"
    del documents
    gc.collect()
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith("-turn")] == ["a.db"]


def test_closing_twice_from_many_threads(tmp_path: Path) -> None:
    db = hp.open(tmp_path / "a.db", collections=[DOCS])
    errors: list[Exception] = []

    def close() -> None:
        try:
            db.close()
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with pytest.raises(Closed):
        db[DOCS].get("a")


def test_a_relative_path_means_the_same_file_when_the_program_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further connections, of readers and snapshots, are made later."""
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with hp.open("a.db", collections=[DOCS]) as db:
        db[DOCS].put({"id": "a"})
        monkeypatch.chdir(tmp_path / "other")
        with db.snapshot() as then:
            assert then[DOCS].count() == 1
        with db.transaction():
            db[DOCS].put({"id": "b"})
            seen: list[int] = []
            reader = threading.Thread(target=lambda: seen.append(db[DOCS].count()))
            reader.start()
            reader.join()
        assert seen == [1]
    assert list((tmp_path / "other").iterdir()) == []


def test_a_file_that_is_deleted_or_replaced_under_an_open_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    db = hp.open(path, collections=[DOCS])
    db[DOCS].put({"id": "a"})
    path.unlink()
    with pytest.raises(hp.errors.StorageError, match="deleted"), db.snapshot():
        pass
    assert not path.exists()  # a reader makes no new file
    with hp.open(path, collections=[DOCS]) as another:
        another[DOCS].put({"id": "b"})
        with pytest.raises(hp.errors.StorageError, match="replaced"), db.snapshot():
            pass
    db.close()
    with hp.open(path, collections=[DOCS]) as another:
        assert another[DOCS].keys() == ["b"]
