"""When documents expire: so long after their last write, or at a moment that they name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from homeport.errors import InvalidDocument, SchemaError

if TYPE_CHECKING:
    from homeport.core.indexes import Index
    from homeport.core.modeltree import Node

_KINDS: Final = frozenset(("datetime", "int", "float", "null"))
FOR_EVER_MS: Final = 2**53


def with_expiry_index(
    indexes: tuple[Index, ...], path: str, made: Index, node: Node | None, name: str
) -> tuple[Index, ...]:
    """The indexes of a collection whose field ``path`` says when a document expires: among them one
    that has it. Raises ``SchemaError`` for a field that cannot be a moment."""
    if node is not None and not (node.kinds <= _KINDS and not node.open and not node.naive):
        raise SchemaError(
            f"{name}: expires_at={path!r} is no moment in the model.",
            action="Declare it as a datetime with time zone, or as a number of seconds since 1970; "
            "`| None` for documents that stay.",
        )
    for index in indexes:
        if path in index.fields and not index.multi and index.kind != "fulltext":
            return indexes
    return (*indexes, made)


def moment_ms(value: object) -> int | None:
    """The moment that an index value of ``expires_at`` is, ms since 1970: seconds, or an ISO text
    with a time zone. None when it is none."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return None if moment.tzinfo is None else round(moment.timestamp() * 1000)
    if isinstance(value, (int, float)) and isfinite(value):
        at_ms = round(value * 1000)
        return at_ms if abs(at_ms) < FOR_EVER_MS else None
    return None


def check_moment(row: Sequence[Any], column: int, path: str, plain: Any) -> None:
    """Refuse a document, about to be written here, that names something else than a moment."""
    if row[column] is None and plain is None:
        return
    if moment_ms(row[column]) is None:
        raise InvalidDocument(
            f"{path} says when the document expires, and {plain!r:.60} is no moment.",
            action="Give a number of seconds since 1970, an ISO text with a time zone, or null.",
            path=path,
        )
