"""Conflict policies and the one rebase function. Pure: documents and entries in, decisions out.

``rebase`` is used wherever the ground under queued changes moves: a cut brings other bases, a unit
is rejected, history is fetched again. It walks the queued units in order over the affected
documents and keeps two states of each: ``orig``, what the change was made on (the old base with the
surviving changes before it), and ``cur``, where it lands (the new base with them). Where both are
equal nothing has to be decided. Where they differ, the collection's policy decides:

- ``merge`` works by field: a field that only one side changed, or that both changed to the same
  value, passes; on the others the local value wins, because it arrives later, and that is logged;
- ``last-write-wins`` and ``local-wins`` keep the local document, ``remote-wins`` the server's;
- ``manual`` holds the unit for a person; a named function returns the document, or ``MANUAL``.

A unit is decided as a whole: when one member is lost, held or impossible, all of it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from homeport.core import diff
from homeport.core.changes import make_entry
from homeport.core.diff import MISSING, Document, same
from homeport.core.outbox import Entry, parsed, raw
from homeport.core.schema import MANUAL
from homeport.core.wire import ABSENT, Verdict, present

MAX_TRIES = 5
"""After so many ``conflict`` answers a unit is listed as a conflict instead of tried again."""

State: TypeAlias = "Document | None"
Resolver: TypeAlias = Callable[[State, State, State, Mapping[str, Any]], Any]


class Rule(NamedTuple):
    """How conflicts of a collection are settled. ``resolver`` belongs to a policy that is a name of
    a function; a name without one is held (another device may know it, this one must not guess)."""

    policy: str = "merge"
    deletes: str = "delete-wins"
    key_field: str = "id"
    resolver: Resolver | None = None


class Doc:
    """A document whose ground moves. before, after: old and new base."""

    __slots__ = (
        "after", "before", "bucket", "collection", "cur", "key", "orig", "ref", "removed_by", "token",
    )  # fmt: skip

    def __init__(
        self,
        collection: str,
        key: str,
        before: State,
        after: State,
        token: str | None = None,
        bucket: str | None = None,
    ) -> None:
        self.collection = collection
        self.key = key
        self.ref = f"{collection}/{key}"
        self.before = self.orig = before
        self.after = self.cur = after
        self.token = token
        self.bucket = bucket
        self.removed_by = ""


class Group:
    """A queued unit: its entries, and what is known of it.

    in_flight: sent and not answered: it is shown, but nothing may be decided about it. verdict: the
    server's answer, or one made here (a scope that was lost rejects its units). wanted: what a
    person decided for a held unit, by document.
    """

    __slots__ = ("entries", "id", "in_flight", "verdict", "wanted")

    def __init__(
        self, entries: list[Entry], verdict: Verdict | None = None, *, in_flight: bool = False
    ) -> None:
        self.id = entries[0].unit_id
        self.entries = entries
        self.verdict = verdict
        self.in_flight = in_flight
        self.wanted: dict[str, State] | None = None

    @property
    def held(self) -> bool:
        return any(entry.held for entry in self.entries)


class Clash(NamedTuple):
    """Two sides changed one document; ``result`` is what it is now."""

    ref: str
    winner: str
    """``local``, ``remote``, ``function`` or ``person``."""
    policy: str
    base: State
    local: State
    remote: State
    result: State
    fields: list[str]


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
        self.logged: list[tuple[Group | None, Clash]] = []
        """With the unit that the record travels in; None = a unit of its own."""
        self.applied = 0
        self.retried = 0


class _Step(NamedTuple):
    """What one member would do, before its unit decides."""

    entry: Entry
    doc: Doc
    kind: Literal["keep", "lose", "hold", "dead"]
    mine: State
    """The document as this side wants it."""
    result: State
    clash: Clash | None = None
    reason: str = ""


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
        if verdict == "applied":
            for entry, doc in members:
                ok, state = _forced(entry, doc.orig)
                doc.orig = state if ok else doc.cur
            out.removed.extend(group.entries)
            out.applied += 1
        elif verdict == "rejected" and group.verdict is not None:
            _bury(out, group, members, group.verdict.code, group.verdict.message, group.verdict.at)
        elif group.in_flight and verdict is None:
            _show(out, members)
        elif group.wanted is not None:
            _decide(out, members, group.wanted)
        elif group.held:
            _show(out, members)
        else:
            out.retried += verdict == "retry"
            _settle(out, group, members, rule_of, conflict=verdict == "conflict")
    return out


def _forced(entry: Entry, state: State) -> tuple[bool, State]:
    """The document after the entry, asking nobody; False when a patch has nothing to patch."""
    if entry.op == "put":
        return True, parsed(entry.doc)
    if entry.op == "delete":
        return True, None
    return (False, None) if state is None else (True, diff.apply(state, entry.patch))


def _show(out: Outcome, members: Sequence[tuple[Entry, Doc]]) -> None:
    for entry, doc in members:
        ok, state = _forced(entry, doc.cur)
        if ok:
            doc.cur = state
        ok, state = _forced(entry, doc.orig)
        if ok:
            doc.orig = state
        if entry.held:
            # Later changes were made on the held document, and it did not move.
            doc.orig = doc.cur
        out.kept.append(entry)


def _decide(
    out: Outcome, members: Sequence[tuple[Entry, Doc]], wanted: Mapping[str, State]
) -> None:
    """A person settled it: what is wanted becomes an ordinary change on the base of today."""
    for entry, doc in members:
        _, mine = _forced(entry, doc.orig)
        want = wanted.get(entry.ref, mine)
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
    out.removed.extend(group.entries)
    for _, doc in members:
        doc.removed_by = group.id


def _settle(
    out: Outcome,
    group: Group,
    members: Sequence[tuple[Entry, Doc]],
    rule_of: Callable[[str], Rule],
    *,
    conflict: bool,
) -> None:
    tired = False
    if conflict:
        for entry, _ in members:
            entry.tries += 1
            tired = tired or entry.tries >= MAX_TRIES
    steps = [_step(entry, doc, rule_of(doc.collection)) for entry, doc in members]
    kinds = {step.kind for step in steps}
    if "dead" in kinds:
        cause = next(step.doc.removed_by for step in steps if step.kind == "dead")
        message = f"depends on {cause}" if cause else "its document is not there any more"
        at = [n for n, step in enumerate(steps) if step.kind == "dead"]
        _bury(out, group, members, "depends", message, at)
    elif "hold" in kinds or tired:
        _hold(out, group, steps, tired="hold" not in kinds)
    elif "lose" in kinds:
        _lose(out, steps, rule_of)
    else:
        _keep(out, group, steps)


def _keep(out: Outcome, group: Group, steps: Sequence[_Step]) -> None:
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
        out.logged = [(None if g is group else g, clash) for g, clash in out.logged]


def _lose(out: Outcome, steps: Sequence[_Step], rule_of: Callable[[str], Rule]) -> None:
    for step in steps:
        doc = step.doc
        out.removed.append(step.entry)
        policy = rule_of(doc.collection).policy
        fields = step.clash.fields if step.clash is not None else []
        clash = Clash(doc.ref, "remote", policy, doc.orig, step.mine, doc.cur, doc.cur, fields)
        out.logged.append((None, clash))


def _hold(out: Outcome, group: Group, steps: Sequence[_Step], *, tired: bool) -> None:
    """Fix the local side as whole documents: remote may move on while a person thinks."""
    for entry, doc, kind, mine, _, _, reason in steps:
        if tired or kind == "hold":
            why = f"the server's document moved {MAX_TRIES} times in a row" if tired else reason
            out.held.append(Held(group.id, doc.ref, doc.orig, mine, doc.cur, why))
        entry.held = True
        entry.op = "delete" if mine is None else "put"
        entry.was = ABSENT if doc.orig is None else raw(diff.dump(doc.orig))
        entry.doc = ABSENT if mine is None else raw(diff.dump(mine))
        entry.set, entry.unset, entry.old = {}, [], {}
        doc.orig = doc.cur = mine
        out.kept.append(entry)


def _step(entry: Entry, doc: Doc, rule: Rule) -> _Step:
    orig, cur = doc.orig, doc.cur
    ok, mine = _forced(entry, orig)
    if not ok:
        return _Step(entry, doc, "dead", None, None)
    if same(orig, cur) or same(mine, cur):
        return _Step(entry, doc, "keep", mine, mine)
    if mine is None or cur is None:
        return _delete_against_edit(entry, doc, rule, mine)
    policy = rule.policy
    if policy == "manual" or (policy == "merge" and orig is None and entry.adopt):
        reason = "both sides changed it" if orig is not None else "both sides have it, differently"
        return _Step(entry, doc, "hold", mine, mine, reason=reason)
    if policy == "remote-wins":
        return _Step(entry, doc, "lose", mine, cur)
    if policy == "merge":
        return _merge_fields(entry, doc, mine, cur)
    if policy in ("last-write-wins", "local-wins"):
        clash = Clash(doc.ref, "local", policy, orig, mine, cur, mine, [])
        return _Step(entry, doc, "keep", mine, mine, clash)
    return _by_function(entry, doc, rule, mine, cur)


def _delete_against_edit(entry: Entry, doc: Doc, rule: Rule, mine: State) -> _Step:
    """One side deleted what the other changed."""
    if rule.policy == "manual":
        reason = "one side deleted what the other changed"
        return _Step(entry, doc, "hold", mine, mine, reason=reason)
    deleted_here = mine is None
    if deleted_here == (rule.deletes == "edit-wins"):
        return _Step(entry, doc, "lose", mine, doc.cur)
    clash = Clash(doc.ref, "local", rule.policy, doc.orig, mine, doc.cur, mine, [])
    return _Step(entry, doc, "keep", mine, mine, clash)


def _merge_fields(entry: Entry, doc: Doc, mine: Document, cur: Document) -> _Step:
    orig = doc.orig or {}
    patch = entry.patch if entry.op == "patch" else diff.diff(orig, mine)
    if patch is None:
        clash = Clash(doc.ref, "local", "merge", doc.orig, mine, cur, mine, [])
        return _Step(entry, doc, "keep", mine, mine, clash)
    fields = [
        path for path in patch.paths if not _passes(path, patch.set.get(path, MISSING), orig, cur)
    ]
    result = diff.apply(cur, patch)
    clash: Clash | None = None
    if fields:
        clash = Clash(doc.ref, "local", "merge", doc.orig, mine, cur, result, fields)
    return _Step(entry, doc, "keep", mine, result, clash)


def _passes(path: str, wanted: object, orig: Document, cur: Document) -> bool:
    """May the field be written without overwriting what the other side did?"""
    now = diff.get(cur, path)
    if same(now, wanted):
        return True
    if not same(now, diff.get(orig, path)):
        return False
    # The field itself did not move; the objects around it must still be objects.
    at = path.find(".")
    while at >= 0:
        around = path[:at]
        if isinstance(diff.get(orig, around), dict) != isinstance(diff.get(cur, around), dict):
            return False
        at = path.find(".", at + 1)
    return True


def _by_function(entry: Entry, doc: Doc, rule: Rule, mine: Document, cur: Document) -> _Step:
    reason = ""
    result: Any = MANUAL
    if rule.resolver is None:
        reason = f"this program has no function {rule.policy!r}"
    else:
        meta = {"collection": doc.collection, "key": doc.key, "at_ms": entry.at}
        try:
            result = rule.resolver(_copy(doc.orig), _copy(mine), _copy(cur), meta)
        except Exception as error:  # the user's function: whatever it raises, nothing is lost
            reason = f"{rule.policy}() raised {type(error).__name__}: {error}"
        else:
            reason = f"{rule.policy}() left it to a person"
            if result is not MANUAL and not (
                isinstance(result, dict) and result.get(rule.key_field) == doc.key
            ):
                reason = f"{rule.policy}() returned no document with the key {doc.key!r}"
                result = MANUAL
    if result is MANUAL:
        return _Step(entry, doc, "hold", mine, mine, reason=reason)
    clash = Clash(doc.ref, "function", rule.policy, doc.orig, mine, cur, result, [])
    return _Step(entry, doc, "keep", mine, result, clash)


def _copy(state: State) -> State:
    return None if state is None else diff.parse(diff.dump(state))
