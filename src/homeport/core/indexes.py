"""``Index`` and its short forms, and the base of all frozen declarations."""

from __future__ import annotations

import re
from typing import Any, Literal, Protocol, TypeAlias

from homeport.errors import SchemaError

Kind: TypeAlias = Literal["btree", "hash", "fulltext"]
_SUFFIX = {"btree": "", "hash": "_h", "fulltext": "_f"}


class Frozen:
    """Attributes are set once, by the constructor."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen; make a new one.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen; make a new one.")

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def check_path(path: object, what: str) -> str:
    """A dotted path: names separated by dots, none of them empty."""
    if not isinstance(path, str) or not path:
        raise SchemaError(f"{what} must be a field name or a dotted path, not {path!r}.")
    if any(not name or not name.isprintable() for name in path.split(".")):
        raise SchemaError(
            f"{path!r} is no field path: a name between its dots is empty or unreadable."
        )
    return path


def _check_kind(
    kind: Kind, paths: tuple[str, ...], *, unique: bool, multi: bool, sparse: bool
) -> None:
    """Refuse combinations that promise what no engine keeps, or say nothing."""
    if kind == "fulltext" and len(paths) > 1:
        raise SchemaError(
            f"A full-text index has one field, not {len(paths)}.",
            action="Declare one for each; search() looks through all of them.",
        )
    if kind == "fulltext" and unique:
        raise SchemaError(
            "A full-text index cannot be unique: many documents share a word.",
            action="Declare hp.Unique for the field beside it.",
        )
    if kind == "fulltext" and (multi or sparse):
        word = "multi" if multi else "sparse"
        raise SchemaError(
            f"{word}=True adds nothing to a full-text index: it holds the words that are there, "
            "also those of arrays of texts.",
            action=f"Leave {word}=True out.",
        )
    if multi and sparse:
        raise SchemaError(
            "sparse=True adds nothing to a multi-entry index: it holds the elements that are "
            "there and nothing else.",
            action="Leave sparse=True out.",
        )


class Index(Frozen):
    """An index over one field or several (compound, in this order).

    Args:
        fields: dotted paths.
        unique: no two documents may have the same values; a document without one of the fields
            is not in the index.
        multi: one entry per element of an array field (with several fields, the last one is the
            array).
        sparse: documents without the first field take no room in the index. It serves conditions
            that such documents cannot satisfy (equality, ranges) and never an order alone.
        kind: ``btree``, ``hash`` (equality of all its fields; no ranges, no order) or ``fulltext``
            (one field of text).

    Raises ``SchemaError`` for combinations that say nothing: a full-text index has one field and
    is not unique, multi or sparse; a multi-entry index is sparse by nature.
    """

    __slots__ = ("fields", "kind", "multi", "name", "sparse", "unique")

    fields: tuple[str, ...]
    unique: bool
    multi: bool
    sparse: bool
    kind: Kind
    name: str

    def __init__(
        self,
        *fields: str,
        unique: bool = False,
        multi: bool = False,
        sparse: bool = False,
        kind: Kind = "btree",
    ) -> None:
        if not fields:
            raise SchemaError("An index needs at least one field.")
        paths = tuple(check_path(field, "An index field") for field in fields)
        if len(set(paths)) < len(paths):
            raise SchemaError(f"An index names {paths} with a repetition.")
        if kind not in _SUFFIX:
            raise SchemaError(f"There is no index kind {kind!r}; use btree, hash or fulltext.")
        _check_kind(kind, paths, unique=unique, multi=multi, sparse=sparse)
        readable = "_".join(re.sub(r"\W", "_", path, flags=re.ASCII) for path in paths)
        name = readable + ("_m" if multi else "") + _SUFFIX[kind]
        self._set(fields=paths, unique=unique, multi=multi, sparse=sparse, kind=kind, name=name)

    @property
    def spec(self) -> str:
        """The whole declaration as one text; equal specs are the same index."""
        flags = ("unique " if self.unique else "") + ("multi " if self.multi else "")
        return f"{self.kind} {flags}({', '.join(self.fields)})"

    @classmethod
    def named(cls, name: str, fields: tuple[str, ...], **flags: Any) -> Index:
        """An index as a file records it."""
        return cls(*fields, **flags)._renamed(name)

    def _renamed(self, name: str, fields: tuple[str, ...] | None = None) -> Index:
        copy = Index.__new__(Index)
        copy._set(
            fields=fields or self.fields,
            unique=self.unique,
            multi=self.multi,
            sparse=self.sparse,
            kind=self.kind,
            name=name,
        )
        return copy

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Index) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __repr__(self) -> str:
        parts = [repr(field) for field in self.fields]
        parts += [f"{flag}=True" for flag in ("unique", "multi", "sparse") if getattr(self, flag)]
        if self.kind != "btree":
            parts.append(f"kind={self.kind!r}")
        return f"Index({', '.join(parts)})"


def Multi(*fields: str, unique: bool = False) -> Index:  # noqa: N802
    """One index entry per element of an array field."""
    return Index(*fields, multi=True, unique=unique)


def Unique(*fields: str) -> Index:  # noqa: N802
    """No two documents may have the same value (or the same combination of values)."""
    return Index(*fields, unique=True)


def FullText(*fields: str) -> Index:  # noqa: N802
    """Words of a text field (or of an array of texts), found by ``F.field.matches("...")``."""
    return Index(*fields, kind="fulltext")


class Indexed(Protocol):
    """The indexes that a plan may use: those of a codec, or what a store knows better."""

    @property
    def key(self) -> str: ...

    @property
    def indexes(self) -> tuple[Index, ...]: ...

    @property
    def multi(self) -> tuple[Index, ...]: ...

    @property
    def text_paths(self) -> tuple[str, ...]: ...
