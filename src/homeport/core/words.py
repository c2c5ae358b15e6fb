"""Words of full text: one tokenizer for every index, for the scan without one, and for highlights.

It knows no language:

- A word is a run of letters, digits and their marks, of any script, without case and without
  diacritics (``Höhe``, ``HOHE`` and ``hohe`` are one word), in compatibility form (``ﬁ`` is
  ``fi``, ``½`` is ``1 2``); decimal digits of every script are ``0`` to ``9``.
- Everything else separates: spaces, hyphens, apostrophes, underscores, decimal points, emoji.
  ``Brent-7``, ``l'eau`` and ``2810.5`` are two words each, and a query for them is a phrase.
- Scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese and their
  neighbours) are cut into overlapping pairs of characters, so a query finds any substring of them.
- Invisible characters (soft hyphen, joiners, variation selectors) are left out.
- Of a word longer than ``MAX_WORD`` the rest is left out.
- Elements of an array are kept apart by ``GAP``, a word that no text contains.

The order of words is part of the file: ``TOKENIZER`` moves when any rule does, and the indexes of
older files are built anew when they are opened.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import Any, Final

TOKENIZER: Final = 3
"""Version of the rules above, and of what engines keep beside the words."""

MAX_WORD: Final = 200
"""Characters of a word that count."""

GAP: Final = "\N{PILCROW SIGN}"
BREAK: Final = "\x1e"
"""The record separator of ASCII: no phrase runs across it. It stands between array elements."""

_ASCII_WORD = re.compile(r"[a-z0-9]+")
_LONG_ASCII = re.compile(rf"[A-Za-z0-9]{{{MAX_WORD + 1}}}")

# Marks that change how a letter is spoken rather than which one it is: of Latin, Greek and
# Cyrillic, the points of Hebrew, the vowel signs of Arabic.
_DIACRITICS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a"
    "\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u0640\u1ab0-\u1aff\u1dc0-\u1dff"
    "\u20d0-\u20ff\ufe20-\ufe2f\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
# Letters that Unicode does not decompose, and readers do.
_PLAIN = str.maketrans({
    "ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d",
    "þ": "th",
})  # fmt: skip
_ZERO_WIDTH_SPACE = "\u200b"  # marks the end of a word, where scripts have no spaces

_UNSPACED_RANGES = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u3096\u3099\u309a\u309d-\u309f"
    "\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003fffd"  # Han, Kana, Bopomofo
    "\ua000-\ua48c\U00016fe0-\U00018dff\U0001b000-\U0001b2ff"  # Yi, Tangut, Nushu, old Kana
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf"  # Thai, Lao
    "\u1000-\u103f\u1050-\u108f\u109a-\u109d\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17d3\u17dc\u17dd\u1950-\u19c9\u1a20-\u1a7f\uaa80-\uaadf"  # Khmer, Tai
    "\ua980-\ua9c0\u1b00-\u1b4b"  # Javanese, Balinese
)
_UNSPACED = re.compile(f"[{_UNSPACED_RANGES}]")
_RUNS = re.compile(f"([{_UNSPACED_RANGES}]+)|[^{_UNSPACED_RANGES}]+")

# What belongs to the character before it: a letter and such are normalized together.
_CLUSTER = re.compile("[\u1160-\u11ff\ud7b0-\ud7ff\uff9e\uff9f]")


class _Folding(dict[int, str]):
    """Character → what it becomes, worked out when it is first met."""

    def __missing__(self, number: int) -> str:
        folded = _folded(chr(number))
        self[number] = folded
        return folded


def _folded(char: str) -> str:
    if char == BREAK:
        return f" {GAP} "
    category = unicodedata.category(char)
    if category == "Cf" and char != _ZERO_WIDTH_SPACE:
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(char))
    loose = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
    if not loose.isascii():
        loose = _DIACRITICS.sub("", loose)
        loose = unicodedata.normalize("NFC", loose.translate(_PLAIN))
    return "".join(one if _in_word(one) else " " for one in loose)


def _in_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M"


_FOLDING: Final = _Folding()


def words(text: str) -> list[str]:
    """The words of a text, folded, in order; ``GAP`` where a phrase ends."""
    if text.isascii() and BREAK not in text:
        found = _ASCII_WORD.findall(text.lower())
        return found if len(text) <= MAX_WORD else [word[:MAX_WORD] for word in found]
    folded = unicodedata.normalize("NFKC", text).translate(_FOLDING)
    chunks = folded.split()
    if _UNSPACED.search(folded) is not None:
        chunks = [word for chunk in chunks for word in _pairs(chunk)]
    return chunks if len(folded) <= MAX_WORD else [chunk[:MAX_WORD] for chunk in chunks]


def _pairs(chunk: str) -> list[str]:
    """Of n characters without spaces n words: each with its successor, the last one alone. Then a
    single character is found as a prefix, wherever it stands."""
    found: list[str] = []
    for match in _RUNS.finditer(chunk):
        run = match[0]
        if match[1] is None:
            found.append(run)
        else:
            found += [run[at : at + 2] for at in range(len(run))]
    return found


def query_words(chunk: str) -> tuple[list[str], bool]:
    """The words of a chunk of a query → (words, does the last one stand for a prefix?).

    The end of a chunk without spaces may be the middle of a longer one in a document, so its last
    character does not count alone; and one that is all there is, is the beginning of a pair.
    """
    found = [word for word in words(chunk) if word != GAP]
    if not found or len(found[-1]) != 1 or _UNSPACED.match(found[-1]) is None:
        return found, False
    if len(found) > 1 and len(found[-2]) > 1 and _UNSPACED.match(found[-2]) is not None:
        return found[:-1], False
    return found, True


def unspaced(word: str) -> bool:
    """Is it a piece of a script without spaces between words?"""
    return _UNSPACED.match(word) is not None


def indexed_form(text: str) -> str:
    """The words of a text with spaces between: what is given to an engine whose own tokenizer
    lower-cases ASCII and splits at everything in ASCII that is no letter or digit."""
    plain = text.isascii() and BREAK not in text and "\x00" not in text
    if plain and (len(text) <= MAX_WORD or _LONG_ASCII.search(text) is None):
        return text
    return " ".join(words(text))


def text_of(value: Any) -> str:
    """What full text reads at a path: a text, or the texts of an array."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return BREAK.join(item for item in value if isinstance(item, str))
    return ""


# -- where the words stand


class Spot:
    """A word at its place in a text: ``text[start:end]``."""

    __slots__ = ("end", "start", "word")

    def __init__(self, word: str, start: int, end: int) -> None:
        self.word = word
        self.start = start
        self.end = end

    def __repr__(self) -> str:
        return f"Spot({self.word!r}, {self.start}, {self.end})"


def spots(text: str) -> list[Spot]:
    """The words of a text, as ``words`` gives them, with their places."""
    if text.isascii() and BREAK not in text:
        return [
            Spot(match[0][:MAX_WORD], match.start(), match.end())
            for match in _ASCII_WORD.finditer(text.lower())
        ]
    normal, places = _normalized(text)
    folded = [_FOLDING[ord(char)] for char in normal]
    begins: list[int] = []  # the place in the text of each folded character
    for place, piece in zip(places, folded, strict=True):
        begins += [place] * len(piece)
    ends = _ends(text, begins)
    found: list[Spot] = []
    joined = "".join(folded)
    for match in re.finditer(r"\S+", joined):
        at = match.start()
        for run in _RUNS.finditer(match[0]):
            first, last = at + run.start(), at + run.end() - 1
            if run[1] is None:
                found.append(Spot(run[0][:MAX_WORD], begins[first], ends[last]))
            else:
                for here in range(first, last + 1):
                    after = min(here + 1, last)
                    found.append(Spot(joined[here : after + 1], begins[here], ends[after]))
    return found


def _ends(text: str, begins: list[int]) -> list[int]:
    """Where each folded character ends: where the next other place begins."""
    ends = [len(text)] * len(begins)
    for at in range(len(begins) - 2, -1, -1):
        ends[at] = ends[at + 1] if begins[at] == begins[at + 1] else begins[at + 1]
    return ends


def _normalized(text: str) -> tuple[str, list[int]]:
    """A text in compatibility form, and for each of its characters where it came from."""
    if unicodedata.is_normalized("NFKC", text):
        return text, list(range(len(text)))
    whole = unicodedata.normalize("NFKC", text)
    for continues in (_continues, _in_chunk):
        bounds = [0, *(at for at in range(1, len(text)) if not continues(text[at])), len(text)]
        pieces = [unicodedata.normalize("NFKC", text[a:b]) for a, b in pairwise(bounds)]
        if "".join(pieces) == whole:
            places = [at for piece, at in zip(pieces, bounds, strict=False) for _ in piece]
            return whole, places
    return whole, [0] * len(whole)


def _continues(char: str) -> bool:
    """Is it normalized together with the character before it?"""
    return unicodedata.category(char)[0] == "M" or _CLUSTER.match(char) is not None


def _in_chunk(char: str) -> bool:
    return not char.isspace()
