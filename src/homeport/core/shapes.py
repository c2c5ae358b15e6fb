"""The shapes of documents, for formats whose columns have one type each (Parquet).

A shape is ``bool``, ``int``, ``float``, ``text``, ``{name: shape}``, ``[shape]``, ``None`` (nothing
seen yet) or ``JSON``: what such a column cannot hold faithfully is stored as JSON text. That is a
mixture of types, an object without fields, and a null that is said, because a null of such a
column means that there is no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

Shape: TypeAlias = Any

JSON: Final = "json"
_SCALARS: Final[Mapping[type, str]] = {bool: "bool", int: "int", float: "float", str: "text"}


def merge(shape: Shape, value: Any) -> Shape:
    """The shape of all values so far and this one."""
    if shape == JSON:
        return JSON
    kind = _SCALARS.get(type(value))
    if kind is not None:
        if shape is None or shape == kind:
            return kind
        return "float" if (shape, kind) in (("int", "float"), ("float", "int")) else JSON
    if type(value) is list:
        inner = shape[0] if isinstance(shape, list) else None
        if shape is not None and not isinstance(shape, list):
            return JSON
        for item in value:
            inner = merge(inner, item)
        return JSON if inner == JSON else [inner]
    if type(value) is dict and value and (shape is None or isinstance(shape, dict)):
        fields = {} if shape is None else shape
        for name, item in value.items():
            fields[name] = merge(fields.get(name), item)
            if fields[name] == JSON:
                return JSON
        return fields
    return JSON


class Shapes:
    """The columns of documents; every document is shown to it once."""

    def __init__(self, key: str) -> None:
        """key: the column that is there even without a document."""
        self.columns: dict[str, Shape] = {key: None}

    def see(self, document: Mapping[str, Any]) -> None:
        columns = self.columns
        for name, value in document.items():
            columns[name] = merge(columns.get(name), value)


def without_nulls(value: Any) -> Any:
    """A row of such columns as a document: a null is a field that is not there."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
