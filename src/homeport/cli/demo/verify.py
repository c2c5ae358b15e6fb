"""Does everybody hold the same documents? Compared in canonical JSON, counted and hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec


class Digest(msgspec.Struct, frozen=True):
    """What one holder has of one collection."""

    count: int
    sha256: str


Holding: TypeAlias = dict[str, Digest]
"""Collection name → digest."""


def canonical(document: Any) -> str:
    """One text for one value: sorted names, no spaces, numbers in shortest form."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(documents: Mapping[str, Any]) -> Digest:
    """Count and hash documents, in the order of their keys."""
    hashed = hashlib.sha256()
    for key in sorted(documents):
        hashed.update(f"{canonical(key)}:{canonical(documents[key])}\n".encode())
    return Digest(len(documents), hashed.hexdigest())


async def held_by_postgres(dsn: str, collections: list[str]) -> Holding:
    """Read the documents as any other program would: with SQL."""
    import asyncpg  # noqa: PLC0415 - only this function needs it, and devices do not

    connection = await asyncpg.connect(dsn)
    try:
        holding: Holding = {}
        for collection in collections:
            rows = await connection.fetch(
                "select key, body from homeport.documents where collection = $1",
                collection,
            )
            holding[collection] = digest({row["key"]: json.loads(row["body"]) for row in rows})
        return holding
    finally:
        await connection.close()


def differences(holdings: Mapping[str, Holding]) -> list[str]:
    """One sentence for each collection and holder that differs from the first holder."""
    (reference, expected), *others = holdings.items()
    found = []
    for name, holding in others:
        for collection, digest_ in expected.items():
            other = holding.get(collection)
            if other != digest_:
                count = other.count if other else 0
                found.append(
                    f"{collection}: {name} holds {count} documents that are not the "
                    f"{digest_.count} of {reference}"
                )
    return found
