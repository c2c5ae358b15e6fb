"""The names inside a document, or inside the elements of one of its arrays: Python names become
stored paths, and values of conditions the form in which documents store them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Final

import msgspec

from homeport.core.arguments import is_unicode, shown
from homeport.core.modelpaths import Step, element_of, resolve, resolve_stored
from homeport.core.modeltree import Node
from homeport.core.ownform import OwnForm
from homeport.core.plain import builtins, instant, read_instant
from homeport.core.restore import Restore, restorer
from homeport.errors import InvalidQuery, UnknownField

_JSON_TYPES: Final = (str, int, float, bool, type(None))
_MOST_PATHS: Final = 10_000  # remembered; paths come from programs, but may come from anywhere


class Scope:
    """node: what is known about the values here, None = nothing. name: for error messages."""

    __slots__ = ("_elements", "_node", "_paths", "name")

    def __init__(self, node: Node | None, name: str) -> None:
        self.name = name
        self._node = node
        self._paths: dict[str, list[Step]] = {}
        self._elements: dict[str, Scope] = {}

    def steps(self, path: str) -> list[Step]:
        found = self._paths.get(path)
        if found is None:
            found = resolve(self._node, path, self.name)
            if len(self._paths) < _MOST_PATHS:
                self._paths[path] = found
        return found

    def node(self, path: str) -> Node | None:
        """What is known about the values at a path; the empty path is this place itself."""
        if self._node is None or not path:
            return self._node
        return self.steps(path)[-1].node

    def element(self, path: str) -> Scope:
        """The names inside the elements of an array."""
        found = self._elements.get(path)
        if found is None:
            node = self.node(path)
            inner = None if node is None else element_of(node)
            found = Scope(inner, f"the elements of {path} in {self.name}")
            if len(self._elements) < _MOST_PATHS:
                self._elements[path] = found
        return found

    def check_path(self, path: str) -> str:
        """The stored form of a path of field names; raises ``UnknownField`` with a suggestion."""
        if self._node is None or not path:
            if "\x00" in path or not (path.isascii() or is_unicode(path)):
                raise UnknownField(
                    f"No document of {self.name} has a field {path!r}: names hold neither NUL nor "
                    "lone surrogates.",
                    action="Correct the name.",
                )
            return path
        return ".".join(step.stored for step in self.steps(path))

    def check_ordered(self, path: str) -> None:
        """``InvalidQuery`` for types whose stored text sorts differently from their values."""
        node = self.node(path)
        if node is not None and node.own is not None and node.own.opaque and not node.own.ordered:
            raise InvalidQuery(
                f"{path or self.name} is stored as its class's serializer writes it, and what it "
                "writes does not follow in the order of the values.",
                action="Compare it with == or any_of(), filter() it in Python, or let the "
                "serializer write a number or a text that sorts like the value.",
            )
        unordered = () if node is None else sorted(node.kinds & {"decimal", "timedelta"})
        if unordered:
            raise InvalidQuery(
                f"{path or self.name} is a {unordered[0]}, which is stored as text: '10' would "
                "sort below '9'.",
                action="Compare it with == or any_of(), filter() it in Python, or store a number "
                "beside it.",
            )

    def convert(self, path: str, value: object) -> object:
        """A Python value in a condition or patch → the form in which documents store it."""
        return self.stored_value(self.node(path), value)

    def stored_node(self, path: str) -> Node | None:
        """What is known about a field given by its stored name."""
        return resolve_stored(self._node, path)[-1].node

    def stored_value(self, node: Node | None, value: object) -> object:
        """A Python value → the form in which documents store it where ``node`` is declared."""
        if node is not None and node.own is not None:
            if node.own.opaque:
                return node.own.into(value)
            if type(value) not in _JSON_TYPES and (dumped := _dumped_by(node.own, value)):
                return dumped[0]
        if isinstance(value, str) and type(value) is str:
            return read_instant(value) if node is not None and "datetime" in node.kinds else value
        if type(value) in _JSON_TYPES:
            return value
        if isinstance(value, Decimal) and (node is None or "decimal" not in node.kinds):
            return int(value) if value == value.to_integral_value() else float(value)
        return stored_form(value)

    def restorer(self, path: str) -> Restore | None:
        """A function from stored values at a path to Python values; None where they are equal."""
        return restorer(self.node(path))


def _dumped_by(own: OwnForm, value: object) -> tuple[object] | None:
    """What the class writes for a value of its field; None when it is none, but may be the form in
    which one is stored."""
    try:
        return (own.dump(value),)
    except Exception:
        if isinstance(value, (bytes, bytearray)):
            # No UTF-8, so no document holds them; no stored text holds these surrogates either.
            return (bytes(value).decode(errors="surrogateescape"),)
        return None


def stored_form(value: object) -> object:
    """Dates, UUIDs, enums, tuples, models … in the form in which a document stores them."""
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, (str, int, float)) and not isinstance(value, Enum):
        # A class of its own says nothing that a document would keep.
        return next(kind(value) for kind in (str, int, float) if isinstance(value, kind))
    try:
        return builtins(_dumped(value))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidQuery(f"{shown(value)} has no JSON form to compare with.") from error


def _dumped(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json", by_alias=True) if callable(dump) else value
