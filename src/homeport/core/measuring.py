"""Aggregates as operations: what a facade asks, bound to the model, and the form of its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from homeport.core.aggregate import (
    Each,
    Fold,
    GroupRow,
    Kind,
    Measure,
    bind_measure,
    fold_texts,
    measure,
    path_of,
)
from homeport.core.operations import passing, unfiltered
from homeport.core.query import QueryValue
from homeport.core.requests import Aggregate, Find, Operation
from homeport.errors import InvalidQuery

if TYPE_CHECKING:
    from homeport.core.codec import Codec, Table
    from homeport.core.keys import Key

T = TypeVar("T")
R = TypeVar("R")


def one_measure(table: Table[Any], query: QueryValue, kind: Kind, field: object) -> Operation[Any]:
    """One aggregate of all that matches."""
    wanted = measure(kind, field)
    (restored,) = _restores(table.codec, (wanted,))
    return _operation(table, query, (), (wanted,), lambda rows: restored(rows[0][1][0]))


def named_measures(
    table: Table[Any], query: QueryValue, measures: Mapping[str, object]
) -> Operation[dict[str, Any]]:
    """Several aggregates of all that matches, by name."""
    wanted = _named(measures)
    restores = _restores(table.codec, wanted)

    def shape(rows: list[GroupRow]) -> dict[str, Any]:
        return _by_name(measures, restores, rows[0][1])

    return _operation(table, query, (), wanted, shape)


def grouped(
    table: Table[Any], query: QueryValue, fields: Sequence[str], wanted: Measure
) -> Operation[dict[Any, Any]]:
    """One aggregate for each group: value, or tuple of values, → result."""
    groups = _group_restores(table.codec, fields)
    (restored,) = _restores(table.codec, (wanted,))

    def shape(rows: list[GroupRow]) -> dict[Any, Any]:
        found = {_name(groups, row[0]): restored(row[1][0]) for row in rows}
        if len(found) < len(rows):
            raise InvalidQuery(
                f"{', '.join(fields)} has groups that are one key to a dict of Python: 1 and True, "
                "or 0 and False.",
                action="Ask with group_by(...).aggregate(...), which gives a list.",
            )
        return found

    return _operation(table, query, fields, (wanted,), shape)


def grouped_named(
    table: Table[Any], query: QueryValue, fields: Sequence[str], measures: Mapping[str, object]
) -> Operation[list[dict[str, Any]]]:
    """Several aggregates for each group, as dicts that hold the group's values too."""
    wanted = _named(measures)
    clash = next((field for field in fields if field in measures), None)
    if clash is not None:
        raise InvalidQuery(
            f"aggregate() would put two things under {clash!r}: the field of the group and "
            f"{measures[clash]!r}.",
            action="Give the aggregate another name.",
        )
    groups = _group_restores(table.codec, fields)
    restores = _restores(table.codec, wanted)

    def shape(rows: list[GroupRow]) -> list[dict[str, Any]]:
        return [
            {
                **{f: restore(v) for f, restore, v in zip(fields, groups, name, strict=True)},
                **_by_name(measures, restores, results),
            }
            for name, results in rows
        ]

    return _operation(table, query, fields, wanted, shape)


def distinct(table: Table[Any], query: QueryValue, fields: Sequence[str]) -> Operation[list[Any]]:
    """The different values of a field, or tuples of several, in the order of keys. Documents that
    lack one of the fields are left out, as they are in an index."""
    groups = _group_restores(table.codec, fields)

    def shape(rows: list[GroupRow]) -> list[Any]:
        found = [name for name, _ in rows if None not in name]
        if len(groups) == 1:
            return [groups[0](value) for (value,) in found]
        return [_name(groups, name) for name in found]

    return _operation(table, query, fields, (), shape)


def group_fields(table: Table[Any], fields: Sequence[object], verb: str) -> tuple[str, ...]:
    """The names as they were given, checked against the model."""
    if not fields:
        raise InvalidQuery(f"{verb}() takes at least one field.", action=f'{verb}("field")')
    paths = tuple(path_of(field, f"{verb}()") for field in fields)
    for path in paths:
        table.codec.scope.check_path(path)
        if paths.count(path) > 1:
            raise InvalidQuery(f"{verb}() names {path!r} twice.")
    return paths


# -- shared


def _operation(
    table: Table[T],
    query: QueryValue,
    fields: Sequence[str],
    measures: Sequence[Measure],
    shape: Callable[[list[GroupRow]], R],
) -> Operation[R]:
    codec = table.codec
    groups = tuple(str(codec.scope.check_path(field)) for field in fields)
    elements = frozenset(
        path for path, field in zip(groups, fields, strict=True) if isinstance(field, Each)
    )
    bound = tuple(bind_measure(wanted, codec) for wanted in measures)
    if not query.predicates:
        request = Aggregate(table, query, groups, bound, elements)
        return Operation(request, "read", True, (table,), False, shape)

    def finish(entries: list[tuple[Key, str]]) -> R:
        fold = Fold(groups, bound, elements)
        return shape(fold_texts(fold, (text for (_, text), _ in passing(table, query, entries))))

    wanted = Find(table, unfiltered(query), "entries")
    return Operation(wanted, "read", True, (table,), False, finish)


def _named(measures: Mapping[str, object]) -> tuple[Measure, ...]:
    if not measures:
        raise InvalidQuery(
            "aggregate() was given nothing to compute.",
            action='For example aggregate(n=hp.agg.count(), deepest=hp.agg.max("depth_m")).',
        )
    for wanted in measures.values():
        if not isinstance(wanted, Measure):
            raise InvalidQuery(
                f"aggregate() takes values of hp.agg, not {wanted!r:.60}.",
                action='For example aggregate(n=hp.agg.count(), deepest=hp.agg.max("depth_m")).',
            )
    return tuple(measures.values())  # type: ignore[arg-type]


def _by_name(
    names: Mapping[str, object], restores: Sequence[Callable[[Any], Any]], results: tuple[Any, ...]
) -> dict[str, Any]:
    return {
        name: restore(result)
        for name, restore, result in zip(names, restores, results, strict=True)
    }


def _restores(codec: Codec[Any], measures: Sequence[Measure]) -> list[Callable[[Any], Any]]:
    return [
        (codec.scope.restorer(m.path) or _same) if m.path and m.kind in ("min", "max") else _same
        for m in measures
    ]


def _group_restores(codec: Codec[Any], fields: Sequence[str]) -> list[Callable[[Any], Any]]:
    scopes = [
        codec.scope.element(field).restorer("")
        if isinstance(field, Each)
        else codec.scope.restorer(field)
        for field in fields
    ]
    return [found or _same for found in scopes]


def _same(value: Any) -> Any:
    return value


def _name(restores: Sequence[Callable[[Any], Any]], values: tuple[Any, ...]) -> Any:
    """What a group is called in a dict: its value, or the tuple of its values."""
    found = tuple(_hashable(restore(v)) for restore, v in zip(restores, values, strict=True))
    return found[0] if len(found) == 1 else found


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
