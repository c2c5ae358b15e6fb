"""Everything that has not reached the server, as records that other programs can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homeport.core import diff
from homeport.core.outbox import CONFLICTS, DEAD, OUTBOX
from homeport.core.query import EMPTY, AnyOf, Compare
from homeport.core.requests import Find, Plan

CHUNK = 500


def unsent(after: int) -> Plan[list[dict[str, Any]]]:
    """The next queued changes behind an entry id, as ``{"kind": "queued", ...}``."""
    query = EMPTY.and_where(Compare("id", ">", after)).with_order("id").with_limit(CHUNK)
    texts: list[str] = yield Find(OUTBOX, query, "texts")
    return [{"kind": "queued", **diff.parse(text)} for text in texts]


def waiting() -> Plan[list[dict[str, Any]]]:
    """Listed conflicts (``conflict``) and dead letters (``dead``)."""
    conflicts: list[str] = yield Find(CONFLICTS, EMPTY.with_order("at_ms", "id"), "texts")
    letters: list[str] = yield Find(DEAD, EMPTY.with_order("at_ms", "id"), "texts")
    found = [{"kind": "conflict", **diff.parse(text)} for text in conflicts]
    return found + [{"kind": "dead", **diff.parse(text)} for text in letters]


def letters_of(ids: Sequence[str]) -> Plan[list[dict[str, Any]]]:
    """These dead letters."""
    query = EMPTY.and_where(AnyOf("id", tuple(ids))).with_order("id")
    texts: list[str] = yield Find(DEAD, query, "texts")
    return [{"kind": "dead", **diff.parse(text)} for text in texts]
