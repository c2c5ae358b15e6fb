"""Words of full text: one tokenizer for every index and for the scan without one.

A word is a run of letters, digits and the marks that belong to them, without case and without
Latin diacritics (``Höhe`` and ``hohe`` are one word), in compatibility form.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_ASCII_WORD = re.compile(r"[a-z0-9]+")
_DIACRITICS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
_TERM = re.compile(r'"([^"]*)"?(\*?)|([^\s"]+)')


class Term:
    """Words that follow each other; with ``prefix`` the last one may go on."""

    __slots__ = ("prefix", "words")

    def __init__(self, words: Sequence[str], *, prefix: bool) -> None:
        self.words = tuple(words)
        self.prefix = prefix

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Term) and (self.words, self.prefix) == (other.words, other.prefix)

    def __hash__(self) -> int:
        return hash((self.words, self.prefix))

    def __repr__(self) -> str:
        return f"Term({' '.join(self.words)}{'*' if self.prefix else ''})"


def words(text: str) -> list[str]:
    """The words of a text, folded, in order."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    folded = _DIACRITICS.sub("", folded)
    return "".join(char if _in_word(char) else " " for char in folded).split()


def _in_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M"


def terms(query: str) -> list[Term]:
    """What ``matches()`` asks for: all terms must occur. ``"a phrase"`` in quotes, ``pre*`` for a
    prefix; a chunk with signs inside, such as ``brent-7``, is a phrase. Signs alone ask nothing."""
    found: list[Term] = []
    for match in _TERM.finditer(query):
        quoted, star, bare = match.groups()
        chunk = bare if bare is not None else quoted
        prefix = bool(star) if bare is None else bare.endswith("*")
        parts = words(chunk)
        if parts:
            found.append(Term(parts, prefix=prefix))
    return found


def text_of(value: Any) -> str:
    """What full text reads at a path: a text, or the texts of an array, one a line."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return "\n".join(item for item in value if isinstance(item, str))
    return ""


def found_in(asked: Sequence[Term], text: str) -> bool:
    """Do all terms occur? Nothing asked finds nothing."""
    if not asked:
        return False
    there = words(text)
    return all(_occurs(term, there) for term in asked)


def _occurs(term: Term, there: list[str]) -> bool:
    *heads, last = term.words
    for start in range(len(there) - len(heads)):
        word = there[start + len(heads)]
        if (word.startswith(last) if term.prefix else word == last) and (
            there[start : start + len(heads)] == heads
        ):
            return True
    return False
