"""The language of full-text queries: any text is a query, and it means what the guide says."""

from __future__ import annotations

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.core.conditions import Matches
from homeport.core.textquery import Either, Every, Term, conjunctive, holds, occurrences, parse, terms
from homeport.core.words import words
from homeport.errors import InvalidQuery
from homeport.storage.sql_text import match_expression


def T(text: str, *, field: str = "") -> Term:
    return Term(text.rstrip("*").split(), prefix=text.endswith("*"), field=field)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mud", T("mud")),
        ("MUD Höhe", Every([T("mud"), T("hohe")])),
        ("mud AND loss", Every([T("mud"), T("loss")])),
        ('"mud loss" pre* brent-7', Every([T("mud loss"), T("pre*"), T("brent 7")])),
        ('"clean s*"', T("clean s*")),
        ('"clean s"*', T("clean s*")),
        ('"open phrase', T("open phrase")),
        ("a OR b", Either([T("a"), T("b")])),
        ("a b OR c d", Either([Every([T("a"), T("b")]), Every([T("c"), T("d")])])),
        ("(a OR b) c", Every([Either([T("a"), T("b")]), T("c")])),
        ("f(x)", Every([T("f"), T("x")])),
        ("a -b", Every([T("a")], [T("b")])),
        ("a NOT b", Every([T("a")], [T("b")])),
        ('a -"b c" -d*', Every([T("a")], [T("b c"), T("d*")])),
        ("a -(b OR c)", Every([T("a")], [Either([T("b"), T("c")])])),
        ("a -(-b)", Every([T("a"), T("b")])),
        ("(-b) a", Every([T("a")], [T("b")])),
        ("NOT NOT a", T("a")),
        ("a - b", Every([T("a"), T("b")])),
        ("well-known", T("well known")),
        ("not or and", Every([T("not"), T("or"), T("and")])),
        # what makes no sense is passed over
        ("OR a", T("a")),
        ("a OR", T("a")),
        ("a OR OR b", Either([T("a"), T("b")])),
        ("a OR -b", T("a")),
        ("((a", T("a")),
        ("a)) b", Every([T("a"), T("b")])),
        ("() a", T("a")),
        ("a NOT", T("a")),
        ('"" a', T("a")),
        ("name:a", T("name a")),
        # nothing asked
        ("", None),
        ("* ? - \"\" ()", None),
        ("-a", None),
        ("-a -b", None),
        ("NOT a OR NOT b", None),
        ("😀", None),
    ],
)
def test_parse(text: str, wanted) -> None:
    assert parse(text) == wanted


def test_fields_that_are_searched_may_be_named() -> None:
    assert parse("name:a b", ("name", "x.y")) == Every([T("a", field="name"), T("b")])
    assert parse('x.y:"a b" -name:c*', ("name", "x.y")) == Every(
        [T("a b", field="x.y")], [T("c*", field="name")]
    )
    assert parse("name:(a OR b) c", ("name",)) == Every(
        [Either([T("a", field="name"), T("b", field="name")]), T("c")]
    )
    assert parse("name: a depth:5 http://x", ("name",)) == Every(
        [T("name"), T("a"), T("depth 5"), T("http x")]
    )


def test_terms_are_what_a_document_is_found_by() -> None:
    asked = parse('sand "clean sand" sand -shale OR (poro* -sand)')
    assert terms(asked) == [T("sand"), T("clean sand"), T("poro*")]
    assert terms(None) == []
    assert conjunctive(parse("a b -(c OR d)"))  # type: ignore[arg-type]
    assert not conjunctive(parse("a (b OR c)"))  # type: ignore[arg-type]


def test_a_query_without_end_is_refused_when_it_is_made() -> None:
    for text in ("a " * 257, '"' + "a " * 300 + '"', "(" * 40 + "a", "東" * 400):
        with pytest.raises(InvalidQuery) as caught:
            Matches("note", text)
        assert caught.value.action
    Matches("note", "a b " * 128)
    assert len(terms(parse("a b " * 128))) == 2
    parse("(" * 15 + "a" + ")" * 15)


def test_occurrences() -> None:
    there = words("the red sand, redder sand; red sandstone")
    assert list(occurrences(T("red sand"), there)) == [1]
    assert list(occurrences(T("red sand*"), there)) == [1, 5]
    assert list(occurrences(T("re*"), there)) == [1, 3, 5]
    assert list(occurrences(T("a a"), ["a", "a", "a"])) == [0, 1]


WORDS = st.sampled_from(["red", "sand", "re", "東京", "京", "Höhe", "x-1", "a.b"])
SIGNS = st.sampled_from([
    " ", " ", " ", '"', "*", "-", "(", ")", " OR ", " NOT ", " AND ", "NEAR(", "^", "+", ":", "{", "t : ", "'", ";", "\x00", "--", "\\",
])  # fmt: skip
queries = st.lists(WORDS | SIGNS, max_size=16).map("".join) | st.text(max_size=12)
TEXTS = ["red sand", "redder 東京都", "sand red x 1 höhe", "a b near or not", "京都 re", ""]


@pytest.fixture(scope="module")
def fts():
    db = apsw.Connection(":memory:")
    db.execute("create virtual table f using fts5(t, content='', contentless_delete=1, tokenize='ascii')")
    for n, text in enumerate(TEXTS):
        db.execute("insert into f(t, rowid) values(?, ?)", (" ".join(words(text)), n))
    yield db
    db.close()


@settings(max_examples=500)
@given(queries)
def test_no_text_is_an_error_and_sqlite_understands_every_query_alike(fts: apsw.Connection, text: str) -> None:
    asked = parse(text)
    expected = [n for n, one in enumerate(TEXTS) if holds(asked, words(one))]
    if asked is None:
        assert expected == []
        return
    rows = fts.execute(
        "select rowid from f where f match ? order by rowid", (match_expression(asked, ['"t"']),)
    )
    assert [n for (n,) in rows] == expected


def test_the_deepest_query_is_not_too_deep_for_sqlite(fts: apsw.Connection) -> None:
    text = "red"
    for depth in range(15):
        text = f"({text} OR sand{depth}) x -(red -y)" if depth % 2 else f"({text}) -(a OR b)"
    for asked in (parse(text), parse("red OR " * 255 + "red"), parse("red " * 256), parse("red " + "-x " * 255)):
        assert asked is not None
        fts.execute("select rowid from f where f match ?", (match_expression(asked, ['"t"']),)).fetchall()
