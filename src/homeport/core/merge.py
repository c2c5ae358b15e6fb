"""The one rebase function. Pure: documents and entries in, decisions out.

``rebase`` is used wherever the ground under queued changes moves: a cut brings other bases, a unit
is rejected, history is fetched again. It walks the queued units in order over the affected
documents and keeps two states of each: ``orig``, what the change was made on (the old base with the
surviving changes before it), and ``cur``, where it lands (the new base with them). Where both are
equal nothing has to be decided; where they differ, the policy decides (``core.policies``).

A unit is decided as a whole: when one member is lost, held or impossible, all of it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from homeport.core import diff
from homeport.core.diff import same
from homeport.core.edits import make_entry
from homeport.core.lifecycle import UNITS, UnitEvent, UnitState, advance, unit_state
from homeport.core.outbox import Entry, parsed, raw
from homeport.core.policies import Clash, Doc, Rule, State, Step, as_a_unit, forced, step_of
from homeport.core.wire import ABSENT, RESOLUTIONS, Verdict, present

__all__ = ["Clash", "Dead", "Doc", "Group", "Held", "Outcome", "Rule", "State", "rebase"]

MAX_TRIES = 5
"""After so many ``conflict`` answers a unit is listed as a conflict instead of tried again."""


class Group:
    """A queued unit: its entries, and what is known of it.

    in_flight: sent and not answered: it is shown, but nothing may be decided about it. verdict: the
    server's answer, or one made here (a scope that was lost rejects its units). parked: a part of
    it lies in a collection that is not synced any more; it waits as well. wanted: what a person
    decided for a held unit, by document. withdrawn: it is taken back by who made it.
    """

    __slots__ = ("entries", "id", "in_flight", "parked", "verdict", "wanted", "withdrawn")

    def __init__(
        self, entries: list[Entry], verdict: Verdict | None = None, *, in_flight: bool = False
    ) -> None:
        self.id = entries[0].unit_id
        self.entries = entries
        self.verdict = verdict
        self.in_flight = in_flight
        self.parked = False
        self.withdrawn = False
        self.wanted: dict[str, State] | None = None

    @property
    def held(self) -> bool:
        return any(entry.held for entry in self.entries)


class Held(NamedTuple):
    """A conflict that waits for a person."""

    unit: str
    ref: str
    base: State
    local: State
    remote: State
    reason: str


class Dead(NamedTuple):
    """A unit that can never be applied."""

    group: Group
    code: str
    message: str
    at: list[int]


class Outcome:
    """What a rebase decided. The overlays are ``doc.cur``."""

    def __init__(self) -> None:
        self.kept: list[Entry] = []
        self.removed: list[Entry] = []
        self.dead: list[Dead] = []
        self.held: list[Held] = []
        self.lost: set[str] = set()
        """Units that lost a conflict as a whole."""
        self.withdrawn: set[str] = set()
        self.logged: list[tuple[Group | None, Clash]] = []
        """With the unit that the record travels in; None = a unit of its own."""
        self.applied = 0
        self.committed = 0
        """Units that are in the database, and their changes."""
        self.retried = 0


def rebase(
    docs: Mapping[str, Doc], groups: Iterable[Group], rule_of: Callable[[str], Rule]
) -> Outcome:
    """Re-apply the units, in order, to documents whose base moved. Entries are changed in place.

    docs: every document of every unit. Deterministic: the same input gives the same outcome.
    """
    out = Outcome()
    for group in groups:
        members = [(entry, docs[entry.ref]) for entry in group.entries]
        verdict = group.verdict.result if group.verdict is not None else None
        state, event = _where(group)
        ways = UNITS[state, event]
        for entry, doc in members:
            ok, seen = forced(entry, doc.seen)
            doc.seen = seen if ok else doc.seen
        if ways == ("done",):
            for entry, doc in members:
                ok, made = forced(entry, doc.orig)
                doc.orig = made if ok else doc.cur
            out.removed.extend(group.entries)
            out.applied += 1
            out.committed += len(group.entries)
        elif ways == ("withdrawn",):
            out.withdrawn.add(group.id)
            _take_away(out, group, members)
        elif ways == ("dead",) and group.verdict is not None:
            _bury(out, group, members, group.verdict.code, group.verdict.message, group.verdict.at)
        elif ways == (state,):
            _show(out, members)
        elif group.wanted is not None:
            _decide(out, members, group.wanted)
        else:
            out.retried += verdict == "retry"
            after = _settle(out, group, members, rule_of, conflict=verdict == "conflict")
            advance(UNITS, state, event, after)
    return out


def _where(group: Group) -> tuple[UnitState, UnitEvent]:
    """The state of a unit, and what happens to it now."""
    verdict = group.verdict.result if group.verdict is not None else None
    answered = verdict in ("applied", "conflict", "retry") and not group.held
    state = unit_state(group.entries, in_flight=group.in_flight or answered)
    if group.withdrawn and not answered:
        return state, "withdrawn"
    if verdict is not None:
        held = state == "held" and verdict != "rejected"
        return state, "moved" if held and group.wanted is None else verdict
    return state, "decided" if state == "held" and group.wanted is not None else "moved"


def _show(out: Outcome, members: Sequence[tuple[Entry, Doc]]) -> None:
    for entry, doc in members:
        ok, state = forced(entry, doc.cur)
        if ok:
            doc.cur = state
        ok, state = forced(entry, doc.orig)
        if ok:
            doc.orig = state
        if entry.held:
            # Later changes were made on the held document, and it did not move.
            doc.orig = doc.cur
        out.kept.append(entry)


def _decide(
    out: Outcome, members: Sequence[tuple[Entry, Doc]], wanted: Mapping[str, State]
) -> None:
    """A person settled it: what is wanted becomes an ordinary change on the base of today.

    Where the server's side was chosen throughout, the rest of the unit goes too, into the log.
    """
    goes = all(same(wanted[doc.ref], doc.cur) for _, doc in members if doc.ref in wanted)
    for entry, doc in members:
        _, mine = forced(entry, doc.orig)
        want = wanted.get(entry.ref, doc.cur if goes else mine)
        if goes:
            doc.went = mine
            if doc.ref not in wanted and not same(mine, doc.cur):
                clash = Clash(doc.ref, "remote", "manual", doc.orig, mine, doc.cur, doc.cur, [])
                out.logged.append((None, clash))
        entry.held, entry.adopt, entry.tries = False, False, 0
        if not same(want, parsed(entry.doc)):
            entry.doc = ABSENT
        (out.kept if make_entry(doc.cur, want, entry) else out.removed).append(entry)
        doc.orig, doc.cur = mine, want


def _bury(
    out: Outcome,
    group: Group,
    members: Sequence[tuple[Entry, Doc]],
    code: str,
    message: str,
    at: list[int],
) -> None:
    out.dead.append(Dead(group, code, message, at))
    _take_away(out, group, members)


def _take_away(out: Outcome, group: Group, members: Sequence[tuple[Entry, Doc]]) -> None:
    out.removed.extend(group.entries)
    for _, doc in members:
        doc.removed_by, doc.lost = group.id, False


def _settle(
    out: Outcome,
    group: Group,
    members: Sequence[tuple[Entry, Doc]],
    rule_of: Callable[[str], Rule],
    *,
    conflict: bool,
) -> UnitState:
    tired = False
    if conflict:
        for entry, _ in members:
            entry.tries += 1
            tired = tired or entry.tries >= MAX_TRIES
    steps = [step_of(entry, doc, rule_of(doc.collection)) for entry, doc in members]
    steps = as_a_unit(steps, rule_of)
    kinds = {step.kind for step in steps}
    if "dead" in kinds:
        cause = next(step.doc.removed_by for step in steps if step.kind == "dead")
        message = f"depends on {cause}" if cause else "its document is not there any more"
        at = [n for n, step in enumerate(steps) if step.kind == "dead"]
        _bury(out, group, members, "depends", message, at)
        return "dead"
    if "hold" in kinds or tired:
        _hold(out, group, steps, tired="hold" not in kinds)
        return "held"
    if "lose" in kinds:
        _lose(out, group, steps, rule_of)
        return "lost"
    after = _keep(out, group, steps)
    return unit_state(group.entries, in_flight=False) if after == "waiting" else after


def _keep(out: Outcome, group: Group, steps: Sequence[Step]) -> UnitState:
    left = 0
    for step in steps:
        entry, doc, mine, result, clash = step.entry, step.doc, step.mine, step.result, step.clash
        if present(entry.doc) and not same(parsed(entry.doc), result):
            entry.doc = ABSENT
        if make_entry(doc.cur, result, entry):
            entry.adopt = entry.adopt and doc.cur is None
            out.kept.append(entry)
            left += 1
        else:
            out.removed.append(entry)
        doc.orig, doc.cur = mine, result
        if clash is not None:
            out.logged.append((group, clash))
    if not left:
        out.applied += 1
        out.committed += len(group.entries)
        out.logged = [(None if g is group else g, clash) for g, clash in out.logged]
    return "waiting" if left else "done"


def _lose(
    out: Outcome, group: Group, steps: Sequence[Step], rule_of: Callable[[str], Rule]
) -> None:
    out.lost.add(group.id)
    for step in steps:
        doc = step.doc
        out.removed.append(step.entry)
        if doc.collection == RESOLUTIONS:
            continue  # it told of a settlement that does not happen
        policy = rule_of(doc.collection).policy
        fields = step.clash.fields if step.clash is not None else []
        clash = Clash(doc.ref, "remote", policy, doc.orig, doc.seen, doc.cur, doc.cur, fields)
        doc.removed_by, doc.lost = group.id, True
        out.logged.append((None, clash))


def _hold(out: Outcome, group: Group, steps: Sequence[Step], *, tired: bool) -> None:
    """Fix the local side as whole documents: remote may move on while a person thinks."""
    still = all(same(step.doc.orig, step.doc.cur) for step in steps)
    for entry, doc, kind, mine, _, _, reason in steps:
        if doc.collection == RESOLUTIONS:
            out.removed.append(entry)  # it told of a settlement that does not happen
            continue
        if kind == "hold" or (tired and (not same(doc.orig, doc.cur) or still)):
            why = f"the server's document moved {MAX_TRIES} times in a row" if tired else reason
            out.held.append(Held(group.id, doc.ref, doc.orig, mine, doc.cur, why))
        entry.held = True
        entry.op = "delete" if mine is None else "put"
        entry.was = ABSENT if doc.orig is None else raw(diff.dump(doc.orig))
        entry.doc = ABSENT if mine is None else raw(diff.dump(mine))
        entry.set, entry.unset, entry.old = {}, [], {}
        doc.orig = doc.cur = mine
        out.kept.append(entry)
