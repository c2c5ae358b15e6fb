"""Declarations as a file keeps them, for tools that have the file and not the program.

Everything but Python is kept: a model, a function that makes keys or settles conflicts cannot be.
A collection made from this has plain dicts, and refuses to make keys by a function that it does not
have.
"""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

from homeport.core.compression import Compression
from homeport.core.indexes import Index, Kind
from homeport.core.schema import Collection, Synced
from homeport.errors import InvalidKey


class DeclaredIndex(msgspec.Struct, frozen=True):
    """One index, its fields as documents store them."""

    name: str
    fields: tuple[str, ...]
    unique: bool
    multi: bool
    sparse: bool
    kind: Kind


class Declared(msgspec.Struct, frozen=True):
    """One collection. model: name of its class, for people. generator: ``uuid7``,
    ``autoincrement`` or ``function``. synced: may it be replicated?"""

    key: str
    model: str | None
    indexes: tuple[DeclaredIndex, ...]
    generator: str
    schema: dict[str, Any] | None
    synced: bool
    ttl_s: float | None
    track_changes: bool
    expires_at: str | None = None
    compression: Compression = "none"


def declare(collection: Collection[Any]) -> str:
    """The text that a file keeps."""
    generator = collection.key_generator
    return msgspec.json.encode(
        Declared(
            key=collection.key,
            model=None if collection.model is None else collection.model.__name__,
            indexes=tuple(
                DeclaredIndex(i.name, i.fields, i.unique, i.multi, i.sparse, i.kind)
                for i in collection.indexes
            ),
            generator=generator if isinstance(generator, str) else "function",
            schema=None if collection.schema is None else dict(collection.schema),
            synced=collection.sync is not None,
            ttl_s=collection.ttl_s,
            track_changes=collection.track_changes,
            expires_at=collection.expires_at,
            compression=collection.compression,
        )
    ).decode()


def collection_of(name: str, text: str) -> Collection[dict[str, Any]]:
    """The collection of such a text, of plain dicts."""
    found = msgspec.json.decode(text, type=Declared)
    generator: Any = _refuse_key if found.generator == "function" else found.generator
    made = Collection(
        name,
        key=found.key,
        key_generator=generator,
        schema=found.schema,
        sync=Synced() if found.synced else False,
        ttl_s=found.ttl_s,
        expires_at=found.expires_at,
        track_changes=found.track_changes,
        compression=found.compression,
    )
    # With the names that the file has for them, which come from the fields of the model.
    made._set(
        indexes=tuple(
            Index(
                *index.fields,
                unique=index.unique,
                multi=index.multi,
                sparse=index.sparse,
                kind=index.kind,
            )._renamed(index.name, index.fields)
            for index in found.indexes
        )
    )
    return made


def _refuse_key() -> NoReturn:
    raise InvalidKey(
        "The keys of this collection are made by a function of its program, which is not here.",
        action="Give every document its key.",
    )
