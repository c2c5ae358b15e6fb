"""The exact examination of a document that the row builder found suspicious."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import msgspec

from homeport.core.misfits import fault_of
from homeport.core.models import Model
from homeport.core.plain import refuse
from homeport.errors import InvalidDocument, ValidationFailed


def inspect_document(model: Model[Any], doc: Any, name: str) -> None:
    """Exact examination of a suspicious document: raises the error that names the path, or returns
    when it can be stored and comes back as it is."""
    if model.tree is None or model.mapping:
        if type(doc) is not dict:
            raise InvalidDocument(f"A document of {name} is a dict, not {type(doc).__name__}.")
    elif type(doc) is not model.cls:
        raise InvalidDocument(
            f"A document of {name} is a {model.cls.__name__}, not {type(doc).__name__}."
        )
    if model.tree is None:
        refuse(doc)
        return
    try:
        plain = model.plain(doc)
    except Exception as error:
        raise InvalidDocument(
            f"This document of {name} has no JSON form: {error}",
            action='Bytes that are no UTF-8 need ConfigDict(ser_json_bytes="base64", '
            'val_json_bytes="base64") in a pydantic model.'
            if "utf-8" in str(error)
            else None,
        ) from error
    refuse(plain)
    text = model.encode(doc)
    try:
        back = model.decode(text)
    except Exception as error:
        raise misfit_of(model, error, name) from error
    for path, reason in _changes(doc, back, ""):
        raise InvalidDocument(
            f"{path or 'The document'} {reason}.",
            action=f"Declare its type in {model.cls.__name__}, or give it the declared one.",
            path=path,
        )


def misfit_of(model: Model[Any], error: Exception, name: str) -> ValidationFailed:
    """The error of a document that was to be stored and that its model could not read again."""
    path, reason = fault_of(error)
    return ValidationFailed(
        f"The document does not fit {model.cls.__name__}: {path + ': ' if path else ''}{reason}.",
        collection=name,
        path=path,
        reason=reason,
    )


def _changes(here: Any, back: Any, path: str) -> Iterator[tuple[str, str]]:
    """Where a value that was read back is not what it was."""
    kind, other = type(here), type(back)
    if isinstance(here, dict) and isinstance(back, dict):
        for name in here:
            inside = f"{path}.{name}" if path else str(name)
            if name not in back:
                yield inside, "is not declared, so it would be lost"
            else:
                yield from _changes(here[name], back[name], inside)
    elif isinstance(here, (list, tuple)) and kind is other and len(here) == len(back):
        for position, (item, read) in enumerate(zip(here, back, strict=True)):
            yield from _changes(item, read, f"{path}[{position}]")
    elif _same(here, back):
        return
    elif kind is other and (names := _field_names(here)):
        # A class with an equality of its own, or with none: its fields decide.
        for name in names:
            inside = f"{path}.{name}" if path else name
            yield from _changes(getattr(here, name, None), getattr(back, name, None), inside)
    else:
        yield path, f"holds a {kind.__name__} and would come back as a {other.__name__}"


def _same(here: Any, back: Any) -> bool:
    return bool(here == back)


def _field_names(value: Any) -> tuple[str, ...]:
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        return tuple(kind.__struct_fields__)
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    described = getattr(kind, "__attrs_attrs__", None)
    if described is not None:
        return tuple(field.name for field in described)
    return tuple(getattr(kind, "model_fields", ()))
