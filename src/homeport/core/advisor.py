"""Which index would help: one query, and all the slow ones together.

A query *needs* an index whose first fields are those that it fixes to a value, in any order, and
whose next ones are its range or its order. What several queries need is merged: an index serves
every need that its first fields cover, and the order of fixed fields is chosen so that it serves
most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from homeport.core.conditions import Contains, Matches, Or
from homeport.core.explanation import shape_of
from homeport.core.indexes import Index, Indexed
from homeport.core.planner import conjuncts, equality, plan, ranged, readable
from homeport.core.query import QueryValue
from homeport.core.spans import normal

SHAPES_MAX: Final = 200
"""Shapes of slow queries that are remembered; the cheapest one makes room for a new one."""

FIELDS_MAX: Final = 6

CHUNK_ROWS: Final = 1_000


class Need(NamedTuple):
    """equal: paths fixed to a value, in any order; tail: the range or the order behind them."""

    equal: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    kind: Literal["btree", "multi", "fulltext"] = "btree"

    @property
    def fields(self) -> tuple[str, ...]:
        return (*self.equal, *self.tail)


class SlowQuery(msgspec.Struct, frozen=True):
    """Queries of one shape that took longer than ``slow_query_ms``, together. Values are not kept.

    query: what was asked and its shape, in words. rows: documents of all results together, as far
    as known. last_ms: when the last one ended, in milliseconds since 1970.
    """

    collection: str
    query: str
    calls: int
    total_ms: float
    worst_ms: float
    rows: int
    last_ms: int


class IndexAdvice(msgspec.Struct, frozen=True):
    """An index that slow queries would have used.

    index: to be added to ``indexes=[...]``, or given to ``create_index``. saves_ms: about so much
    of the recorded time would have been saved. calls: slow queries that it serves; queries: their
    shapes in words.
    """

    collection: str
    index: Index
    saves_ms: float
    calls: int
    queries: list[str]

    def __str__(self) -> str:
        return (
            f"{self.collection}: {declared(self.index)} would have saved about "
            f"{self.saves_ms:,.0f} ms of {self.calls} slow queries"
        )


# -- one query


def needs_of(query: QueryValue) -> list[Need]:
    """The indexes that would serve a query best; several for an alternative. Fields that no index
    can be declared on need none."""
    return [need for need in _needs_of(query) if all(path.isprintable() for path in need.fields)]


def _needs_of(query: QueryValue) -> list[Need]:
    parts = conjuncts(None if query.where is None else normal(query.where))
    equal = [p for c in parts if (p := equality(c)) is not None]
    ranges = [p for c in parts if (p := ranged(c)) is not None and p not in equal]
    order = [path for path, _ in query.order if path and path not in equal]
    if len({down for path, down in query.order if path not in equal}) > 1:
        order = []  # no index runs in two directions
    tail = order if order and (not ranges or order[0] == ranges[0]) else ranges[:1]
    if equal or ranges:
        return [Need(tuple(dict.fromkeys(equal)), tuple(dict.fromkeys(tail)))]
    for part in parts:
        if isinstance(part, Contains):
            return [Need((part.path,), kind="multi")]
        if isinstance(part, Matches):
            return [Need((part.path,), kind="fulltext")]
    for part in parts:
        if isinstance(part, Or):
            branches = [_needs_of(QueryValue(item)) for item in part.items]
            if all(branches):
                return list(dict.fromkeys(need for needs in branches for need in needs))
    return [Need((), tuple(dict.fromkeys(order)))] if order else []


def serves(index: Index, need: Need) -> bool:
    """Does an index give all that is needed?"""
    if need.kind != "btree":
        same = index.multi if need.kind == "multi" else index.kind == "fulltext"
        return same and index.fields == need.fields
    if index.kind == "hash":
        return not need.tail and set(index.fields) == set(need.equal)
    if not readable(index) or (index.sparse and not need.equal):
        return False
    fixed = len(need.equal)
    end = fixed + len(need.tail)
    return set(index.fields[:fixed]) == set(need.equal) and index.fields[fixed:end] == need.tail


def advice(query: QueryValue, indexed: Indexed) -> str | None:
    """The index that would serve a query that scans or sorts, as written in ``indexes=[...]``;
    None when nothing is missing."""
    access = plan(query, indexed)
    sorting = bool(query.order) and not access.ordered
    if access.kind not in ("scan", "order") and not sorting:
        return None
    for need in needs_of(query):
        if need.kind != "btree" and access.kind != "scan":
            continue
        if indexed.key in need.fields or any(serves(index, need) for index in indexed.indexes):
            continue
        return declared(_index(need))
    return None


def declared(index: Index) -> str:
    """An index as it is written in a declaration."""
    first = index.fields[0]
    if index.multi:
        return f'hp.Multi("{first}")'
    if index.kind == "fulltext":
        return f'hp.FullText("{first}")'
    return f'"{first}"' if len(index.fields) == 1 else f"({', '.join(map(repr, index.fields))})"


def _index(need: Need) -> Index:
    if need.kind == "multi":
        return Index(*need.fields, multi=True)
    if need.kind == "fulltext":
        return Index(*need.fields, kind="fulltext")
    return Index(*need.fields[:FIELDS_MAX])


# -- slow queries


def rows_of(request: Any, result: Any) -> int:
    """Documents in an answer, as far as that is seen at no cost."""
    if type(result) is int:
        return result
    if getattr(request, "form", "") == "text":
        limit: int | None = request.query.limit
        return CHUNK_ROWS * len(result) if limit is None else limit
    return len(result) if isinstance(result, list) else 0


class _Shape:
    __slots__ = ("calls", "last_ms", "needs", "rows", "total_ms", "worst_ms")

    def __init__(self, needs: list[Need]) -> None:
        self.needs = needs
        self.calls = 0
        self.rows = 0
        self.total_ms = 0.0
        self.worst_ms = 0.0
        self.last_ms = 0


class SlowLog:
    """Slow queries by shape, in bounded memory. Written by any thread, read by any."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, str], _Shape] = {}

    def note(
        self,
        collection: str,
        kind: str,
        query: QueryValue,
        elapsed_ms: float,
        rows: int,
        at_ms: int,
    ) -> None:
        name = (collection, f"{kind} {shape_of(query)}")
        shape = self._shapes.get(name)
        if shape is None:
            if len(self._shapes) >= SHAPES_MAX:
                least = min(self._shapes.items(), key=lambda item: item[1].total_ms)[0]
                self._shapes.pop(least, None)
            shape = self._shapes.setdefault(name, _Shape(needs_of(query)))
        shape.calls += 1
        shape.rows += rows
        shape.total_ms += elapsed_ms
        shape.worst_ms = max(shape.worst_ms, elapsed_ms)
        shape.last_ms = at_ms

    def queries(self) -> list[SlowQuery]:
        """The shapes, the most expensive first."""
        found = [
            SlowQuery(
                name, words, one.calls, one.total_ms, one.worst_ms, one.rows, one.last_ms
            )
            for (name, words), one in list(self._shapes.items())
        ]  # fmt: skip
        return sorted(found, key=lambda query: -query.total_ms)

    def advise(self, collection: str, indexed: Indexed, total: int) -> list[IndexAdvice]:
        """Indexes that would have saved most, none that exists. total: documents now."""
        wanted: list[_Wish] = []
        for (name, words), shape in list(self._shapes.items()):
            if name != collection or not total:
                continue
            share = min(1.0, shape.rows / shape.calls / total)
            saves = shape.total_ms * (1 - share)
            for need in shape.needs:
                if indexed.key in need.fields or any(serves(i, need) for i in indexed.indexes):
                    continue
                wanted.append(_Wish(need, saves / len(shape.needs), shape.calls, words))
        found = [
            IndexAdvice(collection, wish.index(), wish.saves_ms, wish.calls, sorted(wish.queries))
            for wish in merged(wanted)
            if wish.saves_ms > 0
        ]
        return sorted(found, key=lambda advice: -advice.saves_ms)


class _Wish:
    """An index in the making. blocks: sets of fields whose order among themselves is still free,
    then the tail, field by field."""

    def __init__(self, need: Need, saves_ms: float, calls: int, words: str) -> None:
        self.need = need
        self.blocks: list[tuple[str, ...]] = [need.equal] if need.equal else []
        self.blocks += [(path,) for path in need.tail]
        self.saves_ms = saves_ms
        self.calls = calls
        self.queries = {words}

    def takes(self, other: _Wish) -> bool:
        """Can the same index serve the other need, too? Fixes the order of fields if so."""
        if self.need.kind != other.need.kind:
            return False
        if self.need.kind != "btree":
            return self.need == other.need
        blocks = _prefix(self.blocks, other.need)
        if blocks is None:
            return False
        self.blocks = blocks
        self.saves_ms += other.saves_ms
        self.calls += other.calls
        self.queries |= other.queries
        return True

    def index(self) -> Index:
        fields = tuple(path for block in self.blocks for path in block)
        return _index(Need(fields, (), self.need.kind))


def merged(wishes: Iterable[_Wish]) -> list[_Wish]:
    """As few indexes as serve all needs: the longest first, shorter ones join where they fit."""
    found: list[_Wish] = []
    for wish in sorted(wishes, key=lambda one: (-len(one.need.fields), -one.saves_ms)):
        if not any(one.takes(wish) for one in found):
            found.append(wish)
    return found


def _prefix(blocks: Sequence[tuple[str, ...]], need: Need) -> list[tuple[str, ...]] | None:
    """The blocks, refined so that their first fields cover the need; None when they cannot."""
    rest = list(blocks)
    out: list[tuple[str, ...]] = []
    equal = set(need.equal)
    while equal:
        if not rest:
            return None
        block = set(rest[0])
        if block <= equal:
            out.append(rest.pop(0))
            equal -= block
        elif equal < block:
            out.append(tuple(path for path in rest[0] if path in equal))
            rest[0] = tuple(path for path in rest[0] if path not in equal)
            equal = set()
        else:
            return None
    for path in need.tail:
        if not rest or path not in rest[0]:
            return None
        out.append((path,))
        left = tuple(other for other in rest.pop(0) if other != path)
        if left:
            rest.insert(0, left)
    return [*out, *rest]


class SlowQueries:
    """The slow queries of one store, noticed where they are answered. A quick query pays two looks
    at the clock.

    log: by shape. limit_s: queries that take at least so many seconds are recorded; None: none are.
    timer: seconds; clock_ms: milliseconds since 1970.
    """

    def __init__(self, timer: Callable[[], float], clock_ms: Callable[[], int]) -> None:
        self.log = SlowLog()
        self.limit_s: float | None = None
        self.timer = timer
        self.clock_ms = clock_ms
        self.now = 0.0

    def timed(self, answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The answer to a kind of request that has a query."""
        timer = self.timer

        def timed(request: Any) -> Any:
            start = self.now = timer()
            result = answer(request)
            limit_s = self.limit_s
            if limit_s is not None and (elapsed := timer() - start) >= limit_s:
                self.note(request, result, elapsed)
            return result

        return timed

    def note(self, request: Any, result: Any, seconds: float) -> None:
        """A query that took at least ``limit_s``."""
        self.log.note(
            request.table.name,
            type(request).__name__.lower(),
            request.query,
            seconds * 1000,
            rows_of(request, result),
            self.clock_ms(),
        )
