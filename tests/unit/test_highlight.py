"""Marks in texts: where a query occurs, the whole text and the best part of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.core.highlight import Places
from homeport.core.textquery import parse, terms
from homeport.core.words import BREAK, words

LONG = "The well was drilled to the base of the chalk; " * 5 + "a clean red sand with gas was met, " + "then nothing but shale " * 6


def places(text: str, asked: str) -> Places:
    return Places(text, terms(parse(asked)))


@pytest.mark.parametrize(
    ("text", "asked", "wanted"),
    [
        ("Clean sand, clean water", "clean", "[Clean] sand, [clean] water"),
        ("Clean sand, clean water", '"clean water"', "Clean sand, [clean water]"),
        ("Clean sand", "clean sand", "[Clean] [sand]"),
        ("Clean sand", 'clean "clean sand"', "[Clean sand]"),
        ("sandstone", "sand*", "[sandstone]"),
        ("red sandy soil", '"red sand*"', "[red sandy] soil"),
        ("Höhe e\u0301t\u00ade", "hohe ete", "[Höhe] [e\u0301t\u00ade]"),
        ("l’eau d'Or", "l'eau", "[l’eau] d'Or"),
        ("北京大学", "京大", "北[京大]学"),
        ("北京大学", "京", "北[京]大学"),
        ("北京大学", "学", "北京大[学]"),
        ("大学大", "大", "[大]学[大]"),
        ("ｶﾞｽを買う", "ガス", "[ｶﾞｽ]を買う"),
        ("sand", "shale", "sand"),
        ("sand shale", "sand -shale", "[sand] shale"),
        ("", "sand", ""),
        (f"oil show{BREAK}gas", "gas", "oil show\n[gas]"),
        ("sand 😀 sand", "sand", "[sand] 😀 [sand]"),
        ("a.b a b", '"a b"', "[a.b] [a b]"),
    ],
)
def test_highlight(text: str, asked: str, wanted: str) -> None:
    assert places(text, asked).highlighted("[", "]", None) == wanted


def test_html_is_escaped_when_the_marks_are_tags() -> None:
    found = places('<b>sand</b> & "mud"', "sand")
    assert found.highlighted("<em>", "</em>", None) == "&lt;b&gt;<em>sand</em>&lt;/b&gt; &amp; &quot;mud&quot;"
    assert found.highlighted("*", "*", None) == '<b>*sand*</b> & "mud"'
    assert found.highlighted("<em>", "</em>", False) == '<b><em>sand</em></b> & "mud"'
    assert found.highlighted("*", "*", True) == "&lt;b&gt;*sand*&lt;/b&gt; &amp; &quot;mud&quot;"
    assert found.snippet(1, "<i>", "</i>", "<...>", None) == "&lt;...&gt;<i>sand</i>&lt;...&gt;"


def test_a_snippet_is_the_part_with_most_of_the_query() -> None:
    part = places(LONG, "well clean sand").snippet(8, "[", "]", "…", None)
    assert part == "…chalk; a [clean] red [sand] with gas was…"
    assert places(LONG, "unicorn").snippet(3, "[", "]", "…", None) == "The well was…"
    assert places("red sand.", "sand").snippet(12, "[", "]", "…", None) == "red [sand]."
    assert places("(red) sand!", "sand").snippet(1, "[", "]", "…", None) == "…[sand]!"
    assert places("", "sand").snippet(5, "[", "]", "…", None) == ""
    assert places("?!", "sand").snippet(5, "[", "]", "…", None) == ""


def test_a_snippet_of_a_script_without_spaces() -> None:
    text = "東京都で石油を買う人々は多いが、北京では少ない。"
    part = places(text, "北京").snippet(4, "[", "]", "…", None)
    assert "[北京]" in part and 4 <= len(part.strip("…")) <= 12


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(["sand", "red", "Höhe", "東京都", "ｶﾞ", "😀", "e\u0301", "-", ". ", " ", "<b>", "¶", BREAK]), max_size=20).map("".join),
    st.sampled_from(["sand", "red sand", '"red sand"', "東", "京都", "h*", "ガ", "e"]),
    st.integers(1, 12),
)
def test_marks_lose_no_character_and_snippets_are_parts(text: str, asked: str, count: int) -> None:
    found = places(text, asked)
    shown = text.replace(BREAK, "\n")
    assert found.highlighted("\x01", "\x02", None).replace("\x01", "").replace("\x02", "") == shown
    part = found.snippet(count, "\x01", "\x02", "", None)
    assert part.replace("\x01", "").replace("\x02", "") in shown
    spans = found.spans
    assert all(a < b for a, b in spans) and all(a[1] < b[0] for a, b in zip(spans, spans[1:]))
    if found:
        assert "\x01" in part, "a snippet shows at least one place"
    assert len(words(part)) <= 2 * count + 4 or '"' in asked
