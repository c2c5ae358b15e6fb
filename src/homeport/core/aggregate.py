"""Aggregates: count, sum, avg, min, max, how many distinct, over all or by groups.

What they mean on every engine:

- ``count()`` counts documents, ``count(field)`` those in which the field is there and not null.
- ``sum`` and ``avg`` take numbers alone (a boolean is none) and leave out everything else. The sum
  is exact and rounded once, so no order of rows changes it; it is an integer when all numbers are.
  ``avg`` is that sum divided by how many numbers there were. Of nothing: 0 and None.
- ``min``, ``max`` and ``count_distinct`` take the values that are keys, in the total order of keys
  through all types (numbers < texts < booleans < binary < arrays); missing, null and objects are
  left out. Of nothing: None and 0.
- Groups are formed by equal keys, of which an array is one. What is no key (missing, null, objects)
  is the group None, which comes last; the others come in the order of keys. ``Each`` of a field
  groups by the elements of its array: a document counts once in the group of each distinct one, and
  in None when it has none. No index changes what the groups are.
- With an order, limit, offset or position, the aggregates are those of the rows that remain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from homeport.core.exact import Exact
from homeport.core.keys import MAX_SAFE_INT, Encoded, decode, encode, order
from homeport.core.models import decode_object
from homeport.core.paths import MISSING, get_path
from homeport.errors import InvalidQuery

if TYPE_CHECKING:
    from homeport.core.codec import Codec

Kind: TypeAlias = Literal["count", "sum", "avg", "min", "max", "count_distinct"]

_ESCAPED: Final = re.compile(r'["\\\x00-\x1f]')
BATCH: Final = 500
"""So many documents are folded at once."""

GroupRow: TypeAlias = "tuple[tuple[Any, ...], tuple[Any, ...]]"
"""``(value of each group field, None where there is no key; result of each measure)``, in the form
of JSON."""


class Measure:
    """One aggregate of one field; path None counts documents. Made by ``hp.agg``."""

    __slots__ = ("kind", "path")

    def __init__(self, kind: Kind, path: str | None = None) -> None:
        self.kind: Kind = kind
        self.path = path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Measure) and (self.kind, self.path) == (other.kind, other.path)

    def __hash__(self) -> int:
        return hash((self.kind, self.path))

    def __repr__(self) -> str:
        return f"agg.{self.kind}({'' if self.path is None else repr(self.path)})"


class Each(str):
    """The path of a group field whose array is taken apart. Made by ``hp.agg.each``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"agg.each({str(self)!r})"


def measure(kind: Kind, field: object) -> Measure:
    """A measure of a field, given by name or as ``F.name``."""
    return Measure(kind, path_of(field, f"{kind}()"))


def path_of(field: object, what: str) -> str:
    """A field given by name or as ``F.name`` → its path; ``InvalidQuery`` otherwise."""
    path = getattr(field, "_path", field)
    if not isinstance(path, str) or "" in path.split("."):
        raise InvalidQuery(
            f"{what} takes the name of a field, not {field!r:.60}.",
            action="For example 'depth_m' or hp.F.position.lat.",
        )
    return path


def bind_measure(given: object, codec: Codec[Any]) -> Measure:
    """The measure with its stored path, checked against the model."""
    if not isinstance(given, Measure):
        raise InvalidQuery(
            f"aggregate() takes values of hp.agg, not {given!r:.60}.",
            action='For example aggregate(n=hp.agg.count(), deepest=hp.agg.max("depth_m")).',
        )
    if given.path is None:
        return given
    stored = codec.scope.check_path(given.path)
    if given.kind in ("min", "max"):
        codec.scope.check_ordered(given.path)
    elif given.kind in ("sum", "avg"):
        node = codec.scope.node(given.path)
        kinds = set() if node is None else node.kinds - {"null"}
        if kinds and not node_is_open(node) and not kinds & {"int", "float", "enum"}:
            raise InvalidQuery(
                f"{given.kind}() adds numbers, and {given.path} is a {' or '.join(sorted(kinds))}.",
                action="Store a number beside it."
                if kinds & {"decimal", "timedelta"}
                else "Choose a field with numbers; count(), min() and max() take all types.",
            )
    return Measure(given.kind, stored)


def node_is_open(node: Any) -> bool:
    return bool(node.open or node.shapes or node.item or node.value)


# -- the reference: folding documents


class Fold:
    """Takes values of documents, keeps one state for each group.

    elements: those of the group fields whose arrays are taken apart.
    paths: what has to be read of each document, in the order in which ``add`` wants the values.
    """

    def __init__(
        self, groups: Sequence[str], measures: Sequence[Measure], elements: Collection[str] = ()
    ) -> None:
        paths = [*groups, *(m.path for m in measures if m.path is not None)]
        self.paths: tuple[str, ...] = tuple(dict.fromkeys(paths))
        at = {path: place for place, path in enumerate(self.paths)}
        self._groups = [(at[path], path in elements) for path in groups]
        self._unwinds = any(unwinds for _, unwinds in self._groups)
        self._measures = [(m, None if m.path is None else at[m.path]) for m in measures]
        self._states: dict[tuple[Encoded | None, ...], list[State]] = {}
        if not groups:
            self._states[()] = self._fresh()

    def _fresh(self) -> list[State]:
        return [_STATES[m.kind](m.path) for m, _ in self._measures]

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Values of several documents; some hundred at once cost a third of one by one."""
        if not rows:
            return
        if not self._groups:
            self._feed((), rows)
            return
        members: dict[tuple[Encoded | None, ...], list[Sequence[Any]]] = {}
        if self._unwinds:
            for values in rows:
                for name in self._names(values):
                    members.setdefault(name, []).append(values)
        else:
            places = [place for place, _ in self._groups]
            for values in rows:
                name = tuple([encode(values[place]) for place in places])
                members.setdefault(name, []).append(values)
        for name, group in members.items():
            self._feed(name, group)

    def _feed(self, name: tuple[Encoded | None, ...], rows: Sequence[Sequence[Any]]) -> None:
        states = self._states.get(name)
        if states is None:
            states = self._states[name] = self._fresh()
        for state, (_, place) in zip(states, self._measures, strict=True):
            state.add(rows if place is None else [values[place] for values in rows])

    def _names(self, values: Sequence[Any]) -> Iterable[tuple[Encoded | None, ...]]:
        return product(
            *(
                _entries(values[place]) if unwinds else (encode(values[place]),)
                for place, unwinds in self._groups
            )
        )

    def rows(self) -> list[GroupRow]:
        """One row for each group, in order; without group fields exactly one."""
        return in_order(
            (name, tuple([state.result() for state in states]))
            for name, states in self._states.items()
        )


def in_order(
    rows: Iterable[tuple[tuple[Encoded | None, ...], tuple[Any, ...]]],
) -> list[GroupRow]:
    """Rows by encoded group keys → rows by their values, in the order of keys, None last."""
    found = sorted(rows, key=lambda row: [order(key) for key in row[0]])
    return [
        (tuple([None if key is None else decode(key) for key in name]), results)
        for name, results in found
    ]


def _entries(value: Any) -> tuple[Encoded | None, ...]:
    if not isinstance(value, (list, tuple)):
        return (None,)
    found = {key: None for item in value if (key := encode(item)) is not None}
    return tuple(found) or (None,)


class State:
    """One measure of one group. ``add`` gets values, MISSING for each field that is not there."""

    __slots__ = ()

    def __init__(self, path: str | None) -> None: ...

    def add(self, values: Sequence[Any]) -> None:
        raise AssertionError(values)

    def result(self) -> Any:
        raise AssertionError


class _Count(State):
    __slots__ = ("_all", "_count")

    def __init__(self, path: str | None) -> None:
        self._all = path is None
        self._count = 0

    def add(self, values: Sequence[Any]) -> None:
        self._count += len(values)
        if not self._all:
            self._count -= sum(1 for value in values if value is None or value is MISSING)

    def result(self) -> int:
        return self._count


class _Sum(State):
    __slots__ = ("_exact",)

    def __init__(self, path: str | None) -> None:
        super().__init__(path)
        self._exact = Exact()

    def add(self, values: Sequence[Any]) -> None:
        self._exact.add_floats([value for value in values if type(value) is float])
        # Of integers beyond 2**53 other engines know only a neighbour: they are no keys.
        self._exact.add_integers(
            [v for v in values if type(v) is int and -MAX_SAFE_INT <= v <= MAX_SAFE_INT]
        )

    def result(self) -> Any:
        return self._exact.total()


class _Avg(_Sum):
    __slots__ = ()

    def result(self) -> Any:
        return self._exact.mean()


class _Min(State):
    __slots__ = ("_best", "_place")

    _choose: Callable[..., Any] = staticmethod(min)

    def __init__(self, path: str | None) -> None:
        super().__init__(path)
        self._best: Encoded | None = None
        self._place: Any = None

    def add(self, values: Sequence[Any]) -> None:
        kinds = set(map(type, values))
        if kinds == {float} or (kinds == {str} and "".join(values).isascii()):
            # Python's order is that of keys: one value of the lot can be the best.
            values = (self._choose(values),)
        for value in values:
            key = encode(value)
            if key is None:
                continue
            place = order(key)
            if self._best is None or self._choose(place, self._place) is place:
                self._best, self._place = key, place

    def result(self) -> Any:
        return None if self._best is None else decode(self._best)


class _Max(_Min):
    __slots__ = ()

    _choose: Callable[..., Any] = staticmethod(max)


class _CountDistinct(State):
    __slots__ = ("_keys",)

    def __init__(self, path: str | None) -> None:
        super().__init__(path)
        self._keys: set[Encoded] = set()

    def add(self, values: Sequence[Any]) -> None:
        self._keys.update(key for key in map(encode, values) if key is not None)

    def result(self) -> int:
        return len(self._keys)


_STATES: Final[dict[Kind, Callable[[str | None], State]]] = {
    "count": _Count,
    "sum": _Sum,
    "avg": _Avg,
    "min": _Min,
    "max": _Max,
    "count_distinct": _CountDistinct,
}


# -- reading a few fields of a stored text


@lru_cache(maxsize=256)
def field_reader(paths: tuple[str, ...]) -> Callable[[str], tuple[Any, ...]]:
    """A function from a stored text to the values at these paths, ``MISSING`` where there is none.

    msgspec skips the fields that are not named here, which takes half the time of a whole decode.
    """
    tops = tuple(dict.fromkeys(path.partition(".")[0] for path in paths))
    if any(_ESCAPED.search(top) for top in tops):
        # msgspec renames fields to anything but names that JSON has to escape.
        return lambda text: tuple([get_path(decode_object(text), path) for path in paths])
    names = {f"f{n}": top for n, top in enumerate(tops)}
    struct = msgspec.defstruct(
        "Fields", [(name, Any, MISSING) for name in names], rename=names, gc=False
    )
    read: Callable[[str], msgspec.Struct] = msgspec.json.Decoder(struct).decode
    values = msgspec.structs.astuple
    if tops == paths:
        return lambda text: values(read(text))
    places = [(tops.index(top), rest) for top, _, rest in (path.partition(".") for path in paths)]

    def nested(text: str) -> tuple[Any, ...]:
        found = values(read(text))
        return tuple([get_path(found[place], rest) for place, rest in places])

    return nested


def fold_texts(fold: Fold, texts: Iterable[str]) -> list[GroupRow]:
    """The rows of a fold over stored texts; keeps some hundred of them at a time."""
    read, rest = field_reader(fold.paths), iter(texts)
    while rows := [read(text) for text in islice(rest, BATCH)]:
        fold.add(rows)
    return fold.rows()
