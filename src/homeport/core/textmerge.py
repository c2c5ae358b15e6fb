"""Three versions of one text into one, by a sequence CRDT.

The documents hold plain texts, no history of keystrokes. So the two sides' edits are found by
comparing each with the base, replayed as two writers of one shared text, and merged there. Writers
have fixed numbers, so every machine comes to the same result.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from importlib import import_module
from typing import Any, NamedTuple

LARGEST = 4_000_000
"""Comparing costs up to the product of the two lengths (in words); a larger difference is taken as
one replacement, so that a pasted book does not stop a sync for minutes."""

_WORDS = re.compile(r"\w+|\s+|[^\w\s]")


class Edit(NamedTuple):
    """Replace ``base[start:end]`` (positions in UTF-8) by ``text``."""

    start: int
    end: int
    text: str


def edits(base: str, changed: str) -> list[Edit]:
    """What turns ``base`` into ``changed``, from left to right, by words and then by characters."""
    words, others = _WORDS.findall(base), _WORDS.findall(changed)
    head = 0
    while head < min(len(words), len(others)) and words[head] == others[head]:
        head += 1
    tail = 0
    while tail < min(len(words), len(others)) - head and words[-1 - tail] == others[-1 - tail]:
        tail += 1
    left, right = words[head : len(words) - tail], others[head : len(others) - tail]
    at = _bytes(words[:head])
    if len(left) * len(right) > LARGEST:
        return [Edit(at, at + _bytes(left), "".join(right))]
    found: list[Edit] = []
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            found.append(_letters(at, "".join(left[a:b]), "".join(right[c:d])))
        at += _bytes(left[a:b])
    return found


def merge_texts(base: str, mine: str, theirs: str) -> str:
    """Both sides' changes in one text. Raises ``ImportError`` without pycrdt."""
    if theirs in (base, mine):
        return mine
    if base == mine:
        return theirs
    pycrdt: Any = import_module("pycrdt")
    origin = pycrdt.Doc(client_id=1)
    shared = origin.get("text", type=pycrdt.Text)
    if base:
        shared += base
    start = origin.get_update()
    # Theirs has the lower number, and goes first where both insert at one place.
    there = _replica(pycrdt, start, 2, edits(base, theirs))
    here = _replica(pycrdt, start, 3, edits(base, mine))
    there.apply_update(here.get_update())
    return str(there.get("text", type=pycrdt.Text))


def _replica(pycrdt: Any, start: bytes, number: int, changes: list[Edit]) -> Any:
    doc = pycrdt.Doc(client_id=number)
    doc.apply_update(start)
    text = doc.get("text", type=pycrdt.Text)
    with doc.transaction():
        for change in reversed(changes):  # from the end, so that positions stay
            if change.end > change.start:
                del text[change.start : change.end]
            if change.text:
                text.insert(change.start, change.text)
    return doc


def _letters(at: int, old: str, new: str) -> Edit:
    """One replacement without the letters that both begin or end with."""
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    start = at + len(old[:head].encode())
    middle = old[head : len(old) - tail]
    return Edit(start, start + len(middle.encode()), new[head : len(new) - tail])


def _bytes(words: list[str]) -> int:
    return sum(len(word.encode()) for word in words)
