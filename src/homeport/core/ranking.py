"""Ranked full text: which documents, in which order. Engines give the facts, this file decides.

The score is BM25 over weighted fields ("BM25F", Robertson, Zaragoza and Taylor 2004; constants and
the always positive idf as in Lucene):

    score  = sum over the terms t of the query that occur:  idf(t) * tf * (K1 + 1) / (tf + K1)
    tf     = sum over the fields f:  weight(f) * count(t, f) / (1 - B + B * words(f) / mean(f))
    idf(t) = sum over the words w of t:  ln(1 + (N - n + 0.5) / (n + 0.5))

N is the number of documents, mean(f) the mean number of words of the field over all of them, n how
many documents hold w in any full-text field, counted up to ``FREQUENCY_MAX``. For a prefix n is the
sum over the first ``PREFIX_WORDS`` words that begin so, at most N. Documents of equal score come in
the order of their keys.

A word of half a million documents must not cost a score for each. At most ``candidates`` documents
are ranked: where one of several terms is enough, first those with the rarest term; then the ones
stored last. So the answer is exact until a query finds more documents than that, and ``capped``
says when it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from math import log
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from homeport.core.textquery import Asked, Every, Term, conjunctive, terms

I = TypeVar("I")  # noqa: E741 - how an engine names a document

K1: Final = 1.2
B: Final = 0.75
CANDIDATES: Final = 5_000
FREQUENCY_MAX: Final = 100_000
PREFIX_WORDS: Final = 1_000

Score: TypeAlias = "Callable[[Sequence[Sequence[int]], Sequence[int]], float]"
"""(occurrences of each term in each full-text field, words of each field) → score"""


@dataclass(frozen=True, slots=True)
class TextSearch:
    """What is asked for.

    asked: the query; its terms name fields by stored path, "" = all that are searched. weights:
    stored path of each searched field → its weight. candidates: rank at most so many documents.
    """

    asked: Asked
    weights: Mapping[str, float]
    candidates: int = CANDIDATES


@dataclass(frozen=True, slots=True)
class Statistics:
    """documents: N; words: of each full-text field of the collection, in all documents."""

    documents: int
    words: Sequence[int]


class TextIndex(Protocol[I]):
    """What an engine knows of the words of one collection."""

    @property
    def fields(self) -> Sequence[str]:
        """Stored paths of all full-text fields of the collection."""
        ...

    def statistics(self) -> Statistics:
        """Asked when the first document is scored, if there is one."""
        ...

    def frequency(self, word: str) -> int:
        """Documents that hold it in any field, counted up to ``FREQUENCY_MAX``."""
        ...

    def prefix_frequency(self, prefix: str) -> int:
        """Sum of the documents of each of the first ``PREFIX_WORDS`` words that begin so, the words
        ordered by code points."""
        ...

    def candidates(self, asked: Asked, score: Score, limit: int) -> list[tuple[float, I]]:
        """The documents stored last that satisfy ``asked`` and the other conditions of the search,
        each with its score."""
        ...

    def places(self, names: Sequence[I]) -> Mapping[I, Any]:
        """What sorts these documents by their keys."""
        ...


@dataclass(frozen=True, slots=True)
class Ranked(Generic[I]):
    """The best documents, best first; how many were ranked; were there more?"""

    best: list[tuple[float, I]]
    total: int
    capped: bool


def ranked(index: TextIndex[I], search: TextSearch, end: int | None) -> Ranked[I]:
    """The ``end`` best documents, None = all that are ranked."""
    wanted = terms(search.asked)
    frequencies = {term: _frequencies(index, term) for term in wanted}
    score = _scorer(index, search, frequencies)
    limit = search.candidates
    found = index.candidates(search.asked, score, limit + 1)
    capped = len(found) > limit
    if capped and not conjunctive(search.asked):
        rarity = {term: min(numbers) for term, numbers in frequencies.items()}
        found = _rarest_first(index, search, rarity, score, found)
    found = found[:limit]
    return Ranked(_best(index, found, end), len(found), capped)


def _rarest_first(
    index: TextIndex[I],
    search: TextSearch,
    rarity: Mapping[Term, int],
    score: Score,
    newest: list[tuple[float, I]],
) -> list[tuple[float, I]]:
    found: dict[I, float] = {}
    for term in sorted(rarity, key=lambda one: rarity[one]):
        if rarity[term] >= search.candidates or len(found) >= search.candidates:
            break
        part = Every([search.asked, term])
        for points, name in index.candidates(part, score, search.candidates):
            found.setdefault(name, points)
    for points, name in newest:
        found.setdefault(name, points)
    return [(points, name) for name, points in found.items()]


def _best(
    index: TextIndex[I], found: list[tuple[float, I]], end: int | None
) -> list[tuple[float, I]]:
    if end == 0 or not found:
        return []
    if end is not None and end < len(found):
        # Only who could still be among the best needs the place of its key.
        least = nlargest(end, [points for points, _ in found])[-1]
        found = [entry for entry in found if entry[0] >= least]
    places = index.places([name for _, name in found])
    return sorted(found, key=lambda entry: (-entry[0], places[entry[1]]))[:end]


def _scorer(
    index: TextIndex[I], search: TextSearch, frequencies: Mapping[Term, Sequence[int]]
) -> Score:
    made: list[Score] = []

    def score(counts: Sequence[Sequence[int]], sizes: Sequence[int]) -> float:
        if not made:
            made.append(_score(index.fields, search, index.statistics(), frequencies))
        return made[0](counts, sizes)

    return score


def _score(
    names: Sequence[str],
    search: TextSearch,
    statistics: Statistics,
    frequencies: Mapping[Term, Sequence[int]],
) -> Score:
    total = statistics.documents
    means = [words / total if words else 1.0 for words in statistics.words]
    fields = [
        (column, search.weights[path], 1 - B, B / means[column])
        for column, path in enumerate(names)
        if path in search.weights
    ]
    parts = [
        (
            number,
            sum(log(1 + (total - n + 0.5) / (n + 0.5)) for n in _at_most(total, found)) * (K1 + 1),
            [one for one in fields if term.field in ("", names[one[0]])],
        )
        for number, (term, found) in enumerate(frequencies.items())
    ]

    def score(counts: Sequence[Sequence[int]], sizes: Sequence[int]) -> float:
        points = 0.0
        for number, weight, columns in parts:
            here = counts[number]
            tf = 0.0
            for column, field, base, slope in columns:
                if here[column]:
                    tf += field * here[column] / (base + slope * sizes[column])
            points += weight * tf / (tf + K1)
        return points

    return score


def _at_most(total: int, found: Sequence[int]) -> list[int]:
    """The words of a prefix may share documents."""
    return [min(total, n) for n in found]


def _frequencies(index: TextIndex[I], term: Term) -> list[int]:
    """Of each word of a term; the last one may be a prefix."""
    whole = term.words[:-1] if term.prefix else term.words
    found = [index.frequency(word) for word in whole]
    if term.prefix:
        found.append(index.prefix_frequency(term.words[-1]))
    return found
