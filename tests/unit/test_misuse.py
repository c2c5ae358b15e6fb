"""Slips that other libraries let pass in silence, or answer with an error of Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import homeport as hp
from homeport.errors import UsageError

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
