"""What is loaded, the inputs of the operations, and the right answers to them.

The answers come from the documents alone, by plain Python: no side is the judge of another.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from time import perf_counter
from typing import Any

import msgspec

from bench.cities import SEED, Cities, Document

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode

POPS = 1_000_000
WORDS_IN_A_NOTE = 12
COMMON_WORDS = 5_000
NOTES_WITH_A_WORD = 50


class TooSlow(Exception):
    """Who reads the feed has used up its time."""


class Feed:
    """The first documents of a corpus, decoded as they are asked for; ``spent_s`` is what the
    decoding took, to be taken from the time of who reads them. Raises ``TooSlow`` to a reader that
    takes longer than ``limit_s``."""

    def __init__(self, lines: list[bytes], count: int, limit_s: float = math.inf) -> None:
        self._lines = lines
        self._count = count
        self._limit_s = limit_s
        self.spent_s = 0.0

    def __iter__(self) -> Iterator[Document]:
        first = perf_counter()
        for start in range(0, self._count, 10_000):
            began = perf_counter()
            if began - first - self.spent_s > self._limit_s:
                raise TooSlow(f"{start:,} documents in {began - first - self.spent_s:.0f} s")
            batch = [decode(line) for line in self._lines[start : min(start + 10_000, self._count)]]
            self.spent_s += perf_counter() - began
            yield from batch


class Corpus:
    """Documents for the largest size of a run; smaller sizes are its beginning."""

    def __init__(self, supply: Cities, largest: int) -> None:
        self.supply = supply
        self.lines: list[bytes] = []
        self.ids: list[str] = []
        self.names: list[str] = []
        self.areas: list[tuple[str, str]] = []
        self.pops: list[int] = []
        for _ in range(largest):
            (city,) = supply.take(1)
            self.lines.append(encode(city))
            self.ids.append(city["id"])
            self.names.append(city["name"])
            self.areas.append((city["country"], city["admin1"]))
            self.pops.append(city["pop"])

    def sample(self, size: int, rng: random.Random) -> Sample:
        return Sample(self, size, rng)


class Sample:
    """The first ``size`` documents: inputs for each operation, and what is right."""

    def __init__(self, corpus: Corpus, size: int, rng: random.Random) -> None:
        self.corpus = corpus
        self.size = size
        self.rng = rng
        self.ids = corpus.ids[:size]
        self._places = {key: place for place, key in enumerate(self.ids)}

    def feed(self, limit_s: float = math.inf) -> Feed:
        return Feed(self.corpus.lines, self.size, limit_s)

    def document(self, place: int) -> Document:
        return decode(self.corpus.lines[place])

    # inputs

    def keys(self, count: int) -> list[str]:
        return self.rng.choices(self.ids, k=count)

    def key_lists(self, count: int) -> list[list[str]]:
        return [self.rng.sample(self.ids, min(100, self.size)) for _ in range(count)]

    def ranges(self, count: int, hits: int) -> list[tuple[int, int]]:
        width = min(POPS, POPS * hits // self.size)
        lows = [self.rng.randrange(POPS + 1 - width) for _ in range(count)]
        return [(low, low + width - 1) for low in lows]

    def floors(self, count: int) -> list[int]:
        # So that 50 follow, also in a thousand documents.
        return [self.rng.randrange(POPS * 9 // 10) for _ in range(count)]

    @cached_property
    def _rare_names(self) -> list[str]:
        sizes = Counter(self.corpus.names[: self.size])
        return [name for name, hits in sizes.items() if hits <= 3]

    def equal_names(self, count: int) -> list[str]:
        return self.rng.choices(self._rare_names, k=count)

    @cached_property
    def _areas(self) -> list[tuple[str, str]]:
        sizes = Counter(self.corpus.areas[: self.size])
        wanted = [area for area, hits in sizes.items() if 150 <= hits <= 250]
        # A small collection has no such areas: take its largest.
        return wanted or [area for area, _ in sizes.most_common(5)]

    def some_areas(self, count: int) -> list[tuple[str, str]]:
        return self.rng.choices(self._areas, k=count)

    def new(self, count: int) -> list[Document]:
        return self.corpus.supply.take(count)

    def changes(self, count: int) -> list[tuple[str, int]]:
        keys = self.rng.sample(self.ids, min(count, self.size))
        return [(key, self.rng.randrange(POPS)) for key in keys]

    # answers

    def get(self, key: str) -> Document:
        return self.document(self._places[key])

    def get_many(self, keys: list[str]) -> list[Document]:
        return [self.get(key) for key in keys]

    def _where(self, test: Callable[[int], bool]) -> list[Document]:
        return [self.document(place) for place in range(self.size) if test(place)]

    def equal(self, name: str) -> list[Document]:
        return self._where(lambda place: self.corpus.names[place] == name)

    def compound(self, area: tuple[str, str]) -> list[Document]:
        return self._where(lambda place: self.corpus.areas[place] == area)

    @cached_property
    def _by_pop(self) -> list[int]:
        return sorted(range(self.size), key=self.corpus.pops.__getitem__)

    @cached_property
    def _pops(self) -> list[int]:
        return [self.corpus.pops[place] for place in self._by_pop]

    def _span(self, bounds: tuple[int, int]) -> slice:
        return slice(bisect_left(self._pops, bounds[0]), bisect_right(self._pops, bounds[1]))

    def between(self, bounds: tuple[int, int]) -> list[Document]:
        return [self.document(place) for place in self._by_pop[self._span(bounds)]]

    def count(self, bounds: tuple[int, int]) -> int:
        span = self._span(bounds)
        return span.stop - span.start

    def ordered(self, above: int) -> list[Document]:
        first = bisect_right(self._pops, above)
        return [self.document(place) for place in self._by_pop[first : first + 50]]

    def iterate(self, _: object) -> int:
        return sum(self.corpus.pops[: self.size])


class Notes:
    """Short texts: common words, and rare ones that about fifty of them have."""

    def __init__(self, size: int) -> None:
        rng = random.Random(SEED)
        self.size = size
        self._common = [_word(number) for number in range(COMMON_WORDS)]
        self._weights = [1 / (place + 1) for place in range(COMMON_WORDS)]
        rare = max(1, size // NOTES_WITH_A_WORD)
        self._rare = [_word(COMMON_WORDS + number) for number in range(rare)]
        self._words = [
            [rng.choice(self._rare), *rng.choices(self._common, self._weights, k=WORDS_IN_A_NOTE)]
            for _ in range(size)
        ]

    def feed(self) -> Feed:
        lines = [encode(self._note(place)) for place in range(self.size)]
        return Feed(lines, self.size)

    def _note(self, place: int) -> Document:
        return {"id": f"note{place:07}", "text": " ".join(self._words[place])}

    def words(self, count: int, rng: random.Random) -> list[str]:
        return rng.choices(self._rare, k=count)

    def common_words(self, count: int, rng: random.Random) -> list[str]:
        """About one note in twenty has such a word."""
        return rng.choices(self._common[20:40], k=count)

    def text(self, word: str) -> list[Document]:
        return [self._note(place) for place in range(self.size) if word in self._words[place]]


def _word(number: int) -> str:
    """A word of its own for each number: syllables are its digits."""
    consonants, vowels = "bdfgklmnprstvz", "aeiou"
    syllables = [first + second for first in consonants for second in vowels]
    word = ""
    for _ in range(4):
        number, place = divmod(number, len(syllables))
        word += syllables[place]
    return word


def answer_of(plain: Callable[[Any], Document], op: str, result: Any) -> Any:
    """An answer in the form in which two of them can be compared."""
    if op in ("count", "iterate"):
        return result
    if op == "get":
        return plain(result)
    rows = [None if row is None else plain(row) for row in result]
    if op == "bulk_get_100":
        return rows
    if op == "order_limit":  # equal values of pop may come in any order
        return [row["pop"] for row in rows]
    return sorted(rows, key=lambda row: row["id"])
