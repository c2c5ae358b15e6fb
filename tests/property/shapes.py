"""Plain data that scripts are made of: queries, changes, predicates. Their ``repr`` is their source,
so that a failing script can be pasted into a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from homeport.core.conditions import Condition


class Shape(NamedTuple):
    """A query. predicate: a number, see ``predicate_of``; after: order values and a key."""

    where: tuple[Condition, ...] = ()
    order: tuple[str, ...] = ()
    reverse: bool = False
    limit: int | None = None
    offset: int = 0
    after: tuple[Any, ...] | None = None
    predicate: int | None = None


def predicate_of(number: int) -> Callable[[dict[str, Any]], bool]:
    """Python functions for ``filter``."""
    return lambda document: len(repr(document)) % 3 != number


def changed(document: dict[str, Any], change: tuple[str, Any]) -> dict[str, Any]:
    """What the function of an update does."""
    name, value = change
    return {**document, name: value}
