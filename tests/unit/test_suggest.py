"""Words for search boxes: how one goes on, and which one was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeport as hp
from homeport.core.suggest import distance
from homeport.errors import InvalidQuery

NOTES = hp.Collection("notes", indexes=[hp.FullText("title"), hp.FullText("text")])
DOCS = [
    {"id": 1, "title": "Porosity of sand", "text": "Porous sandstone, permeable. Sør"},
    {"id": 2, "title": "Sand", "text": ["porosity 31 %", "sandy"]},
    {"id": 3, "title": "東京石油", "text": "porous porosity; chalk"},
    {"id": 4, "title": "Chalk", "text": "chalk, no sand; shale"},
]


@pytest.fixture(params=["sqlite", "memory"])
def db(request: pytest.FixtureRequest, tmp_path: Path):
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[NOTES, hp.Collection("plain")], durability="relaxed") as db:
        db[NOTES].put_many(DOCS)
        yield db


def test_suggest(db: hp.Database) -> None:
    w = db[NOTES]
    assert w.suggest("por") == ["porosity", "porous"]
    assert w.suggest("sand") == ["sand", "sandstone", "sandy"]
    assert w.suggest("clean SAND") == ["sand", "sandstone", "sandy"]
    assert w.suggest("sa", limit=1) == ["sand"]
    assert w.suggest("Sö") == ["sor"]
    assert w.suggest("3") == ["31"]
    for nothing in ("", "  ", "?", "xyz", "東", "東京"):
        assert w.suggest(nothing) == []
    assert w.suggest("sa", limit=0) == []
    w.delete(4)
    assert w.suggest("sh") == []
    with db.transaction():
        w.put({"id": 5, "text": "shallow"})
        assert w.suggest("sh") == ["shallow"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("pososity", "porosity"),
        ("porosty", "porosity"),
        ("POROSTIY of chlak", "porosity of chalk"),
        ("sand", None),
        ("snad", "sand"),
        ("sadn -shael", "sand -shael"),
        ('"sandstoen porosity" OR shael', '"sandstone porosity" OR shale'),
        ("title:chlk", "title:chalk"),
        ("xyzzy", None),
        ("p0", None),
        ("3111", None),
        ("por*", None),
        ("京東石", None),
        ("", None),
        ("no sandd, plaese", "no sand, plaese"),
    ],
)
def test_did_you_mean(db: hp.Database, text: str, meant: str | None) -> None:
    assert db[NOTES].did_you_mean(text) == meant


async def test_on_an_event_loop(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[NOTES]) as db:
        await db[NOTES].put_many(DOCS)
        assert await db[NOTES].suggest("chal") == ["chalk"]
        assert await db[NOTES].did_you_mean("chlak") == "chalk"


@pytest.mark.parametrize(
    "call",
    [
        lambda db: db["plain"].suggest("a"),
        lambda db: db["plain"].did_you_mean("a"),
        lambda db: db[NOTES].suggest(5),
        lambda db: db[NOTES].suggest("a", limit=-1),
        lambda db: db[NOTES].did_you_mean(None),
    ],
)
def test_a_wrong_call_says_what_is_wrong(db: hp.Database, call: Any) -> None:
    with pytest.raises(InvalidQuery):
        call(db)


LETTERS = st.text("abc", max_size=6)


def slow(one: str, other: str) -> int:
    """Optimal string alignment by its definition."""
    if not one or not other:
        return len(one) + len(other)
    best = min(
        slow(one[:-1], other) + 1,
        slow(one, other[:-1]) + 1,
        slow(one[:-1], other[:-1]) + (one[-1] != other[-1]),
    )
    if one[-2:] == other[-2:][::-1] and len(one) > 1 and len(other) > 1:
        best = min(best, slow(one[:-2], other[:-2]) + 1)
    return best


@given(st.text("ab", max_size=4), st.text("ab", max_size=4), st.integers(0, 3))
def test_distance(one: str, other: str, most: int) -> None:
    assert min(distance(one, other, most), most + 1) == min(slow(one, other), most + 1)
