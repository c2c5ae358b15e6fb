"""Full text of the memory store: the words of every document, and which documents hold a word."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from homeport.core.evaluate import compile_condition
from homeport.core.keys import Encoded, decode, order
from homeport.core.models import decode_object
from homeport.core.ranking import FREQUENCY_MAX, PREFIX_WORDS, Score, Statistics, ranked
from homeport.core.requests import Found, Search
from homeport.core.textquery import Asked, Either, Term, occurrences, terms
from homeport.core.words import words

if TYPE_CHECKING:
    from homeport.core.codec import Codec
    from homeport.storage.memory_session import StoredRow


class Rows(dict[Encoded, "StoredRow"]):
    """The rows of a collection, which remember what the full text has not seen yet."""

    def __init__(self) -> None:
        super().__init__()
        self.unseen: set[Encoded] = set()

    def __setitem__(self, key: Encoded, row: StoredRow) -> None:
        self.unseen.add(key)
        super().__setitem__(key, row)

    def pop(self, key: Encoded, *default: Any) -> Any:
        self.unseen.add(key)
        return super().pop(key, *default)


class Words:
    """The full text of one collection, brought up to date when it is asked.

    texts: the words of each document, a list for each field. postings: word → who holds it.
    """

    def __init__(self, rows: Rows, codec: Codec[Any]) -> None:
        self.rows = rows
        self.codec = codec
        self.fields = codec.text_paths
        self.texts: dict[Encoded, list[list[str]]] = {}
        self.postings: dict[str, set[Encoded]] = {}
        self.sizes = [0] * len(self.fields)
        self._sorted: list[str] | None = None
        rows.unseen = set(rows)

    def follow(self) -> None:
        """Look at what changed since the last time."""
        unseen, self.rows.unseen = self.rows.unseen, set()
        for key in unseen:
            self._take_out(key)
            row = self.rows.get(key)
            if row is not None:
                self._put_in(key, self.codec.extras_of_text(row.row[1])[1])

    def _take_out(self, key: Encoded) -> None:
        for column, there in enumerate(self.texts.pop(key, ())):
            self.sizes[column] -= len(there)
            for word in set(there):
                holders = self.postings.get(word)
                if holders is not None:
                    holders.discard(key)
                    if not holders:
                        del self.postings[word]
                        self._sorted = None

    def _put_in(self, key: Encoded, texts: Sequence[str]) -> None:
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

    def beginning(self, prefix: str) -> Iterable[str]:
        """The words that begin so, in order."""
        if self._sorted is None:
            self._sorted = sorted(self.postings)
        at = bisect_left(self._sorted, prefix)
        while at < len(self._sorted) and self._sorted[at].startswith(prefix):
            yield self._sorted[at]
            at += 1


def search(request: Search, known: Words, alive: Callable[[StoredRow], bool]) -> Found:
    """The answer of the memory store."""
    query = request.query
    test = None if query.where is None else compile_condition(query.where)

    def allowed(row: StoredRow) -> bool:
        return alive(row) and (test is None or test(decode_object(row.row[1])))

    end = None if request.limit is None else query.offset + request.limit
    found = ranked(MemoryText(known, request.search.weights, allowed), request.search, end)
    entries = [
        (decode(key), known.rows[key].row[1], score) for score, key in found.best[query.offset :]
    ]
    return Found(entries, found.total, capped=found.capped)


class MemoryText:
    """``core.ranking.TextIndex`` on the memory store, for one search."""

    def __init__(
        self,
        known: Words,
        weights: Mapping[str, float],
        allowed: Callable[[StoredRow], bool],
    ) -> None:
        known.follow()
        self.known = known
        self.fields = known.fields
        self._columns = [n for n, path in enumerate(known.fields) if path in weights]
        self._allowed = allowed

    def statistics(self) -> Statistics:
        return Statistics(len(self.known.texts), self.known.sizes)

    def frequency(self, word: str) -> int:
        return min(len(self.known.postings.get(word, ())), FREQUENCY_MAX)

    def prefix_frequency(self, prefix: str) -> int:
        total = 0
        for number, word in enumerate(self.known.beginning(prefix)):
            if number == PREFIX_WORDS:
                break
            total += len(self.known.postings[word])
        return total

    def candidates(self, asked: Asked, score: Score, limit: int) -> list[tuple[float, Encoded]]:
        matching = self._matching(asked)
        wanted = terms(asked)
        found: list[tuple[float, Encoded]] = []
        for key in reversed(self.known.rows):
            if key in matching and self._allowed(self.known.rows[key]):
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
        near = set.intersection(*holders) if len(holders) > 1 else set(holders[0])
        columns = self._columns
        if term.field:
            columns = [self.fields.index(term.field)]
        return {key for key in near if self._occurs(term, key, columns)}

    def _occurs(self, term: Term, key: Encoded, columns: Sequence[int]) -> bool:
        texts = self.known.texts[key]
        return any(next(occurrences(term, texts[n]), None) is not None for n in columns)
