"""JSON Schema (2020-12), by whichever validator is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from homeport.errors import SchemaError

Check: TypeAlias = Callable[[Any], "tuple[str, str] | None"]
"""A plain document → None, or the path and reason of its first fault."""


def validator(schema: Mapping[str, Any], collection: str) -> Check:
    """The check of a schema. ``jsonschema-rs`` is used when it is there (it is many times faster),
    else ``jsonschema``; ``SchemaError`` when there is neither or the schema is none."""
    try:
        import jsonschema_rs  # noqa: PLC0415  # pyright: ignore[reportMissingImports]  optional
    except ImportError:
        return _pure(schema, collection)
    try:
        checker = jsonschema_rs.Draft202012Validator(dict(schema))
    except Exception as error:
        raise SchemaError(f"{collection}: schema= is no JSON Schema: {error}.") from error

    def check(plain: Any) -> tuple[str, str] | None:
        fault = next(iter(checker.iter_errors(plain)), None)
        return None if fault is None else (_path(fault.instance_path), fault.message)

    return check


def _pure(schema: Mapping[str, Any], collection: str) -> Check:
    try:
        import jsonschema  # noqa: PLC0415  optional, and slow to import
    except ImportError:
        raise SchemaError(
            f"{collection} declares a schema, and no JSON Schema validator is installed.",
            action="pip install 'homeport[validation]'",
        ) from None
    validator_class = jsonschema.Draft202012Validator
    try:
        validator_class.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        raise SchemaError(f"{collection}: schema= is no JSON Schema: {error.message}.") from error
    checker = validator_class(dict(schema))

    def check(plain: Any) -> tuple[str, str] | None:
        fault = next(checker.iter_errors(plain), None)
        return None if fault is None else (_path(fault.absolute_path), fault.message)

    return check


def _path(steps: Any) -> str:
    out = ""
    for step in steps:
        out += f"[{step}]" if isinstance(step, int) else (f".{step}" if out else str(step))
    return out
