"""What the owner of a server declares: collections, who sees what, who may write what.

A document lies in one *bucket*; a user sees the documents of the buckets that the rules give him.
Without rules, everything of a tenant lies in the bucket ``""`` and all its users see it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from homeport.core.fieldtypes import declared_types
from homeport.core.indexes import Index
from homeport.core.mergetypes import MergeType, type_of
from homeport.core.versions import UNVERSIONED, Upcaster, Versions
from homeport.core.wire import RESOLUTIONS, UniqueIndex
from homeport.errors import SchemaError, UpgradeRequired

from .unique import declared_unique

Document: TypeAlias = "dict[str, Any]"
Fetch: TypeAlias = "Callable[..., Awaitable[list[Any]]]"
"""``await fetch(sql, *values)``: rows, read in the snapshot of the cut that is being made."""
Scope: TypeAlias = "dict[str, frozenset[str]]"
"""Buckets that a user sees, by collection."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


def valid_name(name: str) -> bool:
    """Whether a device may sync a collection of this name."""
    return name == RESOLUTIONS or _NAME.fullmatch(name) is not None


def valid_policy(name: str) -> bool:
    """Whether a device may declare a policy of this name (that of a function, mostly)."""
    return 0 < len(name) <= 200 and "\0" not in name


@dataclass(frozen=True)
class Claims:
    """Who asks, as the token says.

    Attributes:
        subject: the user (``sub``).
        tenant: leads every key; no request crosses it.
        expires_at: seconds since the epoch.
        token: all claims, for rules of your own.
    """

    subject: str
    tenant: str
    expires_at: float
    token: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ServerCollection:
    """One collection of the server.

    Args:
        name: as on the devices.
        policy: conflict policy, announced to the devices: ``merge``, ``last-write-wins``,
            ``local-wins``, ``remote-wins``, ``manual`` or the name of a device's callable.
        deletes: what wins when a delete meets an edit.
        fields: merge types by stored path, as ``hp.Synced(fields=...)`` has them.
        bucket: document → its bucket. Needs ``buckets``. Rows written by plain SQL must fill the
            column ``bucket`` themselves.
        buckets: (claims, fetch) → the buckets that a user sees; may be ``async``.
        write: (claims, old, new) → True allows; False, or a text that says why, refuses.
            ``old`` is None for a new document, ``new`` is None for a delete.
        version, upcasters: of the documents, as ``hp.Collection`` has them: newer programs get what
            older ones have stored in the form that they know.
        minimum: programs of an older version of this collection may not exchange anything.
        unique: field names, tuples of them or unique ``hp.Index`` values: PostgreSQL lets no two
            documents of a tenant have the same value, whoever writes them.

    Raises:
        SchemaError: a declaration that contradicts itself.
    """

    name: str
    policy: str = "merge"
    deletes: Literal["delete-wins", "edit-wins"] = "delete-wins"
    fields: Mapping[str, MergeType | str] = field(default_factory=dict)
    bucket: Callable[[Document], str] | None = None
    buckets: Callable[[Claims, Fetch], Iterable[str] | Awaitable[Iterable[str]]] | None = None
    write: Callable[[Claims, Document | None, Document | None], bool | str] | None = None
    unique: Sequence[Index | str | tuple[str, ...]] = ()
    version: int = 1
    upcasters: Mapping[int, Upcaster] = field(default_factory=dict)
    minimum: int = 1

    def __post_init__(self) -> None:
        if not valid_name(self.name):
            raise SchemaError(f"{self.name!r} is not a name for a collection.")
        if (self.bucket is None) != (self.buckets is None):
            raise SchemaError(f"Collection {self.name} needs both bucket= and buckets=, or none.")
        if self.deletes not in ("delete-wins", "edit-wins"):
            raise SchemaError(f"Collection {self.name}: deletes= is delete-wins or edit-wins.")
        if not self.policy:
            raise SchemaError(f"Collection {self.name} needs a policy.")
        if self.types and self.policy != "merge":
            raise SchemaError(f"Collection {self.name}: fields= needs the policy merge.")
        _ = self.unique_indexes, self.versions  # checked now

    @property
    def types(self) -> dict[str, MergeType]:
        """The merge types, checked."""
        return declared_types(self.fields, f"Collection {self.name}")

    @property
    def versions(self) -> Versions:
        """The version and what leads to it, checked."""
        what = f"Collection {self.name}"
        return Versions(self.version, self.upcasters, what, least=self.minimum)

    @property
    def unique_indexes(self) -> tuple[UniqueIndex, ...]:
        """The unique indexes, checked."""
        return declared_unique(self.unique, f"Collection {self.name}")


class Settled(NamedTuple):
    """How conflicts of a collection are settled."""

    policy: str
    deletes: str
    types: Mapping[str, MergeType]


def read_specs(text: str) -> dict[str, str]:
    """Merge types by path, as the database keeps them."""
    return msgspec.json.decode(text, type=dict[str, str])


def write_specs(specs: Mapping[str, str]) -> str:
    """The other way round."""
    return msgspec.json.encode(specs, order="sorted").decode()


def valid_types(specs: Mapping[str, str]) -> dict[str, str]:
    """What a device may declare; names that this node does not know may be a newer device's."""
    short = {path: spec for path, spec in specs.items() if len(path) + len(spec) <= 400}
    return dict(sorted(short.items())[:200])


def known_types(specs: Mapping[str, str]) -> dict[str, MergeType]:
    """The types that this node merges. The others are left to the devices: names that it does not
    know, and texts, because comparing two long ones would keep everybody waiting."""
    found = {path: type_of(spec) for path, spec in specs.items() if spec != "text"}
    return {path: kind for path, kind in found.items() if kind is not None}


class Rules:
    """All declarations of a node; None = development mode, any collection."""

    def __init__(self, collections: Iterable[ServerCollection] | None) -> None:
        self.any = collections is None
        self.declared = {item.name: item for item in collections or ()}
        self._versions = {name: item.versions for name, item in self.declared.items()}
        self.unique = {name: list(item.unique_indexes) for name, item in self.declared.items()}
        """Unique indexes by collection; a development node adds those of devices."""

    def versions(self, name: str) -> Versions:
        """The version of a collection and what leads to it."""
        return self._versions.get(name, UNVERSIONED)

    def raised(
        self, program: Mapping[str, int], name: str, body: str, version: int
    ) -> tuple[str, int]:
        """A stored document as a program gets it: raised as far as both sides know the way."""
        versions = self.versions(name)
        to = min(versions.current, program.get(name, 1))
        if version >= to:
            return body, version
        try:
            return versions.raised_text(body, version, to), to
        except Exception:  # the owner's function: the device gets it as it is, and says so
            return body, version

    def check_versions(self, named: Iterable[str], versions: Mapping[str, int]) -> None:
        """Raise ``UpgradeRequired`` for a program that is older than a collection allows."""
        for name in named:
            item = self.declared.get(name)
            if item is not None and versions.get(name, 1) < item.minimum:
                raise UpgradeRequired(
                    f"{name} needs version {item.minimum} of this program; it has "
                    f"{versions.get(name, 1)}."
                )

    def known(self, name: str) -> bool:
        """Whether the node serves a collection of this name."""
        return valid_name(name) and (self.any or name in self.declared or name == RESOLUTIONS)

    def get(self, name: str) -> ServerCollection | None:
        """The declaration, None where everything is allowed."""
        return self.declared.get(name)

    async def scope(self, claims: Claims, names: Iterable[str], fetch: Fetch) -> Scope:
        """The buckets that this user sees, for those of ``names`` that the node serves."""
        wanted = [name for name in names if self.known(name)]
        found: Scope = {}
        for name in wanted:
            if name != RESOLUTIONS:
                found[name] = await self._buckets(self.declared.get(name), claims, fetch)
        if RESOLUTIONS in wanted:
            mixed = {""}
            for name, item in self.declared.items():
                if item.buckets is not None:
                    buckets = found.get(name)
                    if buckets is None:
                        buckets = await self._buckets(item, claims, fetch)
                    mixed.update(f"{name}/{bucket}" for bucket in buckets)
            found[RESOLUTIONS] = frozenset(mixed)
        return found

    async def _buckets(
        self, item: ServerCollection | None, claims: Claims, fetch: Fetch
    ) -> frozenset[str]:
        if item is None or item.buckets is None:
            return frozenset(("",))
        answer = item.buckets(claims, fetch)
        if inspect.isawaitable(answer):
            answer = await answer
        return frozenset(answer)

    def bucket_of(self, name: str, document: Document) -> str:
        """The bucket of a document; a conflict record lies with the document that it tells of."""
        if name == RESOLUTIONS:
            return self._bucket_of_record(document)
        item = self.declared.get(name)
        return "" if item is None or item.bucket is None else str(item.bucket(document))

    def _bucket_of_record(self, record: Document) -> str:
        about = record.get("collection")
        item = self.declared.get(about) if isinstance(about, str) else None
        if item is None or item.bucket is None:
            return ""
        for side in ("remote", "result", "local", "base"):
            body = record.get(side)
            if isinstance(body, dict):
                return f"{item.name}/{item.bucket(body)}"
        raise ValueError("a conflict record without a body")
