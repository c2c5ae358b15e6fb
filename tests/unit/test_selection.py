"""What a collection and a query have in common, and what only a query can do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

import homeport as hp
from homeport.errors import InvalidQuery, NotUnique, UsageError


class Well(msgspec.Struct):
    id: str
    field: str
    depth_m: float | None = None
    tags: list[str] = []


WELLS = hp.Collection("wells", Well, indexes=["depth_m", hp.Unique("field", "depth_m")])


@pytest.fixture(params=["memory", "file"])
def w(request: Any, tmp_path: Path) -> Iterator[hp.Documents[Well]]:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[WELLS], durability="relaxed") as db:
        wells = db[WELLS]
        wells.put_many(
            [
                Well("w1", "Brent", 2800.0),
                Well("w2", "Brent", 1500.0),
                Well("w3", "Troll", 900.0),
                Well("w4", "Troll"),
                Well("w5", "Ekofisk", 3100.0),
            ]
        )
        yield wells


def test_a_collection_has_every_short_cut_of_a_query(w: hp.Documents[Well]) -> None:
    assert w.offset(3).keys() == ["w4", "w5"]
    assert w.reverse().limit(2).keys() == ["w5", "w4"]
    assert w.after("w4").keys() == ["w5"]
    assert w.exists()
    assert "5 documents" in str(w.explain())
    assert w.first() is not None
    last = w.last()
    assert last is not None and last.id == "w5"
    with pytest.raises(NotUnique):
        w.one()
    w.delete_many(["w1", "w2", "w3", "w4"])
    assert w.one().id == "w5"
    w.clear()
    assert not w.exists()
    assert w.last() is None


def last_id(query: Any) -> str | None:
    found = query.last()
    return None if found is None else str(found.id)


def test_last_is_the_other_end_of_the_order(w: hp.Documents[Well]) -> None:
    assert last_id(w.order_by("depth_m")) == "w5"
    assert last_id(w.order_by("-depth_m")) == "w3"
    assert last_id(w.order_by("depth_m").limit(2)) == "w2"
    assert last_id(w.order_by("depth_m").offset(1)) == "w4"  # of the window: what lacks the field
    assert last_id(w.limit(2)) == "w2"
    assert last_id(w.order_by("depth_m").after(1500.0, "w2").limit(1)) == "w1"
    assert last_id(w.after("w2").limit(2)) == "w4"
    assert last_id(w.where(hp.F.field == "None")) is None
    assert last_id(w.where(hp.F.field == "None").limit(3)) is None
    assert last_id(w.filter(lambda well: well.field == "Troll")) == "w4"
    assert last_id(w.filter(lambda well: well.field == "Troll").limit(1)) == "w3"


def test_or_adds_documents_and_none_comes_twice(w: hp.Documents[Well]) -> None:
    deep = w.where("depth_m").above(2000)
    assert sorted(deep.or_("field").equals("Brent").keys()) == ["w1", "w2", "w5"]
    assert sorted(deep.or_(hp.F.field == "Troll", hp.F.depth_m > 5).keys()) == ["w1", "w3", "w5"]
    assert sorted(deep.or_({"depth_m": None}).keys()) == ["w1", "w4", "w5"]
    assert sorted(deep.or_("field").equals("Troll").where("id").above("w3").keys()) == ["w4", "w5"]
    assert deep.or_("field").equals("Brent").order_by("depth_m").limit(1).keys() == ["w2"]


def test_or_behind_nothing_or_a_function_is_refused(w: hp.Documents[Well]) -> None:
    with pytest.raises(InvalidQuery, match="there are none"):
        w.limit(5).or_("field")
    with pytest.raises(InvalidQuery, match="filter"):
        w.where(hp.F.depth_m > 1).filter(bool).or_("field")
    with pytest.raises(InvalidQuery, match="needs a condition"):
        w.where(hp.F.depth_m > 1).or_()
    with pytest.raises(hp.UnknownField, match="did you mean 'field'"):
        w.where(hp.F.depth_m > 1).or_("feld")


class Book(msgspec.Struct):
    id: str
    categories: list[str] = []
    days: list[date] = []


BOOKS = hp.Collection("books", Book, indexes=[hp.Multi("categories"), hp.Multi("days")])


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_words_on_a_multi_entry_index_look_at_its_entries_as_in_dexie(kind: str, tmp_path: Path) -> None:
    path = ":memory:" if kind == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[BOOKS], durability="relaxed") as db:
        books = db[BOOKS]
        books.put_many(
            [
                Book("dome", ["sci-fi", "thriller"], [date(2009, 11, 10)]),
                Book("it", ["horror", "thriller"], [date(1986, 9, 15), date(2017, 9, 8)]),
                Book("none"),
                Book("cook", ["Cooking"]),
            ]
        )

        def found(query: Any) -> list[Any]:
            assert len(query.keys()) == query.count()
            return sorted(query.keys())

        by = books.where("categories")
        assert found(by.equals("thriller")) == ["dome", "it"]
        assert found(by.equals("thriller").where("categories").equals("horror")) == ["it"]
        assert found(by.any_of("thriller", "horror")) == ["dome", "it"]  # "it" comes once
        assert found(by.none_of("thriller", "horror")) == ["cook", "dome"]  # some other entry
        assert found(by.not_equal("Cooking")) == ["dome", "it"]
        assert found(by.starts_with("sci")) == ["dome"]
        assert found(by.starts_with_any_of("sci", "hor")) == ["dome", "it"]
        assert found(by.between("h", "i")) == ["it"]
        assert found(by.above("t")) == ["dome", "it"]
        assert found(by.below_or_equal("Cooking")) == ["cook"]
        assert found(by.in_any_range([("a", "i"), ("s", "t")])) == ["dome", "it"]
        assert found(by.equals_ignore_case("cooking")) == ["cook"]
        assert found(by.any_of_ignore_case("COOKING", "Horror")) == ["cook", "it"]
        assert found(by.starts_with_ignore_case("COO")) == ["cook"]
        assert found(books.where("days").between(date(2017, 1, 1), date(2018, 1, 1))) == ["it"]
        assert found(books.where("days").equals(date(2009, 11, 10)).or_("categories").equals("horror")) == ["dome", "it"]
        # F compares the whole field, whatever the indexes are.
        assert found(books.where(hp.F.categories == "thriller")) == []
        assert found(books.where(hp.F.categories == ["Cooking"])) == ["cook"]
        if kind == "file":
            assert books.where("categories").equals("horror").explain().index is not None


def test_update_by_query_is_one_transaction(w: hp.Documents[Well]) -> None:
    def deeper(well: Well) -> Well:
        well.depth_m = (well.depth_m or 0) + 10
        return well

    assert w.where(hp.F.field == "Troll").update(deeper) == 2
    assert [well.depth_m for well in w.where(hp.F.field == "Troll").order_by("id")] == [910, 10]
    assert w.filter(lambda well: well.id == "w1").update(deeper) == 1
    assert w.where(hp.F.depth_m > 9_999).update(deeper) == 0

    def same(well: Well) -> Well:
        well.depth_m = 1.0
        return well

    before = w.order_by("id").all()
    with pytest.raises(hp.UniqueViolation):
        w.where(hp.F.field == "Troll").update(same)
    with pytest.raises(UsageError, match="returned None"):
        w.where(hp.F.field == "Troll").update(lambda well: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(UsageError, match="takes a function"):
        w.where(hp.F.field == "Troll").update({"depth_m": 5})  # type: ignore[arg-type]
    assert w.order_by("id").all() == before
