"""The JSON form of conditions: ``{"field": "Brent", "depth_m": {"$gt": 2000}}``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from homeport.core.conditions import (
    And,
    AnyOf,
    Between,
    Compare,
    Condition,
    Contains,
    Element,
    Matches,
    Missing,
    Modulo,
    Not,
    OfType,
    Or,
    Pattern,
    Size,
    StartsWith,
)
from homeport.errors import InvalidQuery


def parse_filter(document: Mapping[str, Any]) -> Condition:
    """The condition that a JSON filter says; raises ``InvalidQuery`` naming what is wrong.

    A field with a plain value means equality. Operators of a field: ``$eq $ne $gt $gte $lt $lte
    $in $nin $exists $type $regex`` (with ``$options``) ``$startsWith $mod $contains $all $size
    $elemMatch $match $between $not``; of documents: ``$and $or $nor $not``. ``$between`` takes
    ``[low, high]``, both included.
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
                raise InvalidQuery(
                    f"{name} takes a list of filters, not {value!r:.60}.",
                    action=f'For example {{"{name}": [{{"a": 1}}, {{"b": 2}}]}}.',
                )
            parts = [parse_filter(part) for part in value]
            items.append(And(parts) if name == "$and" else Or(parts))
            if name == "$nor":
                items[-1] = Not(items[-1])
        else:
            raise _unknown(name, "between filters", _DOCUMENT_OPERATORS)
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
        if name == "$options":
            if "$regex" not in operators:
                raise InvalidQuery(f"$options on {path} belongs to $regex, which is not there.")
            continue
        if name == "$regex":
            items.append(Pattern(path, value, operators.get("$options", "")))
            continue
        make = _FIELD_OPERATORS.get(name)
        if make is None:
            raise _unknown(name, f"on {path}", _KNOWN)
        items.append(make(path, value))
    return items[0] if len(items) == 1 else And(items)


def _unknown(name: object, where: str, known: Sequence[str]) -> InvalidQuery:
    close = difflib.get_close_matches(str(name), known, 1)
    action = _ELSEWHERE.get(str(name)) or f"Use one of {', '.join(known)}."
    if not close and name in _KNOWN:
        action = f'{name} belongs inside a field: {{"depth_m": {{"{name}": ...}}}}.'
    elif not close and name in _DOCUMENT_OPERATORS:
        action = f'{name} stands beside fields, not inside one: {{"{name}": [{{...}}, {{...}}]}}.'
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return InvalidQuery(f"There is no operator {name!r} {where}{hint}", action=action)


def _list(path: str, name: str, value: object) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise InvalidQuery(f"{name} on {path} takes a list, not {value!r:.60}.")
    return value


def _all(path: str, value: object) -> Condition:
    values = _list(path, "$all", value)
    # As in MongoDB, all of nothing is in no array.
    return And(Contains(path, item) for item in values) if values else Or(())


def _element(path: str, value: object) -> Condition:
    if not isinstance(value, Mapping) or not value:
        raise InvalidQuery(
            f"$elemMatch on {path} takes a filter of the element, not {value!r:.60}.",
            action='For example {"$elemMatch": {"name": "GR"}} or {"$elemMatch": {"$gt": 5}}.',
        )
    of_value = all(str(name) in _KNOWN for name in value)
    return Element(path, _operators("", value) if of_value else parse_filter(value))


def _types(path: str, value: object) -> Condition:
    names = value if isinstance(value, (list, tuple)) else [value]
    return OfType(path, [_MONGO_TYPES.get(str(name), str(name)) for name in names])


def _modulo(path: str, value: object) -> Condition:
    numbers = _list(path, "$mod", value)
    if len(numbers) != 2:
        raise InvalidQuery(f"$mod on {path} takes [divisor, remainder], not {len(numbers)} values.")
    return Modulo(path, numbers[0], numbers[1])


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


_FIELD_OPERATORS: Final[dict[str, Callable[[str, Any], Condition]]] = {
    "$eq": lambda path, value: Compare(path, "==", value),
    "$ne": lambda path, value: Compare(path, "!=", value),
    "$gt": lambda path, value: Compare(path, ">", value),
    "$gte": lambda path, value: Compare(path, ">=", value),
    "$lt": lambda path, value: Compare(path, "<", value),
    "$lte": lambda path, value: Compare(path, "<=", value),
    "$in": lambda path, value: AnyOf(path, _list(path, "$in", value)),
    "$nin": lambda path, value: Not(AnyOf(path, _list(path, "$nin", value))),
    "$exists": _exists,
    "$type": _types,
    "$startsWith": StartsWith,
    "$mod": _modulo,
    "$contains": Contains,
    "$all": _all,
    "$size": Size,
    "$elemMatch": _element,
    "$match": Matches,
    "$between": _between,
    "$not": _not,
}
_KNOWN: Final = (*_FIELD_OPERATORS, "$regex", "$options")
_DOCUMENT_OPERATORS: Final = ("$and", "$or", "$nor", "$not")
_MONGO_TYPES: Final = {"bool": "boolean", "double": "number", "int": "number", "long": "number"}
_ELSEWHERE: Final = {
    "$where": "Give a Python function to filter().",
    "$expr": "Give a Python function to filter() to compare two fields.",
    "$text": 'Use {"field": {"$match": "words"}} on a field with hp.FullText.',
    "$search": 'Use {"field": {"$match": "words"}} on a field with hp.FullText.',
    "$comment": "Leave it out.",
}
