"""How a decoded document is given to several readers, of whom each may do with it what it likes.

A document that nobody can change is given out itself. Of a flat one a copy is ten times cheaper
than decoding its text again; of a nested one it is not, so that is decoded anew. What is handed out
is never the object that is kept, unless it is immutable through and through.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from operator import attrgetter
from sys import getsizeof
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

Make: TypeAlias = Callable[[], Any]
"""Gives a document (or a list of them) that belongs to its receiver."""

SCALARS: Final = frozenset(
    (
        str,
        int,
        float,
        bool,
        type(None),
        bytes,
        datetime,
        date,
        time,
        timedelta,
        Decimal,
        UUID,
        msgspec.UnsetType,
    )
)
_MUTABLE: Final = (list, set, dict)


class Sharing:
    """How the documents of one model are shared.

    frozen: they are given out themselves.
    """

    def __init__(self, model: type[Any] | None) -> None:
        self.frozen = model is not None and is_immutable(model)
        self._lists: tuple[str, ...] | None = None
        if not self.frozen and model is not None and issubclass(model, msgspec.Struct):
            self._lists = _flat_lists(model)

    def copies(self, doc: Any) -> Make | None:
        """What makes copies of this document; None = decode it anew.

        The document itself is kept, and must be in nobody's hands.
        """
        if self.frozen:
            return lambda: doc
        if type(doc) is dict:
            lists = _lists_of(doc)
            if lists is None:
                return None
            return partial(_copied_dict, doc, lists) if lists else doc.copy
        if self._lists is None:
            return None
        copy: Make = doc.__copy__
        return partial(_copied_struct, copy, self._lists) if self._lists else copy

    def copies_of_list(self, docs: list[Any]) -> Make | None:
        """As ``copies``, of a list of documents."""
        if self.frozen:
            return docs.copy
        if docs and type(docs[0]) is dict:
            names: dict[str, None] = {}
            for doc in docs:
                lists = _lists_of(doc)
                if lists is None:
                    return None
                names.update(dict.fromkeys(lists))
            if not names:
                return lambda: [doc.copy() for doc in docs]
            wanted = tuple(names)
            return lambda: [_copied_dict(doc, wanted) for doc in docs]
        if self._lists is None:
            return None
        if not self._lists:
            return lambda: [doc.__copy__() for doc in docs]
        lists = self._lists
        return lambda: [_copied_struct(doc.__copy__, lists) for doc in docs]


def _lists_of(doc: dict[str, Any]) -> tuple[str, ...] | None:
    """The fields with a list of scalars, where all others are scalars; None for anything deeper."""
    lists: list[str] = []
    for name, value in doc.items():
        kind = type(value)
        if kind in SCALARS:
            continue
        if kind is not list or any(type(item) not in SCALARS for item in value):
            return None
        lists.append(name)
    return tuple(lists)


def _copied_dict(doc: dict[str, Any], lists: tuple[str, ...]) -> dict[str, Any]:
    copy = doc.copy()
    for name in lists:
        value: Any = copy.get(name)
        if value.__class__ is list:
            copy[name] = value.copy()
    return copy


def _copied_struct(copy: Make, lists: tuple[str, ...]) -> Any:
    made = copy()
    for name in lists:
        value: Any = getattr(made, name)
        if value.__class__ in _MUTABLE:
            setattr(made, name, value.copy())
    return made


def _flat_lists(model: type[msgspec.Struct]) -> tuple[str, ...] | None:
    """The fields of a Struct with a list, set or dict of immutable values, where all others are
    immutable; None for anything deeper."""
    plain: Any = msgspec.Struct
    config = model.__struct_config__
    # A frozen one could not be given its lists; of one with more than fields a copy may be less.
    if config.frozen or getattr(config, "dict", True) or model.__copy__ is not plain.__copy__:  # type: ignore[attr-defined]
        return None
    found: list[str] = []
    for name, kind in _hints(model).items():
        if is_immutable(kind):
            continue
        parts = _alternatives(kind)
        for part in parts:
            if is_immutable(part):
                continue
            inner = typing.get_args(part)
            if typing.get_origin(part) not in _MUTABLE or not all(map(is_immutable, inner)):
                return None
        found.append(name)
    return tuple(found)


def is_immutable(kind: Any) -> bool:
    """Are the values of this type immutable through and through?"""
    return _immutable(kind, set())


def _immutable(kind: Any, seen: set[Any]) -> bool:
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _immutable(typing.get_args(kind)[0], seen)
    if origin is typing.Literal:
        return True
    if origin in (typing.Union, types.UnionType):
        return all(_immutable(part, seen) for part in typing.get_args(kind))
    if origin in (tuple, frozenset):
        return all(part is ... or _immutable(part, seen) for part in typing.get_args(kind))
    if kind in SCALARS or kind is None:
        return True
    if not isinstance(kind, type) or origin is not None:
        return False
    if issubclass(kind, enum.Enum):
        return True
    if kind in seen:
        return True  # a model that contains itself: decided where it was met first
    seen.add(kind)
    return _is_frozen_class(kind) and all(_immutable(part, seen) for part in _hints(kind).values())


def _is_frozen_class(kind: type[Any]) -> bool:
    """A class whose objects refuse to be changed, and have nothing beside their fields."""
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_config__.frozen
    if dataclasses.is_dataclass(kind):
        return bool(attrgetter("__dataclass_params__.frozen")(kind))
    config = getattr(kind, "model_config", None)
    if isinstance(config, dict) and hasattr(kind, "model_fields"):
        return bool(
            config.get("frozen")
            and config.get("extra") != "allow"
            and not getattr(kind, "__private_attributes__", None)
        )
    return False


def _hints(kind: type[Any]) -> dict[str, Any]:
    """Types of the fields by name; those that cannot be told count as anything."""
    names = getattr(kind, "__struct_fields__", None) or getattr(kind, "model_fields", None)
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception:  # a name that only a type checker can see
        return {"": Any}
    if names is None:
        names = [field.name for field in dataclasses.fields(kind)]
    return {name: hints.get(name, Any) for name in names}


def _alternatives(kind: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _alternatives(typing.get_args(kind)[0])
    return typing.get_args(kind) if origin in (typing.Union, types.UnionType) else (kind,)


def size_of(value: Any, depth: int = 4) -> int:
    """About how many bytes a decoded document takes: containers, and what is in them."""
    size = getsizeof(value)
    if depth == 0 or type(value) in SCALARS:
        return size
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.values()  # the names are shared between documents
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = value
    elif isinstance(value, msgspec.Struct):
        inner = (getattr(value, name) for name in value.__struct_fields__)
    elif hasattr(value, "__dict__"):
        inner = vars(value).values()
        size += getsizeof(vars(value))
    return size + sum(size_of(one, depth - 1) for one in inner)
