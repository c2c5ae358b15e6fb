"""What ``explain()`` returns, and conditions in words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

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
from homeport.core.selectivity import CHECKED, SORTED

if TYPE_CHECKING:
    from homeport.core.planner import Access
    from homeport.core.query import QueryValue

SHAPE_CHARS: Final = 400


class Explanation:
    """How a query is answered.

    Attributes:
        collection, query: what was asked.
        access: the way in words, for example ``index depth_m: depth_m > 2000``.
        index: the index in use (``id`` is the document key), None for a scan; indexes: all of them,
            where several are read.
        scan: every document is looked at.
        sorts: the result is sorted after reading.
        checked: conditions that are checked on each document read, in words.
        predicates: how many Python functions run on each document.
        estimated_rows: documents that the way leads to, counted up to some thousands and guessed
            beyond; None when nobody can say.
        total_rows: documents of the collection.
        estimated_cost: in documents read; sorting and checking in Python are counted in.
        engine: the engine's own plan, line by line.
        advice: an index that would help, as written in ``indexes=[...]``, or None.
        rows: documents of the result; only after ``explain(run=True)``, like the next three.
        actual_rows: documents that were read, None when nobody can say.
        actual_cost: as ``estimated_cost``, from what was read.
        elapsed_ms: how long the store took.
    """

    __slots__ = (
        "access", "actual_cost", "actual_rows", "advice", "checked", "collection", "elapsed_ms",
        "engine", "estimated_cost", "estimated_rows", "index", "indexes", "predicates", "query",
        "rows", "scan", "sorts", "total_rows",
    )  # fmt: skip

    def __init__(
        self,
        *,
        collection: str,
        query: QueryValue,
        access: str,
        indexes: Sequence[str],
        sorts: bool,
        checked: Sequence[str],
        python: bool,
        estimated_rows: int | None,
        total_rows: int,
        engine: Sequence[str],
        advice: str | None,
    ) -> None:
        self.collection = collection
        self.query = query
        self.access = access
        self.indexes = list(indexes)
        self.index: str | None = self.indexes[0] if indexes else None
        self.scan = not indexes
        self.sorts = sorts
        self.checked = list(checked)
        self.predicates = len(query.predicates)
        self.estimated_rows = estimated_rows
        self.total_rows = total_rows
        self.engine = list(engine)
        self.advice = advice
        weight = 1 + (SORTED if sorts else 0) + (CHECKED if python or self.predicates else 0)
        self.estimated_cost: float | None = _cost(estimated_rows, weight)
        self.rows: int | None = None
        self.actual_rows: int | None = None
        self.actual_cost: float | None = None
        self.elapsed_ms: float | None = None

    def measured(self, *, rows: int, actual_rows: int | None, elapsed_ms: float) -> Explanation:
        """The explanation, completed by a run."""
        self.rows = rows
        self.actual_rows = actual_rows
        self.elapsed_ms = elapsed_ms
        if self.estimated_rows and self.estimated_cost is not None:
            weight = self.estimated_cost / self.estimated_rows
            self.actual_cost = _cost(actual_rows, weight)
        else:
            self.actual_cost = _cost(actual_rows, 1)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data for JSON; the query in words."""
        found = {name: getattr(self, name) for name in sorted(self.__slots__)}
        return {**found, "query": words_of(self.query)}

    def _lines(self) -> list[tuple[str, str]]:
        about = "" if self.estimated_rows is None else f", about {self.estimated_rows:,}"
        of = " of " if about else ", "
        out = [
            ("query", words_of(self.query)),
            ("reads", f"{self.access}{about}{of}{self.total_rows:,} documents"),
        ]
        if self.checked:
            out.append(("checks", "; ".join(self.checked)))
        if self.predicates:
            out.append(("python", f"{self.predicates} function(s) on every row that is read"))
        if self.sorts:
            out.append(("sorts", "after reading"))
        if self.estimated_cost is not None:
            out.append(("cost", f"{self.estimated_cost:,.0f} estimated"))
            if self.actual_cost is not None:
                out[-1] = ("cost", f"{out[-1][1]}, {self.actual_cost:,.0f} actual")
        if self.elapsed_ms is not None:
            read = "" if self.actual_rows is None else f", {self.actual_rows:,} read"
            out.append(("ran", f"{self.elapsed_ms:.3f} ms, {self.rows:,} documents{read}"))
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
        """For notebooks; everything in it is escaped."""
        rows = "".join(
            f'<tr><th style="text-align:left">{escape(name)}</th>'
            f'<td style="text-align:left">{escape(text)}</td></tr>'
            for name, text in self._lines()
        )
        return f"<table><caption>{escape(self.collection)}</caption>{rows}</table>"


def _cost(rows: int | None, weight: float) -> float | None:
    return None if rows is None else round(rows * weight, 1)


# -- in words


def words_of(query: QueryValue) -> str:
    """A query in words."""
    out = "all" if query.where is None else condition_words(query.where)
    if query.order:
        names = (("-" if down else "") + (path or "key") for path, down in query.order)
        out += f" order by {', '.join(names)}"
    if query.limit is not None:
        out += f" limit {query.limit}"
    return out + (f" offset {query.offset}" if query.offset else "")


def shape_of(query: QueryValue) -> str:
    """A query in words without its values: what queries of one kind have in common."""
    out = "all" if query.where is None else _shape(query.where)
    if query.order:
        names = (("-" if down else "") + (path or "key") for path, down in query.order)
        out += f" order by {', '.join(names)}"
    out += "" if query.limit is None else " limit ?"
    out += " offset ?" if query.offset else ""
    out += "" if query.after is None else " after ?"
    return out[:SHAPE_CHARS]


def _shape(condition: Condition) -> str:
    if isinstance(condition, (And, Or)):
        word = " and " if isinstance(condition, And) else " or "
        # Twenty alternatives and thirty of one kind are one shape.
        return "(" + word.join(dict.fromkeys(map(_shape, condition.items))) + ")"
    if isinstance(condition, Not):
        return f"not {_shape(condition.item)}"
    if isinstance(condition, Compare):
        return f"{condition.path} {condition.op} ?"
    return f"{condition.path} {_SHAPES[type(condition)]}"  # type: ignore[attr-defined]


_SHAPES: Final = {
    Between: "between ? and ?",
    AnyOf: "in (?)",
    Matches: "matches ?",
    Contains: "contains ?",
    StartsWith: "starts with ?",
    Missing: "is missing",
    Range: "in a key range",
    IgnoreCase: "is ? ignoring case",
    Element: "has an element with ?",
    Size: "has ? elements",
    OfType: "is of type ?",
    Modulo: "modulo ? is ?",
    Pattern: "fits ?",
}


def access_words(access: Access | None, beside: Access | None = None) -> str:
    """A way to the documents in words."""
    if access is None or access.kind == "scan":
        return "scan of every document"
    if access.kind == "union":
        return "union of " + " + ".join(f"[{access_words(part)}]" for part in access.parts)
    name = {"text": "full text", "key": "document key"}.get(access.kind, f"index {access.index}")
    if access.kind == "order":
        return f"{name}, in its order"
    words = f"{name}: {' and '.join(condition_words(part) for part in access.uses)}"
    if access.outside:
        words += " (around what is excluded)"
    return words if beside is None else f"intersection of [{words}] and [{access_words(beside)}]"


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
