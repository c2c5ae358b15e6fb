"""Slips that other libraries let pass in silence, or answer with an error of Python."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import homeport as hp
from homeport.errors import Busy, QuotaExceeded, UsageError
from homeport.storage.sqlite import SQLiteStore

PLAIN = hp.Collection("plain", indexes=["n"])


@pytest.fixture(params=["memory", "file"])
def db(request: Any, tmp_path: Path) -> Iterator[hp.Database]:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[PLAIN], durability="relaxed") as db:
        yield db


@pytest.mark.parametrize("slip", ["ab", {"id": "a"}, b"ab", None, 5])
def test_a_bulk_call_with_one_thing_touches_nothing(db: hp.Database, slip: Any) -> None:
    docs = db[PLAIN]
    docs.put_many([{"id": "a"}, {"id": "b"}, {"id": "id"}])
    for call in (docs.delete_many, docs.get_many, docs.put_many, docs.add_many):
        with pytest.raises(UsageError, match="takes a list"):
            call(slip)
    assert docs.count() == 3


def test_a_patch_that_is_no_pair_fails_alone(db: hp.Database) -> None:
    docs = db[PLAIN]
    docs.put_many([{"id": "a"}, {"id": "bc"}])
    patches: Any = ["bc", ("a", {"n": 1}), ("a",), 5]
    with pytest.raises(hp.BulkError) as caught:
        docs.patch_many(patches)
    assert sorted(caught.value.failures) == [0, 2, 3]
    assert docs.get("a") == {"id": "a", "n": 1}
    with pytest.raises(UsageError):
        docs.patch_many("bc")  # type: ignore[arg-type]


class NewPart(msgspec.Struct):
    x: int
    added: int = 0


class New(msgspec.Struct):
    id: str
    part: NewPart
    parts: list[NewPart] = []
    note: str | None = None


class OldPart(msgspec.Struct):
    x: int


class Old(msgspec.Struct):
    id: str
    part: OldPart
    parts: list[OldPart] = []


def test_r15_a_patch_of_a_whole_object_keeps_what_its_model_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    new, old = hp.Collection("docs", New), hp.Collection("docs", Old)
    with hp.open(path, collections=[new]) as db:
        db[new].put(New("1", NewPart(1, 2), [NewPart(3, 4), NewPart(5, 6)], "kept"))
    with hp.open(path, collections=[old]) as db:
        db[old].patch("1", {"part": OldPart(10)})
        db[old].patch_many({"1": {"parts": [OldPart(30), OldPart(50)]}})
        assert db[old].where(hp.F.id == "1").patch({"part.x": 11}) == 1
    with hp.open(path, collections=[new]) as db:
        assert db[new].get("1") == New(
            "1", NewPart(11, 2), [NewPart(30, 4), NewPart(50, 6)], "kept"
        )


FULL = """
import resource, signal
import homeport as hp

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
docs = hp.Collection("docs")
with hp.open({path!r}, collections=[docs]) as db:
    db[docs].put({{"id": "before"}})
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    try:
        for n in range(1000):
            db[docs].put({{"id": str(n), "text": "x" * 2000}})
    except hp.errors.QuotaExceeded as error:
        assert "room" in str(error)
    else:
        raise AssertionError("no limit was met")
    assert db[docs].count() == n + 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    db[docs].put({{"id": "after"}})
    assert db[docs].count() == n + 2
"""


def test_r19_a_limit_on_files_is_quota_exceeded_like_a_full_disk(tmp_path: Path) -> None:
    program = FULL.format(path=str(tmp_path / "a.db"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("trouble", [Busy("another process"), QuotaExceeded("no room")])
def test_a_write_stands_when_the_cleaning_behind_it_cannot_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    fading = hp.Collection("fading", ttl_s=60)

    def purge(*_: object) -> int:
        raise trouble

    monkeypatch.setattr(SQLiteStore, "purge_expired", purge)
    with hp.open(tmp_path / "a.db", collections=[fading]) as db:
        assert db[fading].put({"id": "a"}) == "a"
        assert db[fading].count() == 1

    async def later() -> None:
        async with hp.open_async(tmp_path / "a.db", collections=[fading]) as db:
            assert await db[fading].put({"id": "b"}) == "b"

    asyncio.run(later())


def test_a_transaction_block_is_used_once(db: hp.Database) -> None:
    block = db.transaction()
    assert "not begun" in repr(block)
    with block:
        assert "open" in repr(block)
        db[PLAIN].put({"id": "a"})
    with pytest.raises(hp.TransactionError, match="is over"), block:
        db[PLAIN].put({"id": "b"})
    with pytest.raises(hp.TransactionError, match="is over"):
        block.__exit__(None, None, None)
    assert db[PLAIN].keys() == ["a"]


def test_gathering_in_a_unit_is_refused_with_and_without_a_past_event_loop(
    db: hp.Database,
) -> None:
    async def gather(tx: hp.Tx) -> None:
        await asyncio.gather(tx[PLAIN].put({"id": "a"}), tx[PLAIN].put({"id": "b"}))

    refused: list[BaseException] = []

    def run() -> None:
        # A thread without an event loop gets another error from asyncio than the main thread.
        try:
            db.run(gather)
        except hp.TransactionError as error:
            refused.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(refused) == 1
    assert db[PLAIN].count() == 0


def test_a_live_query_of_a_closed_database_is_refused_not_empty(tmp_path: Path) -> None:
    db = hp.open(tmp_path / "a.db", collections=[PLAIN])
    db.close()
    with pytest.raises(hp.errors.Closed):
        db[PLAIN].live()

    async def later() -> None:
        db = await hp.open_async(tmp_path / "a.db", collections=[PLAIN])
        await db.close()
        with pytest.raises(hp.errors.Closed):
            db[PLAIN].live()

    asyncio.run(later())


def test_a_field_with_a_minus_is_a_descending_order(db: hp.Database) -> None:
    docs = db[PLAIN]
    docs.put_many({"id": str(n), "n": n, "sub": {"n": -n}} for n in range(3))
    assert docs.order_by(-hp.F.n).keys() == ["2", "1", "0"]
    assert docs.order_by(-hp.F.sub.n).keys() == ["0", "1", "2"]


def test_a_function_as_condition_is_sent_to_filter(db: hp.Database) -> None:
    slip: Any = lambda doc: doc["n"] > 1  # noqa: E731
    with pytest.raises(hp.InvalidQuery, match=r"filter\(\)"):
        db[PLAIN].where(slip)
    assert "above()" in repr(db[PLAIN].where("n"))
    with db[PLAIN].live() as live:
        assert repr(live) == "<LiveQuery on plain>"


def test_in_is_refused_because_python_would_read_everything_and_say_no(db: hp.Database) -> None:
    docs = db[PLAIN]
    docs.put({"id": "a", "n": 1})
    with pytest.raises(UsageError, match="get"):
        _ = "a" in docs
    with pytest.raises(UsageError, match="exists"):
        _ = "a" in docs.where(hp.F.n == 1)


async def _is_true(_: object) -> bool:
    return False


def test_a_coroutine_function_is_no_predicate(db: hp.Database) -> None:
    """What it returns is true for every document: ``filter(fn).delete()`` would delete them all."""
    docs = db[PLAIN]
    docs.put_many([{"id": "a"}, {"id": "b"}])
    with pytest.raises(hp.errors.InvalidQuery, match="plain function"):
        docs.filter(_is_true)
    with pytest.raises(hp.errors.InvalidQuery, match="awaitable"):
        docs.filter(lambda doc: _is_true(doc)).delete()
    assert docs.count() == 2


def test_a_coroutine_function_is_no_callback(db: hp.Database) -> None:
    with pytest.raises(UsageError, match="would never run"):
        db.on_commit(_is_true)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="would never run"):
        db[PLAIN].load([], progress=_is_true)


def test_update_must_return_a_document(db: hp.Database) -> None:
    docs = db[PLAIN]
    docs.put({"id": "a", "n": 1})
    for wrong in ("a", ["a"], 5):
        with pytest.raises(UsageError, match="returned a"):
            docs.update("a", lambda _, wrong=wrong: wrong)
        with pytest.raises(UsageError, match="returned a"):
            docs.where(hp.F.n == 1).update(lambda _, wrong=wrong: wrong)
    assert docs.get("a") == {"id": "a", "n": 1}


def test_values_that_cannot_even_be_shown(db: hp.Database) -> None:
    """Their ``repr`` fails, and with it the message of a careless error."""
    docs = db[PLAIN]
    docs.put({"id": "a"})
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    cyclic: dict[str, Any] = {}
    cyclic["me"] = cyclic
    for value in (deep, cyclic, 10**5000):
        with pytest.raises(hp.errors.InvalidDocument):
            docs.put({"id": "b", "n": value})
        with pytest.raises(hp.errors.InvalidKey):
            docs.get(value)
        with pytest.raises(hp.errors.InvalidQuery):
            docs.where("n").above(value)
        with pytest.raises(hp.errors.HomeportError):
            docs.patch("a", n=value)
    for value in (deep, cyclic):
        with pytest.raises(hp.errors.InvalidQuery):
            docs.where(hp.F.n == value)
        with pytest.raises(hp.errors.InvalidQuery):
            docs.where({"n": value})
    assert docs.keys() == ["a"]


def test_an_error_of_a_commit_callback_is_not_the_writers(
    db: hp.Database, caplog: pytest.LogCaptureFixture
) -> None:
    """The write is committed: raised to its caller, it would be made again."""
    heard: list[int] = []
    db.on_commit(lambda: 1 / 0)  # type: ignore[arg-type]
    db.on_commit(lambda: heard.append(1))
    assert db[PLAIN].add({"id": "a"}) == "a"
    with db.transaction():
        db[PLAIN].add({"id": "b"})
    assert len(heard) == 2
    assert [record.name for record in caplog.records] == ["homeport"] * 2


async def test_nor_of_those_that_are_committed_with_it(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[PLAIN]) as db:
        db.on_commit(lambda: 1 / 0)  # type: ignore[arg-type]
        await asyncio.gather(*[db[PLAIN].add({"id": f"d{n}"}) for n in range(20)])
        assert await db[PLAIN].count() == 20


@pytest.mark.parametrize("where", ["memory", "file"])
def test_numbers_beyond_every_engines_mean_all_or_nothing(where: str, tmp_path: Path) -> None:
    docs = hp.Collection("docs", indexes=["n", hp.FullText("text")])
    most = 2**70
    with hp.open(":memory:" if where == "memory" else tmp_path / "a.db", collections=[docs]) as db:
        w = db[docs]
        w.put_many({"id": n, "n": n % 3, "text": "sand"} for n in range(10))
        assert len(w.limit(most).all()) == len(w.order_by("n").page(most)) == 10
        assert w.offset(most).all() == w.order_by("n").offset(most).limit(most).all() == []
        assert not w.offset(most).exists()
        assert len(w.search("sand", limit=most, candidates=most)) == 10
        assert w.where(hp.F.n == 2).limit(most).delete() == 3


def test_an_explanation_proposes_no_index_that_cannot_be_declared(db: hp.Database) -> None:
    docs = db[PLAIN]
    docs.put_many({"id": n, "a\tb": n} for n in range(9))
    for query in (docs.where(hp.F["a\tb"] > 4), docs.order_by("a\tb"), docs.where(hp.F["a\tb"].contains(1))):
        assert query.explain().advice is None
    assert docs.where(hp.F["a\tb"] > 4).count() == 4


def test_dexies_names_of_indexes_and_the_key_are_explained(db: hp.Database) -> None:
    """Taken for fields they found nothing, and sorted by nothing, without a word."""
    docs = db[PLAIN]
    docs.put_many([{"id": n, "n": 9 - n, "[a+b]": n} for n in range(3)])
    for asked, words in (
        (lambda: docs.where("[city+age]").equals(["Oslo", 1]), r"where\(\{'city': ...\}\).where\('age'\)"),
        (lambda: docs.where("n").above(1).or_("[city+age]"), "compound index"),
        (lambda: docs.order_by("[city+age]"), r"order_by\('city', 'age'\)"),
        (lambda: docs.order_by("-[city+age]"), r"order_by\('city', 'age'\)"),
        (lambda: docs.where(":id").above(1), "name of the key"),
        (lambda: docs.order_by(":id"), "name of the key"),
    ):
        with pytest.raises(hp.InvalidQuery, match=words):
            asked()
    assert docs.order_by(hp.F["[a+b]"]).keys() == [0, 1, 2]
    assert docs.where(hp.F["[a+b]"] == 1).keys() == docs.where({"[a+b]": 1}).keys() == [1]


@pytest.mark.parametrize("given", [{"n": 1}, hp.F.n == 1])
def test_a_condition_in_place_of_a_key(db: hp.Database, given: Any) -> None:
    docs = db[PLAIN]
    docs.put({"id": "a", "n": 1})
    for call in (docs.get, docs.delete, lambda key: docs.patch(key, n=2), lambda key: docs.update(key, dict)):
        with pytest.raises(hp.errors.InvalidKey, match=r"write where\(...\).first\(\)"):
            call(given)
    assert docs.get("a") == {"id": "a", "n": 1}
