"""Where a query occurs in a text, and the text with these places marked, whole or in part."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape as escape_html
from typing import TypeAlias

from homeport.core.textquery import Term, occurrences
from homeport.core.words import BREAK, GAP, spots, unspaced

Span: TypeAlias = "tuple[int, int]"
"""``text[start:end]``"""


class Places:
    """A text and where the terms of a query occur in it."""

    __slots__ = ("_found", "_spots", "text")

    def __init__(self, text: str, terms: Sequence[Term]) -> None:
        self.text = text.replace(BREAK, "\n")  # as long as before, so the places stay
        self._spots = spots(text)
        there = [spot.word for spot in self._spots]
        # (first word, last word, place in the text, number of the term)
        self._found: list[tuple[int, int, Span, int]] = sorted(
            (at, at + len(term.words) - 1, self._span(at, term), number)
            for number, term in enumerate(terms)
            for at in occurrences(term, there)
        )

    def _span(self, at: int, term: Term) -> Span:
        last = at + len(term.words) - 1
        spot = self._spots[last]
        end = spot.end
        if term.prefix and unspaced(spot.word) and len(term.words[-1]) < len(spot.word):
            end = self._spots[last + 1].start  # the first character of a pair is all that was asked
        return self._spots[at].start, end

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def terms(self) -> int:
        """How many terms of the query occur."""
        return len({number for *_, number in self._found})

    @property
    def spans(self) -> list[Span]:
        """In order, none touching another."""
        return _merged([span for _, _, span, _ in self._found])

    def highlighted(self, before: str, after: str, escape: bool | None) -> str:
        """The whole text with its marks."""
        return _marked(self.text, 0, len(self.text), self.spans, before, after, escape)

    def snippet(
        self, words: int, before: str, after: str, ellipsis: str, escape: bool | None
    ) -> str:
        """The part of about so many words that shows most of the query."""
        if not self._spots:
            return ""
        first, last = self._window(words)
        # Cut at words: signs at the ends of the whole text belong to it.
        start = 0 if first == 0 else self._spots[first].start
        end = len(self.text) if last == len(self._spots) - 1 else self._spots[last].end
        part = _marked(self.text, start, end, self.spans, before, after, escape).strip()
        mark = escape_html(ellipsis) if _escaping(before, escape) else ellipsis
        return (mark if first else "") + part + (mark if last < len(self._spots) - 1 else "")

    def _window(self, words: int) -> Span:
        """(first, last) word of the best window: most different terms, then most occurrences, then
        the earliest; its matches stand in the middle."""
        count = len(self._spots)
        ends = self._ends(words)
        best = (0, 0, 0)
        chosen = 0
        inside = (0, 0)
        for number, (at, _, _, _) in enumerate(self._found):
            numbers: set[int] = set()
            hits, stop = 0, at
            for _, last, _, term in self._found[number:]:
                if last > ends[at] and hits:
                    break
                numbers.add(term)
                hits += 1
                stop = max(stop, last)
            rank = (len(numbers), hits, -at)
            if number == 0 or rank > best:
                best, chosen, inside = rank, at, (at, stop)
        # As many words in front as behind.
        spare = ends[chosen] - inside[1]
        first = max(0, inside[0] - max(0, spare) // 2) if self._found else 0
        last = max(inside[1], ends[first])
        if last >= count - 1:
            last = count - 1
            while first > 0 and ends[first - 1] >= last:
                first -= 1
        return first, last

    def _ends(self, words: int) -> list[int]:
        """For each word the last one of the window that begins with it. A character of a script
        without spaces counts half."""
        weights = [
            0 if spot.word == GAP else 1 if unspaced(spot.word) else 2 for spot in self._spots
        ]
        ends: list[int] = []
        end, total = -1, 0
        for start in range(len(weights)):
            while end + 1 < len(weights) and total + weights[end + 1] <= words * 2:
                end += 1
                total += weights[end]
            ends.append(max(end, start))
            if end < start:
                end = start
            else:
                total -= weights[start]
        return ends


def _merged(spans: Sequence[Span]) -> list[Span]:
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def _escaping(before: str, escape: bool | None) -> bool:
    return before.startswith("<") if escape is None else escape


def _marked(
    text: str,
    start: int,
    end: int,
    spans: Sequence[Span],
    before: str,
    after: str,
    escape: bool | None,
) -> str:
    clean = escape_html if _escaping(before, escape) else str
    out: list[str] = []
    at = start
    for left, right in spans:
        if right <= start or left >= end:
            continue
        first, last = max(left, start), min(right, end)
        out += [clean(text[at:first]), before, clean(text[first:last]), after]
        at = last
    out.append(clean(text[at:end]))
    return "".join(out)
