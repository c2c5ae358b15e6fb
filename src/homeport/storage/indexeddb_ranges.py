"""Conditions as ranges of IndexedDB keys: those of a column, and those of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from homeport.core.conditions import AnyOf, Condition, StartsWith
from homeport.core.keys import Encoded, encode, order
from homeport.core.spans import Span, Spans, common, spans_of
from homeport.core.textquery import Asked, Either, Term
from homeport.storage.indexeddb_wire import MISSING, TOP, prefix_end, to_wire

Wire = Any
"""A key as ``indexeddb.js`` reads it."""

Range = list[Any]
"""[low, high, low open, high open, after]; None = no end."""


class Part:
    """A stretch of the first column that is not fixed: keys from low to high (None = no end), or
    the documents without one."""

    __slots__ = ("high", "high_open", "low", "low_open", "missing")

    def __init__(
        self,
        low: Wire = None,
        high: Wire = None,
        low_open: bool = False,
        high_open: bool = False,
        *,
        missing: bool = False,
    ) -> None:
        self.low = low
        self.high = high
        self.low_open = low_open
        self.high_open = high_open
        self.missing = missing

    def plain(self) -> Range:
        """In an index over one column, or in the store itself."""
        if self.missing:
            return [MISSING, MISSING, False, False, None]
        return [self.low, self.high, self.low_open, self.high_open, None]

    def behind(self, head: list[Wire]) -> Range:
        """In an index over several columns, of which the first ones are fixed."""
        if self.missing:
            return [[*head, MISSING], [*head, MISSING, TOP], False, False, None]
        low = head if self.low is None else [*head, self.low]
        high = [*head, MISSING if self.high is None else self.high]
        high_open = self.high is None or self.high_open
        return [
            [*low, TOP] if self.low_open and self.low is not None else low,
            high if high_open else [*high, TOP],
            False,
            high_open,
            None,
        ]


def points_of(condition: Condition) -> list[Encoded]:
    if isinstance(condition, AnyOf):
        keys = {order(key): key for value in condition.values if (key := encode(value)) is not None}
        return [keys[place] for place in sorted(keys)]
    found = spans_of(condition)
    assert found is not None
    # A range that is one value without that value holds nothing.
    return [span.low for span in found.spans if span.low is not None]


def parts_of(conditions: Sequence[Condition]) -> tuple[list[Part], list[Condition]] | None:
    """The stretches that conditions on one path leave, and those conditions that have to be checked
    all the same; None when keys alone decide none of them."""
    prefix = next((c for c in conditions if isinstance(c, StartsWith)), None)
    if prefix is not None:
        # The end is a text of its own kind: a storable key cannot hold half a surrogate pair.
        rest = [one for one in conditions if one is not prefix]
        if encode(prefix.prefix) is None:
            return [], rest
        return [Part(prefix.prefix, prefix_end(prefix.prefix), False, True)], rest
    rest = []
    found: Spans | None = None
    for condition in conditions:
        if isinstance(condition, AnyOf) and None not in condition.values:
            spans: Spans | None = Spans(tuple(Span(key, key) for key in points_of(condition)))
        else:
            spans = spans_of(condition)
        if spans is None or spans.rest:
            rest.append(condition)
        else:
            found = spans if found is None else common(found, spans)
    if found is None:
        return None
    parts = [
        Part(
            None if span.low is None else to_wire(span.low),
            None if span.high is None else to_wire(span.high),
            span.low_open,
            span.high_open,
        )
        for span in found.spans
    ]
    return parts, rest


def stretches(conditions: Sequence[Condition]) -> tuple[list[Part], list[Condition]]:
    """Those of conditions that the planner calls ranges."""
    found = parts_of(conditions)
    assert found is not None
    return found


# -- words of a full-text index


Word: TypeAlias = tuple[str, bool]
"""A word of a query; True: only its beginning."""


def words_of(term: Term) -> list[Word]:
    """The words of a term: each of them is in every text that holds it."""
    last = len(term.words) - 1
    return [(word, term.prefix and n == last) for n, word in enumerate(term.words)]


def word_range(word: Word) -> Range:
    text, prefix = word
    return (
        [text, prefix_end(text), False, True, None] if prefix else [text, text, False, False, None]
    )


def cover(asked: Asked, totals: Mapping[Word, int]) -> tuple[int, list[Word]]:
    """The words that lead to every document a query can find, with the fewest entries → how many
    entries, and the words. totals: entries of each word."""
    if isinstance(asked, Term):
        return min((totals[word], [word]) for word in words_of(asked))
    found = [cover(item, totals) for item in asked.items]
    if isinstance(asked, Either):
        return sum(total for total, _ in found), [word for _, words in found for word in words]
    return min(found)
