"""Document keys as programs hold them, and as documents store them.

A model may declare its key as a UUID, a date, an enum …: then such values are taken wherever a key
is, and come back wherever a key does. Stored, and on the wire, a key is what JSON has for it.
"""

from __future__ import annotations

from datetime import date
from enum import Enum
from typing import Any, Final, TypeAlias
from uuid import UUID

from homeport.core.arguments import shown
from homeport.core.conditions import Condition
from homeport.core.keys import Key, encode_key
from homeport.core.models import key_own, written_key
from homeport.core.modeltree import Node
from homeport.core.restore import Restore, restorer
from homeport.core.scope import Scope
from homeport.errors import InvalidKey, InvalidQuery

AnyKey: TypeAlias = "Key | tuple[Any, ...] | UUID | date | Enum"
"""A document key as programs give it: a text (usual), a finite number, or a list of these; where
the model declares the key as a UUID, a date, a datetime or an enum, that too. It comes back in the
type that the model declares."""

_STORED: Final = frozenset((str, int, float, list))
_LIKE: Final[dict[Any, Any]] = {str: str, int: int, float: float, list: (list, tuple)}
_PLAIN: Final = (str, int, float, list, tuple)


class KeyForms:
    """The key of one collection.

    stored: types whose values need no conversion. typed: a function from the stored form to what
    the model declares, None where they are the same.
    """

    __slots__ = ("_collection", "_node", "_own", "_path", "_scope", "stored", "typed")

    def __init__(self, scope: Scope, path: str, collection: str) -> None:
        self._scope = scope
        self._path = path
        self._collection = collection
        self._node: Node | None = scope.stored_node(path)
        self._own = key_own(self._node)
        whole = self._node is not None and self._node.own is not None and self._own is None
        self.typed: Restore | None = None if whole else restorer(self._node)
        # The text of a point in time has many forms, so a text may need one too.
        times = self._node is not None and "datetime" in self._node.kinds
        varied = times or self._own is not None
        self.stored: frozenset[type[Any]] = frozenset() if varied else frozenset((str,))

    def into(self, key: Any) -> Key:
        """A key as a program gives it → as documents store it; raises ``InvalidKey``."""
        kind = type(key)
        if self._own is not None and key is not None and kind is not bool:
            try:
                key = written_key(self._own, key)
            except InvalidQuery as error:
                raise InvalidKey(error.message, action=error.action) from error
        elif kind not in _STORED:
            key = self._converted(key)
        elif kind is str and not self.stored and self._node is not None:
            key = self._scope.stored_value(self._node, key)
        encode_key(key)
        return key  # type: ignore[no-any-return]

    def _converted(self, key: Any) -> Any:
        if key is None or isinstance(key, bool):
            return key  # refused with the reason
        python = () if self._node is None else tuple(self._node.python)
        if isinstance(key, _PLAIN) and not isinstance(key, python):
            # A subclass says nothing that a document would keep.
            return next(kind(key) for kind, like in _LIKE.items() if isinstance(key, like))
        if not isinstance(key, python):
            declared = " or ".join(kind.__name__ for kind in python)
            action = f"The model declares {declared}." if declared else None
            if isinstance(key, (dict, Condition)):
                action = "By other fields, write where(...).first(), .delete() or .patch(...)."
            raise InvalidKey(
                f"{shown(key, 80)} cannot be a document key of {self._collection}: its type is "
                f"{type(key).__name__}.",
                action=action,
            )
        try:
            return self._scope.stored_value(self._node, key)
        except InvalidQuery as error:
            raise InvalidKey(
                f"{shown(key, 80)} cannot be a document key: it has no JSON form."
            ) from error
