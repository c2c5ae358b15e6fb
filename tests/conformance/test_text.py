"""Full text on every store: whatever is written and asked, the index answers as a scan does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.core import evaluate
from homeport.core.codec import Table
from homeport.core.query import EMPTY, Matches
from homeport.core.requests import Count, Delete, Find, Put, Write
from homeport.core.schema import Collection, FullText
from homeport.storage.memory import MemoryStore
from homeport.storage.sqlite import SQLiteStore

WORDS = [
    "sand", "Sand", "sandstone", "red", "Höhe", "e\u0301", "東京", "京都", "京", "น้ำมัน", "한국", "2810.5", "brent-7", "l'eau",
    "😀", "\u00ad", "\u200b", "¶", "\x1e", "_", "Ø", "ﬁ", "x" * 250,
]  # fmt: skip
SIGNS = [" ", " ", " ", '"', "*", "-", "(", ")", " OR ", " NOT ", ":", "^", "{"]
text = st.lists(st.sampled_from(WORDS + [" ", " ", "-", "."]), max_size=8).map("".join) | st.text(max_size=8)
value = st.one_of(text, text, st.lists(text | st.integers(0, 9), max_size=3), st.none(), st.integers(0, 9))
query = st.lists(st.sampled_from(WORDS + SIGNS), max_size=8).map("".join) | st.text(max_size=5)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("text")
    made: list[Any] = []
    for name, indexes in {"indexed": [FullText("t"), FullText("u")], "scanned": []}.items():
        for store in (
            MemoryStore(clock_ms=lambda: 1),
            SQLiteStore.open(folder / f"{name}.db", durability="relaxed", clock_ms=lambda: 1),
        ):
            table = Table(Collection("docs", indexes=indexes))
            store.define([table])
            made.append((f"{type(store).__name__}, {name}", store, table, store.session()))
    yield made
    for _, store, _, session in made:
        session.close()
        store.close()


def row(table: Table[Any], doc: dict[str, Any]) -> Any:
    """As the server sends it: never refused, so it may hold NUL."""
    return table.codec.row_of_text(json.dumps(doc))


@settings(max_examples=300)
@given(
    versions=st.lists(st.tuples(st.integers(0, 3), value, value, st.booleans()), max_size=8),
    asked=st.lists(query, min_size=1, max_size=4),
)
def test_an_index_answers_as_a_scan(sessions, versions, asked) -> None:
    """Documents are written, replaced and deleted; then every query finds what the reference does."""
    docs: dict[int, dict[str, Any]] = {}
    for key, t, u, gone in versions:
        docs.pop(key, None)
        if not gone:
            docs[key] = {"id": key, "t": t, "u": u}
    for name, _, table, session in sessions:
        session.begin("write")
        try:
            for key, t, u, gone in versions:
                doc = {"id": key, "t": t, "u": u}
                part: Any = Delete(table, [key]) if gone else Put(table, [row(table, doc)])
                session.answer(Write([part]))
            for one in asked:
                for path in "tu":
                    condition = Matches(path, one)
                    expected = sorted(k for k, d in docs.items() if evaluate.matches(condition, d))
                    found = EMPTY.and_where(condition)
                    assert sorted(session.answer(Find(table, found, "keys"))) == expected, (name, one)
                    assert session.answer(Count(table, found)) == len(expected), name
                    some = session.answer(Find(table, found.with_limit(2), "keys"))
                    assert set(some) <= set(expected) and len(some) == min(2, len(expected)), name
        finally:
            session.rollback()
