"""The tokenizer: what a word is in every script, the same with places and inside SQLite."""

from __future__ import annotations

import unicodedata
import apsw
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from homeport.core.words import BREAK, GAP, MAX_WORD, indexed_form, query_words, spots, text_of, words

# Letters that fold, marks, digits, scripts with and without spaces, signs, invisible characters.
PIECES = [
    "a", "B", "é", "e\u0301", "ß", "ø", "Æ", "İ", "ı", "ﬁ", "½", "²", "①", "٣", "Я", "ё", "й", "ς", "ა",
    "हि", "न्दी", "क\u093c", "שָׁ", "אּ", "آ", "مُ", "ـ", "한", "\u1112\u1161\u11ab", "글", "東", "京", "都", "が",
    "か\u3099", "ｶﾞ", "カ", "ー", "・", "ก", "กิ", "น้ำ", "ລາວ", "ខ្មែរ", "မြန်", "๕", "\U00020000", "々",
    " ", "  ", "-", "'", "’", "_", ".", ",", "2810.5", "\n", "\x00", BREAK, "¶", "\u00a0", "😀", "❤\ufe0f",
    "1\ufe0f\u20e3", "🇳🇴", "👩\u200d🔬", "\u00ad", "\u200b", "\u200c", "\u2060", "\ufeff", "\ue000", "\ud7ff", "\U0010ffff",
]  # fmt: skip
texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
    st.text(max_size=20),
    st.text(alphabet=st.characters(codec="utf-8", categories=["L", "M", "N", "Cf"]), max_size=20),
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Mud-losses, 2,800 m", ["mud", "losses", "2", "800", "m"]),
        ("Höhe ÅNGSTRÖM naïve", ["hohe", "angstrom", "naive"]),
        ("Tyrihans Sør, Łódź, Ærø", ["tyrihans", "sor", "lodz", "aero"]),
        ("straße STRASSE", ["strasse", "strasse"]),
        ("İstanbul ISPARTA ısparta", ["istanbul", "isparta", "isparta"]),
        ("ﬁne ① m² ½", ["fine", "1", "m2", "1", "2"]),
        ("снег Ёлка ΟΔΟΣ", ["снег", "елка", "οδοσ"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("مُحَمَّد الآن محمـــد", ["محمد", "الان", "محمد"]),
        ("שָׁלוֹם", ["שלום"]),
        ("٣٤ ๕๖", ["34", "56"]),
        ("한국어 \u1112\u1161\u11ab", ["한국어", "한"]),
        ("under_score don't l’eau 2810.5", ["under", "score", "don", "t", "l", "eau", "2810", "5"]),
        ("東京都", ["東京", "京都", "都"]),
        ("東", ["東"]),
        ("iPhone15を買う", ["iphone15", "を買", "買う", "う"]),
        ("ｶﾞｽ ガス か\u3099", ["ガス", "ス", "ガス", "ス", "が"]),
        ("น้ำมัน", ["น้", "้\u0e4d", "\u0e4dา", "าม", "มั", "ัน", "น"]),
        ("Ge\u00adbir\u200dge", ["gebirge"]),
        ("ab\u200bcd", ["ab", "cd"]),
        ("1\ufe0f\u20e3 ❤\ufe0f👩\u200d🔬🇳🇴", ["1"]),
        ("a\x00b", ["a", "b"]),
        (f"oil{BREAK}gas", ["oil", GAP, "gas"]),
        ("a ¶ b", ["a", "b"]),
        ("x" * 500, ["x" * MAX_WORD]),
        ("", []),
        ("?! 😀", []),
    ],
)
def test_words(text: str, wanted: list[str]) -> None:
    assert words(text) == wanted


def test_what_looks_the_same_is_the_same() -> None:
    for one, other in [
        ("é", "e\u0301"), ("が", "か\u3099"), ("ガ", "ｶﾞ"), ("한", "\u1112\u1161\u11ab"), ("क़", "क\u093c"), ("Å", "\u212b"),
        ("ﬃ", "ffi"), ("ＡＢ", "ab"), ("ﻼ", "لا"),
    ]:  # fmt: skip
        assert words(one) == words(other), one


@pytest.mark.parametrize(
    ("chunk", "wanted"),
    [
        ("brent-7", (["brent", "7"], False)),
        ("東京都", (["東京", "京都"], False)),
        ("京", (["京"], True)),
        ("tower東", (["tower", "東"], True)),
        ("東京 tower", (["東京", "京", "tower"], False)),
        ("é", (["e"], False)),
        ("!", ([], False)),
        (f"a{BREAK}b", (["a", "b"], False)),
    ],
)
def test_the_end_of_a_query_may_be_the_middle_of_a_text(chunk, wanted) -> None:
    assert query_words(chunk) == wanted


@settings(max_examples=500)
@given(texts)
def test_words_have_places(text: str) -> None:
    found = spots(text)
    assert [spot.word for spot in found] == words(text)
    for before, after in zip(found, found[1:]):
        assert before.start <= after.start and before.end <= after.end
    for spot in found:
        assert 0 <= spot.start < spot.end <= len(text)


@given(st.lists(st.sampled_from([p for p in PIECES if p not in (BREAK, "\x00", "น้ำ")]), max_size=8).map("".join))
def test_a_place_holds_its_word(text: str) -> None:
    assume(unicodedata.is_normalized("NFKC", text))  # else what is normalized together is one place
    for spot in spots(text):
        assert spot.word.startswith(words(text[spot.start : spot.end])[0])


@pytest.fixture(scope="module")
def fts():
    db = apsw.Connection(":memory:")
    db.execute("create virtual table f using fts5(t, content='', contentless_delete=1, tokenize='ascii')")
    db.execute("create virtual table v using fts5vocab(f, instance)")
    yield db
    db.close()


@settings(max_examples=300)
@given(texts | texts.map(str.lower) | st.text("abAB 1,.\x00", max_size=300) | st.just("A" * 300 + " b"))
def test_the_tokenizer_of_sqlite_adds_nothing(fts: apsw.Connection, text: str) -> None:
    fts.execute("insert into f(t, rowid) values(?, 1)", (indexed_form(text),))
    try:
        found = fts.execute("select term from v order by offset").fetchall()
    finally:
        fts.execute("delete from f")
    assert [term for (term,) in found] == words(text)


def test_elements_of_an_array_are_apart() -> None:
    assert text_of(["oil", 5, None, "gas show"]) == f"oil{BREAK}gas show"
    assert text_of(["oil"]) == "oil"
    assert text_of({"a": "b"}) == text_of(None) == text_of(7) == ""


def test_a_text_of_a_megabyte() -> None:
    text = "Größe und Tiefe — " * 60_000
    assert len(words(text)) == 180_000
    assert len(spots(text[:100_000])) == len(words(text[:100_000]))
