"""How the documents of a collection are kept in a file: as text, or packed."""

from __future__ import annotations

from typing import Any, Literal, get_args

from homeport.errors import SchemaError

Compression = Literal["none", "gzip", "zstd"]

COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)


def checked_compression(given: Any, collection: str) -> Compression:
    """What a declaration says. Raises ``SchemaError``."""
    for known in COMPRESSIONS:
        if given == known:
            return known
    raise SchemaError(
        f"{collection}: compression= takes {', '.join(map(repr, COMPRESSIONS))}, not {given!r:.60}."
    )
