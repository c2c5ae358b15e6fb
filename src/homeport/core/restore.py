"""Stored values of one field as the Python values of the model: dates, UUIDs, enums … come back
typed from keys, groups and aggregates too, not only inside documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias, Union

import msgspec

from homeport.core.modeltree import Node

Restore: TypeAlias = Callable[[Any], Any]

_PLAIN: Final = frozenset(("null", "bool", "int", "float", "str"))


def restorer(node: Node | None) -> Restore | None:
    """A function from the stored form of a value to the Python value; None where they are the same.

    What does not fit (a row written by another program) comes as it is stored.
    """
    if node is None:
        return None
    if node.own is not None and (node.own.opaque or not node.shapes):
        return node.own.restore
    scalar = _scalar(node)
    element = restorer(node.item)
    if element is None:
        return scalar

    def restore(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [element(item) for item in value]
        return value if scalar is None else scalar(value)

    return restore


def _scalar(node: Node) -> Restore | None:
    if node.kinds <= _PLAIN or not node.python:
        return None
    plain = [kind for name, kind in _JSON.items() if name in node.kinds]
    wanted: Any = Union[tuple(dict.fromkeys([*node.python, *plain]))]  # noqa: UP007 (made here)
    try:
        msgspec.json.Decoder(wanted)
    except TypeError:
        return None  # several types of one JSON form: the text does not say which

    def restore(value: Any) -> Any:
        if value is None:
            return None
        try:
            return msgspec.convert(value, wanted)
        except msgspec.ValidationError:
            return value

    return restore


_JSON: Final[dict[str, Any]] = {"bool": bool, "int": int, "float": float, "str": str}
