"""Merge types of the fields of a collection: their declaration, and documents merged by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeport.core.diff import get, put_at, same, set_at
from homeport.core.indexes import check_path
from homeport.core.mergetypes import MergeType, type_of
from homeport.core.paths import MISSING
from homeport.errors import SchemaError


def declared_types(given: Mapping[str, MergeType | str] | None, what: str) -> dict[str, MergeType]:
    """Check a declaration ``{path: type}``. Raises ``SchemaError``."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise SchemaError(f"{what}: fields= takes a dict such as {{'hits': hp.Counter()}}.")
    found: dict[str, MergeType] = {}
    for path, form in given.items():
        check_path(path, f"{what}: a field")
        kind = type_of(form) if isinstance(form, str) else form
        if not isinstance(kind, MergeType):
            raise SchemaError(
                f"{what}: the field {path!r} has {form!r}, which is not a merge type.",
                action="Use hp.Counter(), SetOf(), ListOf(key), Max(), Min(), Text(), "
                "'local-wins' or 'remote-wins'.",
            )
        if any(other != path and path.startswith(other + ".") for other in given):
            raise SchemaError(f"{what}: {path!r} lies inside another field with a merge type.")
        found[path] = kind
    return found


def combine(
    types: Mapping[str, MergeType], base: Any, mine: Any, theirs: Any, result: Any
) -> tuple[Any, dict[str, list[str]]]:
    """Put what the types make of their fields into ``result``, the merge by plain fields.

    → the document, and of each field that a type decided the places that clashed.
    """
    decided: dict[str, list[str]] = {}
    for path, kind in types.items():
        was, wanted, there = (get(doc, path) for doc in (base, mine, theirs))
        if same(there, was):
            continue
        if same(wanted, was):
            around = path.rpartition(".")[0]
            lost = there is not MISSING and not same(get(result, path), there)
            if lost and (not around or isinstance(get(mine, around), dict)):
                result = set_at(result, path, there)  # the object around it was put anew
            continue
        merged = kind.merge(was, wanted, there)
        if merged is None:
            continue
        decided[path] = [path + place for place in merged.clashes]
        result = put_at(result, path, merged.value)
    return result, decided


def concerned(types: Mapping[str, MergeType], base: Any, mine: Any, theirs: Any) -> bool:
    """Did both sides change a field that has a type? Then equal values are no agreement: two
    counters that went from 1 to 2 make 3."""
    for path in types:
        was = get(base, path)
        if not same(get(mine, path), was) and not same(get(theirs, path), was):
            return True
    return False
