"""What must hold after a run, from what everybody wrote down while it happened.

What Jepsen calls the histories are the files of the devices and the lists of the SQL programs:
``begin`` / ``done`` / ``failed`` around every change, ``look`` for every view. A change that began and
neither was done nor failed (its process was killed) may have happened or not; where its entry stands
in the ledger, all of it must have happened, everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tests.faults.workload import NAMES, View, canonical, torn


class Promises(NamedTuple):
    """Which of the guarantees are asked for; some faults end them by their nature."""

    sessions: bool = True
    """Views never go back, and hold what came before what they hold. Not when a server is put back
    to a backup: then its devices bring back what it lost one after the other."""
    views: bool = True
    """Every view on the way is whole. Not while what a server lost comes back in pieces."""
    records: bool = True
    """What was settled is on record. A server put back to a backup loses the records it made since."""
    deletes: bool = True
    """What was deleted stays so. Not when the server lost the document whole, and its creator, who
    brings it back, had not heard of the delete."""


class Outcome(NamedTuple):
    operations: int
    acknowledged: int
    looks: int
    violations: list[str]


def check(
    histories: Mapping[str, list[dict[str, Any]]],
    stored: View,
    views: Mapping[str, View],
    records: Iterable[Any],
    promises: Promises = Promises(),
) -> Outcome:
    """Judge a run.

    Args:
        histories: of each writer, in order.
        stored: what PostgreSQL holds in the end.
        views: what each device holds in the end.
        records: resolutions, dead letters and open conflicts of all devices.
    """
    found = [
        f"PostgreSQL: {text}"
        for text in torn(stored)
        if promises.deletes or "open again" not in text
    ]
    expected = canonical(stored)
    for name, view in views.items():
        if canonical(view) != expected:
            found.append(f"{name} differs from PostgreSQL: {_differences(view, stored)}")
    ledger = stored["ledger"]
    begun: dict[str, dict[str, Any]] = {}
    done: set[str] = set()
    for writer, history in histories.items():
        for entry in history:
            match entry["p"]:
                case "begin":
                    begun[entry["id"]] = entry
                case "done":
                    done.add(f"{writer}-{entry['i']}")
                case "failed":
                    key = f"{writer}-{entry['i']}"
                    if key in ledger:
                        found.append(f"{key} was refused ({entry['code']}), and is there")
                case "fault":
                    found.append(f"{writer}: {entry['message']}")
                case "error" if entry["code"] != "busy":
                    found.append(f"{writer}: {entry['code']}: {entry['message']}")
                case "look" if promises.views:
                    found += [f"{writer} saw: {text}" for text in entry["torn"]]
                case _:
                    pass
    lost = sorted(done - set(ledger))
    if lost:
        found.append(f"LOST {len(lost)} acknowledged changes: {', '.join(lost[:8])}")
    invented = sorted(set(ledger) - set(begun))
    if invented:
        found.append(f"INVENTED: {', '.join(invented[:8])}")
    if promises.sessions:
        found += _sessions(histories, ledger)
    if promises.records:
        found += _notes(histories, stored, records)
    looks = sum(entry["p"] == "look" for history in histories.values() for entry in history)
    return Outcome(len(begun), len(done), looks, found)


def places(entry: Mapping[str, Any]) -> list[str]:
    """The documents that a change wrote, besides its entry."""
    match entry["op"]:
        case "add":
            return [entry["k"]]
        case "move":
            return [entry["a"], entry["b"]]
        case "open":
            return [entry["id"]]
        case _:
            return [entry["job"]]


def _sessions(
    histories: Mapping[str, list[dict[str, Any]]], ledger: Mapping[str, dict[str, Any]]
) -> list[str]:
    """Read your writes, monotonic reads, and causality in each document: nobody sees a change of a
    document without those that its writer had seen, or made, there before it.

    (Between changes that share no document there is no promised order: a change that waits, for a
    decision of a person say, holds up only what touches its documents.)
    """
    before: dict[str, set[str]] = {}
    for writer, history in histories.items():
        known: dict[str, set[str]] = {}  # place → what this writer has seen or made there

        def learn(key: str, known: dict[str, set[str]] = known) -> None:
            if key in ledger:
                for place in places(ledger[key]):
                    known.setdefault(place, set()).add(key)

        for entry in history:
            if entry["p"] == "begin" and entry["id"] in ledger:
                key = entry["id"]
                before[key] = set().union(*(known.get(one, ()) for one in places(entry)))
                if entry["op"] == "close":
                    before[key].add(entry["job"])
                learn(key)
            elif entry["p"] == "restored":
                known.clear()
            elif entry["p"] == "look":
                for key in entry["new"]:
                    learn(key)
    out: list[str] = []
    for reader, history in histories.items():
        had: set[str] = set()
        view: set[str] = set()
        own: set[str] = set()
        for entry in history:
            if entry["p"] == "done":
                own.add(f"{reader}-{entry['i']}")
            elif entry["p"] == "opened":
                view = set()
            elif entry["p"] == "restored":
                had, own = set(), set()  # it is as it was then; what it sent comes back by sync
            if entry["p"] != "look":
                continue
            view = view.union(entry["new"]).difference(entry["gone"])
            if missing := own - view:
                out.append(f"{reader} does not read its own {sorted(missing)[:3]}")
            if missing := had - view:
                out.append(f"{reader} went back: {sorted(missing)[:3]} are gone from its view")
            for key in view - had:
                if missing := before.get(key, set()) - view:
                    out.append(f"{reader} saw {key} without {sorted(missing)[:3]}, which it builds on")
            had = view
    return out[:10]


def _notes(
    histories: Mapping[str, list[dict[str, Any]]],
    stored: View,
    records: Iterable[Any],
) -> list[str]:
    """A value is there, or somebody who saw it wrote over it, or a record tells of it."""
    known: set[str] = set()
    for record in records:
        _texts(record, known)
    replaced: set[str] = set()
    written: dict[str, tuple[str, str, str]] = {}
    unknown: set[tuple[str, str, str]] = set()
    values: set[str] = set()
    for history in histories.values():
        open_: dict[str, tuple[str, str, str]] = {}
        for entry in history:
            if entry["p"] == "writes":
                open_[entry["value"]] = (entry["c"], entry["key"], entry["f"])
                values.add(entry["value"])
            elif entry["p"] == "wrote":
                place = open_.pop(entry["value"])
                written[entry["value"]] = place
                replaced.add(entry["old"])
        unknown.update(open_.values())  # killed: it may have written over what it saw
    lost = []
    for value, place in written.items():
        c, key, field = place
        there = stored[c].get(key, {}).get(field) == value
        if not (there or value in replaced or value in known or place in unknown):
            lost.append(value)
    out = [f"LOST without a record: {', '.join(lost[:8])}"] if lost else []
    strange = {
        value
        for c in ("notes", "last")
        for doc in stored[c].values()
        for field, value in doc.items()
        if field != "id" and value not in values
    }
    return [*out, *(f"INVENTED: {value}" for value in sorted(strange)[:3])]


def _texts(value: Any, found: set[str]) -> None:
    if isinstance(value, str):
        found.add(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            _texts(inner, found)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _texts(inner, found)


def _differences(view: View, stored: View) -> str:
    out = [
        f"{name}/{key}: {json.dumps(view[name].get(key))} / {json.dumps(stored[name].get(key))}"
        for name in NAMES
        for key in sorted({*view[name], *stored[name]})
        if view[name].get(key) != stored[name].get(key)
    ]
    return f"{len(out)} documents, {'; '.join(out[:3])}"
