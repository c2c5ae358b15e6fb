"""What the kinds of index mean on SQLite, where all of them are b-trees.

A hash index answers equality of all its fields and nothing else. SQLite would use its b-tree for
ranges and orders too, and a program would rest on what other engines do not have. So a condition
that the index must not serve is written ``coalesce(..., 0)`` (``+k`` would still prove to SQLite
that a sparse index holds every match), and an order ``+k``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from homeport.core.conditions import AnyOf, Compare, Condition, Contains, Range
from homeport.core.keys import Encoded, encode

if TYPE_CHECKING:
    from homeport.core.schema import Index


class Hashed:
    """The paths that only hash indexes begin with, and the fields of those indexes."""

    def __init__(self, indexes: Iterable[Index]) -> None:
        plain = [index for index in indexes if not index.multi and index.kind != "fulltext"]
        ordered = {index.fields[0] for index in plain if index.kind == "btree"}
        self._fields: dict[str, list[frozenset[str]]] = {}
        for index in plain:
            if index.kind == "hash" and index.fields[0] not in ordered:
                self._fields.setdefault(index.fields[0], []).append(frozenset(index.fields))

    def __bool__(self) -> bool:
        return bool(self._fields)

    def __contains__(self, path: str) -> bool:
        return path in self._fields

    def refuses(self, path: str, fixed: frozenset[str]) -> bool:
        """Must no index be used for this path? fixed: the paths that are equal to given values."""
        indexes = self._fields.get(path)
        return indexes is not None and not any(fields <= fixed for fields in indexes)


def fixed_path(condition: Condition) -> str | None:
    """The path that a condition fixes to one key or to several."""
    if isinstance(condition, Compare):
        good = condition.op == "==" and encode(condition.value) is not None
        return condition.path if good else None
    if isinstance(condition, AnyOf):
        return condition.path
    if isinstance(condition, Range) and condition.lower is not None:
        return condition.path if encode(condition.lower) == encode(condition.upper) else None
    return None


def compound_entry(
    items: Sequence[Condition], indexes: Iterable[Index]
) -> tuple[Index, Encoded, list[Condition]] | None:
    """A multi-entry index of several fields that answers some of these conditions together →
    (index, entry, the other conditions)."""
    if not any(type(item) is Contains for item in items):
        return None
    equal: dict[str, Any] = {
        item.path: item for item in items if isinstance(item, Compare) and fixed_path(item)
    }
    for index in indexes:
        *heads, last = index.fields
        if not heads or not all(path in equal for path in heads):
            continue
        for item in items:
            if isinstance(item, Contains) and item.path == last:
                used = [*(equal[path] for path in heads), item]
                entry = encode([one.value for one in used])
                if entry is not None:
                    rest = [one for one in items if not any(one is other for other in used)]
                    return index, entry, rest
    return None
