"""Dotted paths into plain documents, and the one value that says "nothing is there"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from homeport.errors import InvalidQuery


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final[Any] = _Missing()
"""No such field. Not null, which is a value."""


def get_path(document: Any, path: str, default: Any = MISSING) -> Any:
    """The value at a dotted path of a plain document. A path goes through objects only; where it
    does not arrive, the answer is ``default``. The empty path is the document itself."""
    value = document
    if path:
        for name in path.split("."):
            if not isinstance(value, Mapping) or name not in value:
                return default
            value = value[name]
    return value


def refuse_dexies(path: str, verb: str) -> None:
    """``InvalidQuery`` for Dexie's names of a compound index and of the key: taken for fields, they
    would find nothing, without a word. ``F["[a+b]"]`` reaches a field that is called so."""
    if path[:1] == "[" and path[-1] == "]" and "+" in path:
        names = [name.strip() for name in path[1:-1].split("+")]
        how = (
            f"order_by({', '.join(map(repr, names))})"
            if verb == "order_by"
            else f"where({{{names[0]!r}: ...}}).where({names[-1]!r})"
        )
        raise InvalidQuery(
            f"{verb}() takes field by field; {path!r} is Dexie's name of a compound index.",
            action=f"Write {how}, which the compound index answers.",
        )
    if path == ":id":
        raise InvalidQuery(
            f"{verb}(':id') is Dexie's name of the key, which is a field here.",
            action="Give the name of the key field.",
        )
