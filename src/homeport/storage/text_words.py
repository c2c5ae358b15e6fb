"""Full text in plain Python, for engines without one that ranks: the words of every document, and
which documents hold a word."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from homeport.core.keys import Encoded, decode, order
from homeport.core.ranking import FREQUENCY_MAX, PREFIX_WORDS, Score, Statistics, ranked
from homeport.core.textquery import Asked, Either, Term, occurrences, terms
from homeport.core.textrequests import Found, Search
from homeport.core.words import words


class Words:
    """The full text of one collection.

    fields: stored paths of its full-text fields. texts: the words of each document, a list for each
    field. postings: word → who holds it. sizes: words of each field in all documents.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields = fields
        self.texts: dict[Encoded, list[list[str]]] = {}
        self.postings: dict[str, set[Encoded]] = {}
        self.sizes = [0] * len(fields)
        self._sorted: list[str] | None = None

    def put(self, key: Encoded, texts: Sequence[str]) -> None:
        """The texts of a document, in the order of the fields."""
        self.drop(key)
        found = [words(text) for text in texts]
        self.texts[key] = found
        for column, there in enumerate(found):
            self.sizes[column] += len(there)
            for word in there:
                holders = self.postings.get(word)
                if holders is None:
                    holders = self.postings[word] = set()
                    self._sorted = None
                holders.add(key)

    def drop(self, key: Encoded) -> None:
        """A document is gone; silent when it was not there."""
        for column, there in enumerate(self.texts.pop(key, ())):
            self.sizes[column] -= len(there)
            for word in set(there):
                holders = self.postings.get(word)
                if holders is not None:
                    holders.discard(key)
                    if not holders:
                        del self.postings[word]
                        self._sorted = None

    def between(self, low: str, high: str) -> Iterator[str]:
        """The words from ``low`` to below ``high``, in order."""
        if self._sorted is None:
            self._sorted = sorted(self.postings)
        for at in range(bisect_left(self._sorted, low), bisect_left(self._sorted, high)):
            yield self._sorted[at]

    def beginning(self, prefix: str) -> Iterator[str]:
        """The words that begin so, in order; none holds the last character of Unicode."""
        return self.between(prefix, prefix + "\U0010ffff")

    def vocabulary(self, low: str, high: str, limit: int) -> list[tuple[str, int]]:
        """Words and how many documents hold each, at most ``limit``."""
        return [(word, len(self.postings[word])) for word in islice(self.between(low, high), limit)]


def answer(
    request: Search,
    known: Words,
    newest: Callable[[], Iterable[Encoded]],
    allowed: Callable[[Encoded], bool],
    text: Callable[[Encoded], str],
) -> Found:
    """The answer to a search. newest: all keys, those stored last first; allowed: do the other
    conditions hold; text: of a document."""
    offset = request.query.offset
    end = None if request.limit is None else offset + request.limit
    index = WordIndex(known, request.search.weights, newest, allowed)
    found = ranked(index, request.search, end)
    entries = [(decode(key), text(key), score) for score, key in found.best[offset:]]
    return Found(entries, found.total, capped=found.capped)


class WordIndex:
    """``core.ranking.TextIndex`` on ``Words``, for one search."""

    def __init__(
        self,
        known: Words,
        weights: Mapping[str, float],
        newest: Callable[[], Iterable[Encoded]],
        allowed: Callable[[Encoded], bool],
    ) -> None:
        self.known = known
        self.fields = known.fields
        self._columns = [n for n, path in enumerate(known.fields) if path in weights]
        self._newest = newest
        self._allowed = allowed

    def statistics(self) -> Statistics:
        return Statistics(len(self.known.texts), self.known.sizes)

    def frequency(self, word: str) -> int:
        return min(len(self.known.postings.get(word, ())), FREQUENCY_MAX)

    def prefix_frequency(self, prefix: str) -> int:
        found = islice(self.known.beginning(prefix), PREFIX_WORDS)
        return sum(len(self.known.postings[word]) for word in found)

    def candidates(self, asked: Asked, score: Score, limit: int) -> list[tuple[float, Encoded]]:
        matching = self._matching(asked)
        wanted = terms(asked)
        found: list[tuple[float, Encoded]] = []
        for key in self._newest() if matching else ():
            if key in matching and self._allowed(key):
                found.append((score(*self._counts(key, wanted)), key))
                if len(found) == limit:
                    break
        return found

    def places(self, names: Sequence[Encoded]) -> Mapping[Encoded, Any]:
        return {name: order(name) for name in names}

    def _counts(self, key: Encoded, wanted: Sequence[Term]) -> tuple[list[list[int]], list[int]]:
        texts = self.known.texts[key]
        counts = [[sum(1 for _ in occurrences(term, there)) for there in texts] for term in wanted]
        return counts, [len(there) for there in texts]

    def _matching(self, asked: Asked) -> set[Encoded]:
        if isinstance(asked, Term):
            return self._holding(asked)
        if isinstance(asked, Either):
            return set().union(*map(self._matching, asked.items))
        first, *others = map(self._matching, asked.items)
        return first.intersection(*others).difference(*map(self._matching, asked.without))

    def _holding(self, term: Term) -> set[Encoded]:
        postings = self.known.postings
        whole = term.words[:-1] if term.prefix else term.words
        holders = [postings.get(word, set()) for word in whole]
        if term.prefix:
            found = [postings[word] for word in self.known.beginning(term.words[-1])]
            holders.append(set().union(*found))
        near = set.intersection(*holders)
        columns = [self.fields.index(term.field)] if term.field else self._columns
        return {key for key in near if self._occurs(term, key, columns)}

    def _occurs(self, term: Term, key: Encoded, columns: Sequence[int]) -> bool:
        texts = self.known.texts[key]
        return any(next(occurrences(term, texts[n]), None) is not None for n in columns)
