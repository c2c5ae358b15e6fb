"""The table of semantic cases on a store: no index, an index on every path, compound indexes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from homeport.core.conditions import And, Condition, Element, IgnoreCase, Or, Range
from homeport.core.jsonfilter import parse_filter
from homeport.core.query import QueryValue, parse_order
from homeport.core.schema import Collection, FullText, Index, Multi
from homeport.testing.conformance import Case, World, same


def cases(table: Mapping[str, Any]) -> list[Case]:
    return [
        Case(f"{group['name']}, {kind}", partial(_run_group, group, indexes))
        for group in table["groups"]
        for kind, indexes in _kinds(group)
    ]


def condition_of(case: Mapping[str, Any]) -> Condition | None:
    """The condition of one case of the table."""
    parts: list[Condition] = []
    if "where" in case:
        parts.append(parse_filter(case["where"]))
    if "range" in case:
        bounds = case["range"]
        path, entries = bounds["path"], bounds.get("entries", False)
        range_ = Range(
            "" if entries else path,
            bounds.get("lower"),
            bounds.get("upper"),
            bounds.get("lowerOpen", False),
            bounds.get("upperOpen", False),
        )
        parts.append(Element(path, range_) if entries else range_)
    if "ignoreCase" in case:
        asked = case["ignoreCase"]
        parts.append(IgnoreCase(asked["path"], asked["values"], asked.get("prefix", False)))
    return And(parts) if parts else None


def query_of(case: Mapping[str, Any]) -> QueryValue:
    query = QueryValue(condition_of(case), parse_order(case.get("order", ())))
    after = case.get("after")
    query = query.with_limit(case.get("limit")).with_offset(case.get("offset", 0))
    return query if after is None else query.with_after(tuple(after))


def _kinds(group: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    declared = [_declared(form) for form in group.get("indexes", ())]
    paths = sorted(_paths(group))
    yield "no index", []
    yield "its own indexes", declared
    yield "an index on every path", _distinct([*paths, *map(Multi, paths), *map(FullText, paths)])
    pairs = [(a, b) for a in paths for b in paths if a != b]
    yield "compound indexes", _distinct([*pairs, *declared])


def _declared(form: Any) -> Any:
    if isinstance(form, Mapping):
        options = {name: value for name, value in form.items() if name != "fields"}
        return Index(*form["fields"], **options)
    return tuple(form) if isinstance(form, list) else form


def _distinct(forms: list[Any]) -> list[Any]:
    made = [
        form if isinstance(form, Index) else Index(*([form] if isinstance(form, str) else form))
        for form in forms
    ]
    return list({index.spec: index for index in made}.values())


def _paths(group: Mapping[str, Any]) -> set[str]:
    """Every path that a case of the group looks at, the key apart."""
    paths: set[str] = set()
    for case in group["cases"]:
        query = query_of(case)
        paths |= {path for path, _ in query.order}
        paths |= set(_used(query.where))
    return paths - {"", "id"}


def _used(condition: Any) -> Iterator[str]:
    if condition is None:
        return
    if isinstance(condition, (And, Or)):
        for item in condition.items:
            yield from _used(item)
        return
    path = getattr(condition, "path", None)
    if path is None:
        yield from _used(condition.item)
    else:
        yield path


async def _run_group(group: Mapping[str, Any], indexes: list[Any], world: World) -> None:
    (table,) = await world.define(Collection("docs", indexes=indexes))
    await world.put(table, *group["documents"])
    for case in group["cases"]:
        keys = await world.keys(table, query_of(case))
        expected = case["keys"]
        if "order" not in case:
            keys, expected = sorted(keys), sorted(expected)
        same(keys, expected, f"{group['name']}: {case['name']}")
