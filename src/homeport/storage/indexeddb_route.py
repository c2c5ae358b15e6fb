"""From the access path of a query to ranges of IndexedDB keys, in the order of visiting.

The planner says which index leads to the documents; this says which keys of it, whether their order
is exactly the one asked for, and where a page continues. What an index cannot decide is left to
``core.evaluate``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from homeport.core.conditions import (
    And,
    AnyOf,
    Condition,
    Contains,
    Element,
    Matches,
    StartsWith,
)
from homeport.core.evaluate import Test, compile_condition
from homeport.core.keys import Encoded, encode, order
from homeport.core.planner import Access, conjuncts, plan
from homeport.core.query import QueryValue
from homeport.core.spans import spans_of
from homeport.core.textquery import Asked, Either, Term, parse
from homeport.storage.indexeddb_wire import MISSING, TOP, prefix_end, to_wire

if TYPE_CHECKING:
    from homeport.core.codec import Codec
    from homeport.core.query import Order

Wire = Any
"""A key as ``indexeddb.js`` reads it."""

Range = list[Any]
"""[low, high, low open, high open, after]; None = no end."""


Uses: TypeAlias = tuple[Condition, ...]
"""The conditions that the access path answers."""


class Leg:
    """Ranges of one index.

    index: its name in the object store, None for the store itself. exact: every document in the
    ranges satisfies what they were made from, and is in them once. asked: of a full-text index; its
    ranges are chosen by how many documents hold each word (``cover``).
    """

    __slots__ = ("asked", "exact", "index", "ranges")

    def __init__(
        self,
        index: str | None,
        ranges: list[Range],
        *,
        exact: bool = True,
        asked: Asked | None = None,
    ) -> None:
        self.index = index
        self.ranges = ranges
        self.exact = exact
        self.asked = asked


class Route:
    """How a query is read.

    legs: several may lead to the same document. down: read backwards. sorted: the rows come in the
    order of the query. test: what is left to check on each document, None = nothing. distinct: no
    document comes twice. placed: the position of the query is in the ranges already.
    """

    __slots__ = ("distinct", "down", "legs", "placed", "sorted", "test")

    def __init__(
        self,
        legs: list[Leg],
        test: Test | None,
        *,
        down: bool = False,
        in_order: bool = True,
        distinct: bool = True,
        placed: bool = False,
    ) -> None:
        self.legs = legs
        self.test = test
        self.down = down
        self.sorted = in_order
        self.distinct = distinct
        self.placed = placed


def route(query: QueryValue, codec: Codec[Any]) -> Route:
    """The way to the documents of a query."""
    asked = order_of(query)
    access = plan(query, codec)
    uses = tuple(c for c in conjuncts(query.where) if not any(c is left for left in access.left))
    if access.kind in ("key", "index", "order", "scan"):
        return _single(query, asked, access, uses, codec)
    legs = _legs(access, uses, codec)
    exact = all(leg.exact for leg in legs)
    # A word of an index, or a range of elements, leads to candidates, perhaps several times to one.
    checked = access.left if exact else conjuncts(query.where)
    distinct = exact and len(legs) == 1
    return Route(legs, _test(checked), in_order=not asked, distinct=distinct)


def order_of(query: QueryValue) -> Order:
    """The order in which a query is read: a place in the result needs one, the key gives it."""
    if query.order or (not query.offset and query.after is None):
        return query.order
    return (("", False),)


def _test(conditions: Sequence[Condition]) -> Test | None:
    if not conditions:
        return None
    return compile_condition(conditions[0] if len(conditions) == 1 else And(conditions))


def _legs(access: Access, uses: Uses, codec: Codec[Any]) -> list[Leg]:
    if access.kind == "multi":
        number = next(n for n, i in enumerate(codec.multi) if i.name == access.index)
        return [_of_elements(uses[0], f"m{number}")]
    if access.kind == "text":
        (condition,) = uses
        assert isinstance(condition, Matches)
        asked = parse(condition.text)
        number = codec.text_paths.index(condition.path)
        return [] if asked is None else [Leg(f"w{number}", [], exact=False, asked=asked)]
    leg, _ = _leg(access, uses, codec, None)
    return [leg]


def _of_elements(condition: Condition, index: str) -> Leg:
    """Documents with an element of that kind."""
    if isinstance(condition, Contains):
        key = to_wire(encode(condition.value))
        return Leg(index, [[key, key, False, False, None]])
    assert isinstance(condition, Element)
    for part in conjuncts(condition.item):
        # The first condition on the element itself that keys alone decide leads to candidates.
        if getattr(part, "path", None) == "" and (parts := _parts(part)) is not None:
            return Leg(index, [one.plain() for one in parts], exact=False)
    return Leg(None, [_Part().plain()], exact=False)


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


# -- one index, or the store itself


def _single(
    query: QueryValue, asked: Order, access: Access, uses: Uses, codec: Codec[Any]
) -> Route:
    columns = _columns(access, codec)
    down = _direction(asked, access, columns, codec)
    after = None if down is None else query.after
    if after is not None and not query.order:
        after = (after[-1], after[-1])  # the key is both the order and the tie
    position = None if after is None else _position(access, uses, columns, asked, after)
    leg, in_order = _leg(access, uses, codec, down, position)
    return Route(
        [leg],
        _test(access.left),
        down=bool(down),
        in_order=in_order and (down is not None or not asked),
        placed=position is not None and in_order,
    )


def _columns(access: Access, codec: Codec[Any]) -> tuple[str, ...]:
    """The paths of the index; none for the store itself."""
    if access.kind in ("key", "scan"):
        return ()
    return next(i.fields for i in codec.indexes if i.name == access.index)


def _direction(
    asked: Order, access: Access, columns: tuple[str, ...], codec: Codec[Any]
) -> bool | None:
    """Read upwards (False) or downwards (True) to get exactly this order; None when neither does
    it or nothing is asked."""
    if not asked:
        return None
    fixed = access.equal if access.kind != "key" else ()
    wanted: list[str] = []
    directions: set[bool] = set()
    for path, down in asked:
        if path in ("", codec.key):
            directions.add(down)
            break
        if path not in fixed:
            wanted.append(path)
            directions.add(down)
    else:
        directions.add(asked[-1][1])  # ties follow the last column
    if len(directions) > 1 or wanted != list(columns[len(fixed) :]):
        return None
    return directions.pop()


Position: TypeAlias = "tuple[Encoded | None, Wire, Wire]"
"""(value of the first column that is not fixed, index key, document key)."""


def _position(
    access: Access,
    uses: Uses,
    columns: tuple[str, ...],
    asked: Order,
    after: tuple[Any, ...],
) -> Position:
    key = encode(after[-1])
    if not columns:
        return key, to_wire(key), to_wire(key)
    given = {path: encode(value) for (path, _), value in zip(asked, after, strict=False)}
    fixed = _fixed(access, uses)
    values = [fixed[path] if path in fixed else given.get(path) for path in columns]
    wires = [to_wire(value) for value in values]
    first = values[len(fixed)] if len(fixed) < len(values) else key
    return first, wires[0] if len(wires) == 1 else wires, to_wire(key)


def _fixed(access: Access, uses: Uses) -> dict[str, Encoded | None]:
    found: dict[str, Encoded | None] = {}
    for condition in uses:
        path: str = condition.path  # type: ignore[attr-defined]
        if path in access.equal:
            spans = spans_of(condition)
            assert spans is not None
            # None: a range that is one value without that value holds nothing.
            found[path] = spans.spans[0].low if spans.spans else None
    return found


class _Part:
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
            [*low, TOP] if self.low_open else low,
            high if high_open else [*high, TOP],
            False,
            high_open,
            None,
        ]


def _parts(condition: Condition) -> list[_Part] | None:
    """The stretches of a condition; None when keys alone do not decide it."""
    if isinstance(condition, StartsWith):
        # The end is a text of its own kind: a storable key cannot hold half a surrogate pair.
        prefix = condition.prefix
        if encode(prefix) is None:
            return []
        return [_Part(prefix, prefix_end(prefix), False, True)]
    if isinstance(condition, AnyOf):
        keys = {order(key): key for value in condition.values if (key := encode(value)) is not None}
        wires = [to_wire(keys[place]) for place in sorted(keys)]
        return [_Part(wire, wire) for wire in wires] if None not in condition.values else None
    found = spans_of(condition)
    if found is None or found.rest:
        return None
    return [
        _Part(
            None if span.low is None else to_wire(span.low),
            None if span.high is None else to_wire(span.high),
            span.low_open,
            span.high_open,
        )
        for span in found.spans
    ]


def _stretches(condition: Condition) -> list[_Part]:
    """Those of a condition that the planner calls a range."""
    found = _parts(condition)
    assert found is not None
    return found


def _leg(
    access: Access,
    uses: Uses,
    codec: Codec[Any],
    down: bool | None,
    position: Position | None = None,
) -> tuple[Leg, bool]:
    """→ the leg, and whether its rows come in the order of reading."""
    columns = _columns(access, codec)
    if not columns:
        parts = _stretches(uses[0]) if uses else [_Part()]
        ranges = [part.plain() for part in (reversed(parts) if down else parts)]
        return Leg(None, _behind(ranges, position)), True
    fixed = _fixed(access, uses)
    if None in fixed.values():
        return Leg(access.index, []), True
    head = [to_wire(fixed[path]) for path in columns if path in fixed]
    rest = len(columns) - len(head)
    # Backwards, the documents without a later column would come before the others.
    in_order = not (down and rest > 1)
    if not in_order:
        position = None
    if not rest:
        key = head[0] if len(head) == 1 else head
        return Leg(access.index, _behind([[key, key, False, False, None]], position)), True
    ranged = next((c for c in uses if c.path not in fixed), None)  # type: ignore[attr-defined]
    parts = [_Part()] if ranged is None else _stretches(ranged)
    if len(columns) == 1:
        parts = [
            part
            if part.high is not None
            else _Part(part.low, MISSING, part.low_open, high_open=True)
            for part in parts
        ]
    if down:
        parts.reverse()
    # Documents without the field come last in both directions.
    last = [_Part(missing=True)] if ranged is None else []
    if position is not None and down and position[0] is None:
        parts = []
    single = len(columns) == 1
    ranges = [part.plain() if single else part.behind(head) for part in parts]
    ranges_last = [part.plain() if single else part.behind(head) for part in last]
    if down and position is not None and position[0] is not None:
        return Leg(access.index, [*_behind(ranges, position), *ranges_last]), in_order
    return Leg(access.index, _behind([*ranges, *ranges_last], position)), in_order


def _behind(ranges: list[Range], position: Position | None) -> list[Range]:
    """The ranges, each begun behind a position; what lies beyond it altogether is not touched."""
    if position is None:
        return ranges
    return [[*one[:4], [position[1], position[2]]] for one in ranges]
