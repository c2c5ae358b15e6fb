"""``search()`` as an operation: the fields and their weights, the query, the hits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

from homeport.core.hits import Hit, Hits
from homeport.core.modelpaths import resolve_stored
from homeport.core.operations import passed
from homeport.core.paths import MISSING
from homeport.core.query import LARGEST
from homeport.core.ranking import CANDIDATES, TextSearch
from homeport.core.requests import Operation
from homeport.core.textquery import Asked, Either, Every, Term, parse, terms
from homeport.core.textrequests import Found, Search
from homeport.errors import InvalidQuery

if TYPE_CHECKING:
    from homeport.core.codec import Codec, Table
    from homeport.core.query import QueryValue

T = TypeVar("T")

LIMIT = 20
"""Hits of a search that does not say how many."""


def search(
    table: Table[T],
    query: QueryValue,
    text: str,
    fields: Iterable[Any] | Mapping[Any, float] | None = None,
    limit: int | None = None,
    candidates: int = CANDIDATES,
) -> Operation[Hits[T]]:
    """The best ``limit`` documents of a query that a text finds. Raises ``InvalidQuery`` and
    ``UnknownField``."""
    _check(query, text, limit, candidates)
    chosen = fields_of(table, fields)  # name → (stored path, weight)
    asked = parse(text, tuple(chosen))
    if asked is None:
        return Operation(_nothing(), "read", True, (table,), True, _empty)
    wanted = terms(asked)
    looked = {
        name: (path, [term for term in wanted if term.field in ("", name)])
        for name, (path, _) in chosen.items()
    }
    weights = dict(chosen.values())
    stored = _stored(asked, {name: path for name, (path, _) in chosen.items()})
    rows = limit if limit is not None else LIMIT if query.limit is None else query.limit
    codec = table.codec

    def finish(found: Found) -> Hits[T]:
        hits: list[Hit[T]] = []
        skipped = 0 if query.predicates else query.offset
        for key, doc_text, score in found.entries:
            if len(hits) == rows:
                break
            doc = passed(codec.decode, query.predicates, doc_text)
            if doc is MISSING:
                continue
            if skipped < query.offset:
                skipped += 1
                continue
            hits.append(Hit(doc, key, score, doc_text, looked))
        return Hits(hits, found.total, capped=found.capped)

    wanted_rows = None if query.predicates else rows
    asking = query.with_offset(0) if query.predicates else query
    request = Search(
        table, TextSearch(stored, weights, min(candidates, LARGEST)), asking, wanted_rows
    )
    # Several statements, one snapshot.
    return Operation(request, "read", False, (table,), False, finish)


def _check(query: QueryValue, text: object, limit: object, candidates: object) -> None:
    if not isinstance(text, str):
        raise InvalidQuery(f"search() takes a text, not {text!r:.60}.")
    if query.order or query.after is not None:
        raise InvalidQuery(
            "search() gives the best hits first: an order or a position cannot hold beside that.",
            action="Leave order_by() and after() out, or use where(F.field.matches(text)), which "
            "finds the same documents in any order.",
        )
    if limit is not None and (type(limit) is not int or limit < 0):
        raise InvalidQuery(f"limit is a whole number from 0, not {limit!r}.")
    if type(candidates) is not int or candidates < 1:
        raise InvalidQuery(f"candidates is a whole number from 1, not {candidates!r}.")


def fields_of(
    table: Table[Any], given: Iterable[Any] | Mapping[Any, float] | None
) -> dict[str, tuple[str, float]]:
    """The searched fields by name: stored path and weight."""
    codec, name = table.codec, table.name
    paths = table.usable.text_paths  # with what was made by create_index
    if not paths and codec.text_paths:
        raise InvalidQuery(
            f"The full-text index of {name} is being built.",
            action="Search when db.build_indexes() is done, or use where(F.field.matches(text)).",
        )
    if not paths:
        raise InvalidQuery(
            f"{name} has no full-text index to search.",
            action="Declare one: indexes=[hp.FullText('name'), ...].",
        )
    if given is None:
        return {_name(codec, path): (path, 1.0) for path in paths}
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidQuery(
            f"fields= takes a list of field names or a dict of weights, not {given!r:.60}."
        )
    chosen: dict[str, tuple[str, float]] = {}
    weighted = given.items() if isinstance(given, Mapping) else [(one, 1.0) for one in given]
    for field, weight in weighted:
        path = getattr(field, "_path", field)
        if not isinstance(path, str) or not path:
            raise InvalidQuery(f"fields= names fields, not {field!r:.60}.")
        stored = path if path in paths else codec.check_path(path)
        if stored not in paths:
            raise InvalidQuery(
                f"{path} of {name} has no full-text index.",
                action=f"Declare hp.FullText({path!r}), or search "
                f"{', '.join(_name(codec, one) for one in paths)}.",
            )
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise InvalidQuery(f"The weight of {path} is a number, not {weight!r:.60}.")
        if not (isfinite(weight) and weight > 0):
            raise InvalidQuery(f"The weight of {path} must be above 0, not {weight!r}.")
        chosen[path] = (stored, float(weight))
    if not chosen:
        raise InvalidQuery("fields= names no field.", action="Leave it out to search all of them.")
    return chosen


def _name(codec: Codec[Any], path: str) -> str:
    """The field as programs call it; models may store it under another name."""
    steps = resolve_stored(codec.collection.tree, path)
    return ".".join(step.field.name if step.field else step.stored for step in steps)


def _stored(asked: Asked, paths: Mapping[str, str]) -> Asked:
    """The query with stored paths in place of field names."""
    if isinstance(asked, Term):
        if not asked.field:
            return asked
        return Term(asked.words, prefix=asked.prefix, field=paths[asked.field])
    if isinstance(asked, Either):
        return Either([_stored(item, paths) for item in asked.items])
    return Every(
        [_stored(item, paths) for item in asked.items],
        [_stored(item, paths) for item in asked.without],
    )


def _nothing() -> Any:
    return None
    yield


def _empty(_: None) -> Hits[Any]:
    return Hits()
