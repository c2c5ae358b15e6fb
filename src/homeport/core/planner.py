"""How a query is answered: the access path by rules, and its explanation.

Rules first: the document key, then the index with the longest run of equalities followed by one
range, then an index that gives the order, else a scan. Engines with a planner of their own (SQLite)
choose by themselves among the same paths; ``Explanation`` then shows their choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from homeport.core.conditions import (
    And,
    AnyOf,
    Between,
    Compare,
    Condition,
    Contains,
    Element,
    IgnoreCase,
    Matches,
    Missing,
    Modulo,
    Not,
    OfType,
    Or,
    Pattern,
    Range,
    Size,
    StartsWith,
)
from homeport.core.keys import encode

if TYPE_CHECKING:
    from homeport.core.codec import Codec
    from homeport.core.query import QueryValue
    from homeport.core.schema import Index

Kind: TypeAlias = Literal["key", "index", "multi", "text", "order", "scan"]


class Access:
    """kind of path; index: its name; equal: paths fixed to one value; range: the path behind them;
    ordered: the path yields the asked order by itself; left: what is checked on each row."""

    __slots__ = ("equal", "index", "kind", "left", "ordered", "range")

    def __init__(
        self,
        kind: Kind,
        index: str | None = None,
        equal: tuple[str, ...] = (),
        range_: str | None = None,
        *,
        ordered: bool = False,
        left: tuple[Condition, ...] = (),
    ) -> None:
        self.kind: Kind = kind
        self.index = index
        self.equal = equal
        self.range = range_
        self.ordered = ordered
        self.left = left


def conjuncts(where: Condition | None) -> tuple[Condition, ...]:
    if where is None:
        return ()
    return where.items if isinstance(where, And) else (where,)


def plan(query: QueryValue, codec: Codec[Any]) -> Access:
    """The access path of a query by the rules above."""
    parts = conjuncts(query.where)
    equal = {p: c for c in parts if (p := _equality(c)) is not None}
    ranges = {p: c for c in parts if (p := _range(c)) is not None}
    for path in (codec.key, ""):
        if path in equal or path in ranges:
            used = equal[path] if path in equal else ranges[path]
            ordered = path in equal or not query.order or query.order[0][0] in (codec.key, "")
            return Access("key", "id", (path,), ordered=ordered, left=_without(parts, [used]))
    special = _special(codec, parts, equal)
    if special is not None:
        return special
    best: tuple[tuple[int, int, int], Access] | None = None
    for index in codec.indexes:
        if index.multi or index.kind == "fulltext":
            continue
        if index.kind == "hash":
            choices = {p: c for p, c in ranges.items() if isinstance(c, AnyOf)}
            fixed = {**choices, **equal}
            if any(path not in fixed for path in index.fields):
                continue  # equality of the whole, and no order
            access, score = _on_hash(query, parts, fixed, index)
        else:
            access, score = _on_index(query, parts, equal, ranges, index.name, index.fields)
        if index.sparse and not score[0] and not score[1]:
            continue  # a sparse index does not hold every document
        if any(score) and (best is None or score > best[0]):
            best = (score, access)
    if best is not None:
        return best[1]
    return Access("scan", ordered=not query.order, left=parts)


def _on_index(
    query: QueryValue,
    parts: tuple[Condition, ...],
    equal: dict[str, Condition],
    ranges: dict[str, Condition],
    name: str,
    fields: tuple[str, ...],
) -> tuple[Access, tuple[int, int, int]]:
    used: list[Condition] = []
    fixed: list[str] = []
    for path in fields:
        if path not in equal:
            break
        fixed.append(path)
        used.append(equal[path])
    rest = fields[len(fixed) :]
    range_ = rest[0] if rest and rest[0] in ranges else None
    if range_ is not None:
        used.append(ranges[range_])
    wanted = [path for path, _ in query.order if path not in fixed]
    directions = {down for path, down in query.order if path not in fixed}
    ordered = bool(query.order) and wanted == list(rest[: len(wanted)]) and len(directions) <= 1
    kind: Kind = "index" if used else "order"
    access = Access(
        kind, name, tuple(fixed), range_, ordered=ordered or not query.order,
        left=_without(parts, used),
    )  # fmt: skip
    return access, (len(fixed), int(range_ is not None), int(ordered))


def _on_hash(
    query: QueryValue, parts: tuple[Condition, ...], equal: dict[str, Condition], index: Index
) -> tuple[Access, tuple[int, int, int]]:
    left = _without(parts, [equal[path] for path in index.fields])
    access = Access("index", index.name, index.fields, ordered=not query.order, left=left)
    return access, (len(index.fields), 0, 0)


def _special(
    codec: Codec[Any], parts: tuple[Condition, ...], equal: dict[str, Condition]
) -> Access | None:
    for part in parts:
        if isinstance(part, Contains) and encode(part.value) is not None:
            # Of several fields: the ones in front equal, the last one has the element.
            for index in sorted(codec.multi, key=lambda one: -len(one.fields)):
                *heads, last = index.fields
                if last == part.path and all(path in equal for path in heads):
                    left = _without(parts, [*(equal[path] for path in heads), part])
                    return Access("multi", index.name, index.fields, left=left)
        if isinstance(part, Element):
            for index in codec.multi:
                if index.fields == (part.path,):
                    return Access("multi", index.name, (part.path,), left=_without(parts, [part]))
        if isinstance(part, Matches) and part.path in codec.text_paths:
            return Access("text", part.path, (part.path,), left=_without(parts, [part]))
    return None


def _equality(condition: Condition) -> str | None:
    """The path that a condition fixes to one key."""
    if isinstance(condition, Compare) and condition.op == "==":
        return condition.path if encode(condition.value) is not None else None
    if isinstance(condition, Range) and condition.lower is not None:
        return condition.path if encode(condition.lower) == encode(condition.upper) else None
    return None


def _range(condition: Condition) -> str | None:
    if isinstance(condition, Compare):
        return condition.path if condition.op not in ("==", "!=") else None
    if isinstance(condition, AnyOf):
        return condition.path if all(encode(v) is not None for v in condition.values) else None
    if isinstance(condition, (Between, StartsWith, Range)):
        return condition.path
    return None


def _without(parts: tuple[Condition, ...], used: list[Condition]) -> tuple[Condition, ...]:
    return tuple(part for part in parts if not any(part is one for one in used))


def advice(query: QueryValue, codec: Codec[Any]) -> str | None:
    """The index that would serve a query that scans or sorts; None when nothing is missing."""
    access = plan(query, codec)
    parts = conjuncts(query.where)
    sorting = bool(query.order) and not access.ordered
    if access.kind not in ("scan", "order") and not sorting:
        return None
    if not parts and not sorting:
        return None
    if access.kind == "key" and access.ordered:
        return None
    equal = [p for c in parts if (p := _equality(c)) is not None]
    ranged = [p for c in parts if (p := _range(c)) is not None and p not in equal]
    for part in parts:
        if isinstance(part, Contains):
            return f'hp.Multi("{part.path}")' if access.kind == "scan" else None
        if isinstance(part, Matches):
            return f'hp.FullText("{part.path}")' if access.kind == "scan" else None
    order = [path for path, _ in query.order if path and path not in equal]
    tail = order if order and (not ranged or order[0] == ranged[0]) else ranged[:1]
    fields = list(dict.fromkeys([*equal, *tail]))
    plain = {i.fields for i in codec.indexes if not i.multi and i.kind != "fulltext"}
    if not fields or tuple(fields) in plain:
        return None
    return f'"{fields[0]}"' if len(fields) == 1 else f"({', '.join(repr(f) for f in fields)})"


class Explanation:
    """How a query is answered.

    Attributes:
        collection, query: what was asked.
        index: the index in use (``id`` is the document key), None for a scan.
        scan: every document is looked at.
        sorts: the result is sorted after reading.
        checked: conditions that are checked on each row read, in words.
        predicates: how many Python functions run on each row.
        estimated_rows: rows that the engine expects to read, None when it cannot say.
        total_rows: documents of the collection.
        engine: the engine's own plan, line by line.
        advice: an index that would help, as written in ``indexes=[...]``, or None.
    """

    __slots__ = (
        "advice", "checked", "collection", "engine", "estimated_rows", "index", "predicates",
        "query", "scan", "sorts", "total_rows",
    )  # fmt: skip

    def __init__(
        self,
        *,
        collection: str,
        query: QueryValue,
        index: str | None,
        scan: bool,
        sorts: bool,
        checked: Sequence[str],
        estimated_rows: int | None,
        total_rows: int,
        engine: Sequence[str],
        advice: str | None,
    ) -> None:
        self.collection = collection
        self.query = query
        self.index = index
        self.scan = scan
        self.sorts = sorts
        self.checked = list(checked)
        self.predicates = len(query.predicates)
        self.estimated_rows = estimated_rows
        self.total_rows = total_rows
        self.engine = list(engine)
        self.advice = advice

    def _lines(self) -> list[tuple[str, str]]:
        how = "scan of every document" if self.scan else f"index {self.index}"
        rows = "" if self.estimated_rows is None else f"about {self.estimated_rows:,} of "
        out = [
            ("query", words_of(self.query)),
            ("reads", f"{how}, {rows}{self.total_rows:,} documents"),
        ]
        if self.checked:
            out.append(("checks", "; ".join(self.checked)))
        if self.predicates:
            out.append(("python", f"{self.predicates} function(s) on every row that is read"))
        if self.sorts:
            out.append(("sorts", "after reading"))
        out += [("engine", line) for line in self.engine]
        if self.advice:
            out.append(("advice", f"an index would help: indexes=[..., {self.advice}]"))
        return out

    def __str__(self) -> str:
        return "\n".join(
            [self.collection, *(f"  {name:<7} {text}" for name, text in self._lines())]
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>"
            for name, text in self._lines()
        )
        return f"<table><caption>{escape(self.collection)}</caption>{rows}</table>"


def words_of(query: QueryValue) -> str:
    """A query in words."""
    out = "all" if query.where is None else condition_words(query.where)
    if query.order:
        names = (("-" if down else "") + (path or "key") for path, down in query.order)
        out += f" order by {', '.join(names)}"
    if query.limit is not None:
        out += f" limit {query.limit}"
    return out + (f" offset {query.offset}" if query.offset else "")


def condition_words(condition: Condition) -> str:
    if isinstance(condition, (And, Or)):
        word = " and " if isinstance(condition, And) else " or "
        return "(" + word.join(map(condition_words, condition.items)) + ")"
    if isinstance(condition, Not):
        return f"not {condition_words(condition.item)}"
    if isinstance(condition, Compare):
        return f"{condition.path} {condition.op} {condition.value!r:.60}"
    if isinstance(condition, Between):
        return f"{condition.path} between {condition.low!r:.40} and {condition.high!r:.40}"
    if isinstance(condition, AnyOf):
        return f"{condition.path} in {len(condition.values)} values"
    if isinstance(condition, Matches):
        return f"{condition.path} matches {condition.text!r:.60}"
    if isinstance(condition, Contains):
        return f"{condition.path} contains {condition.value!r:.60}"
    if isinstance(condition, StartsWith):
        return f"{condition.path} starts with {condition.prefix!r:.60}"
    if isinstance(condition, Missing):
        return f"{condition.path} is missing"
    if isinstance(condition, Range):
        return f"{condition.path} in the key range{_range_words(condition)}"
    if isinstance(condition, Element):
        return f"{condition.path} has an element with {condition_words(condition.item)}"
    if isinstance(condition, Size):
        return f"{condition.path} has {condition.size} elements"
    if isinstance(condition, OfType):
        return f"{condition.path} is of type {' or '.join(condition.types)}"
    if isinstance(condition, Modulo):
        return f"{condition.path} modulo {condition.divisor} is {condition.remainder}"
    if isinstance(condition, Pattern):
        return f"{condition.path} fits /{condition.pattern:.60}/{condition.flags}"
    assert isinstance(condition, IgnoreCase)
    how = "starts with" if condition.prefix else "is"
    return f"{condition.path} {how} {' or '.join(map(repr, condition.values))} ignoring case"


def _range_words(condition: Range) -> str:
    low = high = ""
    if condition.lower is not None:
        low = f" {'above' if condition.lower_open else 'from'} {condition.lower!r:.40}"
    if condition.upper is not None:
        high = f" {'below' if condition.upper_open else 'to'} {condition.upper!r:.40}"
    return low + high or " of all keys"
