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
