"""From the access path of a query to ranges of IndexedDB keys, in the order of visiting.

The planner says which index leads to the documents; this says which keys of it, whether their order
is exactly the one asked for, and where a page continues. What an index cannot decide is left to
``core.evaluate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

from homeport.core.conditions import (
    And,
    Condition,
    Contains,
    Element,
    Matches,
)
from homeport.core.evaluate import Test, compile_condition
from homeport.core.keys import Encoded, decode, encode
from homeport.core.planner import Access, conjuncts, plan
from homeport.core.query import QueryValue
from homeport.core.textquery import Asked, parse
from homeport.storage.indexeddb_ranges import Part, Range, Wire, parts_of, points_of, stretches
from homeport.storage.indexeddb_wire import MISSING, to_wire

if TYPE_CHECKING:
    from homeport.core.codec import Codec
    from homeport.core.query import Order


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
    if access.kind in ("key", "index", "order", "scan"):
        return _single(query, asked, access, codec)
    legs = _legs(access, codec)
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


def _legs(access: Access, codec: Codec[Any]) -> list[Leg]:
    if access.kind == "union":
        return [leg for part in access.parts for leg in _legs(part, codec)]
    if access.kind == "multi":
        number = next(n for n, i in enumerate(codec.multi) if i.name == access.index)
        return [_of_elements(access.uses, f"m{number}")]
    if access.kind == "text":
        (condition,) = access.uses
        assert isinstance(condition, Matches)
        asked = parse(condition.text)
        number = codec.text_paths.index(condition.path)
        return [] if asked is None else [Leg(f"w{number}", [], exact=False, asked=asked)]
    leg, _, rest = _leg(access, codec, None)
    leg.exact = not rest
    return [leg]


def _of_elements(uses: Sequence[Condition], index: str) -> Leg:
    """Documents with an element of that kind; of a compound index, behind its fixed columns."""
    *heads, condition = uses
    if isinstance(condition, Contains):
        values = [decode(key) for head in heads for key in points_of(head)[:1]]
        if len(values) < len(heads):
            return Leg(index, [])
        key = to_wire(encode([*values, condition.value] if heads else condition.value))
        return Leg(index, [[key, key, False, False, None]])
    assert isinstance(condition, Element)
    inner = [part for part in conjuncts(condition.item) if getattr(part, "path", None) == ""]
    # One element satisfies all of them, so their stretches lead to candidates.
    found = parts_of(inner) if inner else None
    ranges = [Part().plain()] if found is None else [one.plain() for one in found[0]]
    return Leg(None if found is None else index, ranges, exact=False)


# -- one index, or the store itself


def _single(query: QueryValue, asked: Order, access: Access, codec: Codec[Any]) -> Route:
    columns = _columns(access, codec)
    down = _direction(asked, access, columns, codec)
    after = None if down is None else query.after
    if any(path in ("", codec.key) for path, _ in asked[:-1]):
        after = None  # the row of that very key may stand on either side: it is compared in full
    if after is not None and not query.order:
        after = (after[-1], after[-1])  # the key is both the order and the tie
    position = None if after is None else _position(access, columns, asked, after)
    leg, in_order, rest = _leg(access, codec, down, position)
    return Route(
        [leg],
        _test((*access.left, *rest)),
        down=bool(down),
        in_order=in_order or not asked,
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
    columns: tuple[str, ...],
    asked: Order,
    after: tuple[Any, ...],
) -> Position:
    key = encode(after[-1])
    if not columns:
        return key, to_wire(key), to_wire(key)
    given = {path: encode(value) for (path, _), value in zip(asked, after, strict=False)}
    fixed = _fixed(access)
    values = [
        next(iter(fixed[path]), None) if path in fixed else given.get(path) for path in columns
    ]
    wires = [to_wire(value) for value in values]
    first = values[len(fixed)] if len(fixed) < len(values) else key
    return first, wires[0] if len(wires) == 1 else wires, to_wire(key)


def _fixed(access: Access) -> dict[str, list[Encoded]]:
    """The keys of each path that is fixed: one, or for a hash index perhaps several."""
    return {
        condition.path: points_of(condition)  # type: ignore[attr-defined]
        for condition in access.uses
        if condition.path in access.equal  # type: ignore[attr-defined]
    }


def _leg(
    access: Access, codec: Codec[Any], down: bool | None, position: Position | None = None
) -> tuple[Leg, bool, list[Condition]]:
    """→ the leg, whether its rows come in the order of reading, and what is left to check."""
    columns = _columns(access, codec)
    asked = down is not None
    if not columns:
        parts, rest = stretches(access.uses) if access.uses else ([Part()], [])
        ranges = [part.plain() for part in (reversed(parts) if down else parts)]
        return Leg(None, _behind(ranges, position)), asked, rest
    fixed = _fixed(access)
    single = len(columns) == 1
    if len(fixed) == len(columns):
        keys = [list(map(to_wire, key)) for key in product(*(fixed[path] for path in columns))]
        points: list[Range] = [
            [key[0] if single else key, key[0] if single else key, False, False, None]
            for key in keys
        ]
        return Leg(access.index, _behind(points, position)), asked and len(points) < 2, []
    if not all(fixed.values()):
        return Leg(access.index, []), asked, []
    head = [to_wire(fixed[path][0]) for path in columns if path in fixed]
    # Backwards, the documents without a later column would come before the others.
    in_order = asked and not (down and len(columns) - len(head) > 1)
    if not in_order:
        position = None
    ranged = [c for c in access.uses if c.path not in fixed]  # type: ignore[attr-defined]
    parts, rest = stretches(ranged) if ranged else ([Part()], [])
    if single:
        parts = [
            part
            if part.high is not None
            else Part(part.low, MISSING, part.low_open, high_open=True)
            for part in parts
        ]
    if down:
        parts.reverse()
    # Documents without the field come last in both directions.
    last = [] if ranged else [Part(missing=True)]
    if position is not None and down and position[0] is None:
        parts = []
    ranges = [part.plain() if single else part.behind(head) for part in parts]
    ranges_last = [part.plain() if single else part.behind(head) for part in last]
    if down and position is not None and position[0] is not None:
        return Leg(access.index, [*_behind(ranges, position), *ranges_last]), in_order, rest
    return Leg(access.index, _behind([*ranges, *ranges_last], position)), in_order, rest


def _behind(ranges: list[Range], position: Position | None) -> list[Range]:
    """The ranges, each begun behind a position; what lies beyond it altogether is not touched."""
    if position is None:
        return ranges
    return [[*one[:4], [position[1], position[2]]] for one in ranges]
