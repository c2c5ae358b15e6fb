"""Texts that UTF-8 cannot carry, as they come out of file names and broken JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import homeport as hp

F = hp.F
BAD = "a\ud800b"


@pytest.fixture(params=["memory", "file"])
def docs(request: Any, tmp_path: Path) -> Any:
    docs = hp.Collection("docs", indexes=["n", hp.Multi("tags")])
    path = ":memory:" if request.param == "memory" else str(tmp_path / "a.db")
    with hp.open(path, collections=[docs]) as db:
        db[docs].put_many([{"id": "a", "n": "x", "tags": ["q"]}, {"id": "b", "n": "y"}, {"id": "c"}])
        yield db[docs]


def test_every_error_can_be_printed(docs: Any) -> None:
    """A terminal, a log file and an HTTP answer take UTF-8 alone."""
    for wrong in (
        lambda: docs.put({"id": "z", BAD: 1}),
        lambda: docs.put({"id": "z", "n": BAD}),
        lambda: docs.put({"id": "z", "n": {"deep": [BAD]}}),
        lambda: docs.put({"id": BAD}),
        lambda: docs.get(BAD),
        lambda: docs.patch(BAD, n=1),
        lambda: docs.patch("a", {BAD: 1}),
        lambda: docs.where(F.n > BAD).keys(),
        lambda: docs.group_by(BAD).count(),
        lambda: docs.add_many([{"id": "z", BAD: 1}]),
        lambda: hp.Collection(BAD),
        lambda: hp.open(f"nowhere/{BAD}.db", collections=[]),
    ):
        with pytest.raises(hp.HomeportError) as caught:
            wrong()
        for text in (str(caught.value), repr(caught.value), caught.value.message):
            text.encode()
    with pytest.raises(hp.HomeportError, match=r"a\\ud800b holds a lone surrogate"):
        docs.put({"id": "z", BAD: 1})


def test_nothing_equals_it_whichever_way_it_is_asked(docs: Any) -> None:
    w = docs.where
    for nothing in (
        w(F.n == BAD), w({"n": BAD}), w(F.n.any_of(BAD)), w("n").equals(BAD), w("n").any_of(BAD, BAD),
        w(F.n.starts_with(BAD)), w("n").starts_with(BAD), w("n").equals_ignore_case(BAD),
        w(F.tags.contains(BAD)), w("tags").equals(BAD), w({"n": {"$in": [BAD]}}),
    ):  # fmt: skip
        assert nothing.keys() == []
    assert w("n").any_of(BAD, "x").keys() == w(F.n.any_of(BAD, "x")).keys() == ["a"]
    # Dexie's words look at the keys of an index only, where ``F`` negates exactly.
    assert w("n").not_equal(BAD).keys() == w("n").none_of([BAD]).keys() == ["a", "b"]
    assert w("n").none_of(BAD, "x").keys() == ["b"]
    assert w(F.n != BAD).keys() == w(F.n.none_of(BAD)).keys() == ["a", "b", "c"]
    for ask in (lambda: w("n").above(BAD), lambda: w("n").between("a", BAD), lambda: w(F.n > BAD)):
        with pytest.raises(hp.InvalidQuery, match="no place in the order"):
            ask()


@pytest.mark.parametrize("name", [BAD, "a\0b"])
def test_no_document_has_a_field_of_such_a_name(docs: Any, name: str) -> None:
    """It is a slip, whichever way it is asked, and on every store the same one."""
    for ask in (
        lambda: docs.where(F[name] == 1), lambda: docs.where(name).equals(1), lambda: docs.where({name: 1}),
        lambda: docs.where(F[name].is_missing()), lambda: docs.where(F[name].any_of(1, 2)),
        lambda: docs.where(F[name].contains(1)), lambda: docs.where(F.n[name] > 1),
        lambda: docs.where((F.n == 1) | ~(F[name] == 1)), lambda: docs.order_by(name), lambda: docs.order_by(F[name]),
        lambda: docs.group_by(name).count(), lambda: docs.min(name), lambda: docs.sum(name),
        lambda: docs.distinct(name), lambda: docs.patch("a", {name: hp.REMOVE}),
        lambda: docs.include(same=hp.Many("docs", name)),
    ):  # fmt: skip
        with pytest.raises(hp.errors.UnknownField, match="neither NUL nor lone surrogates") as caught:
            ask()
        str(caught.value).encode()
