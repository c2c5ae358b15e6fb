"""Pages by position, on both stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeport as hp
from homeport.errors import InvalidQuery, UsageError


class Doc(msgspec.Struct):
    id: UUID
    n: int | str | None = None
    m: float | None = None


DOCS = hp.Collection("docs", Doc, indexes=["n"])
OTHER = hp.Collection("other")


def every_page(query: Any, size: int) -> list[list[Any]]:
    pages: list[list[Any]] = []
    token = None
    while True:
        page = query.page(size, token)
        pages.append([doc.id.int for doc in page])
        if page.next is None:
            return pages
        assert len(page) == size
        token = json.loads(json.dumps(page.next))


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.tuples(st.none() | st.integers(0, 3) | st.sampled_from("ab"), st.none() | st.floats(0, 2)), max_size=12),
    order=st.sampled_from([(), ("n",), ("-n", "m"), ("m",), ("-id",)]),
    size=st.integers(1, 5),
)
def test_pages_together_are_the_whole_in_its_order(values: Any, order: Any, size: int) -> None:
    with hp.open(":memory:", collections=[DOCS]) as db:
        check(db, values, order, size)


def check(db: hp.Database, values: Any, order: Any, size: int) -> None:
    db[DOCS].put_many([Doc(UUID(int=i), n, m) for i, (n, m) in enumerate(values)])
    query = db[DOCS].order_by(*order) if order else db[DOCS].where()
    whole = [doc.id.int for doc in query] if not order else [doc.id.int for doc in query.all()]
    pages = every_page(query, size)
    assert [i for page in pages for i in page] == whole
    assert all(len(page) == size for page in pages[:-1])
    odd = query.filter(lambda doc: doc.id.int % 2)
    assert [i for page in every_page(odd, size) for i in page] == [i for i in whole if i % 2]


def test_pages_on_a_file(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[DOCS], durability="relaxed") as db:
        check(db, [(n % 4 if n % 3 else None, n / 7) for n in range(50)], ("-n", "m"), 7)
        query = db[DOCS].order_by("n")
        first = query.page(10)
        seen = {doc.id for doc in first}
        db[DOCS].delete(first.items[0].id)
        db[DOCS].put(Doc(UUID(int=1000), 0))  # in front of the position or behind it
        assert not seen & {doc.id for doc in query.page(100, first.next)}


async def test_pages_on_a_loop(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[DOCS]) as db:
        await db[DOCS].put_many([Doc(UUID(int=i)) for i in range(3)])
        page = await db[DOCS].page(2)
        assert len(page) == 2
        assert [doc.id.int for doc in await db[DOCS].page(2, page.next)] == [2]


def test_tokens_of_something_else_are_refused() -> None:
    with hp.open(":memory:", collections=[DOCS, OTHER]) as db:
        db[DOCS].put_many([Doc(UUID(int=i), i) for i in range(5)])
        token = db[DOCS].order_by("n").page(2).next
        for wrong in (lambda: db[DOCS].order_by("-n").page(2, token), lambda: db[OTHER].order_by("n").page(2, token)):
            with pytest.raises(InvalidQuery, match="belongs to docs ordered by"):
                wrong()
        for bad in ("", "x", "!!!", "\ud800", 5, b"x", token[:-3], "W10"):  # type: ignore[index]
            with pytest.raises(InvalidQuery, match="no token"):
                db[DOCS].order_by("n").page(2, bad)  # type: ignore[arg-type]
        for size in (0, -1, 2.5, True, None):
            with pytest.raises(UsageError, match="whole number"):
                db[DOCS].page(size)  # type: ignore[arg-type]
        with pytest.raises(InvalidQuery, match="limit"):
            db[DOCS].limit(5).page(2)
