"""Words of the full text for search boxes: how one goes on, and which one was meant.

Both look at the words that the documents hold, in the form of the index (without case and
diacritics), in all full-text fields. Pieces of scripts without spaces are no words to offer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from homeport.core.requests import Operation, Plan
from homeport.core.search import fields_of
from homeport.core.textquery import parse, terms
from homeport.core.textrequests import Vocabulary
from homeport.core.words import GAP, query_words, spots, unspaced
from homeport.errors import InvalidQuery

if TYPE_CHECKING:
    from homeport.core.codec import Table

LOOKED_AT: Final = 20_000
"""At most so many words are looked at, in the order of their code points."""

SHORTEST: Final = 3
"""A word of fewer letters is never taken for a slip."""

END: Final = "\U0010ffff"
"""Behind every word that begins so; no word holds it."""


def suggest(table: Table[Any], prefix: str, limit: int) -> Operation[list[str]]:
    """Words that begin as the last word of ``prefix`` does, those of most documents first."""
    fields_of(table, None)
    if not isinstance(prefix, str):
        raise InvalidQuery(f"suggest() takes a text, not {prefix!r:.60}.")
    if type(limit) is not int or limit < 0:
        raise InvalidQuery(f"limit is a whole number from 0, not {limit!r}.")
    found, _ = query_words(prefix)
    if not found or unspaced(found[-1]) or not limit:
        return Operation(_nothing(), "read", True, (table,), True)

    def finish(words: list[tuple[str, int]]) -> list[str]:
        words.sort(key=lambda entry: (-entry[1], entry[0]))
        return [word for word, _ in words if _offered(word)][:limit]

    low = found[-1]
    request = Vocabulary(table, low, low + END, LOOKED_AT)
    return Operation(request, "read", True, (table,), False, finish)


def did_you_mean(table: Table[Any], text: str) -> Operation[str | None]:
    """The query with each word that no document holds replaced by the nearest one that some do;
    None when there is nothing to replace."""
    names = tuple(fields_of(table, None))
    if not isinstance(text, str):
        raise InvalidQuery(f"did_you_mean() takes a text, not {text!r:.60}.")
    asked = [
        word
        for term in terms(parse(text, names))
        for word in (term.words[:-1] if term.prefix else term.words)
        if len(word) >= SHORTEST and not word.isdecimal() and _offered(word)
    ]
    return Operation(_corrected(table, text, dict.fromkeys(asked)), "read", False, (table,))


def _nothing() -> Plan[list[str]]:
    return []
    yield


def _corrected(table: Table[Any], text: str, asked: Iterable[str]) -> Plan[str | None]:
    meant: dict[str, str] = {}
    for word in asked:
        known = yield Vocabulary(table, word, word + "\x00", 1)
        if not known:
            near = yield Vocabulary(table, word[0], word[0] + END, LOOKED_AT)
            nearest = _nearest(word, near)
            if nearest is not None:
                meant[word] = nearest
    if not meant:
        return None
    out, at = [], 0
    for spot in spots(text):
        if spot.word in meant:
            out += [text[at : spot.start], meant[spot.word]]
            at = spot.end
    return "".join([*out, text[at:]])


def _offered(word: str) -> bool:
    return word != GAP and not unspaced(word)


def _nearest(word: str, words: Iterable[tuple[str, int]]) -> str | None:
    """The word of fewest slips, then of most documents. One slip is allowed, from six letters two;
    the first letter is right, as it nearly always is."""
    most = 1 if len(word) < 6 else 2
    best: tuple[int, int, str] | None = None
    for other, documents in words:
        if abs(len(other) - len(word)) > most or not _offered(other):
            continue
        slips = distance(word, other, most)
        if slips <= most and (best is None or (slips, -documents, other) < best):
            best = (slips, -documents, other)
    return None if best is None else best[2]


def distance(one: str, other: str, most: int) -> int:
    """How many slips (a letter too many, too few, wrong, or two that changed places) lie between
    two words; more than ``most`` need not be counted to the end. (Optimal string alignment.)"""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, there in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != there))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == there:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return row[-1]
