"""What a request asks, as the key of its answer in the result cache."""

from __future__ import annotations

from typing import Any, TypeAlias

from homeport.core.conditions import Condition
from homeport.core.requests import Aggregate, Count, Find
from homeport.core.textquery import Either, Every, Term
from homeport.core.textrequests import Search

Asked: TypeAlias = Find | Count | Aggregate | Search


def key_of(request: Asked) -> Any:
    """Equal for requests that have equal answers; None for what has no such form.

    The second part is a text for answers of documents and keys, which alone tell what is in them.
    """
    query = request.query
    try:
        where = None if query.where is None else _frozen(query.where)
        after = None if query.after is None else _frozen(query.after)
        form = _form_of(request)
    except TypeError:
        return None
    return request.table.name, form, where, query.order, query.limit, query.offset, after


def _form_of(request: Asked) -> Any:
    if isinstance(request, Find):
        return request.form
    if isinstance(request, Count):
        return ("count",)
    if isinstance(request, Aggregate):
        return tuple(request.groups), tuple(request.measures), frozenset(request.elements)
    search = request.search
    weights = tuple(search.weights.items())  # columns are searched in this order
    return _frozen(search.asked), weights, search.candidates, request.limit


def _frozen(value: Any) -> Any:
    """A hashable form, of which 1, 1.0 and True are three."""
    kind = type(value)
    if kind in (str, int, float, bool, bytes) or value is None:
        return kind, value
    if kind in (list, tuple):
        return kind, tuple(map(_frozen, value))
    if kind is dict:
        return dict, tuple((name, _frozen(value[name])) for name in sorted(value))
    if isinstance(value, (Condition, Term, Every, Either)):
        return kind, tuple(_frozen(getattr(value, name)) for name in kind.__slots__)
    raise TypeError
