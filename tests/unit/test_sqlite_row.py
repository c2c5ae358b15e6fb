"""The short way of writing one row does what the long way does, and nothing where it is not of that
kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

import homeport as hp
from homeport.drivers.jobs import Watched
from homeport.errors import Closed, StorageError
from homeport.storage.sqlite_row import RowWriter

DOCS = hp.Collection("docs", indexes=["v", ("v", "w")])


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each write that was offered to the short way: was it done there?"""
    seen: list[bool] = []
    write = RowWriter.write

    def watched(self: RowWriter, *args: Any) -> bool:
        done = write(self, *args)
        seen.append(done)
        return done

    monkeypatch.setattr(RowWriter, "write", watched)
    return seen


def content(path: Path) -> tuple[list[Any], list[Any]]:
    connection = apsw.Connection(str(path))
    found = connection.execute("SELECT * FROM c_docs ORDER BY seq").fetchall()
    rows = [row[:3] + row[5:] for row in found]  # without the times
    logged = connection.execute("SELECT n, body FROM changes ORDER BY n").fetchall()
    connection.close()
    return rows, logged


def test_it_writes_what_the_long_way_writes(tmp_path: Path, short: list[bool]) -> None:
    keys = ["a", "b", 'quote"and\\slash', "a", "tab\t"]
    for name in ("short", "long"):
        with hp.open(tmp_path / f"{name}.db", collections=[DOCS]) as db:
            for n, key in enumerate(keys):
                doc = {"id": key, "v": n, "w": [n]}
                if name == "short":
                    assert db[DOCS].put(doc) == key
                else:
                    assert db[DOCS].put_many([doc]) == [key]
    assert short == [True] * len(keys)
    assert content(tmp_path / "short.db") == content(tmp_path / "long.db")


@pytest.mark.parametrize(
    ("options", "doc"),
    [
        ({}, {"id": "é"}),
        ({}, {"id": 7}),
        ({}, {"id": ["a", 1]}),
        ({"indexes": [hp.Unique("v")]}, {"id": "a", "v": 1}),
        ({"indexes": [hp.Multi("v")]}, {"id": "a", "v": [1]}),
        ({"indexes": [hp.FullText("v")]}, {"id": "a", "v": "x"}),
        ({"ttl_s": 60}, {"id": "a"}),
    ],
)
def test_what_needs_more_takes_the_long_way(
    tmp_path: Path, short: list[bool], options: dict[str, Any], doc: dict[str, Any]
) -> None:
    collection = hp.Collection("docs", **options)
    with hp.open(tmp_path / "a.db", collections=[collection]) as db:
        db[collection].put(doc)
        assert db[collection].get(doc["id"]) == doc
    assert True not in short


def test_an_open_transaction_takes_the_long_way(tmp_path: Path, short: list[bool]) -> None:
    with hp.open(tmp_path / "a.db", collections=[DOCS]) as db:
        with pytest.raises(ZeroDivisionError), db.transaction():
            db[DOCS].put({"id": "a"})
            raise ZeroDivisionError
        assert db[DOCS].count() == 0
    assert short == []


def test_a_unique_index_that_another_process_made_is_noticed_within_the_write(
    tmp_path: Path, short: list[bool]
) -> None:
    with hp.open(tmp_path / "a.db", collections=[DOCS]) as db:
        db[DOCS].put({"id": "a", "v": 1})
        with hp.open(tmp_path / "a.db", collections=[DOCS]) as other:
            other.create_index(DOCS, hp.Unique("u"))
            other[DOCS].put({"id": "b", "u": 1})
        with pytest.raises(hp.UniqueViolation):
            db[DOCS].put({"id": "c", "u": 1})
        assert short[-1] is False
        assert db[DOCS].get("c") is None


def test_what_fails_at_any_step_leaves_nothing(tmp_path: Path, short: list[bool]) -> None:
    with hp.open(tmp_path / "a.db", collections=[DOCS]) as db:
        session: Any = db._driver.engine.session
        execute = session.execute
        writer = RowWriter(session)
        session.write_row = writer.write
        for step in range(1, 4):  # the row, the change row, the commit
            count = 0

            def failing(*args: Any, at: int = step) -> Any:
                nonlocal count
                count += 1
                if count == at:
                    raise KeyboardInterrupt
                return execute(*args)

            writer.execute = failing
            with pytest.raises(KeyboardInterrupt):
                db[DOCS].put({"id": "a", "v": step})
            writer.execute = execute
            assert not session.in_transaction
            assert db[DOCS].get("a") is None
        db[DOCS].put({"id": "a", "v": 9})
        assert db[DOCS].get("a") == {"id": "a", "v": 9}


def test_a_commit_that_fails_is_an_error_of_ours(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[DOCS]) as db:
        connection = db._driver.engine.session.connection  # type: ignore[attr-defined]
        connection.set_commit_hook(lambda: True)
        with pytest.raises(StorageError):
            db[DOCS].put({"id": "a"})
        connection.set_commit_hook(None)
        assert db[DOCS].get("a") is None
        assert db[DOCS].put({"id": "a"}) == "a"


def test_a_live_query_and_the_cache_see_it(tmp_path: Path, short: list[bool]) -> None:
    with hp.open(tmp_path / "a.db", collections=[DOCS], result_cache_mb=1) as db:
        docs = db[DOCS]
        live = docs.order_by("v").live()
        docs.put({"id": "a", "v": 2})
        for v in (3, 4):
            docs.put({"id": "a", "v": v})
            assert docs.get("a") == {"id": "a", "v": v}
            assert docs.order_by("v").all() == [{"id": "a", "v": v}]
        live.close()
    assert short
    assert False not in short


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    db = hp.open(tmp_path / "a.db", collections=[DOCS])
    session: Any = db._driver.engine.session
    db.close()
    with pytest.raises(Closed):
        db[DOCS].put({"id": "a"})
    with pytest.raises(Closed):
        session.write_row(None, ("a", "{}"))


def test_a_watched_session_takes_the_long_way(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[DOCS]) as db:
        watched = Watched(db._driver.engine.session, None)  # type: ignore[arg-type]
        assert watched.write_row(None, ("a", "{}")) is False
