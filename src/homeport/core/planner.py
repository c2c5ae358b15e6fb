"""How a query can be answered: the access paths, and the one that the rules choose.

Rules first: the document key, then an index for the elements of an array or the words of a text,
then the index with the longest run of equalities followed by one range, then the union of an
alternative whose every branch has an index, then an index that gives the order, else a scan. Where
several paths would do, a store that can count chooses by numbers (``core/selectivity.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from homeport.core.conditions import (
    And,
    AnyOf,
    Between,
    Compare,
    Condition,
    Contains,
    Element,
    Matches,
    Not,
    Or,
    Range,
    StartsWith,
)
from homeport.core.keys import encode
from homeport.core.query import QueryValue
from homeport.core.spans import SPANS_MAX, normal, spans_of

if TYPE_CHECKING:
    from homeport.core.indexes import Index, Indexed

Kind: TypeAlias = Literal["key", "index", "multi", "text", "union", "order", "scan"]

BRANCHES_MAX = 50
"""An alternative of more branches is not read from indexes."""


class Access:
    """One way to the documents of a query.

    Attributes:
        kind: of path. index: its name (``id`` is the document key).
        equal: paths fixed to one value; range: the path behind them that is a range.
        ordered: it yields the asked order by itself.
        uses: the conditions that it answers; left: those that are checked on each row.
        parts: the branches of a union.
        outside: it reads what lies around an excluded value, which pays only if that is little.
    """

    __slots__ = ("equal", "index", "kind", "left", "ordered", "outside", "parts", "range", "uses")

    def __init__(
        self,
        kind: Kind,
        index: str | None = None,
        equal: tuple[str, ...] = (),
        range_: str | None = None,
        *,
        ordered: bool = False,
        uses: tuple[Condition, ...] = (),
        left: tuple[Condition, ...] = (),
        parts: tuple[Access, ...] = (),
        outside: bool = False,
    ) -> None:
        self.kind: Kind = kind
        self.index = index
        self.equal = equal
        self.range = range_
        self.ordered = ordered
        self.uses = uses
        self.left = left
        self.parts = parts
        self.outside = outside

    def __repr__(self) -> str:
        parts = f" of {list(self.parts)}" if self.parts else ""
        return f"<Access {self.kind} {self.index or ''}{parts}, {len(self.left)} left>"


def conjuncts(where: Condition | None) -> tuple[Condition, ...]:
    if where is None:
        return ()
    return where.items if isinstance(where, And) else (where,)


def plan(query: QueryValue, codec: Indexed) -> Access:
    """The access path of a query by the rules above."""
    parts = conjuncts(None if query.where is None else normal(query.where))
    found = accesses(query, parts, codec)
    return found[0] if found else Access("scan", ordered=not query.order, left=parts)


def accesses(
    query: QueryValue, parts: tuple[Condition, ...], codec: Indexed, *, outside: bool = False
) -> list[Access]:
    """Every path, best rule first. ``parts``: the conjuncts of the condition, in normal form.

    outside: also the ranges around excluded values, which no rule would choose.
    """
    equal = {p: c for c in parts if (p := equality(c)) is not None}
    ranges: dict[str, tuple[Condition, ...]] = {}
    for part in parts:
        path = ranged(part)
        if path is not None:
            ranges[path] = (*ranges.get(path, ()), part)
    found: list[Access] = []
    for path in (codec.key, ""):
        if path in equal or path in ranges:
            uses = (equal[path],) if path in equal else ranges[path]
            ordered = path in equal or not query.order or query.order[0][0] in (codec.key, "")
            left = _without(parts, uses)
            found.append(Access("key", "id", (path,), ordered=ordered, uses=uses, left=left))
    found += _special(codec, parts, equal)
    scored: list[tuple[tuple[int, int, int], Access]] = []
    for index in codec.indexes:
        if index.multi or index.kind == "fulltext":
            continue
        if index.kind == "hash":
            # Equality of the whole, to one value or to several, and no order.
            chosen = {p: c for p, (c, *_) in ranges.items() if isinstance(c, AnyOf)}
            fixed = {**chosen, **equal}
            if any(path not in fixed for path in index.fields):
                continue
            access, score = _on_hash(query, parts, fixed, index)
        else:
            access, score = _on_index(query, parts, equal, ranges, index)
        if index.sparse and not score[0] and not score[1]:
            continue  # a sparse index does not hold every document
        if any(score):
            scored.append((score, access))
    scored.sort(key=lambda one: one[0], reverse=True)  # stable: declared first wins
    found += [access for score, access in scored if score[0] or score[1]]
    found += _unions(query, parts, codec)
    if outside:
        found += _outside(parts, codec)
    found += [access for score, access in scored if not (score[0] or score[1])]
    return found


def _on_index(
    query: QueryValue,
    parts: tuple[Condition, ...],
    equal: dict[str, Condition],
    ranges: dict[str, tuple[Condition, ...]],
    index: Index,
) -> tuple[Access, tuple[int, int, int]]:
    used: list[Condition] = []
    fixed: list[str] = []
    for path in index.fields:
        if path not in equal:
            break
        fixed.append(path)
        used.append(equal[path])
    rest = index.fields[len(fixed) :]
    range_ = rest[0] if rest and rest[0] in ranges else None
    if range_ is not None:
        used += ranges[range_]
    wanted = [path for path, _ in query.order if path not in fixed]
    directions = {down for path, down in query.order if path not in fixed}
    ordered = bool(query.order) and wanted == list(rest[: len(wanted)]) and len(directions) <= 1
    uses = tuple(used)
    access = Access(
        "index" if used else "order", index.name, tuple(fixed), range_,
        ordered=ordered or not query.order, uses=uses, left=_without(parts, uses),
    )  # fmt: skip
    return access, (len(fixed), int(range_ is not None), int(ordered))


def _on_hash(
    query: QueryValue, parts: tuple[Condition, ...], equal: dict[str, Condition], index: Index
) -> tuple[Access, tuple[int, int, int]]:
    uses = tuple(equal[path] for path in index.fields)
    left = _without(parts, uses)
    access = Access(
        "index", index.name, index.fields, ordered=not query.order, uses=uses, left=left
    )
    return access, (len(index.fields), 0, 0)


def _special(
    codec: Indexed, parts: tuple[Condition, ...], equal: dict[str, Condition]
) -> list[Access]:
    found: list[Access] = []
    for part in parts:
        if isinstance(part, Contains) and encode(part.value) is not None:
            # Of several fields: the ones in front equal, the last one has the element.
            for index in sorted(codec.multi, key=lambda one: -len(one.fields)):
                *heads, last = index.fields
                if last == part.path and all(path in equal for path in heads):
                    uses = (*(equal[path] for path in heads), part)
                    left = _without(parts, uses)
                    found.append(Access("multi", index.name, index.fields, uses=uses, left=left))
        if isinstance(part, Element):
            for index in codec.multi:
                if index.fields == (part.path,):
                    left = _without(parts, (part,))
                    found.append(Access("multi", index.name, (part.path,), uses=(part,), left=left))
        if isinstance(part, Matches) and part.path in codec.text_paths:
            left = _without(parts, (part,))
            found.append(Access("text", part.path, (part.path,), uses=(part,), left=left))
    return found


def _unions(query: QueryValue, parts: tuple[Condition, ...], codec: Indexed) -> list[Access]:
    """Alternatives of which every branch has a path of its own."""
    found: list[Access] = []
    for part in parts:
        if not isinstance(part, Or) or not 0 < len(part.items) <= BRANCHES_MAX:
            continue
        branches: list[Access] = []
        for item in part.items:
            inner = accesses(QueryValue(), conjuncts(item), codec)
            if not inner:
                break
            branches.append(inner[0])
        else:
            # What a branch leaves over is checked with the whole alternative.
            exact = not any(branch.left for branch in branches)
            found.append(
                Access(
                    "union", ordered=not query.order, uses=(part,), parts=tuple(branches),
                    left=_without(parts, (part,)) if exact else parts,
                )
            )  # fmt: skip
    return found


def _outside(parts: tuple[Condition, ...], codec: Indexed) -> list[Access]:
    """``!=`` and ``~`` as the ranges that are left."""
    leading = {i.fields[0]: i.name for i in codec.indexes if readable(i) and not i.sparse}
    found: list[Access] = []
    for part in parts:
        if not negative(part):
            continue
        path: str = (part.item if isinstance(part, Not) else part).path  # type: ignore[attr-defined]
        spans = spans_of(part) if path in leading else None
        if spans is not None and len(spans.spans) <= SPANS_MAX:
            found.append(
                Access(
                    "index", leading[path], range_=path, uses=(part,),
                    left=_without(parts, (part,)), outside=True,
                )
            )  # fmt: skip
    return found


def negative(condition: Condition) -> bool:
    """Does it name what is excluded?"""
    return isinstance(condition, Not) or (isinstance(condition, Compare) and condition.op == "!=")


def readable(index: Index) -> bool:
    """Can ranges be read from it, in order?"""
    return not index.multi and index.kind == "btree"


def equality(condition: Condition) -> str | None:
    """The path that a condition fixes to one key."""
    if isinstance(condition, Compare) and condition.op == "==":
        return condition.path if encode(condition.value) is not None else None
    if isinstance(condition, Range) and condition.lower is not None:
        return condition.path if encode(condition.lower) == encode(condition.upper) else None
    return None


def ranged(condition: Condition) -> str | None:
    """The path that a condition narrows to ranges of keys."""
    if isinstance(condition, Compare):
        return condition.path if condition.op not in ("==", "!=") else None
    if isinstance(condition, AnyOf):
        return condition.path if all(encode(v) is not None for v in condition.values) else None
    if isinstance(condition, (Between, StartsWith, Range)):
        return condition.path
    return None


def _without(parts: tuple[Condition, ...], used: Sequence[Condition]) -> tuple[Condition, ...]:
    return tuple(part for part in parts if not any(part is one for one in used))
