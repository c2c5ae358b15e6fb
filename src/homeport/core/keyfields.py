"""What a model must keep to where a field is the key or is indexed."""

from __future__ import annotations

from homeport.core.modelpaths import Step
from homeport.core.modeltree import Node
from homeport.errors import SchemaError


def check_indexed(path: str, steps: list[Step], collection: str) -> None:
    """``SchemaError`` for a field whose stored form could not be found or put in order."""
    if any(step.field is not None and step.field.omitted for step in steps):
        raise SchemaError(
            f"{collection}: {path} is indexed, but omit_defaults leaves its default out of the "
            "stored document, so a query would not find it.",
            action="Take omit_defaults off the class, or make the field required.",
        )
    node = steps[-1].node
    if node is None:
        return
    kinds = node.kinds | (node.item.kinds if node.item else set())
    if "decimal" in kinds:
        raise SchemaError(
            f"{collection}: {path} is a Decimal, which JSON stores as text: '10' would sort below "
            "'9'.",
            action="Store a scaled int or a float beside it and index that.",
        )
    if "timedelta" in kinds:
        raise SchemaError(
            f"{collection}: {path} is a timedelta, whose JSON text has no order.",
            action="Store its seconds as a number and index that.",
        )
    if node.naive:
        raise SchemaError(
            f"{collection}: {path} is a time without a time zone, which has no place among points "
            "in time.",
            action="Declare it with a zone (msgspec.Meta(tz=True)).",
        )


def stored_key(tree: Node | None, key: str, collection: str) -> str:
    """The name under which documents store their key; raises ``SchemaError``."""
    if tree is None:
        return key
    field = tree.fields().get(key)
    if field is None:
        names = ", ".join(tree.fields())
        raise SchemaError(
            f"{collection}: the model has no field {key!r} to be the key.",
            action=f"Name the key field by key=; the fields are: {names}.",
        )
    if field.omitted:
        raise SchemaError(
            f"{collection}: omit_defaults would leave the key {key!r} out of the stored document.",
            action="Take omit_defaults off the class, or make the key required.",
        )
    return field.stored
