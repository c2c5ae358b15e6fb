"""Declarations: ``Collection``, ``Index`` and its short forms, ``Synced``. Validated once, frozen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, overload
from zlib import crc32

from homeport.core.modeltree import Node, Step, resolve, tree_of
from homeport.errors import SchemaError, UnknownField

T = TypeVar("T")

Kind: TypeAlias = Literal["btree", "hash", "fulltext"]
PolicyName: TypeAlias = Literal["merge", "last-write-wins", "local-wins", "remote-wins", "manual"]
Deletes: TypeAlias = Literal["delete-wins", "edit-wins"]
Resolver: TypeAlias = Callable[[Any, Any, Any, Any], Any]
"""``(base, local, remote, meta) → document``, or ``MANUAL`` to hold it for a person."""

POLICIES = ("merge", "last-write-wins", "local-wins", "remote-wins", "manual")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
SYSTEM_NAMES = frozenset(("_outbox", "_base", "_conflicts", "_dead", "_staged", "_resolutions"))
"""The library's own collections; every other name with an underscore in front is refused."""
_SUFFIX = {"btree": "", "hash": "_h", "fulltext": "_f"}


class _Manual:
    """Returned by a resolver: hold this conflict for a person."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MANUAL"


MANUAL: Final = _Manual()


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
        raise SchemaError(f"{path!r} is no field path: a name between its dots is empty or unreadable.")
    return path


class Index(Frozen):
    """An index over one field or several (compound, in this order).

    Args:
        fields: dotted paths.
        unique: no two documents may have the same values; a document without one of the fields
            is not in the index.
        multi: one entry per element of an array field (with several fields, the last one is the
            array).
        sparse: every index leaves out documents without its fields; accepted so that a
            declaration may say it.
        kind: ``btree``, ``hash`` (equality only) or ``fulltext`` (one field of text).
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
        if kind == "fulltext" and (unique or multi or len(paths) > 1):
            raise SchemaError("A full-text index has one field and is neither unique nor multi.")
        readable = "_".join(re.sub(r"\W", "_", path, flags=re.ASCII) for path in paths)
        name = readable + ("_m" if multi else "") + _SUFFIX[kind]
        self._set(fields=paths, unique=unique, multi=multi, sparse=sparse, kind=kind, name=name)

    @property
    def spec(self) -> str:
        """The whole declaration as one text; equal specs are the same index."""
        flags = ("unique " if self.unique else "") + ("multi " if self.multi else "")
        return f"{self.kind} {flags}({', '.join(self.fields)})"

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


class Synced(Frozen):
    """How a collection takes part in replication.

    Args:
        policy: ``merge`` (fields changed on one side only are combined; on the same field the
            value that arrives later wins and the other is kept in the log), ``last-write-wins``,
            ``local-wins``, ``remote-wins``, ``manual``, or a named function
            ``(base, local, remote, meta) -> document | MANUAL``.
        deletes: ``delete-wins`` or ``edit-wins`` when one side deletes what the other edits.
    """

    __slots__ = ("deletes", "policy", "resolver")

    policy: str
    deletes: Deletes
    resolver: Resolver | None

    def __init__(
        self, policy: PolicyName | Resolver = "merge", *, deletes: Deletes = "delete-wins"
    ) -> None:
        resolver: Resolver | None = None
        if callable(policy):
            name = getattr(policy, "__name__", "")
            if not name.isidentifier():
                raise SchemaError(
                    "A conflict function needs a name, because the name is what other devices and "
                    "the server see.",
                    action="Define it with def, not as a lambda or partial.",
                )
            if name in POLICIES:
                raise SchemaError(f"The conflict function {name!r} has the name of a policy.")
            policy, resolver = name, policy
        elif policy not in POLICIES:
            raise SchemaError(
                f"There is no conflict policy {policy!r}; use one of {', '.join(POLICIES)} or a "
                "function."
            )
        if deletes not in ("delete-wins", "edit-wins"):
            raise SchemaError(f"deletes must be 'delete-wins' or 'edit-wins', not {deletes!r}.")
        self._set(policy=policy, deletes=deletes, resolver=resolver)

    def __repr__(self) -> str:
        policy = repr(self.policy) if self.resolver is None else self.policy
        deletes = "" if self.deletes == "delete-wins" else f", deletes={self.deletes!r}"
        return f"Synced({policy}{deletes})"


IndexForm: TypeAlias = "Index | str | tuple[str, ...]"


def _index(form: IndexForm) -> Index:
    if isinstance(form, Index):
        return form
    if isinstance(form, str):
        return Index(form)
    if isinstance(form, (tuple, list)):
        return Index(*form)
    raise SchemaError(f"An index is a field name, a tuple of them or an hp.Index, not {form!r}.")


def _indexes(forms: object, collection: str, tree: Node | None) -> tuple[Index, ...]:
    if isinstance(forms, (str, Index)) or not isinstance(forms, Iterable):
        raise SchemaError(f"{collection}: indexes= takes a list, for example indexes=['depth_m'].")
    made: dict[str, Index] = {}
    for form in forms:
        index = _index(form)
        name = index.name
        # Engines compare names without case, and "a.b", "a_b" and ("a", "b") read alike.
        if name.casefold() in made:
            twin = made[name.casefold()]
            if (twin.fields, twin.kind, twin.multi) == (index.fields, index.kind, index.multi):
                raise SchemaError(f"{collection}: the index {index!r} is declared twice.")
            name = f"{name}_{crc32(index.spec.encode()):08x}"
        made[name.casefold()] = index._renamed(name, _stored_fields(index, collection, tree))
    return tuple(made.values())


def _stored_fields(index: Index, collection: str, tree: Node | None) -> tuple[str, ...]:
    """The fields by the names under which documents store them, proved to be in the model and to
    have an order."""
    if tree is None:
        return index.fields
    stored: list[str] = []
    for path in index.fields:
        try:
            steps = resolve(tree, path, collection)
        except UnknownField as error:
            raise SchemaError(f"Index on {error.message}", action=error.action) from error
        stored.append(".".join(step.stored for step in steps))
        _check_indexed(path, steps, collection)
    return tuple(stored)


def _check_indexed(path: str, steps: list[Step], collection: str) -> None:
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


def _stored_key(tree: Node | None, key: str, collection: str) -> str:
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


class Collection(Generic[T], Frozen):
    """What a set of documents is: its name, model, key and indexes.

    Args:
        name: letters, digits, ``_`` and ``-``, beginning with a letter, at most 63 characters.
        model: a msgspec Struct, dataclass, TypedDict, pydantic or attrs class; None = plain dicts.
        key: the field that holds the document's key.
        indexes: field names, tuples of them (compound) or ``hp.Index`` values.
        schema: a JSON Schema (2020-12) that every local write must satisfy.
        sync: ``hp.Synced(...)``, None for its defaults, False for data that never leaves the device.
        ttl_s: documents expire this many seconds after their last write; None = never.
        track_changes: False makes writes cheaper and the collection invisible to live queries.
    """

    __slots__ = (
        "__weakref__",
        "indexes",
        "key",
        "model",
        "name",
        "schema",
        "sync",
        "system",
        "track_changes",
        "tree",
        "ttl_s",
    )

    name: str
    model: type[T] | None
    tree: Node | None
    key: str
    indexes: tuple[Index, ...]
    schema: Mapping[str, Any] | None
    sync: Synced | None
    ttl_s: float | None
    track_changes: bool
    system: bool

    @overload
    def __init__(
        self: Collection[dict[str, Any]],
        name: str,
        model: None = None,
        *,
        key: str = "id",
        indexes: Iterable[IndexForm] = (),
        schema: Mapping[str, Any] | None = None,
        sync: Synced | Literal[False] | None = None,
        ttl_s: float | None = None,
        track_changes: bool = True,
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        model: type[T],
        *,
        key: str = "id",
        indexes: Iterable[IndexForm] = (),
        schema: Mapping[str, Any] | None = None,
        sync: Synced | Literal[False] | None = None,
        ttl_s: float | None = None,
        track_changes: bool = True,
    ) -> None: ...
    def __init__(
        self,
        name: str,
        model: type[T] | None = None,
        *,
        key: str = "id",
        indexes: Iterable[IndexForm] = (),
        schema: Mapping[str, Any] | None = None,
        sync: Synced | Literal[False] | None = None,
        ttl_s: float | None = None,
        track_changes: bool = True,
    ) -> None:
        if not isinstance(name, str) or not (_NAME.fullmatch(name) or name in SYSTEM_NAMES):
            raise SchemaError(
                f"{name!r} is no collection name: use letters, digits, _ and -, a letter first, "
                "at most 63 characters."
            )
        if model is not None and not isinstance(model, type):
            raise SchemaError(f"{name}: model= takes a class, not {model!r}.")
        check_path(key, f"{name}: the key field")
        if "." in key:
            raise SchemaError(f"{name}: the key must be a field of the document itself, not {key!r}.")
        if schema is not None and not isinstance(schema, Mapping):
            raise SchemaError(f"{name}: schema= takes a JSON Schema as a dict, not {schema!r:.60}.")
        if ttl_s is not None and not (isinstance(ttl_s, (int, float)) and ttl_s > 0):
            raise SchemaError(f"{name}: ttl_s must be a number of seconds above 0, not {ttl_s!r}.")
        if sync is None:
            sync = Synced()
        elif sync is not False and not isinstance(sync, Synced):
            raise SchemaError(f"{name}: sync= takes hp.Synced(...) or False, not {sync!r}.")
        tree = tree_of(model)
        self._set(
            name=name,
            model=None if model is dict else model,
            tree=tree,
            key=_stored_key(tree, key, name),
            indexes=_indexes(indexes, name, tree),
            schema=schema,
            sync=sync or None,
            ttl_s=ttl_s,
            track_changes=track_changes,
            system=name in SYSTEM_NAMES,
        )

    def __repr__(self) -> str:
        parts = [repr(self.name)]
        if self.model is not None:
            parts.append(self.model.__name__)
        if self.key != "id":
            parts.append(f"key={self.key!r}")
        if self.indexes:
            parts.append(f"indexes={list(self.indexes)!r}")
        return f"Collection({', '.join(parts)})"
