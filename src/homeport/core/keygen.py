"""Where the keys of documents come from that have none: the declaration."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from homeport.errors import SchemaError

if TYPE_CHECKING:
    from homeport.core.keys import Key
    from homeport.core.modeltree import Node

KeyGenerator: TypeAlias = "Literal['uuid7', 'autoincrement'] | Callable[[], Key]"
"""``uuid7``: ids that sort by time, made without looking at the file. ``autoincrement``: 1, 2, 3 …,
IndexedDB's key generator. A function: called inside the transaction of the write."""

GENERATORS = ("uuid7", "autoincrement")


def checked_generator(
    generator: Any, collection: str, tree: Node | None, key: str, *, synced: bool
) -> KeyGenerator:
    """``SchemaError`` unless the generator fits the collection. synced: declared to be."""
    if callable(generator):
        if inspect.iscoroutinefunction(generator):
            raise SchemaError(
                f"{collection}: key_generator= is a coroutine function; it is called inside a "
                "transaction, where nothing can be waited for.",
                action="Give a plain function that returns a key.",
            )
        return generator  # type: ignore[no-any-return]
    if generator not in GENERATORS:
        raise SchemaError(
            f"{collection}: key_generator= is 'uuid7', 'autoincrement' or a function without "
            f"arguments, not {generator!r:.60}."
        )
    if generator == "autoincrement":
        if synced:
            raise SchemaError(
                f"{collection}: numbers that count on collide, because every device counts by "
                "itself: two would give one key to two documents.",
                action="Use key_generator='uuid7' for a synced collection, or sync=False.",
            )
        field = (
            None
            if tree is None
            else next(field for field in tree.fields().values() if field.stored == key)
        )
        if field is not None and not (field.node.open or "int" in field.node.kinds):
            raise SchemaError(
                f"{collection}: key_generator='autoincrement' makes numbers, but the model's "
                f"{field.name} takes none.",
                action=f"Declare it as {field.name}: int | None = None.",
            )
    return generator  # type: ignore[no-any-return]
