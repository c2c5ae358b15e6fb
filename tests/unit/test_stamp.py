"""The stamp of a store: equal exactly when nothing was committed in between."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest

import homeport as hp
from homeport.storage import sqlite_stamp

DOCS = hp.Collection("docs", indexes=["n"])


def stamp_of(db: hp.Database) -> Any:
    stamp = db._driver.engine.stamp()
    assert stamp is not None
    return stamp


def read(stamp: Any) -> Any:
    with stamp.lock:
        return stamp.read()


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_it_moves_with_every_commit_and_with_nothing_else(kind: str, tmp_path: Path) -> None:
    path = ":memory:" if kind == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[DOCS]) as db:
        stamp = stamp_of(db)
        seen = [read(stamp)]
        for write in (
            lambda: db[DOCS].put({"id": "a", "n": 1}),
            lambda: db[DOCS].put({"id": "a", "n": 1}),
            lambda: db[DOCS].put_many({"id": str(n)} for n in range(500)),
            lambda: db[DOCS].delete("a"),
            lambda: db[DOCS].clear(),
        ):
            write()
            now = read(stamp)
            assert now not in seen
            assert stamp.commits(now) == stamp.commits(seen[-1]) + 1
            seen.append(now)
            db[DOCS].all()
            db.checkpoint()
            db[DOCS].get("a")
            assert read(stamp) == now
        with pytest.raises(ZeroDivisionError), db.transaction():
            db[DOCS].put_many({"id": str(n)} for n in range(3000))
            assert read(stamp) == seen[-1], "nothing is committed yet"
            raise ZeroDivisionError
        assert read(stamp) == seen[-1]
        with db.transaction():
            db[DOCS].get("a")
        assert read(stamp) == seen[-1], "nothing was written"
    assert read(stamp) not in seen, "of a closed database it is that of no commit"


def test_commits_of_others_move_it(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    with hp.open(path, collections=[DOCS]) as db, hp.open(path, collections=[DOCS]) as other:
        stamp, theirs = stamp_of(db), stamp_of(other)
        before = read(stamp)
        assert before == read(theirs)
        other[DOCS].put({"id": "a"})
        assert read(stamp) == read(theirs) != before
        before = read(stamp)
        program = f"import sqlite3; sqlite3.connect({path!r}).execute('PRAGMA user_version').fetchall()"
        subprocess.run([sys.executable, "-c", program], check=True)
        assert read(stamp) == before, "a reader"
        program = (
            f"import apsw; c = apsw.Connection({path!r});"
            " c.execute(\"insert into changes(at, body) values(1, '{}')\").fetchall()"
        )
        subprocess.run([sys.executable, "-c", program], check=True)
        assert read(stamp) != before, "a writer that is no Homeport"


def test_it_survives_a_log_that_begins_anew(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    with hp.open(path, collections=[DOCS]) as db, hp.open(path, collections=[DOCS]) as other:
        stamp, seen = stamp_of(db), set()
        for n in range(20):
            other[DOCS].put_many({"id": str(k), "n": n} for k in range(300))
            other._driver.engine._main.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            seen.add(read(stamp))
        assert len(seen) == 20


def test_a_file_that_nobody_can_write_has_a_fixed_one(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[DOCS]) as db:
        db[DOCS].put({"id": "a"})
    name = f"file:{path}?immutable=1"
    connection = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    stamp = sqlite_stamp.stamp_of(connection, connection.cursor().execute)
    assert isinstance(stamp, sqlite_stamp.FixedStamp)
    assert read(stamp) == read(stamp)
    assert stamp.commits(read(stamp)) == 0
    assert not (tmp_path / "a.db-shm").exists()


def test_a_reading_program_sees_commits(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[DOCS]) as db:
        db[DOCS].put({"id": "a"})
        with hp.open(path, collections=[DOCS], readonly=True) as reader:
            before = read(stamp_of(reader))
            db[DOCS].put({"id": "b"})
            assert read(stamp_of(reader)) != before


def test_it_can_be_read_while_the_database_is_closed(tmp_path: Path) -> None:
    """The memory goes with the connection: nobody may look at it afterwards."""
    for n in range(20):
        db = hp.open(tmp_path / f"{n}.db", collections=[DOCS])
        db[DOCS].put({"id": "a"})
        stamp, stop, values = stamp_of(db), threading.Event(), set()

        def look(stamp: Any = stamp, stop: Any = stop, values: Any = values) -> None:
            while not stop.is_set():
                values.add(read(stamp))

        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        db.close()
        gc.collect()
        stop.set()
        for thread in threads:
            thread.join()
        assert read(stamp) == b""


def test_without_it_the_number_of_the_last_change_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_stamp, "stamp_of", lambda *_: None)
    path = str(tmp_path / "a.db")
    with hp.open(path, collections=[DOCS]) as db:
        assert db._driver.engine.stamp() is None
        live = db[DOCS].live()
        live.next()
        with hp.open(path, collections=[DOCS]) as other:
            other[DOCS].put({"id": "a"})
            change = live.next(timeout_s=20)
        assert change is not None
        assert len(change.rows) == 1
