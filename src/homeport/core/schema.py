"""Declarations: ``Collection``, ``Synced`` and the indexes. Validated once, then frozen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, overload
from zlib import crc32

from homeport.core.compression import Compression, checked_compression
from homeport.core.expiry import with_expiry_index
from homeport.core.fieldtypes import declared_types
from homeport.core.indexes import Frozen, FullText, Index, Kind, Multi, Unique, check_path
from homeport.core.keyfields import check_indexed, stored_key
from homeport.core.keygen import KeyGenerator, checked_generator
from homeport.core.mergetypes import MergeType
from homeport.core.modelpaths import resolve, resolve_stored
from homeport.core.modeltree import Node, tree_of
from homeport.core.versions import Upcaster, Versions
from homeport.errors import SchemaError, UnknownField

__all__ = [
    "MANUAL",
    "POLICIES",
    "SYSTEM_NAMES",
    "Collection",
    "Deletes",
    "Frozen",
    "FullText",
    "Index",
    "IndexForm",
    "Kind",
    "Multi",
    "PolicyName",
    "Resolver",
    "Synced",
    "Unique",
    "check_path",
]

T = TypeVar("T")

PolicyName: TypeAlias = Literal["merge", "last-write-wins", "local-wins", "remote-wins", "manual"]
Deletes: TypeAlias = Literal["delete-wins", "edit-wins"]
Resolver: TypeAlias = Callable[[Any, Any, Any, Any], Any]
"""``(base, local, remote, meta) → document``, or ``MANUAL`` to hold it for a person."""

POLICIES = ("merge", "last-write-wins", "local-wins", "remote-wins", "manual")
FOR_EVER_S = 1e11
"""Longer than a clock of milliseconds can count in a float; ``inf`` is this too."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
SYSTEM_NAMES = frozenset((
    "_outbox", "_base", "_conflicts", "_dead", "_integrity", "_staged", "_acked", "_layers",
    "_signs", "_resolutions",
))  # fmt: skip
"""The library's own collections; every other name with an underscore in front is refused."""


class _Manual:
    """Returned by a resolver: hold this conflict for a person."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MANUAL"


MANUAL: Final = _Manual()


class Synced(Frozen):
    """How a collection takes part in replication.

    Args:
        policy: ``merge`` (fields changed on one side only are combined; on the same field the
            value that arrives later wins and the other is kept in the log), ``last-write-wins``,
            ``local-wins``, ``remote-wins``, ``manual``, or a named function
            ``(base, local, remote, meta) -> document | MANUAL``.
        deletes: ``delete-wins`` or ``edit-wins`` when one side deletes what the other edits.
        fields: under ``merge``, fields that combine by meaning: ``{"hits": hp.Counter()}``; also
            ``"local-wins"`` and ``"remote-wins"`` for one field.

    Raises:
        SchemaError: a policy, type or path that does not exist.
    """

    __slots__ = ("deletes", "fields", "policy", "resolver")

    policy: str
    deletes: Deletes
    fields: Mapping[str, MergeType]
    resolver: Resolver | None

    def __init__(
        self,
        policy: PolicyName | Resolver = "merge",
        *,
        deletes: Deletes = "delete-wins",
        fields: Mapping[str, MergeType | str] | None = None,
    ) -> None:
        resolver: Resolver | None = None
        chosen: str
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
            chosen, resolver = name, policy
        elif policy not in POLICIES:
            raise SchemaError(
                f"There is no conflict policy {policy!r}; use one of {', '.join(POLICIES)} or a "
                "function."
            )
        else:
            chosen = policy
        if deletes not in ("delete-wins", "edit-wins"):
            raise SchemaError(f"deletes must be 'delete-wins' or 'edit-wins', not {deletes!r}.")
        types = declared_types(fields, "Synced")
        if types and chosen != "merge":
            raise SchemaError(
                f"Merge types of fields work under the policy 'merge', not under {chosen!r}.",
                action="Take fields= away, or use policy='merge'.",
            )
        self._set(policy=chosen, deletes=deletes, resolver=resolver, fields=types)

    def _stored(self, collection: str, tree: Node | None) -> Synced:
        """The same with the fields named as documents store them."""
        if tree is None or not self.fields:
            return self
        fields: dict[str, MergeType] = {}
        for path, kind in self.fields.items():
            try:
                steps = resolve(tree, path, collection)
            except UnknownField as error:
                raise SchemaError(f"Merge type of {error.message}", action=error.action) from error
            fields[".".join(step.stored for step in steps)] = kind
        return Synced("merge", deletes=self.deletes, fields=fields)

    def __repr__(self) -> str:
        policy = repr(self.policy) if self.resolver is None else self.policy
        deletes = "" if self.deletes == "delete-wins" else f", deletes={self.deletes!r}"
        fields = f", fields={dict(self.fields)!r}" if self.fields else ""
        return f"Synced({policy}{deletes}{fields})"


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
        check_indexed(path, steps, collection)
    return tuple(stored)


class Collection(Frozen, Generic[T]):
    """What a set of documents is: its name, model, key and indexes.

    Args:
        name: letters, digits, ``_`` and ``-``, beginning with a letter, at most 63 characters.
        model: a msgspec Struct, dataclass, TypedDict, pydantic or attrs class; None = plain dicts.
        key: the field that holds the document's key.
        indexes: field names, tuples of them (compound) or ``hp.Index`` values.
        key_generator: where the key of a document comes from that has none: ``uuid7``, or
            ``autoincrement`` (1, 2, 3 …; the collection then stays on the device), or a function
            without arguments, called in the transaction of the write.
        schema: a JSON Schema (2020-12) that every local write must satisfy.
        sync: ``hp.Synced(...)``, None for its defaults, False for data that stays on the device.
        ttl_s: documents expire this many seconds after their last write; None = never.
        expires_at: the field that says when its document expires: a moment, or seconds since 1970.
            A document without it has ``ttl_s``.
        track_changes: False makes writes cheaper and the collection invisible to live queries.
        compression: of documents above 512 bytes in a file, on this device alone: ``gzip`` (always
            there) or ``zstd`` (needs a package before Python 3.14); ``none`` keeps plain text.
        version: of the documents, from 1; raise it when their form changes.
        upcasters: ``{1: fn}``: the function that makes a document of version 2 out of one of
            version 1 (plain JSON in, plain JSON out, nothing but the document).
    """

    __slots__ = (
        "__weakref__",
        "compression",
        "expires_at",
        "indexes",
        "key",
        "key_generator",
        "model",
        "name",
        "schema",
        "sync",
        "system",
        "track_changes",
        "tree",
        "ttl_s",
        "versions",
    )

    name: str
    model: type[T] | None
    tree: Node | None
    key: str
    key_generator: KeyGenerator
    indexes: tuple[Index, ...]
    schema: Mapping[str, Any] | None
    sync: Synced | None
    ttl_s: float | None
    expires_at: str | None
    track_changes: bool
    compression: Compression
    system: bool
    versions: Versions

    @overload
    def __init__(
        self: Collection[dict[str, Any]],
        name: str,
        model: None = None,
        *,
        key: str = "id",
        indexes: Iterable[IndexForm] = (),
        schema: Mapping[str, Any] | None = None,
        key_generator: KeyGenerator = "uuid7",
        sync: Synced | Literal[False] | None = None,
        ttl_s: float | None = None,
        expires_at: str | None = None,
        track_changes: bool = True,
        compression: Compression = "none",
        version: int = 1,
        upcasters: Mapping[int, Upcaster] | None = None,
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
        key_generator: KeyGenerator = "uuid7",
        sync: Synced | Literal[False] | None = None,
        ttl_s: float | None = None,
        expires_at: str | None = None,
        track_changes: bool = True,
        compression: Compression = "none",
        version: int = 1,
        upcasters: Mapping[int, Upcaster] | None = None,
    ) -> None: ...
    def __init__(
        self,
        name: str,
        model: type[T] | None = None,
        *,
        key: str = "id",
        indexes: Iterable[IndexForm] = (),
        schema: Mapping[str, Any] | None = None,
        key_generator: KeyGenerator = "uuid7",
        sync: Synced | Literal[False] | None = None,
        ttl_s: float | None = None,
        expires_at: str | None = None,
        track_changes: bool = True,
        compression: Compression = "none",
        version: int = 1,
        upcasters: Mapping[int, Upcaster] | None = None,
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
            raise SchemaError(
                f"{name}: the key must be a field of the document itself, not {key!r}."
            )
        if schema is not None and not isinstance(schema, Mapping):
            raise SchemaError(f"{name}: schema= takes a JSON Schema as a dict, not {schema!r:.60}.")
        if ttl_s is not None and not (isinstance(ttl_s, (int, float)) and 0 < ttl_s < FOR_EVER_S):
            raise SchemaError(
                f"{name}: ttl_s must be a number of seconds above 0, not {ttl_s!r}.",
                action="Leave it out for documents that never expire.",
            )
        if sync is None:
            # Numbers that each device counts by itself would collide, so these stay on it.
            sync = False if key_generator == "autoincrement" else Synced()
        elif sync is not False and not isinstance(sync, Synced):
            raise SchemaError(f"{name}: sync= takes hp.Synced(...) or False, not {sync!r}.")
        tree = tree_of(model)
        stored = stored_key(tree, key, name)
        made = _indexes(indexes, name, tree)
        if expires_at is not None:
            (expiry,) = _indexes([Index(expires_at, sparse=True)], name, tree)
            expires_at = expiry.fields[0]
            node = resolve_stored(tree, expires_at)[-1].node
            made = with_expiry_index(made, expires_at, expiry, node, name)
        self._set(
            name=name,
            model=None if model is dict else model,
            tree=tree,
            key=stored,
            key_generator=checked_generator(
                key_generator, name, tree, stored, synced=sync is not False
            ),
            indexes=made,
            schema=schema,
            sync=sync._stored(name, tree) if sync else None,
            ttl_s=ttl_s,
            expires_at=expires_at,
            track_changes=track_changes,
            compression=checked_compression(compression, name),
            system=name in SYSTEM_NAMES,
            versions=Versions(version, upcasters, name),
        )

    @property
    def expiring(self) -> bool:
        """May documents expire?"""
        return self.ttl_s is not None or self.expires_at is not None

    def resolved(self, form: IndexForm) -> Index:
        """An index as this collection would declare it: stored names, proved to be in the model.
        Raises ``SchemaError``."""
        (index,) = _indexes([form], self.name, self.tree)
        return index

    def with_indexes(self, indexes: tuple[Index, ...]) -> Collection[T]:
        """The same declaration with other indexes, which are taken as they are."""
        copy: Collection[T] = Collection.__new__(Collection)
        slots = [name for name in self.__slots__ if not name.startswith("__")]
        copy._set(**{name: getattr(self, name) for name in slots})
        copy._set(indexes=indexes)
        return copy

    def __repr__(self) -> str:
        parts = [repr(self.name)]
        if self.model is not None:
            parts.append(self.model.__name__)
        if self.key != "id":
            parts.append(f"key={self.key!r}")
        if self.key_generator != "uuid7":
            parts.append(f"key_generator={self.key_generator!r}")
        if self.indexes:
            parts.append(f"indexes={list(self.indexes)!r}")
        return f"Collection({', '.join(parts)})"
