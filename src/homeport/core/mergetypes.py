"""Merge types: fields whose two versions combine by meaning, not by who came later.

Each is a pure function of three values, ``(base, mine, theirs)``: what both sides started from,
what this change made of it, and what it lands on. The device uses it when it rebases a queued
change, the server when a patch meets a row that moved, so that a counter that everybody increments
is never sent in vain.

A value that is not of the declared kind (a text in a counter, a list element without its identity)
makes the type answer None: the ordinary rule of fields decides then, and nothing is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from math import fsum, isfinite
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from homeport.core import keys
from homeport.core.diff import apply, diff, get, same
from homeport.core.indexes import Frozen, check_path
from homeport.core.paths import MISSING
from homeport.errors import MissingDependency, SchemaError

__all__ = [
    "Counter",
    "ListOf",
    "LocalWins",
    "Max",
    "MergeType",
    "Merged",
    "Min",
    "RemoteWins",
    "SetOf",
    "Text",
    "type_of",
]


class Merged(NamedTuple):
    """The combined value. clashes: places inside it where both sides wanted something else and
    mine, which arrives later, was taken (the other is in the record of the settlement)."""

    value: Any
    clashes: Sequence[str] = ()


class MergeType(Frozen):
    """Base of the merge types. ``spec`` is the name that goes over the wire."""

    __slots__ = ()

    kind: ClassVar[str] = ""

    @property
    def spec(self) -> str:
        return self.kind

    def merge(self, base: Any, mine: Any, theirs: Any) -> Merged | None:
        """Combine two values; None when they are not of this kind. ``MISSING`` = no value."""
        return self._merge(base, mine, theirs)

    def _merge(self, base: Any, mine: Any, theirs: Any) -> Merged | None:
        raise TypeError(f"{self!r} cannot merge {base!r}, {mine!r} and {theirs!r}.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MergeType) and other.spec == self.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Counter(MergeType):
    """A number that is counted up and down: what each side added is added up.

    A missing field or null counts as 0 before the change. Whole numbers stay exact; numbers with a
    fraction are summed exactly and rounded once.
    """

    __slots__ = ()
    kind = "counter"

    def _merge(self, base: Any, mine: Any, theirs: Any) -> Merged | None:
        start = 0 if base is MISSING or base is None else base
        now = 0 if (theirs is MISSING or theirs is None) and start is not base else theirs
        if not (_number(start) and _number(mine) and _number(now)):
            return None
        if all(isinstance(value, int) for value in (start, mine, now)):
            count = now + mine - start
            return Merged(count) if abs(count) <= keys.MAX_SAFE_INT else None
        sides: list[Any] = [now, mine, -start]  # numbers all
        try:
            total = fsum(sides)
        except OverflowError:  # a whole number, or a step on the way, beyond all doubles
            return None
        return Merged(total) if isfinite(total) else None


class SetOf(MergeType):
    """A list used as a set: elements that either side added stay, elements that either side took
    away go. An element that one side took away and the other side added (it was not there before)
    stays: add wins. Elements are compared as JSON; theirs keep their order, mine follow.
    """

    __slots__ = ()
    kind = "set"

    def _merge(self, base: Any, mine: Any, theirs: Any) -> Merged | None:
        start = [] if base is MISSING or base is None else base
        now = [] if (theirs is MISSING or theirs is None) and start is not base else theirs
        if not (isinstance(start, list) and isinstance(mine, list) and isinstance(now, list)):
            return None
        before, wanted, there = _by_text(start), _by_text(mine), _by_text(now)
        kept = {name: item for name, item in there.items() if name in wanted or name not in before}
        kept.update({n: item for n, item in wanted.items() if n not in before and n not in kept})
        return Merged(list(kept.values()))


class ListOf(MergeType):
    """A list of elements with an identity: elements are added, removed, moved, edited singly.

    Both sides' new elements stay (theirs first where they are at one place); an element that one
    side removed goes, unless the other side edited it; two edits of one element are merged by
    field. The order is theirs, unless only mine was changed.

    Args:
        key: the field that names an element; None for a list of plain values, each its own name.
    """

    __slots__ = ("key",)
    kind = "list"

    key: str | None

    def __init__(self, key: str | None = "id") -> None:
        if key is not None:
            check_path(key, "The key of ListOf")
            if "." in key:
                raise SchemaError(f"The key of ListOf is a field of the element, not {key!r}.")
        self._set(key=key)

    @property
    def spec(self) -> str:
        return "list" if self.key is None else f"list:{self.key}"

    def __repr__(self) -> str:
        return f"ListOf({self.key!r})"

    def _merge(self, base: Any, mine: Any, theirs: Any) -> Merged | None:
        start = [] if base is MISSING or base is None else base
        now = [] if (theirs is MISSING or theirs is None) and start is not base else theirs
        named = [_named(value, self.key) for value in (start, mine, now)]
        if any(value is None for value in named):
            return None
        before, wanted, there = (value or {} for value in named)
        kept: dict[str, Any] = {}
        clashes: list[str] = []
        for name in {**there, **wanted}:
            found = self._element(name, before, wanted, there, clashes)
            if found is not MISSING:
                kept[name] = found
        order = _order(list(before), list(wanted), list(there), kept)
        return Merged([kept[name] for name in order], clashes)

    def _element(
        self,
        name: str,
        before: Mapping[str, Any],
        wanted: Mapping[str, Any],
        there: Mapping[str, Any],
        clashes: list[str],
    ) -> Any:
        was = before.get(name, MISSING)
        mine, now = wanted.get(name, MISSING), there.get(name, MISSING)
        if mine is MISSING or now is MISSING:
            left = now if mine is MISSING else mine
            # Removed by the other side: it goes unless this side made something else of it.
            return MISSING if was is not MISSING and same(left, was) else left
        if same(mine, now) or same(now, was):
            return mine
        if same(mine, was):
            return now
        patch = diff({} if was is MISSING else was, mine)
        if patch is None:
            clashes.append(f"[{name}]")
            return mine
        for path in patch.paths:
            at = get(now, path)
            if not same(at, patch.set.get(path, MISSING)) and not same(at, get(was, path)):
                clashes.append(f"[{name}].{path}")
        return apply(now, patch)


class Max(MergeType):
    """The larger of the two (numbers, or texts such as ISO times)."""

    __slots__ = ()
    kind = "max"

    def _merge(self, base: Any, mine: Any, theirs: Any) -> Merged | None:  # noqa: ARG002
        found = _compare(mine, theirs)
        return None if found is None else Merged(mine if found >= 0 else theirs)


class Min(MergeType):
    """The smaller of the two (numbers, or texts such as ISO times)."""

    __slots__ = ()
    kind = "min"

    def _merge(self, base: Any, mine: Any, theirs: Any) -> Merged | None:  # noqa: ARG002
        found = _compare(mine, theirs)
        return None if found is None else Merged(mine if found <= 0 else theirs)


class Text(MergeType):
    """A text that several people write: insertions and deletions of both sides are combined, by
    the sequence CRDT of Yjs (YATA), through ``pycrdt``.

    Needs ``pip install 'homeport[text]'`` on the devices that declare it. A node without it leaves
    the merge to the device.

    Raises:
        MissingDependency: pycrdt is not installed.
    """

    __slots__ = ()
    kind = "text"

    def __init__(self) -> None:
        try:
            import_module("pycrdt")
        except ImportError as error:
            raise MissingDependency(
                "hp.Text() merges texts by pycrdt, which is not installed.",
                action="Install it: pip install 'homeport[text]'",
            ) from error

    def _merge(self, base: Any, mine: Any, theirs: Any) -> Merged | None:
        start = "" if base is MISSING or base is None else base
        now = "" if (theirs is MISSING or theirs is None) and start is not base else theirs
        if not (isinstance(start, str) and isinstance(mine, str) and isinstance(now, str)):
            return None
        from homeport.core.textmerge import merge_texts  # noqa: PLC0415 - few programs need it

        return Merged(merge_texts(start, mine, now))


class LocalWins(MergeType):
    """One field under ``local-wins``: this device's value, the other one is in the record."""

    __slots__ = ()
    kind = "local-wins"

    def _merge(self, base: Any, mine: Any, theirs: Any) -> Merged | None:  # noqa: ARG002
        return Merged(mine, () if same(mine, theirs) else ("",))


class RemoteWins(MergeType):
    """One field under ``remote-wins``: the server's value, this device's is in the record."""

    __slots__ = ()
    kind = "remote-wins"

    def _merge(self, base: Any, mine: Any, theirs: Any) -> Merged | None:  # noqa: ARG002
        return Merged(theirs, () if same(mine, theirs) else ("",))


_PLAIN: Final[tuple[type[MergeType], ...]] = (
    Counter,
    SetOf,
    Max,
    Min,
    Text,
    LocalWins,
    RemoteWins,
)


def type_of(spec: str) -> MergeType | None:
    """The merge type of a name that came over the wire; None when this program has none of it."""
    if spec == "list":
        return ListOf(None)
    try:
        if spec.startswith("list:"):
            return ListOf(spec[5:])
        return next((kind() for kind in _PLAIN if kind.kind == spec), None)
    except (SchemaError, MissingDependency):
        return None


def _number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and isfinite(value))


def _compare(mine: Any, theirs: Any) -> int | None:
    if (_number(mine) and _number(theirs)) or (isinstance(mine, str) and isinstance(theirs, str)):
        return keys.compare(mine, theirs)
    return None


def _text(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def _by_text(items: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        found.setdefault(_text(item), item)
    return found


def _named(items: Any, key: str | None) -> dict[str, Any] | None:
    """The elements by identity; None when one has none, or two share one."""
    if not isinstance(items, list):
        return None
    found: dict[str, Any] = {}
    for item in items:
        if key is None:
            name = _text(item)
        elif isinstance(item, dict) and isinstance(item.get(key), (str, int, float)):
            name = _text(item[key])
        else:
            return None
        if name in found:
            return None
        found[name] = item
    return found


def _order(
    before: list[str], mine: list[str], theirs: list[str], kept: Mapping[str, Any]
) -> list[str]:
    """The order of the kept elements: one side's, with the other side's additions behind the
    element that stood before them there."""
    first, second = theirs, mine
    if _moved(before, mine) and not _moved(before, theirs):
        first, second = mine, theirs
    order = [name for name in first if name in kept]
    known = set(before)
    placed = set(order)
    previous: str | None = None
    for name in second:
        if name not in kept:
            continue
        if name not in placed:
            at = 0 if previous is None else order.index(previous) + 1
            while at < len(order) and order[at] not in known and order[at] not in second:
                at += 1  # the other side's additions at this place came first
            order.insert(at, name)
            placed.add(name)
        previous = name
    return order


def _moved(before: list[str], after: list[str]) -> bool:
    common = set(before) & set(after)
    return [n for n in before if n in common] != [n for n in after if n in common]
