"""The session: errors of SQLite in our words, several processes, cursors, expiry, plans."""

from __future__ import annotations

import gc
import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from homeport.core.codec import Table
from homeport.core.fields import F
from homeport.core.query import EMPTY
from homeport.core.requests import (
    Changes,
    Count,
    Delete,
    DeleteWhere,
    Find,
    Get,
    GetMany,
    Meta,
    Put,
    SetMeta,
    Write,
)
from homeport.core.schema import Collection, FullText, Multi, Unique
from homeport.errors import (
    Busy,
    Interrupted,
    InvalidDocument,
    QuotaExceeded,
    ReadOnly,
    StorageError,
    TransactionError,
)
from homeport.storage.sqlite import SQLiteStore
from homeport.storage.sqlite_errors import translate


class Files:
    """Opens stores on one file and closes them all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stores: list[SQLiteStore] = []
        self.now_ms = 1_000

    def open(self, **options: Any) -> SQLiteStore:
        options.setdefault("durability", "relaxed")
        store = SQLiteStore.open(str(self.path), clock_ms=lambda: self.now_ms, **options)
        self.stores.append(store)
        return store

    def session(self, table: Table[Any], **options: Any) -> Any:
        store = self.open(**options)
        store.define([table])
        return store.session()


@pytest.fixture
def files(tmp_path: Path) -> Any:
    found = Files(tmp_path / "a.db")
    yield found
    for store in found.stores:
        store.close()


def docs(*indexes: Any, **options: Any) -> Table[Any]:
    return Table(Collection("docs", indexes=indexes, **options))


def put(session: Any, table: Table[Any], *documents: Any, **options: Any) -> Any:
    extras = [table.codec.extras(d) for d in documents] if table.codec.has_extras else None
    rows = [table.codec.row(d) for d in documents]
    return session.answer(Write([Put(table, rows, extras, **options)]))[0]


def test_a_full_disk_is_quota_exceeded_and_loses_nothing_acknowledged(files: Files) -> None:
    table = docs("v", Multi("tags"))
    session = files.session(table)
    put(session, table, {"id": 0, "v": 0})
    pages = session.execute("PRAGMA page_count").get
    session.execute(f"PRAGMA max_page_count={pages + 60}").fetchall()
    acknowledged = [0]
    with pytest.raises(QuotaExceeded) as caught:
        for n in range(1, 10_000):
            put(session, table, {"id": n, "v": n, "text": "x" * 3_000, "tags": [n]})
            acknowledged.append(n)
    assert "room" in str(caught.value)
    assert not session.in_transaction
    assert len(acknowledged) > 10
    assert sorted(session.answer(Find(table, EMPTY, "keys"))) == acknowledged
    with pytest.raises(QuotaExceeded):
        put(session, table, *({"id": -n, "text": "x" * 3_000} for n in range(1, 99)))
    assert session.answer(Count(table, EMPTY)) == len(acknowledged)
    session.answer(Write([Delete(table, acknowledged[:30])]))
    put(session, table, {"id": "again", "text": "x" * 3_000})
    assert session.execute("PRAGMA integrity_check").get == "ok"


def test_a_full_disk_inside_a_transaction(files: Files) -> None:
    table = docs()
    session = files.session(table)
    put(session, table, {"id": 0})
    head = session.answer(Changes(None, ())).head
    session.execute(f"PRAGMA max_page_count={session.execute('PRAGMA page_count').get + 20}").get
    session.begin("write")
    put(session, table, {"id": 1})
    with pytest.raises(QuotaExceeded):
        put(session, table, *({"id": n, "text": "x" * 3_000} for n in range(2, 99)))
    if session.in_transaction:
        session.rollback()
    else:
        with pytest.raises(TransactionError):
            put(session, table, {"id": 1})
        with pytest.raises(StorageError):
            session.commit()
    assert session.answer(Find(table, EMPTY, "keys")) == [0]
    put(session, table, {"id": 5})
    found = session.answer(Changes(head, [table]))
    assert found.keys == {"docs": [5]}, "nothing of the lost transaction is in the log"


def test_busy_and_its_time_limit(files: Files) -> None:
    table, other = docs(), docs()
    first = files.session(table)
    second = files.session(other, busy_timeout_s=0.1)
    first.begin("write")
    put(first, table, {"id": 1})
    began = time.monotonic()
    with pytest.raises(Busy):
        put(second, other, {"id": 2})
    assert time.monotonic() - began < 2
    with pytest.raises(Busy):
        second.begin("write", None, 0)
    assert not second.in_transaction
    assert second.answer(Get(other, 1)) is None, "readers see the committed state and do not wait"
    first.commit()
    put(second, other, {"id": 2})
    assert second.answer(GetMany(other, [1, 2])) == ['{"id":1}', '{"id":2}']


def test_rules_of_transactions(files: Files) -> None:
    table = docs()
    session = files.session(table)
    session.begin("read")
    with pytest.raises(TransactionError):
        put(session, table, {"id": 1})
    with pytest.raises(TransactionError):
        session.begin("write")
    session.rollback()
    reader = files.stores[0].session(readonly=True)
    with pytest.raises(ReadOnly):
        reader.begin("write")
    with pytest.raises(ReadOnly):
        put(reader, table, {"id": 1})


def test_a_read_transaction_is_one_snapshot(files: Files) -> None:
    table = docs("v")
    session = files.session(table)
    put(session, table, {"id": 1, "v": 1})
    reader = files.stores[0].session(readonly=True)
    reader.begin("read")
    assert reader.answer(Count(table, EMPTY)) == 1
    put(session, table, {"id": 2, "v": 2})
    assert reader.answer(Find(table, EMPTY.with_order("v"), "keys")) == [1]
    reader.rollback()
    assert reader.answer(Find(table, EMPTY.with_order("v"), "keys")) == [1, 2]


def test_interrupt_ends_a_running_statement(files: Files) -> None:
    table = docs()
    session = files.session(table)
    put(session, table, *({"id": n, "text": "abc" * 50} for n in range(3_000)))
    stop = threading.Event()

    def keep_interrupting() -> None:
        while not stop.is_set():
            session.interrupt()
            time.sleep(0.001)

    thread = threading.Thread(target=keep_interrupting)
    thread.start()
    try:
        with pytest.raises(Interrupted):
            for _ in range(10_000):
                session.answer(Find(table, EMPTY.and_where(F.text == "nothing"), "keys"))
    finally:
        stop.set()
        thread.join()
    assert session.answer(Count(table, EMPTY)) == 3_000


def test_no_cursor_is_leaked_by_mixed_operations(files: Files) -> None:
    """APSW 3.54.0 keeps a cursor for ever when two are alive and the newer dies first."""
    table = docs("v", Unique("name"), Multi("tags"), FullText("text"))
    session = files.session(table)
    for n in range(2_000):
        document = {"id": n % 50, "v": n, "name": f"n{n % 60}", "tags": [n % 5], "text": f"t{n % 9}"}
        put(session, table, document)
        session.answer(Get(table, n % 50))
        session.answer(Find(table, EMPTY.and_where(F.w != 5).with_limit(3), "keys"))
        session.answer(Find(table, EMPTY.and_where(F.text.matches("t3")), "text"))
        session.answer(Find(table, EMPTY.with_order("z").with_limit(2), "texts"))
        session.answer(Count(table, EMPTY.and_where(F.tags.contains(3))))
        if n % 10 == 0:
            session.begin("write")
            depth = session.savepoint()
            put(session, table, {"id": "x"}, {"id": "y"})
            session.rollback_to(depth)
            session.answer(DeleteWhere(table, EMPTY.and_where(F.v < n - 40)))
            session.commit()
            with pytest.raises(apsw.SQLError):
                session.execute("SELECT nothing").fetchall()
    gc.collect()
    live = 0
    for one in gc.get_objects():
        if isinstance(one, apsw.Cursor):
            try:
                live += one.connection is session.connection
            except apsw.CursorClosedError:
                pass
    assert live == 1
    usage = session.connection.cache_stats()
    assert usage["size"] <= 256


def _writer(path: str, first: int, count: int) -> None:
    store = SQLiteStore.open(path, durability="relaxed", clock_ms=lambda: 1, busy_timeout_s=60)
    table = docs("v", Unique("name"), Multi("tags"))
    store.define([table])
    session = store.session()
    for n in range(first, first + count):
        put(session, table, {"id": n, "v": n % 10, "name": f"n{n}", "tags": [n % 3]})
        session.begin("write")
        text = session.answer(Meta("counter"))
        session.answer(Write([SetMeta("counter", str(int(text or "0") + 1))]))
        session.commit()
    store.close()


def test_two_processes_create_and_write_one_file(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_writer, args=(path, n * 1_000, 150)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    store = SQLiteStore.open(path, clock_ms=lambda: 1)
    table = docs("v", Unique("name"), Multi("tags"))
    store.define([table])
    session = store.session()
    assert session.answer(Meta("counter")) == "450"
    assert session.answer(Count(table, EMPTY.and_where(F.v == 3))) == 45
    assert session.answer(Count(table, EMPTY.and_where(F.tags.contains(1)))) == 150
    found = session.answer(Changes(0, [table]))
    assert found.head == 450
    assert len(found.keys["docs"]) == 450
    assert store.check() == []
    store.close()


def test_uniqueness_holds_between_processes(files: Files) -> None:
    one, two = docs(Unique("name")), docs(Unique("name"))
    first, second = files.session(one), files.session(two)
    put(first, one, {"id": 1, "name": "x"})
    assert list(put(second, two, {"id": 2, "name": "x"}).failures) == [0]


def test_expired_documents_are_purged(files: Files) -> None:
    table = docs(Multi("tags"), FullText("text"), ttl_s=1)
    session = files.session(table)
    store = files.stores[0]
    put(session, table, *({"id": n, "tags": ["a"], "text": "word"} for n in range(10)))
    assert store.purge_expired(5) == 0
    files.now_ms += 1_000
    put(session, table, {"id": "late", "tags": ["a"], "text": "word"})
    head = session.answer(Changes(None, ())).head
    assert [store.purge_expired(6) for _ in range(3)] == [6, 4, 0]
    assert session.execute("SELECT count(*) FROM c_docs").get == 1
    assert session.execute('SELECT count(*) FROM "m_docs.tags_m"').get == 1
    assert len(session.answer(Changes(head, [table])).keys["docs"]) == 10, "live queries hear of it"
    table.synced = True
    files.now_ms += 5_000
    assert store.purge_expired(6) == 0, "on synced collections the server deletes"
    assert session.answer(Find(table, EMPTY, "keys")) == []


def test_numbers_that_only_a_server_can_send(files: Files) -> None:
    """Beyond 2**53 a number is no key: neither an index nor a scan finds it by comparison."""
    texts = ["9007199254740993", "-9007199254740993", "1e300", "123456789012345678901234567890"]
    for indexes in ((), ("v",)):
        table = docs(*indexes)
        session = files.session(table)
        rows = [table.codec.row_of_text(f'{{"id":{n},"v":{text}}}') for n, text in enumerate(texts)]
        session.answer(Write([Put(table, rows, tokens=[("1", None)] * len(rows))]))
        for condition, found in (
            (F.v > 5, [2]),
            (F.v < 0, []),
            (F.v == 9007199254740992, []),
            (F.v == 1e300, [2]),
            (F.v != 1e300, [0, 1, 3]),
        ):
            query = EMPTY.and_where(condition)
            assert sorted(session.answer(Find(table, query, "keys"))) == found, condition


PLANS = [
    (F.v == 1, "SEARCH c_docs USING INDEX i_docs.v "),
    (F.v > 1, "SEARCH c_docs USING INDEX i_docs.v "),
    (F.v.between(1, 5), "SEARCH c_docs USING INDEX i_docs.v "),
    (F.name.starts_with("a"), "SEARCH c_docs USING INDEX i_docs.name_v "),
    ((F.name == "a") & (F.v > 3), "SEARCH c_docs USING INDEX i_docs.name_v "),
    (F.v.any_of(list(range(50))), "SEARCH c_docs USING INDEX i_docs.v "),
    ((F.v == 1) | (F.name == "a"), "MULTI-INDEX OR"),
    (F.tags.contains("x"), "SEARCH m_docs.tags_m USING PRIMARY KEY"),
    (F.id == 5, "USING INDEX sqlite_autoindex_c_docs_1"),
]


@pytest.mark.parametrize(("condition", "line"), PLANS, ids=str)
def test_conditions_use_their_index(files: Files, condition: Any, line: str) -> None:
    table = docs("v", ("name", "v"), Multi("tags"))
    session = files.session(table)
    put(session, table, *({"id": n, "v": n, "name": f"n{n}", "tags": ["x"]} for n in range(50)))
    explanation = files.stores[0].explain(table, EMPTY.and_where(condition))
    assert any(line in f"{one} " for one in explanation.engine), explanation
    assert not explanation.scan
    assert not explanation.checked


def test_order_and_pages_use_their_index(files: Files) -> None:
    table = docs("v")
    session = files.session(table)
    put(session, table, *({"id": n, "v": n % 9} for n in range(500)))
    for order in ("v", "-v"):
        explanation = files.stores[0].explain(table, EMPTY.with_order(order).with_limit(5))
        assert explanation.index == "v"
        assert not explanation.sorts


ERRORS = [
    (apsw.BusyError("x"), Busy),
    (apsw.FullError("x"), QuotaExceeded),
    (apsw.ReadOnlyError("x"), ReadOnly),
    (apsw.TooBigError("x"), InvalidDocument),
    (apsw.InterruptError("x"), Interrupted),
    (apsw.IOError("x"), StorageError),
    (apsw.MisuseError("x"), StorageError),
]


@pytest.mark.parametrize(("error", "ours"), ERRORS, ids=lambda e: getattr(e, "__name__", str(type(e))))
def test_errors_of_sqlite_become_ours(error: apsw.Error, ours: type[Exception]) -> None:
    found = translate(error, "field.db")
    assert type(found) is ours
    assert found.action
