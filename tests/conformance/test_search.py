"""Ranked search: the documents, their scores and their order are those of a plain calculation over
all documents, on every store, whatever is written, asked and limited."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.core import evaluate
from homeport.core.codec import Table
from homeport.core.fields import F
from homeport.core.keys import encode, order
from homeport.core.query import EMPTY, QueryValue
from homeport.core.requests import Delete, Find, Put, Write
from homeport.core.textrequests import Search
from homeport.core.schema import Collection, FullText
from homeport.core.search import search
from homeport.core.textquery import Asked, Either, Term, occurrences, parse, terms
from homeport.core.words import text_of, words
from homeport.storage.memory import MemoryStore
from homeport.storage.sqlite import SQLiteStore

FIELDS = ["t", "u.v"]
WORDS = ["sand", "sandstone", "red", "Höhe", "東京都", "京", "brent-7", "a", "b", "c", "x y"]
text = st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join)
value = st.one_of(text, text, text, st.lists(text, max_size=3), st.none())
query = st.lists(
    st.sampled_from([*WORDS, "sa*", "京*", '"red sand"', '"a b"', '"a', "-", " -a", " OR ", " NOT ", "(", ")", "t:", "u.v:", " "]),
    min_size=1, max_size=7,
).map(" ".join).map(lambda t: t.replace(": ", ":").replace("- ", "-"))  # fmt: skip
KEYS = [1, "k2", ["x"], "\uffff", 5, "k6", "\U0001f600", 8]
CONDITIONS = [None, None, F.n == 1, F.n > 0, F.m == 1, F.m.any_of([{"o": 1}, 2]), F.t.matches("a"), F.tags.contains("x"), F.id == "k2"]


def sort_key(key: Any) -> Any:
    return order(encode(key))


def satisfied(asked: Asked, there: dict[str, list[str]]) -> bool:
    if isinstance(asked, Term):
        fields = [asked.field] if asked.field else list(there)
        return any(next(occurrences(asked, there[f]), None) is not None for f in fields)
    if isinstance(asked, Either):
        return any(satisfied(one, there) for one in asked.items)
    return all(satisfied(one, there) for one in asked.items) and not any(satisfied(one, there) for one in asked.without)


def reference(
    docs: dict[int, dict[str, Any]], asked: str, weights: dict[str, float], where: Any
) -> list[tuple[Any, float]]:
    """(key, score), best first: BM25F by the book, over all documents."""
    tree = parse(asked, tuple(weights))
    if tree is None:
        return []
    everything = {
        n: {f: words(text_of(evaluate.get_path(doc, f))) for f in FIELDS} for n, doc in docs.items()
    }
    total = len(docs)
    mean = {f: sum(len(one[f]) for one in everything.values()) / max(total, 1) for f in FIELDS}

    def frequency(word: str, prefix: bool) -> int:
        known = sorted({w for one in everything.values() for f in FIELDS for w in one[f]})
        hit = [w for w in known if (w.startswith(word) if prefix else w == word)]
        return min(total, sum(sum(any(w in one[f] for f in FIELDS) for one in everything.values()) for w in hit))

    def idf(term: Term) -> float:
        out = 0.0
        for at, word in enumerate(term.words):
            n = frequency(word, term.prefix and at == len(term.words) - 1)
            out += log(1 + (total - n + 0.5) / (n + 0.5))
        return out

    found = []
    for n, one in everything.items():
        if not satisfied(tree, {f: one[f] for f in weights}) or (where is not None and not evaluate.matches(where, docs[n])):
            continue
        score = 0.0
        for term in terms(tree):
            tf = sum(
                weight * len(list(occurrences(term, one[f]))) / (1 - 0.75 + 0.75 * len(one[f]) / mean[f])
                for f, weight in weights.items()
                if term.field in ("", f) and one[f]
            )
            score += idf(term) * tf * 2.2 / (tf + 1.2)
        found.append((docs[n]["id"], score))
    return sorted(found, key=lambda entry: (-round(entry[1], 9), sort_key(entry[0])))


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("search")
    made: list[Any] = []
    for store in (
        MemoryStore(clock_ms=lambda: 1),
        SQLiteStore.open(folder / "a.db", durability="relaxed", clock_ms=lambda: 1),
    ):
        indexes = [*map(FullText, FIELDS), "n", "id"]
        table = Table(Collection("docs", indexes=indexes))
        store.define([table])
        made.append((type(store).__name__, store, table, store.session()))
    yield made
    for _, store, _, session in made:
        session.close()
        store.close()


version = st.tuples(st.integers(0, len(KEYS) - 1), value, value, st.integers(0, 2), st.booleans())


def document(n: int, t: Any, v: Any, number: int) -> dict[str, Any]:
    return {
        "id": KEYS[n], "t": t, "u": {"v": v}, "n": number, "m": {"o": 1} if number else 2, "tags": ["x"] * number,
    }  # fmt: skip


def written(session: Any, table: Table[Any], versions: Any) -> dict[int, dict[str, Any]]:
    docs: dict[int, dict[str, Any]] = {}
    for n, t, v, number, gone in versions:
        doc = document(n, t, v, number)
        part: Any = Delete(table, [KEYS[n]]) if gone else Put(table, [table.codec.row(doc)])
        session.answer(Write([part]))
        if gone:
            docs.pop(n, None)
        else:
            docs[n] = doc  # a replaced document keeps its place
    return docs


def asked_of(session: Any, table: Table[Any], *args: Any, **options: Any) -> Any:
    operation = search(table, *args, **options)
    if not isinstance(operation.plan, Search):
        return operation.finished(None)
    return operation.finished(session.answer(operation.plan))


def close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-9 * max(1.0, abs(other))


@settings(max_examples=150)
@given(
    versions=st.lists(version, max_size=12),
    asked=st.lists(query, min_size=1, max_size=4),
    weights=st.sampled_from([None, ["t"], ["u.v"], {"t": 3, "u.v": 0.5}]),
    where=st.sampled_from(CONDITIONS),
    limit=st.sampled_from([20, 0, 1, 3]),
    offset=st.sampled_from([0, 0, 2]),
)
def test_hits_scores_and_order_are_those_of_the_reference(sessions, versions, asked, weights, where, limit, offset) -> None:
    for name, _, table, session in sessions:
        session.begin("write")
        try:
            docs = written(session, table, versions)
            for one in asked:
                chosen = weights if isinstance(weights, dict) else dict.fromkeys(weights or FIELDS, 1.0)
                expected = reference(docs, one, chosen, where)
                query = QueryValue(where).with_offset(offset)
                hits = asked_of(session, table, query, one, weights, limit)
                assert [hit.key for hit in hits] == [key for key, _ in expected[offset:][:limit]], (name, one)
                assert all(close(hit.score, score) for hit, (_, score) in zip(hits, expected[offset:])), (name, one)
                assert (hits.total, hits.capped) == (len(expected), False), name
                assert all(hit.document == docs[KEYS.index(hit.key)] for hit in hits), name
                for hit in hits:
                    assert hit.fields and set(hit.fields) == set(hit.highlights) <= set(chosen), (name, one)
        finally:
            session.rollback()


@settings(max_examples=100)
@given(
    versions=st.lists(version, max_size=12),
    asked=query,
    where=st.sampled_from(CONDITIONS),
    candidates=st.integers(1, 5),
)
def test_with_more_than_can_be_ranked_both_stores_leave_out_the_same(sessions, versions, asked, where, candidates) -> None:
    answers = []
    for _, _, table, session in sessions:
        session.begin("write")
        try:
            docs = written(session, table, versions)
            hits = asked_of(session, table, QueryValue(where), asked, candidates=candidates)
            whole = asked_of(session, table, QueryValue(where), asked)
            answers.append([(hit.key, hit.score) for hit in hits])
            assert hits.capped == (whole.total > candidates)
            assert hits.total == min(whole.total, candidates) == len(hits)
            scores = {repr(hit.key): hit.score for hit in whole}
            assert all(scores[repr(hit.key)] == hit.score for hit in hits), "a cap changes no score"
            assert len(docs) >= whole.total
        finally:
            session.rollback()
    assert answers[0] == answers[1]


def test_of_too_many_those_with_the_rarest_word_are_ranked_then_the_newest(sessions) -> None:
    for name, _, table, session in sessions:
        session.begin("write")
        try:
            docs = [{"id": n, "t": "common word" + (" rare" if n in (3, 4) else ""), "n": 0} for n in range(50)]
            session.answer(Write([Put(table, [table.codec.row(doc) for doc in docs])]))
            some = asked_of(session, table, EMPTY, "common OR rare", candidates=10)
            assert (some.capped, some.total) == (True, 10), name
            assert [hit.key for hit in some] == [3, 4, *range(42, 50)], name
            newest = asked_of(session, table, EMPTY, "common", candidates=10)
            assert [hit.key for hit in newest] == [*range(40, 50)], name
            none = asked_of(session, table, EMPTY, "common OR rare", candidates=50)
            assert (none.capped, none.total, len(none)) == (False, 50, 20), name
        finally:
            session.rollback()


def test_a_search_finds_what_matches_finds(sessions) -> None:
    for name, _, table, session in sessions:
        session.begin("write")
        try:
            docs = [document(n, " ".join(WORDS[n % 5 : n % 5 + 3]), None, 0) for n in range(8)]
            session.answer(Write([Put(table, [table.codec.row(doc) for doc in docs])]))
            for asked in ("sand", "sand OR red", "sand* -red", '"red hohe"', "-sand", "京"):
                hits = asked_of(session, table, EMPTY, asked, ["t"])
                found = session.answer(Find(table, EMPTY.and_where(F.t.matches(asked)), "keys"))
                assert sorted(map(repr, found)) == sorted(repr(hit.key) for hit in hits), (name, asked)
        finally:
            session.rollback()
