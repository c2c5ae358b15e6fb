"""Named changes of a document: dotted paths set to values, or removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from homeport.core import diff
from homeport.errors import InvalidDocument, InvalidKey, UsageError

if TYPE_CHECKING:
    from homeport.core.codec import Extras, Row, Table


class _Remove:
    """The type of ``REMOVE``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "REMOVE"


REMOVE: Final = _Remove()
"""As the value of a patch: take the field away (None would store null)."""


def merged_changes(changes: Any, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The changes of a call ``patch(changes, **fields)`` as one mapping."""
    if changes is None:
        if not fields:
            raise UsageError(
                "patch() was given nothing to change.",
                action='For example patch("w1", {"depth_m": 2800}) or patch("w1", depth_m=2800).',
            )
        return fields
    check_changes(changes)
    return {**changes, **fields} if fields else changes


def check_changes(changes: object) -> None:
    if not isinstance(changes, Mapping):
        raise UsageError(
            f"A patch is a dict of dotted paths and values, not {type(changes).__name__}.",
            action='For example patch("w1", {"depth_m": 2800, "casing.note": hp.REMOVE}).',
        )


def checked(table: Table[Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes with stored paths and stored values; names are checked against the model."""
    check_changes(changes)
    codec = table.codec
    out: dict[str, Any] = {}
    for path, value in changes.items():
        if not isinstance(path, str) or not path or "" in path.split("."):
            raise InvalidDocument(f"A patch names fields by dotted paths, not {path!r}.")
        stored = codec.check_path(path)
        if stored == codec.collection.key:
            raise InvalidKey(
                f"A patch of {table.name} cannot change the key field {stored!r}.",
                action="Put a new document and delete the old one.",
            )
        # Without a model nothing may change its type in silence: what is no JSON is refused below.
        plain = value is REMOVE or codec.collection.model is None
        out[stored] = value if plain else codec.convert(path, value)
    for path in out:
        clash = next((p for p in out if p is not path and diff.overlaps(p, path)), None)
        if clash is not None:
            raise InvalidDocument(f"The patch names both {path!r} and {clash!r}, one in the other.")
    return out


def changed_row(
    table: Table[Any], text: str, changes: Mapping[str, Any]
) -> tuple[Row, Extras | None]:
    """The row of a stored document after the changes, checked as any document is."""
    doc: dict[str, Any] = msgspec.json.decode(text)
    for path, value in changes.items():
        if value is REMOVE:
            doc = diff.unset_at(doc, path)
        else:
            _check_way(table, doc, path)
            doc = diff.set_at(doc, path, value)
    codec = table.codec
    row = codec.row_of_plain(doc)
    if (table.synced or table.keep_unknown) and codec.collection.model is not None:
        # A whole object of the model was set: what it does not know inside stays (R15).
        whole = codec.merge_unknown(text, row[1])
        if whole != row[1]:
            row = codec.row_of_text(whole)
    return row, codec.extras_of_text(row[1]) if codec.has_extras else None


def _check_way(table: Table[Any], doc: dict[str, Any], path: str) -> None:
    """What stands on the way must be an object or nothing: a patch never replaces other values."""
    here: Any = doc
    names = path.split(".")
    for depth, name in enumerate(names[:-1], start=1):
        here = here.get(name)
        if here is None:
            return
        if not isinstance(here, dict):
            kind = "an array" if isinstance(here, list) else "a value"
            raise InvalidDocument(
                f"The patch of {table.name} sets {path!r}, but {'.'.join(names[:depth])!r} is "
                f"{kind}, not an object.",
                action="Set the whole field.",
            )
