"""Differences between two JSON objects as named paths, and how to put them back.

A path is dotted (``casing.depth_m``). Objects are compared field by field at every depth; arrays
and scalars are atomic: an array that differs in one element is replaced whole. Where a field name
holds a dot (rows written by other programs may), the object around it is atomic too, because a path
could not name its fields.

Numbers are compared with their type: ``1`` and ``1.0`` differ, because their JSON texts do, and a
device and its server must end with the same text.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import msgspec

from homeport.core.paths import MISSING, get_path

Json: TypeAlias = Any
Document: TypeAlias = dict[str, Any]


class Patch(NamedTuple):
    """Fields set and removed, with the value that each had before (missing ones are not in old)."""

    set: dict[str, Any]
    unset: list[str]
    old: dict[str, Any]

    @property
    def empty(self) -> bool:
        return not self.set and not self.unset

    @property
    def paths(self) -> list[str]:
        return [*self.set, *self.unset]


def same(a: object, b: object) -> bool:
    """Equal as JSON; order of fields does not matter, types do."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return len(a) == len(b) and all(k in b and same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def parse(text: str | bytes | msgspec.Raw) -> Any:
    return msgspec.json.decode(text)


def dump(value: object) -> str:
    return msgspec.json.encode(value).decode()


def get(doc: Json, path: str) -> Any:
    """The value at a path, or ``MISSING``."""
    return get_path(doc, path)


def set_at(doc: Document, path: str, value: object) -> Document:
    """A copy with the path set; objects on the way are made, and replace what is no object."""
    name, _, rest = path.partition(".")
    copy = dict(doc)
    if rest:
        inner = copy.get(name)
        copy[name] = set_at(inner if isinstance(inner, dict) else {}, rest, value)
    else:
        copy[name] = value
    return copy


def unset_at(doc: Document, path: str) -> Document:
    """A copy without the path; a path that is not there changes nothing."""
    if get(doc, path) is MISSING:
        return doc
    name, _, rest = path.partition(".")
    copy = dict(doc)
    if rest:
        copy[name] = unset_at(copy[name], rest)
    else:
        del copy[name]
    return copy


def put_at(doc: Document, path: str, value: object) -> Document:
    """A copy with the path as given: set, or taken away for ``MISSING``."""
    return unset_at(doc, path) if value is MISSING else set_at(doc, path, value)


def diff(old: Document, new: Document) -> Patch | None:
    """What turns ``old`` into ``new``; None when no path can say it (a changed field name holds a
    dot or is empty), so that the whole document has to be sent."""
    patch = Patch({}, [], {})
    return patch if _walk(old, new, "", patch) else None


def _walk(old: Document, new: Document, prefix: str, patch: Patch) -> bool:
    changed = [n for n in new if n not in old or not same(old[n], new[n])]
    gone = [n for n in old if n not in new]
    if any(not n or "." in n for n in (*changed, *gone)):
        return False
    for name in changed:
        path, value = prefix + name, new[name]
        if name not in old:
            patch.set[path] = value
            continue
        before = old[name]
        nested = isinstance(before, dict) and isinstance(value, dict)
        if not (nested and _nested(before, value, path + ".", patch)):
            patch.set[path] = value
            patch.old[path] = before
    for name in gone:
        patch.unset.append(prefix + name)
        patch.old[prefix + name] = old[name]
    return True


def _nested(before: Document, value: Document, prefix: str, patch: Patch) -> bool:
    """Walk into a pair of objects; leaves ``patch`` alone unless every path in it can be said."""
    inner = Patch({}, [], {})
    if not _walk(before, value, prefix, inner):
        return False
    patch.set.update(inner.set)
    patch.unset.extend(inner.unset)
    patch.old.update(inner.old)
    return True


def apply(doc: Document, patch: Patch) -> Document:
    """The document with the patch on it (a copy)."""
    for path in patch.unset:
        doc = unset_at(doc, path)
    for path, value in patch.set.items():
        doc = set_at(doc, path, value)
    return doc


def revert(doc: Document, patch: Patch) -> Document:
    """The document as it was before ``patch``: the exact inverse for a patch made by ``diff``."""
    for path in patch.set:
        if path not in patch.old:
            doc = unset_at(doc, path)
    for path, value in patch.old.items():
        doc = set_at(doc, path, value)
    return doc


def overlaps(a: str, b: str) -> bool:
    """Do two paths touch the same place (equal, or one inside the other)?"""
    return a == b or a.startswith(b + ".") or b.startswith(a + ".")
