"""The JSON form of conditions: ``{"field": "Brent", "depth_m": {"$gt": 2000}}``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from homeport.core.conditions import (
    And,
    AnyOf,
    Between,
    Compare,
    Condition,
    Contains,
    Matches,
    Missing,
    Not,
    Or,
    StartsWith,
)
from homeport.errors import InvalidQuery


def parse_filter(document: Mapping[str, Any]) -> Condition:
    """The condition that a JSON filter says; raises ``InvalidQuery`` naming what is wrong.

    A field with a plain value means equality. Operators of a field: ``$eq $ne $gt $gte $lt $lte
    $in $nin $exists $startsWith $contains $match $between $not``; of documents: ``$and $or $nor
    $not``. ``$between`` takes ``[low, high]``, both included.
    """
    if not isinstance(document, Mapping):
        raise InvalidQuery(f"A JSON filter is an object, not {document!r:.60}.")
    items: list[Condition] = []
    for name, value in document.items():
        if not isinstance(name, str) or not name:
            raise InvalidQuery(f"{name!r} is no field name in a JSON filter.")
        if not name.startswith("$"):
            items.append(_field(name, value))
        elif name == "$not":
            items.append(~parse_filter(value))
        elif name in ("$and", "$or", "$nor"):
            if not isinstance(value, (list, tuple)):
                raise InvalidQuery(f"{name} takes a list of filters, not {value!r:.60}.")
            parts = [parse_filter(part) for part in value]
            items.append(And(parts) if name == "$and" else Or(parts))
            if name == "$nor":
                items[-1] = Not(items[-1])
        else:
            raise InvalidQuery(
                f"There is no operator {name} between filters.",
                action="Use $and, $or, $nor or $not; operators of a field go inside it: "
                '{"depth_m": {"$gt": 5}}.',
            )
    return items[0] if len(items) == 1 else And(items)


def _field(path: str, value: object) -> Condition:
    if "" in path.split("."):
        raise InvalidQuery(f"{path!r} is no field path in a JSON filter.")
    if not isinstance(value, Mapping) or not any(str(name).startswith("$") for name in value):
        return Compare(path, "==", value)
    return _operators(path, value)


def _operators(path: str, operators: Mapping[str, Any]) -> Condition:
    items: list[Condition] = []
    for name, value in operators.items():
        make = _FIELD_OPERATORS.get(name)
        if make is None:
            raise InvalidQuery(
                f"There is no operator {name!r} (field {path}).",
                action=f"Use one of {', '.join(_FIELD_OPERATORS)}.",
            )
        items.append(make(path, value))
    return items[0] if len(items) == 1 else And(items)


def _list(path: str, name: str, value: object) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise InvalidQuery(f"{name} on {path} takes a list, not {value!r:.60}.")
    return value


def _between(path: str, value: object) -> Condition:
    bounds = _list(path, "$between", value)
    if len(bounds) != 2:
        raise InvalidQuery(f"$between on {path} takes [low, high], not {len(bounds)} values.")
    return Between(path, bounds[0], bounds[1])


def _exists(path: str, value: object) -> Condition:
    if not isinstance(value, bool):
        raise InvalidQuery(f"$exists on {path} takes true or false, not {value!r:.60}.")
    return Not(Missing(path)) if value else Missing(path)


def _not(path: str, value: object) -> Condition:
    if not isinstance(value, Mapping):
        raise InvalidQuery(
            f"$not on {path} takes operators, not {value!r:.60}.", action="Use $ne for a value."
        )
    return ~_operators(path, value)


_FIELD_OPERATORS: dict[str, Callable[[str, Any], Condition]] = {
    "$eq": lambda path, value: Compare(path, "==", value),
    "$ne": lambda path, value: Compare(path, "!=", value),
    "$gt": lambda path, value: Compare(path, ">", value),
    "$gte": lambda path, value: Compare(path, ">=", value),
    "$lt": lambda path, value: Compare(path, "<", value),
    "$lte": lambda path, value: Compare(path, "<=", value),
    "$in": lambda path, value: AnyOf(path, _list(path, "$in", value)),
    "$nin": lambda path, value: Not(AnyOf(path, _list(path, "$nin", value))),
    "$exists": _exists,
    "$startsWith": StartsWith,
    "$contains": Contains,
    "$match": Matches,
    "$between": _between,
    "$not": _not,
}
