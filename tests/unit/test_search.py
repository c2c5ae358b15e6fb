"""``search()`` on both facades: arguments, hits, transactions, threads, expiry, models."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

import homeport as hp
from homeport.errors import InvalidQuery, UnknownField

F = hp.F
NOTES = hp.Collection("notes", indexes=[hp.FullText("title"), hp.FullText("text"), "n"])
DOCS = [
    {"id": 1, "title": "Clean sand", "text": "A red sand above the chalk.", "n": 1},
    {"id": 2, "title": "Chalk", "text": "Fractured chalk with <oil> & gas; no sand.", "n": 2},
    {"id": 3, "title": "Mud", "text": ["Losses", "clean again"], "n": 3},
    {"id": 4, "title": "Нефть", "text": "石油", "n": 4},
]


@pytest.fixture(params=["sqlite", "memory"])
def db(request: pytest.FixtureRequest, tmp_path: Path):
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[NOTES], durability="relaxed") as db:
        db[NOTES].put_many(DOCS)
        yield db


def keys(hits: hp.Hits[Any]) -> list[Any]:
    return [hit.key for hit in hits]


def test_hits(db: hp.Database) -> None:
    hits = db[NOTES].search("sand")
    assert (keys(hits), hits.total, hits.capped, repr(hits)) == ([1, 2], 2, False, "<2 hits of 2>")
    best = hits[0]
    assert best.document == DOCS[0] and hits.documents == DOCS[:2]
    assert best.score > hits[1].score > 0
    assert best.fields == ("title", "text")
    assert best.highlights == {"title": [(6, 10)], "text": [(6, 10)]}
    assert best.text("text")[6:10] == "sand"
    assert best.highlight("title") == "Clean <b>sand</b>"
    assert best.snippet(words=2) == "Clean <b>sand</b>"
    assert hits[1].fields == ("text",)
    assert hits[1].highlight("text", before="*", after="*") == "Fractured chalk with <oil> & gas; no *sand*."
    assert hits[1].snippet(words=3) == "…gas; no <b>sand</b>."
    assert hits[1].snippet("title") == "Chalk"
    assert "Hit 2" in repr(hits[1])
    with pytest.raises(UnknownField):
        best.snippet("n")


def test_fields_and_weights(db: hp.Database) -> None:
    w = db[NOTES]
    assert keys(w.search("chalk")) == [2, 1]
    assert keys(w.search("chalk", ["title"])) == [2]
    assert keys(w.search("chalk", fields=[F.text])) == [1, 2]
    assert keys(w.search("clean", {"title": 10, "text": 1})) == [1, 3]
    assert keys(w.search("clean", {"title": 0.01, "text": 1})) == [3, 1]
    assert keys(w.search("title:chalk")) == [2]
    assert keys(w.search("text:(chalk sand) -title:clean")) == [2]
    assert keys(w.search("title:chalk", ["text"])) == [], "a field that is not searched is a word"
    assert keys(w.search("sand title:chalk", {"title": 1, "text": 1})) == [2]


def test_limits_and_conditions(db: hp.Database) -> None:
    w = db[NOTES]
    assert keys(w.search("sand OR clean", limit=1)) == [1]
    assert keys(w.search("sand OR clean", limit=0)) == []
    for where in (F.n > 1, {"n": {"$gt": 1}}):
        assert sorted(keys(w.search("sand OR clean", where=where))) == [2, 3]
    assert keys(w.where(F.n == 2).search("sand")) == [2]
    assert keys(w.where(F.n == 2).search("sand", where=F.n == 1)) == []
    whole = keys(w.search("sand OR clean OR chalk"))
    assert keys(w.limit(2).search("sand OR clean OR chalk")) == whole[:2]
    assert keys(w.limit(2).offset(1).search("sand OR clean OR chalk")) == whole[1:3]
    assert keys(w.filter(lambda d: d["n"] != whole[0]).search("sand OR clean OR chalk", limit=1)) == whole[1:2]
    assert keys(w.filter(lambda d: d["n"] != whole[0]).offset(1).search("sand OR clean OR chalk")) == whole[2:]
    hits = w.search("sand OR clean", candidates=1)
    assert (len(hits), hits.total, hits.capped, repr(hits)) == (1, 1, True, "<1 hits of 1 or more>")


@pytest.mark.parametrize(
    "asked", ["", "   ", "-sand", "?!", "😀", '"', "*", "()", "NOT", "OR", "nothing", 'sand" chalk"', "'; drop table", "\x00", "sand\x00"]
)
def test_any_text_is_a_query(db: hp.Database, asked: str) -> None:
    hits = db[NOTES].search(asked)
    assert isinstance(hits, hp.Hits)
    assert hits.total == len(hits) and not hits.capped


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda w: w.search(5), "text"),
        (lambda w: w.search("a", "title"), "list of field names"),
        (lambda w: w.search("a", []), "names no field"),
        (lambda w: w.search("a", ["n"]), "full-text"),
        (lambda w: w.search("a", [7]), "names fields"),
        (lambda w: w.search("a", {"title": 0}), "above 0"),
        (lambda w: w.search("a", {"title": float("nan")}), "above 0"),
        (lambda w: w.search("a", {"title": "2"}), "number"),
        (lambda w: w.search("a", {"title": True}), "number"),
        (lambda w: w.search("a", limit=-1), "limit"),
        (lambda w: w.search("a", limit=1.5), "limit"),
        (lambda w: w.search("a", candidates=0), "candidates"),
        (lambda w: w.order_by("n").search("a"), "order"),
        (lambda w: w.after(3).search("a"), "position"),
        (lambda w: w.search("a " * 300), "256"),
        (lambda w: w.search("a", where=5), "condition"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(db: hp.Database, call: Any, word: str) -> None:
    with pytest.raises(InvalidQuery, match=word) as caught:
        call(db[NOTES])
    assert caught.value.action


def test_a_collection_without_full_text_says_what_to_declare() -> None:
    plain = hp.Collection("plain", indexes=["n"])
    with hp.open(":memory:", collections=[plain]) as db, pytest.raises(InvalidQuery, match="FullText"):
        db[plain].search("a")


def test_a_transaction_sees_its_own_writes_and_leaves_none_behind(db: hp.Database) -> None:
    w = db[NOTES]
    with pytest.raises(RuntimeError), db.transaction():
        w.put({"id": 5, "title": "sand", "text": "sand sand"})
        w.delete(1)
        w.patch(2, {"text": "nothing"})
        assert keys(w.search("sand")) == [5]
        with pytest.raises(KeyError), db.transaction():
            w.put({"id": 6, "title": "sand", "text": ""})
            w.delete(5)
            assert keys(w.search("sand")) == [6]
            raise KeyError
        assert keys(w.search("sand")) == [5], "the savepoint took its words back"
        assert [d["id"] for d in w.where(F.title.matches("sand")).all()] == [5]
        raise RuntimeError
    assert keys(w.search("sand")) == [1, 2]
    assert w.where(F.title.matches("sand")).keys() == [1]

    async def inside(tx: hp.Tx) -> list[Any]:
        await tx[NOTES].put({"id": 7, "title": "granite", "text": ""})
        return keys(await tx[NOTES].search("granite OR sand", limit=1))

    assert db.run(inside) == [7]


def test_deleted_patched_and_expired_documents_leave_the_index(tmp_path: Path) -> None:
    for path in (":memory:", tmp_path / "a.db"):
        brief = hp.Collection("brief", indexes=[hp.FullText("text")], ttl_s=0.05)
        with hp.open(path, collections=[NOTES, brief], durability="relaxed") as db:
            w = db[NOTES]
            w.put_many(DOCS)
            w.patch(1, {"title": "Shale", "text": hp.REMOVE})
            assert keys(w.search("sand")) == [2]
            w.update(2, lambda d: {**d, "text": "dry"})
            assert keys(w.search("sand")) == []
            assert w.where(F.n > 2).delete() == 2
            assert keys(w.search("clean OR 石油")) == []
            w.put({"id": 3, "title": "again"})
            assert keys(w.search("again")) == [3]
            db[brief].put({"id": 1, "text": "gone soon"})
            assert keys(db[brief].search("soon")) == [1]
            threading.Event().wait(0.06)
            assert keys(db[brief].search("soon")) == []
            assert db[brief].search("soon").total == 0
            db[brief].put({"id": 2, "text": "stays for now"})
            db.cleanup()
            assert db.verify_text() == [], "what was purged left the index"


def test_live_queries_follow_words(db: hp.Database) -> None:
    w = db[NOTES]
    with w.where(F.text.matches("sand -oil")).order_by("n").live() as live:
        assert [d["id"] for d in next(live).rows] == [1]
        w.put({"id": 9, "n": 0, "text": "Fine SÁND"})
        assert [d["id"] for d in next(live).rows] == [9, 1]
        w.patch(9, {"text": "fine sand, some oil"})
        assert [d["id"] for d in next(live).rows] == [1]


def test_search_beside_a_writer(tmp_path: Path) -> None:
    """Each search sees one committed state, whatever is written meanwhile."""
    with hp.open(tmp_path / "a.db", collections=[NOTES], durability="relaxed") as db:
        w = db[NOTES]
        w.put_many([{"id": n, "title": "round 0", "n": 0} for n in range(50)])
        stop = threading.Event()

        def write() -> None:
            for number in range(1, 40):
                w.put_many([{"id": n, "title": f"round {number}", "n": number} for n in range(50)])
            stop.set()

        writer = threading.Thread(target=write)
        writer.start()
        torn, searches = [], 0
        while not stop.is_set() or searches < 3:
            hits = w.search("round", limit=50)
            searches += 1
            if len({hit.document["n"] for hit in hits}) != 1 or len(hits) != 50:
                torn.append(hits)
        writer.join()
        assert not torn


async def test_search_on_an_event_loop(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[NOTES]) as db:
        await db[NOTES].put_many(DOCS)
        hits, other = await asyncio.gather(db[NOTES].search("sand"), db[NOTES].where(F.n > 1).search("clean"))
        assert (keys(hits), keys(other)) == ([1, 2], [3])
        assert isinstance(hits[0], hp.Hit)


class Well(msgspec.Struct, rename="camel"):
    id: str
    well_name: str
    remarks: list[str] = []


def test_models_are_searched_by_the_names_of_their_attributes() -> None:
    wells = hp.Collection("wells", Well, indexes=[hp.FullText("well_name"), hp.FullText("remarks")])
    with hp.open(":memory:", collections=[wells]) as db:
        db[wells].put(Well("w1", "Brent-7", ["clean sand", "oil"]))
        [hit] = db[wells].search("well_name:brent sand", fields={"well_name": 2, "remarks": 1})
        assert hit.document == Well("w1", "Brent-7", ["clean sand", "oil"])
        assert hit.fields == ("well_name", "remarks")
        assert hit.snippet("well_name") == "<b>Brent</b>-7"
        assert hit.text("remarks") == "clean sand\noil"
        assert db[wells].search('"sand oil"').total == 0


@pytest.mark.parametrize("path", [":memory:", "a.db"])
def test_long_texts(path: str, tmp_path: Path) -> None:
    """A megabyte, ten thousand words, one word without end, thousands of elements."""
    with hp.open(path if path == ":memory:" else tmp_path / path, collections=[NOTES], durability="relaxed") as db:
        w = db[NOTES]
        w.put_many([
            {"id": "mega", "text": "lorem ipsum dolor " * 58_000 + "needle"},
            {"id": "words", "text": " ".join(f"word{n}" for n in range(10_000))},
            {"id": "one", "text": "x" * 1_000_000},
            {"id": "list", "text": [f"element number {n}" for n in range(5_000)]},
            {"id": "cjk", "text": "石油" * 50_000},
        ])  # fmt: skip
        assert keys(w.search("needle")) == ["mega"]
        assert w.search("needle")[0].snippet(words=3) == "…ipsum dolor <b>needle</b>"
        assert keys(w.search("word9999")) == ["words"]
        assert keys(w.search("x" * 300)) == ["one"]
        assert keys(w.search('"number 4999"')) == ["list"]
        assert keys(w.search("油石油")) == ["cjk"]
        assert w.delete_many(["mega", "words", "one", "list", "cjk"]) == 5
        assert w.search("needle OR word1 OR element OR 石油 OR x*").total == 0
