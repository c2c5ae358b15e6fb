"""The full-text table of a SQLite file: upgrades."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

import homeport as hp
from homeport.core.words import TOKENIZER
from homeport.errors import SchemaMismatch

F = hp.F
NOTES = hp.Collection("notes", indexes=[hp.FullText("text"), "v"])


def change(path: Path, *statements: tuple[str, Any]) -> None:
    db = apsw.Connection(str(path))
    for text, values in statements:
        db.execute(text, values).fetchall()
    db.close()


def layout_of(path: Path) -> dict[str, Any]:
    db = apsw.Connection(str(path))
    text = db.execute("select layout from collections where name='notes'").get
    db.close()
    return msgspec.json.decode(text)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file whose words were made by an older tokenizer: it knew nothing of ø and 東京."""
    path = tmp_path / "old.db"
    with hp.open(path, collections=[NOTES]) as db:
        db[NOTES].put_many([{"id": 1, "text": "Tyrihans Sør"}, {"id": 2, "text": "東京都", "v": 5}])
    layout = layout_of(path)
    assert layout.pop("words") == TOKENIZER
    change(
        path,
        ("update collections set layout=? where name='notes'", (msgspec.json.encode(layout).decode(),)),
        ('delete from "f_notes.text"', ()),
        ('insert into "f_notes.text"("t_text", rowid) values(?, 1), (?, 2)', ("tyrihans sør", "東京都")),
    )
    return path


def test_words_of_an_older_tokenizer_are_made_anew_when_a_file_is_opened(old: Path) -> None:
    with hp.open(old, collections=[NOTES]) as db:
        assert db[NOTES].where(F.text.matches("sor")).keys() == [1]
        assert db[NOTES].where(F.text.matches("京")).keys() == [2]
        assert db[NOTES].where(F.text.matches("tyrihans sør")).keys() == [1]
        assert sorted(db[NOTES].keys()) == [1, 2]
        assert db[NOTES].get(2) == {"id": 2, "text": "東京都", "v": 5}
        db[NOTES].delete(1)
        assert db[NOTES].where(F.text.matches("sor")).keys() == []
    assert layout_of(old)["words"] == TOKENIZER


def test_a_file_of_an_older_tokenizer_opened_for_reading_says_what_to_do(old: Path) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        hp.open(old, collections=[NOTES], readonly=True)
    assert "readonly" in caught.value.action


def test_a_file_of_this_tokenizer_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[NOTES]) as db:
        db[NOTES].put({"id": 1, "text": "sand"})
    change(path, ('delete from "f_notes.text"', ()))  # a rebuild would find the word again
    with hp.open(path, collections=[NOTES]) as db:
        assert db[NOTES].where(F.text.matches("sand")).keys() == []


# -- what is searched costs what it must


def operations(db: hp.Database, call: Any) -> int:
    """Instructions of SQLite's machine that a call takes."""
    connection = db._driver.engine._main.connection  # type: ignore[attr-defined]
    count = 0

    def step() -> bool:
        nonlocal count
        count += 1
        return False

    connection.set_progress_handler(step, 1)
    try:
        call()
    finally:
        connection.set_progress_handler(None)
    return count


@pytest.fixture
def many(tmp_path: Path):
    with hp.open(tmp_path / "many.db", collections=[NOTES], durability="relaxed") as db:
        db[NOTES].put_many(
            [{"id": n, "text": "common word" + (" rare" if n % 1000 == 7 else ""), "v": n % 2} for n in range(4_000)]
        )
        yield db


def test_a_limit_on_a_common_word_does_not_read_all_of_them(many: hp.Database) -> None:
    w = many[NOTES]
    common = w.where(F.text.matches("common"))
    whole = operations(many, lambda: common.keys())
    assert whole > 10_000
    for some in (common.limit(5), common.where(F.w.is_missing()).limit(5)):
        assert len(some.keys()) == 5
        assert operations(many, some.keys) < whole / 20
        assert operations(many, some.all) < whole / 20
    assert operations(many, common.first) < 200
    assert operations(many, common.exists) < 200
    assert common.count() == 4_000
    assert common.where(F.v == 1).count() == 2_000
    assert [d["id"] for d in common.order_by("-v", "id").limit(2).all()] == [1, 3]
    assert common.offset(3_998).keys() == [3998, 3999]


def test_a_search_scores_no_more_than_its_candidates(many: hp.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = 0

    def called(self: Any, api: Any, *_: Any) -> Any:
        nonlocal scored
        scored += 1
        return self.ask(api)

    monkeypatch.setattr("homeport.storage.sqlite_text.Texts._called", called)
    w = many[NOTES]
    hits = w.search("common", candidates=100)
    assert (hits.capped, hits.total, len(hits), scored) == (True, 100, 20, 101)
    scored = 0
    hits = w.search("common OR rare", candidates=100)
    assert (hits.capped, hits.total, scored) == (True, 100, 101 + 4)
    assert [hit.key for hit in hits[:4]] == [7, 1007, 2007, 3007]
    scored = 0
    # A condition with an index that leaves few documents: only those are looked up.
    hits = w.search("common", where=F.id.between(10, 29), limit=50)
    assert (hits.total, scored) == (20, 20)
    few = operations(many, lambda: w.search("common", where=F.id.between(10, 29)))
    assert few < operations(many, lambda: w.search("common", where=F.v == 1)) / 3


def test_a_bulk_load_leaves_one_tree(tmp_path: Path) -> None:
    """A word is looked up in every tree of the index, so a load merges what it has written."""
    path = tmp_path / "load.db"
    with hp.open(path, collections=[NOTES], durability="relaxed") as db:
        db[NOTES].load({"id": n, "text": f"common word{n}"} for n in range(3_000))
        assert db[NOTES].search("word2999").documents == [{"id": 2999, "text": "common word2999"}]
    con = apsw.Connection(str(path))
    assert con.execute('select count(distinct segid) from "f_notes.text_idx"').get <= 1
    con.close()


# -- verify and rebuild


def damage(path: Path, *statements: str) -> None:
    change(path, *((statement, ()) for statement in statements))


DAMAGES = {
    "a lost row": ('delete from "f_notes.text" where rowid=2', "lacks 1 document: 2"),
    "a row too many": ('insert into "f_notes.text"("t_text", rowid) values(\'ghost\', 9999)', "1 document that are gone"),
    "other words": ('update "f_notes.text" set "t_text"=\'gravel\' where rowid=2', "of 1 document is not what they hold: 2"),
    "words in another order": ('update "f_notes.text" set "t_text"=\'sand clean\' where rowid=1', "not what they hold: 1"),
    "words that change places in pairs": ('update "f_notes.text" set "t_text"=\'y x x y\' where rowid=4', "not what they hold: 4"),
    "a changed document": ("update c_notes set doc='{\"id\":3,\"text\":\"changed\"}' where id=3", "not what they hold: 3"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_verify_finds_what_is_wrong_and_rebuild_repairs_it(kind: str, tmp_path: Path) -> None:
    statement, message = DAMAGES[kind]
    path = tmp_path / "a.db"
    with hp.open(path, collections=[NOTES]) as db:
        db[NOTES].put_many([{"id": 1, "text": "clean sand"}, {"id": 2, "text": ["oil", "Größe"]}, {"id": 3, "text": "東京都"}, {"id": 4, "text": "x y y x"}])
        db[NOTES].put_many([{"id": n, "text": f"word {n}"} for n in range(5, 300)])
        db[NOTES].delete_many(range(100, 150))
        db[NOTES].patch(50, {"text": "again\x1e and again"})
        assert db.verify_text() == []
    damage(path, statement)
    with hp.open(path, collections=[NOTES]) as db:
        [problem] = db.verify_text()
        assert message in problem and problem.startswith("notes: ")
        db.rebuild_text()
        assert db.verify_text() == []
        assert [hit.key for hit in db[NOTES].search("sand OR größe OR 京 OR changed")][:3]
        assert db[NOTES].where(F.text.matches("ghost OR gravel")).count() == 0


def test_rebuild_takes_names_and_has_rules(tmp_path: Path) -> None:
    other = hp.Collection("other", indexes=[hp.FullText("t")])
    path = tmp_path / "a.db"
    with hp.open(path, collections=[NOTES, other]) as db:
        db[NOTES].put({"id": 1, "text": "sand"})
        db[other].put({"id": 1, "t": "sand"})
    damage(path, 'delete from "f_notes.text"', 'delete from "f_other.text"')
    with hp.open(path, collections=[NOTES, other]) as db:
        assert len(db.verify_text()) == 2
        db.rebuild_text(other)
        assert [text.split(":")[0] for text in db.verify_text()] == ["notes"]
        db.rebuild_text("notes")
        assert db.verify_text() == []
        assert db[other].search("sand").total == 1
        with pytest.raises(hp.UnknownCollection):
            db.rebuild_text("nothing")
        with pytest.raises(hp.TransactionError), db.transaction():
            db.rebuild_text()
    with hp.open(path, collections=[NOTES, other], readonly=True) as db:
        assert db.verify_text() == []
        with pytest.raises(hp.errors.ReadOnly):
            db.rebuild_text()
    with hp.open(":memory:", collections=[NOTES]) as db:
        db[NOTES].put({"id": 1, "text": "sand"})
        db.rebuild_text()
        assert (db.verify_text(), db[NOTES].search("sand").total) == ([], 1)


def test_inspect_names_what_is_wrong_with_full_text(tmp_path: Path) -> None:
    from homeport.cli.inspect import inspect_file

    path = tmp_path / "a.db"
    with hp.open(path, collections=[NOTES]) as db:
        db[NOTES].put_many([{"id": 1, "text": "clean sand"}, {"id": 2, "text": "oil"}])
        assert inspect_file(path).problems == inspect_file(path, verify=True).problems == []
    damage(path, 'update "f_notes.text" set "t_text"=\'gravel\' where rowid=2')
    assert inspect_file(path).problems == []
    assert "not what they hold: 2" in inspect_file(path, verify=True).problems[0]
    damage(path, 'delete from "f_notes.text" where rowid=1')
    assert "lacks 1 document: 1" in inspect_file(path).problems[0]
