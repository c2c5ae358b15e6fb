"""The language of full-text queries, the same for ``matches()`` and ``search()``.

=====================  ====================================================================
``clean sand``         both words
``clean OR sand``      one of them; binds less than the space: ``a b OR c`` is ``(a b) OR c``
``-shale, NOT shale``  without that word; a query of such words alone finds nothing
``"clean sand"``       a phrase; ``brent-7`` is one too, because of the sign inside
``poro*``              any word that begins so, also at the end of a phrase: ``"clean s*"``
``name:brent``         in this field only, where several are searched
``(a OR b) c``         parentheses
=====================  ====================================================================

Operators are written in capitals. Any text is a query: what makes no sense (an operator without
its word, a parenthesis without its other half, a sign) is passed over. Only a query beyond
``MAX_WORDS`` or ``MAX_DEPTH`` is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from homeport.core.words import query_words
from homeport.errors import InvalidQuery

MAX_WORDS: Final = 256
"""Words of one query."""

MAX_DEPTH: Final = 16
"""Parentheses within each other."""


class Term:
    """Words that follow each other; with ``prefix`` the last one may go on. field: only there."""

    __slots__ = ("field", "prefix", "words")

    def __init__(self, words: Sequence[str], *, prefix: bool = False, field: str = "") -> None:
        self.words = tuple(words)
        self.prefix = prefix
        self.field = field

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Term) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[object, ...]:
        return (self.words, self.prefix, self.field)

    def __repr__(self) -> str:
        where = f"{self.field}:" if self.field else ""
        return f"Term({where}{' '.join(self.words)}{'*' if self.prefix else ''})"


class Every:
    """All of ``items`` and none of ``without``. There is at least one item."""

    __slots__ = ("items", "without")

    def __init__(self, items: Sequence[Asked], without: Sequence[Asked] = ()) -> None:
        self.items = tuple(items)
        self.without = tuple(without)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Every) and (self.items, self.without) == (
            other.items,
            other.without,
        )

    def __hash__(self) -> int:
        return hash((self.items, self.without))

    def __repr__(self) -> str:
        parts = [*map(repr, self.items), *(f"not {item!r}" for item in self.without)]
        return f"Every({', '.join(parts)})"


class Either:
    """At least one of ``items``; there are at least two."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[Asked]) -> None:
        self.items = tuple(items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Either) and self.items == other.items

    def __hash__(self) -> int:
        return hash(self.items)

    def __repr__(self) -> str:
        return f"Either({', '.join(map(repr, self.items))})"


Asked: TypeAlias = Term | Every | Either


def parse(text: str, fields: tuple[str, ...] = ()) -> Asked | None:
    """What a query asks for, None when it asks for nothing.

    fields: the names that may stand before a colon. Raises ``InvalidQuery``.
    """
    # One query meets many documents; a text of any length must not stay in memory.
    return _remembered(text, fields) if len(text) <= 500 else _parse(text, fields)


@lru_cache(maxsize=256)
def _remembered(text: str, fields: tuple[str, ...]) -> Asked | None:
    return _parse(text, fields)


def _parse(text: str, fields: tuple[str, ...]) -> Asked | None:
    parser = _Parser(list(_pieces(text, fields)))
    found = parser.either(0)
    while parser.at < len(parser.pieces):  # a closing parenthesis too many
        parser.at += 1
        found = _joined([found, parser.either(0)])
    if parser.words > MAX_WORDS:
        raise InvalidQuery(
            f"The query has {parser.words:,} words, more than {MAX_WORDS}.",
            action="Search for the words that tell documents apart.",
        )
    return None if not found.items else _simplest(found)


def terms(asked: Asked | None) -> list[Term]:
    """The terms that a document is found by, each once, in the order of the query; not those that
    it must not hold."""
    return list(dict.fromkeys(_positive(asked)))


def _positive(asked: Asked | None) -> Iterator[Term]:
    if isinstance(asked, Term):
        yield asked
    elif asked is not None:
        for item in asked.items:
            yield from _positive(item)


def conjunctive(asked: Asked) -> bool:
    """Does every document that is found hold all of ``terms``?"""
    if isinstance(asked, Either):
        return False
    return isinstance(asked, Term) or all(map(conjunctive, asked.items))


# -- reading


_CHUNK = re.compile(r'[^\s"()]+')
_PHRASE = re.compile(r'"([^"]*)(?:"|$)(\*?)')
_SPACE = re.compile(r"\s+")
_FIELD = re.compile(r'([^\s"():]+):(?=[^\s)])')

_Piece: TypeAlias = "str | Term | tuple[str]"
"""``( ) - OR``, a term (perhaps without words), or a field name in a tuple."""


def _pieces(text: str, fields: Collection[str]) -> Iterator[_Piece]:
    at = 0
    while at < len(text):
        space = _SPACE.match(text, at)
        if space is not None:
            at = space.end()
            continue
        sign = text[at]
        if sign in "()":
            yield sign
            at += 1
            continue
        if sign == "-" and at + 1 < len(text) and not text[at + 1].isspace():
            yield sign
            at += 1
            continue
        field = _FIELD.match(text, at) if fields else None
        if field is not None and field[1] in fields:
            yield (field[1],)
            at = field.end()
            continue
        phrase = _PHRASE.match(text, at)
        match = phrase or _CHUNK.match(text, at)
        assert match is not None
        at = match.end()
        if phrase is None and match[0] in ("AND", "OR", "NOT"):
            if match[0] != "AND":
                yield "-" if match[0] == "NOT" else "OR"
            continue
        found, cut = query_words(phrase[1] if phrase is not None else match[0])
        star = bool(phrase[2]) or phrase[1].endswith("*") if phrase else match[0].endswith("*")
        yield Term(found, prefix=cut or star)


class _Parser:
    """Reads by recursive descent. Between the methods travels an ``Every`` that may be empty."""

    def __init__(self, pieces: list[_Piece]) -> None:
        self.pieces = pieces
        self.at = 0
        self.words = 0

    def either(self, depth: int, field: str = "") -> Every:
        if depth > MAX_DEPTH:
            raise InvalidQuery(
                f"The query has more than {MAX_DEPTH} parentheses within each other.",
                action="Write it with fewer.",
            )
        branches = [self.every(depth, field)]
        while self._peek() == "OR":
            self.at += 1
            branches.append(self.every(depth, field))
        found = [branch for branch in branches if branch.items]
        if len(found) < 2:  # a branch of nothing but "without" finds nothing
            return found[0] if found else branches[0]
        return Every([Either([_simplest(branch) for branch in found])])

    def every(self, depth: int, field: str) -> Every:
        items: list[Asked] = []
        without: list[Asked] = []
        negative = False
        here = field
        while (piece := self._peek()) is not None and piece not in ("OR", ")"):
            self.at += 1
            if piece == "-":
                negative = not negative
                continue
            if isinstance(piece, tuple):
                here = piece[0]
                continue
            if isinstance(piece, Term):
                self.words += len(piece.words)
                term = Term(piece.words, prefix=piece.prefix, field=here)
                inner = Every([term] if piece.words else [])
            else:
                inner = self.either(depth + 1, here)
                if self._peek() == ")":
                    self.at += 1
            if negative:
                inner = _negated(inner)
            items += inner.items
            without += inner.without
            negative, here = False, field
        return Every(items, without)

    def _peek(self) -> _Piece | None:
        return self.pieces[self.at] if self.at < len(self.pieces) else None


def _negated(inner: Every) -> Every:
    if inner.items:
        return Every((), [_simplest(inner)])
    if not inner.without:
        return inner
    return Every([inner.without[0] if len(inner.without) == 1 else Either(inner.without)])


def _joined(parts: Sequence[Every]) -> Every:
    items = [item for part in parts for item in part.items]
    return Every(items, [item for part in parts for item in part.without])


def _simplest(found: Every) -> Asked:
    return found.items[0] if len(found.items) == 1 and not found.without else found


# -- looking into a text


def holds(asked: Asked | None, there: Sequence[str]) -> bool:
    """Is the query satisfied by these words? Asking nothing finds nothing."""
    return asked is not None and _holds(asked, there, set(there))


def _holds(asked: Asked, there: Sequence[str], known: set[str]) -> bool:
    if isinstance(asked, Term):
        if not asked.prefix and not known.issuperset(asked.words):
            return False
        if len(asked.words) == 1 and not asked.prefix:
            return True
        return next(occurrences(asked, there), None) is not None
    if isinstance(asked, Either):
        return any(_holds(item, there, known) for item in asked.items)
    return all(_holds(item, there, known) for item in asked.items) and not any(
        _holds(item, there, known) for item in asked.without
    )


def occurrences(term: Term, there: Sequence[str]) -> Iterator[int]:
    """Where a term begins, as numbers of words."""
    *heads, last = term.words
    count = len(heads)
    for at in range(count, len(there)):
        word = there[at]
        if (word.startswith(last) if term.prefix else word == last) and (
            not heads or list(there[at - count : at]) == heads
        ):
            yield at - count
