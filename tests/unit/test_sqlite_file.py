"""The file: opening, pragmas, declarations, foreign and damaged files, sizes, the end."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from homeport.core.codec import Table
from homeport.core.fields import F
from homeport.core.query import EMPTY
from homeport.core.requests import Find, Get, Put, SetMeta, Write
from homeport.core.schema import Collection, FullText, Multi
from homeport.errors import (
    CannotOpen,
    Closed,
    Corrupted,
    FileTooNew,
    ReadOnly,
    SchemaError,
    SchemaMismatch,
)
from homeport.storage import sql
from homeport.storage.sqlite import SQLiteStore


def open_store(path: Path, **options: Any) -> SQLiteStore:
    options.setdefault("durability", "relaxed")
    options.setdefault("clock_ms", lambda: 1_000)
    return SQLiteStore.open(str(path), **options)


def docs(*indexes: Any, name: str = "docs", **options: Any) -> Table[Any]:
    return Table(Collection(name, indexes=indexes, **options))


def put(session: Any, table: Table[Any], *documents: Any) -> Any:
    extras = [table.codec.extras(d) for d in documents] if table.codec.has_extras else None
    return session.answer(Write([Put(table, [table.codec.row(d) for d in documents], extras)]))[0]


def keys(session: Any, table: Table[Any], condition: Any) -> list[Any]:
    return sorted(session.answer(Find(table, EMPTY.and_where(condition), "keys")))


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("relaxed", 1)])
def test_every_pragma_is_what_was_asked_for(tmp_path: Path, durability: str, level: int) -> None:
    store = open_store(tmp_path / "a.db", durability=durability, cache_mb=8)
    for readonly in (False, True):
        session = store.session(readonly=readonly)
        found = {
            name: session.execute(f"PRAGMA {name}").get
            for name in (
                "journal_mode synchronous cache_size temp_store mmap_size wal_autocheckpoint "
                "page_size query_only application_id user_version"
            ).split()
        }
        assert found == {
            "journal_mode": "wal",
            "synchronous": level,
            "cache_size": -8 * 1024,
            "temp_store": 2,
            "mmap_size": 0,
            "wal_autocheckpoint": 8000,
            "page_size": 4096,
            "query_only": int(readonly),
            "application_id": sql.APPLICATION_ID,
            "user_version": sql.PLAIN_FORMAT,
        }
    store.close()


def test_documents_survive_and_no_log_is_left_behind(tmp_path: Path) -> None:
    table = docs("v", Multi("tags"), FullText("text"))
    store = open_store(tmp_path / "a.db")
    store.define([table])
    put(store.session(), table, {"id": 1, "v": 2, "tags": ["t"], "text": "some words"})
    store.close()
    store.close()
    assert sorted(os.listdir(tmp_path)) == ["a.db"]
    with pytest.raises(Closed):
        store.session()
    store = open_store(tmp_path / "a.db", readonly=True)
    table = docs("v", Multi("tags"), FullText("text"))
    store.define([table])
    session = store.session()
    for condition in (F.v == 2, F.tags.contains("t"), F.text.matches("words")):
        assert keys(session, table, condition) == [1]
    with pytest.raises(ReadOnly):
        put(session, table, {"id": 2})
    store.close()


def test_a_closed_session_says_so(tmp_path: Path) -> None:
    table = docs()
    store = open_store(tmp_path / "a.db")
    store.define([table])
    session = store.session()
    session.close()
    session.close()
    with pytest.raises(Closed):
        session.answer(Get(table, "a"))
    with pytest.raises(Closed):
        session.begin("write")
    store.close()


def test_foreign_and_damaged_files_are_refused_and_not_touched(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_bytes(b"This is no database, only a long line of text. " * 100)
    other = tmp_path / "other.db"
    connection = apsw.Connection(str(other))
    connection.execute("CREATE TABLE t(x)").fetchall()
    connection.close()
    future = tmp_path / "future.db"
    open_store(future).close()
    connection = apsw.Connection(str(future))
    connection.execute(f"PRAGMA user_version={sql.FORMAT + 1}").fetchall()
    connection.close()
    for path, error in ((text, Corrupted), (other, Corrupted), (future, FileTooNew)):
        before = path.read_bytes()
        with pytest.raises(error) as caught:
            open_store(path)
        assert caught.value.action
        assert path.read_bytes() == before
        assert not list(tmp_path.glob(path.name + "-*"))


def test_a_damaged_page_is_reported_as_corruption(tmp_path: Path) -> None:
    table = docs("v")
    store = open_store(tmp_path / "a.db")
    store.define([table])
    put(store.session(), table, *({"id": n, "v": n, "text": "x" * 500} for n in range(2_000)))
    assert store.check() == []
    store.close()
    path = tmp_path / "a.db"
    data = bytearray(path.read_bytes())
    for page in range(10, len(data) // 4096, 7):
        data[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(data)
    store = open_store(path)
    try:
        with pytest.raises(Corrupted):
            table = docs("v")
            store.define([table])
            store.session().answer(Find(table, EMPTY, "texts"))
    finally:
        store.close()


@pytest.mark.parametrize("readonly", [False, True])
def test_places_that_cannot_be_opened(tmp_path: Path, readonly: bool) -> None:
    with pytest.raises(CannotOpen):
        open_store(tmp_path, readonly=readonly)
    with pytest.raises(CannotOpen):
        open_store(tmp_path / "none" / "a.db", readonly=readonly)
    if readonly:
        with pytest.raises(CannotOpen):
            open_store(tmp_path / "a.db", readonly=True)
        (tmp_path / "empty.db").touch()
        with pytest.raises(Corrupted):
            open_store(tmp_path / "empty.db", readonly=True)
    assert not (tmp_path / "a.db").exists()


def as_user(path: Path, mode: str) -> str:
    """Open and read as an ordinary user, in a fork: root becomes another user, who may not see this
    Python's files."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "nothing"
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            store = open_store(path, readonly=mode == "ro")
            table = docs()
            store.define([table])
            answer = store.session().answer(Get(table, "a"))
            store.close()
        except BaseException as error:
            answer = type(error).__name__
        finally:
            os.write(writing, str(answer).encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as pipe:
        return pipe.read().decode()


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_files_and_folders_without_permission() -> None:
    root = os.geteuid() == 0

    def permit(path: Path, mode: int) -> None:
        """What the user of ``as_user`` may: others than root, or the owner."""
        path.chmod(0o700 | mode if root else mode << 6)

    # Not in tmp_path, whose parents no other user may enter.
    base = Path(tempfile.mkdtemp())
    folder = base / "folder"
    try:
        folder.mkdir()
        store = open_store(folder / "a.db")
        table = docs()
        store.define([table])
        put(store.session(), table, {"id": "a"})
        store.close()

        base.chmod(0o755)
        permit(folder, 0o5)
        permit(folder / "a.db", 0o4)
        assert as_user(folder / "a.db", "rw") == "ReadOnly"
        assert as_user(folder / "new.db", "rw") == "ReadOnly"
        assert as_user(folder / "a.db", "ro") == '{"id":"a"}', "no log beside it is needed"
        permit(folder / "a.db", 0o6)
        assert as_user(folder / "a.db", "rw") == "ReadOnly", "the log needs the folder"
        permit(folder / "a.db", 0o0)
        assert as_user(folder / "a.db", "ro") == "CannotOpen"
    finally:
        folder.chmod(0o700)
        shutil.rmtree(base)


def test_the_key_field_of_a_file_is_fixed(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    store.define([docs()])
    store.close()
    store = open_store(tmp_path / "a.db")
    with pytest.raises(SchemaMismatch):
        store.define([docs(key="name")])
    store.close()


def test_names_that_differ_by_case_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    store.define([docs()])
    with pytest.raises(SchemaError):
        store.define([docs(name="Docs")])
    table = docs("Name", "name", ("a.b", "A.b"), "weird \"name'", name="x_data")
    other = docs(FullText("t"), name="x")
    store.define([table, other, docs(FullText("t"), name="x_content")])
    session = store.session()
    put(session, table, {"id": 1, "Name": 1, "name": 2, "a": {"b": 3}, "weird \"name'": 4})
    put(session, other, {"id": 1, "t": "word"})
    assert keys(session, table, (F.Name == 1) & (F.name == 2) & (F["a"].b == 3)) == [1]
    assert keys(session, table, F["weird \"name'"] == 4) == [1]
    assert keys(session, other, F.t.matches("word")) == [1]
    store.close()


def test_define_builds_and_drops_indexes(tmp_path: Path) -> None:
    """Whatever the file was made with, the answers are those of the declaration in use."""
    plain = {"id": 0, "v": 5, "w": "a", "tags": ["t", "u"], "text": "Größe des Feldes"}
    odd = {"id": 1, "v": {"x": 1}, "tags": "t", "text": ["one", "two words"]}
    declarations: list[tuple[Any, ...]] = [
        (),
        ("v",),
        ("v", "w"),
        (("w", "v"), Multi("tags")),
        (FullText("text"), "v"),
        (FullText("text"), FullText("w"), Multi("tags"), Multi("w", "tags")),
        ("n.x",),
        (),
    ]
    for round_, indexes in enumerate(declarations):
        store = open_store(tmp_path / "a.db")
        table = docs(*indexes)
        store.define([table])
        session = store.session()
        if round_ == 0:
            put(session, table, plain, odd)
        put(session, table, {**plain, "id": 100 + round_, "n": {"x": round_}})
        assert keys(session, table, F.v == 5) == [0, *range(100, 101 + round_)]
        assert keys(session, table, (F.w == "a") & (F.v > 1)) == [0, *range(100, 101 + round_)]
        assert keys(session, table, F.tags.contains("u")) == [0, *range(100, 101 + round_)]
        assert keys(session, table, F.text.matches("grosse")) == [0, *range(100, 101 + round_)]
        assert keys(session, table, F.text.matches('"two words"')) == [1]
        assert keys(session, table, F.n.x == round_) == [100 + round_]
        names = [n for (n,) in session.execute("SELECT name FROM sqlite_schema").fetchall()]
        assert sum(n.startswith("i_docs.") for n in names) == len(table.codec.indexes) - len(
            table.codec.multi
        ) - sum(i.kind == "fulltext" for i in table.codec.indexes)
        assert sum(n.startswith("m_docs.") for n in names) == len(table.codec.multi)
        texts = [n for n in names if n.startswith("f_docs.text") and "_" not in n.rpartition(".")[2]]
        assert len(texts) == bool(table.codec.text_paths)
        assert not any(n.endswith(".new") for n in names)
        assert store.check() == []
        store.close()


def test_an_unchanged_declaration_writes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    store.define([docs("v", Multi("t"))])
    store.close()
    before = (tmp_path / "a.db").read_bytes()
    store = open_store(tmp_path / "a.db", readonly=True)
    store.define([docs("v", Multi("t"))])
    table = docs("w", Multi("u"))
    store.define([table])  # other indexes: it does with those that are there
    assert keys(store.session(), table, F.w == 1) == []
    with pytest.raises(SchemaMismatch):
        store.define([docs(name="absent")])
    store.close()
    assert (tmp_path / "a.db").read_bytes() == before


def test_another_declaration_in_use_is_followed(tmp_path: Path) -> None:
    """Two processes with different indexes: the older one keeps what it does not know."""
    one, two = open_store(tmp_path / "a.db"), open_store(tmp_path / "a.db")
    old, new = docs("v"), docs("v", "w", Multi("t"))
    one.define([old])
    first = one.session()
    put(first, old, {"id": 1, "v": 1, "w": 1})
    two.define([new])
    second = two.session()
    assert keys(second, new, F.w == 1) == [1]
    put(first, old, {"id": 2, "v": 2, "w": 2, "t": ["a"]}, {"id": 1, "v": 1, "w": 3})
    put(second, new, {"id": 3, "w": 3})
    assert keys(second, new, F.w > 0) == [1, 2, 3]
    assert keys(second, new, F.w == 1) == []
    assert keys(second, new, F.t.contains("a")) == [2]
    assert one.explain(old, EMPTY.and_where(F.w > 0)).index == "w"
    one.close()
    two.close()


class Old(msgspec.Struct):
    id: int
    v: int = 0


class New(msgspec.Struct):
    id: int
    v: int = 0
    w: int = 0


def test_r15_a_file_written_by_another_model_keeps_unknown_fields(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    old: Table[Any] = Table(Collection("docs", Old))
    store.define([old])
    session = store.session()
    assert not old.keep_unknown
    newer = open_store(tmp_path / "a.db")
    new: Table[Any] = Table(Collection("docs", New))
    newer.define([new])
    assert new.keep_unknown, "it may hold what an older model left"
    put(session, old, Old(1))
    assert old.keep_unknown, "noticed at the next write"
    store.close()
    newer.close()


def test_replication_enabled_by_another_process_is_noticed(tmp_path: Path) -> None:
    one, two = open_store(tmp_path / "a.db"), open_store(tmp_path / "a.db")
    mine, theirs = docs(), docs()
    one.define([mine])
    two.define([theirs])
    first, second = one.session(), two.session()
    put(first, mine, {"id": 1})
    second.answer(Write([SetMeta("sync.collections", '["docs"]'), SetMeta("epoch", "99")]))
    assert theirs.synced
    first.begin("write")
    assert mine.synced, "known before the plan starts"
    first.commit()
    one.close()
    two.close()


def test_size_and_checkpoint(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    table = docs("v", Multi("tags"), FullText("text"))
    store.define([table])
    session = store.session()
    put(session, table, *({"id": n, "v": n, "text": "x" * 400} for n in range(1_000)))
    sizes = store.size()
    assert sizes["total"] == sum((tmp_path / n).stat().st_size for n in ("a.db", "a.db-wal", "a.db-shm"))
    assert sizes["docs"] > 400_000
    assert sizes["docs.v"] > 4_096
    assert {"docs.key", "docs.tags_m", "docs.text"} <= set(sizes)
    before = (tmp_path / "a.db").stat().st_size
    store.checkpoint()
    assert (tmp_path / "a.db").stat().st_size > before + 400_000
    session.begin("write")
    store.checkpoint()  # silent inside a transaction
    session.rollback()
    store.close()
    assert store.logged is not None
    assert list(store.logged[1]) == ["docs"]
