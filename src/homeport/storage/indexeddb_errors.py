"""Errors of IndexedDB in the words of Homeport: by name, because texts differ between browsers."""

from __future__ import annotations

import msgspec

from homeport.core.sealing import Place, broken
from homeport.errors import (
    Closed,
    HomeportError,
    Interrupted,
    QuotaExceeded,
    SchemaMismatch,
    StorageError,
    StorageRefused,
)


def translate(name: str, text: str, database: str) -> HomeportError:
    """The typed error of a failed request, transaction or opening."""
    detail = f"{name}: {text}".strip(": ")
    if name == "SealBroken":
        kind, collection, key = msgspec.json.decode(text)
        return broken(Place(kind, collection, "a list" if key is None else key))
    if name == "QuotaExceededError":
        return QuotaExceeded(f"The browser has no room left for {database}.", path=database)
    if name in ("InvalidStateError", "TransactionInactiveError"):
        return Closed(f"The browser has closed {database} ({detail}).", path=database)
    if name in ("NotFoundError", "VersionError"):
        return SchemaMismatch(
            f"Another tab has changed the indexes of {database} ({detail}).",
            action="Reload the page, so that all tabs use one declaration.",
            path=database,
        )
    if name in ("SecurityError", "UnknownError", "NotAllowedError"):
        return StorageRefused(
            f"The browser does not give access to {database} ({detail}).", reason=name
        )
    if name in ("AbortError", ""):
        return Interrupted(f"The browser has ended the transaction on {database}.")
    return StorageError(f"IndexedDB refused a request on {database} ({detail}).", path=database)
