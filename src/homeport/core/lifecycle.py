"""What may become of a queued unit, a listed conflict, and the file's place with its server.

The plans ask these tables for every step that they take, and the tables of ``docs/protocol.md`` are
drawn from them (``tools/state_tables.py``). The states of the handle are in ``core.session``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar

from homeport.core.outbox import Entry

UnitState: TypeAlias = Literal[
    "open", "waiting", "in-flight", "held", "done", "lost", "dead", "withdrawn"
]
"""open: an optimistic update, shown and not sent. done: in the database. lost: the other side won,
the record holds it. dead: a dead letter. withdrawn: taken back by who made it."""
UnitEvent: TypeAlias = Literal[
    "freeze",
    "moved",
    "applied",
    "conflict",
    "retry",
    "rejected",
    "decided",
    "reset",
    "commit",
    "withdrawn",
]

_SETTLED: Final[tuple[UnitState, ...]] = ("waiting", "done", "lost", "held", "dead")

UNITS: Final[Mapping[tuple[UnitState, UnitEvent], tuple[UnitState, ...]]] = {
    ("open", "commit"): ("waiting",),
    ("open", "withdrawn"): ("withdrawn",),
    ("open", "moved"): ("open", "done", "lost", "held", "dead"),
    ("open", "rejected"): ("dead",),
    ("waiting", "freeze"): ("in-flight",),
    ("waiting", "moved"): _SETTLED,
    ("waiting", "rejected"): ("dead",),
    ("in-flight", "moved"): ("in-flight",),
    ("in-flight", "applied"): ("done",),
    ("in-flight", "conflict"): _SETTLED,
    ("in-flight", "retry"): _SETTLED,
    ("in-flight", "rejected"): ("dead",),
    ("in-flight", "reset"): ("waiting",),
    ("held", "moved"): ("held",),
    ("held", "decided"): ("waiting", "open", "done"),
    ("held", "withdrawn"): ("withdrawn",),
    ("held", "commit"): ("held",),
    ("held", "rejected"): ("dead",),
}
"""freeze: chosen for a batch. moved: a cut changed the documents under it, or others went from
under it. applied, conflict, retry, rejected: the verdict, believed with the cut that carries it
(rejected also: its documents are not visible any more, or the queue is given up). decided: a person
chose. reset: the file began anew. commit, withdrawn: who made an optimistic update decided."""

ConflictState: TypeAlias = Literal["none", "open", "decided", "settled"]
ConflictEvent: TypeAlias = Literal["held", "chosen", "moved", "unit gone"]

CONFLICTS: Final[Mapping[tuple[ConflictState, ConflictEvent], tuple[ConflictState, ...]]] = {
    ("none", "held"): ("open",),
    ("open", "chosen"): ("decided", "settled"),
    ("open", "moved"): ("open",),
    ("open", "unit gone"): ("settled",),
    ("decided", "chosen"): ("decided", "settled"),
    ("decided", "moved"): ("open",),
    ("decided", "unit gone"): ("settled",),
}
"""chosen: a person decided; it is settled when all conflicts of its unit are decided. moved: the
server's side changed, so that a choice has to be made again."""

PlaceState: TypeAlias = Literal["new", "fetching", "current", "anew"]
"""new: no cursor. fetching: pages of a cut are staged. current: at a cursor. anew: begun anew, no
complete cut since."""
PlaceEvent: TypeAlias = Literal["page", "last page", "late reply", "other copy", "begin anew"]

_PLACES: Final[tuple[PlaceState, ...]] = ("new", "fetching", "current", "anew")

PLACES: Final[Mapping[tuple[PlaceState, PlaceEvent], tuple[PlaceState, ...]]] = {
    **{(place, "page"): ("fetching",) for place in _PLACES},
    **{(place, "last page"): ("current",) for place in _PLACES},
    **{(place, "late reply"): (place,) for place in _PLACES},
    **{(place, "other copy"): (place,) for place in _PLACES},
    **{(place, "begin anew"): ("anew",) for place in _PLACES},
}
"""late reply: the file has moved since it asked; dropped. other copy: the answer is to a batch that
this file never sent; nothing is applied, and it begins anew (as after 409 and 410)."""

S = TypeVar("S", bound=str)
E = TypeVar("E", bound=str)


def advance(table: Mapping[tuple[S, E], tuple[S, ...]], state: S, event: E, to: S) -> S:
    """``to``, if the table has this way. Anything else is a bug of the plans."""
    if to not in table.get((state, event), ()):
        raise AssertionError(f"no way from {state} by {event} to {to}")
    return to


def unit_state(entries: list[Entry], *, in_flight: bool) -> UnitState:
    """Of a unit in the queue."""
    if in_flight:
        return "in-flight"
    if any(entry.held for entry in entries):
        return "held"
    return "open" if any(entry.layer == "open" for entry in entries) else "waiting"


def place_of(cursor: str | None, *, staged: bool, anew: bool) -> PlaceState:
    """Where the file stands."""
    if staged:
        return "fetching"
    if anew:
        return "anew"
    return "new" if cursor is None else "current"


def conflict_state(record: Mapping[str, Any]) -> ConflictState:
    """Of a listed conflict."""
    return "decided" if "choice" in record else "open"
