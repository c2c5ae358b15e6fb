"""Conflict policies: what one queued change does where the document under it has moved. Pure.

``orig`` is what the change was made on, ``cur`` where it lands. Where they are equal nothing has to
be decided; where they differ, the policy of the collection decides:

- ``merge`` works by field: a field that only one side changed, or that both changed to the same
  value, passes; fields with a merge type are combined by it (``core.mergetypes``); on the others
  the local value wins, because it arrives later, and that is logged;
- ``last-write-wins`` and ``local-wins`` keep the local document, ``remote-wins`` the server's;
- ``manual`` holds the unit for a person; a named function returns the document, or ``MANUAL``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from homeport.core import diff
from homeport.core.diff import Document, same
from homeport.core.fieldtypes import combine, concerned
from homeport.core.mergetypes import MergeType
from homeport.core.outbox import Entry, parsed
from homeport.core.paths import MISSING
from homeport.core.schema import MANUAL
from homeport.core.wire import RESOLUTIONS

State: TypeAlias = "Document | None"
Resolver: TypeAlias = Callable[[State, State, State, Mapping[str, Any]], Any]


class Rule(NamedTuple):
    """How conflicts of a collection are settled. ``resolver`` belongs to a policy that is a name of
    a function; a name without one is held (another device may know it, this one must not guess)."""

    policy: str = "merge"
    deletes: str = "delete-wins"
    key_field: str = "id"
    resolver: Resolver | None = None
    types: Mapping[str, MergeType] = {}
    """Merge types of fields, under ``merge``."""


class Doc:
    """A document whose ground moves. before, after: old and new base. orig, cur: where the next
    change was made and where it lands. seen: the document as the user had it before the change.
    removed_by: the unit that was taken away from under it; lost: that unit lost a conflict. went:
    what a person gave up of it."""

    __slots__ = (
        "after",
        "before",
        "bucket",
        "collection",
        "cur",
        "key",
        "lost",
        "orig",
        "ref",
        "removed_by",
        "seen",
        "token",
        "went",
    )

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
        self.before = self.orig = self.seen = before
        self.after = self.cur = after
        self.token = token
        self.bucket = bucket
        self.removed_by = ""
        self.lost = False
        self.went: Any = MISSING


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


class Step(NamedTuple):
    """What one member would do, before its unit decides."""

    entry: Entry
    doc: Doc
    kind: Literal["keep", "lose", "hold", "dead"]
    mine: State
    """The document as this side wants it."""
    result: State
    clash: Clash | None = None
    reason: str = ""


def forced(entry: Entry, state: State) -> tuple[bool, State]:
    """The document after the entry, asking nobody; False when a patch has nothing to patch."""
    if entry.op == "put":
        return True, parsed(entry.doc)
    if entry.op == "delete":
        return True, None
    return (False, None) if state is None else (True, diff.apply(state, entry.patch))


def step_of(entry: Entry, doc: Doc, rule: Rule) -> Step:
    orig, cur = doc.orig, doc.cur
    ok, mine = forced(entry, orig)
    if not ok:
        # What it was made on is gone: refused by the server, or lost to the other side.
        return Step(entry, doc, "lose" if doc.lost else "dead", None, doc.cur)
    if doc.removed_by:
        mine = _without(entry, rule, orig, mine)
    if same(orig, cur) or (same(mine, cur) and not _combined(rule, orig, mine, cur)):
        return Step(entry, doc, "keep", mine, mine)
    if mine is None or cur is None:
        return _delete_against_edit(entry, doc, rule, mine)
    policy = rule.policy
    if policy == "manual" or (policy == "merge" and orig is None and entry.adopt):
        reason = "both sides changed it" if orig is not None else "both sides have it, differently"
        return Step(entry, doc, "hold", mine, mine, reason=reason)
    if policy == "remote-wins":
        return Step(entry, doc, "lose", mine, cur)
    if policy == "merge":
        return _merge_fields(entry, doc, rule, mine, cur)
    if policy in ("last-write-wins", "local-wins"):
        clash = Clash(doc.ref, "local", policy, orig, mine, cur, mine, [])
        return Step(entry, doc, "keep", mine, mine, clash)
    return _by_function(entry, doc, rule, mine, cur)


def _without(entry: Entry, rule: Rule, orig: State, mine: State) -> State:
    """The local side where a unit under the change was taken away: a field with a merge type gets
    what the change did to it (an increment), not the value that the two had made together."""
    if entry.op != "patch" or rule.policy != "merge" or orig is None or mine is None:
        return mine
    saw = orig
    for path in rule.types:
        if path in entry.old:
            saw = diff.put_at(saw, path, entry.old[path])
        elif path in entry.patch.paths:
            saw = diff.put_at(saw, path, MISSING)
    if saw is orig:
        return mine
    result: State = combine(rule.types, saw, diff.apply(saw, entry.patch), orig, mine)[0]
    return result


def as_a_unit(steps: list[Step], rule_of: Callable[[str], Rule]) -> list[Step]:
    """What only a unit of several documents has to mind, so that its documents go on agreeing.

    What it read in a unit that was taken away is not true any more, and it goes the same way. And
    a document that the other side brought to the same value is no agreement under a policy of whole
    documents, unless all of the unit is there already: both sides may have taken from one account.
    """
    own = [step for step in steps if step.doc.collection != RESOLUTIONS]
    if len(own) < 2:
        return steps
    there = all(same(step.mine, step.doc.cur) for step in own)
    return [_in_unit(step, rule_of(step.doc.collection), there=there) for step in steps]


def _in_unit(step: Step, rule: Rule, *, there: bool) -> Step:
    entry, doc = step.entry, step.doc
    if step.kind != "keep" or doc.collection == RESOLUTIONS:
        return step
    if _read_what_went(entry, doc, rule):
        lost = doc.lost or not doc.removed_by
        return step._replace(kind="lose" if lost else "dead", result=doc.cur, clash=None)
    if there or same(doc.orig, doc.cur) or not same(step.mine, doc.cur):
        return step
    if rule.policy == "remote-wins":
        return step._replace(kind="lose")
    if rule.policy == "manual":
        return step._replace(kind="hold", reason="both sides changed it, to the same")
    return step


def _read_what_went(entry: Entry, doc: Doc, rule: Rule) -> bool:
    """A field with a merge type was not read: an increment stands without the one before it."""
    if isinstance(doc.went, dict) and entry.op == "patch":
        return any(
            same(diff.get(doc.went, path), saw) and not same(diff.get(doc.cur or {}, path), saw)
            for path, saw in entry.old.items()
            if path not in rule.types
        )
    if not doc.removed_by:
        return False
    if entry.op != "patch":
        return not same(parsed(entry.was), doc.orig)
    orig = doc.orig or {}
    return any(
        not same(diff.get(orig, path), entry.old.get(path, MISSING))
        for path in entry.patch.paths
        if path not in rule.types
    )


def _delete_against_edit(entry: Entry, doc: Doc, rule: Rule, mine: State) -> Step:
    """One side deleted what the other changed."""
    if rule.policy == "manual":
        reason = "one side deleted what the other changed"
        return Step(entry, doc, "hold", mine, mine, reason=reason)
    deleted_here = mine is None
    if deleted_here == (rule.deletes == "edit-wins"):
        return Step(entry, doc, "lose", mine, doc.cur)
    clash = Clash(doc.ref, "local", rule.policy, doc.orig, mine, doc.cur, mine, [])
    return Step(entry, doc, "keep", mine, mine, clash)


def _combined(rule: Rule, orig: State, mine: State, cur: State) -> bool:
    if rule.policy != "merge" or not rule.types or orig is None or mine is None or cur is None:
        return False
    return concerned(rule.types, orig, mine, cur)


def _merge_fields(entry: Entry, doc: Doc, rule: Rule, mine: Document, cur: Document) -> Step:
    orig = doc.orig or {}
    patch = entry.patch if entry.op == "patch" else diff.diff(orig, mine)
    if patch is None:
        clash = Clash(doc.ref, "local", "merge", doc.orig, mine, cur, mine, [])
        return Step(entry, doc, "keep", mine, mine, clash)
    fields = [
        path for path in patch.paths if not _passes(path, patch.set.get(path, MISSING), orig, cur)
    ]
    result, decided = combine(rule.types, orig, mine, cur, diff.apply(cur, patch))
    fields = [path for path in fields if path not in decided]
    fields += [place for places in decided.values() for place in places]
    winner = "remote" if fields and all(_theirs(rule, path) for path in fields) else "local"
    clash = Clash(doc.ref, winner, "merge", doc.orig, mine, cur, result, fields)
    return Step(entry, doc, "keep", mine, result, clash if fields else None)


def _theirs(rule: Rule, path: str) -> bool:
    kind = rule.types.get(path)
    return kind is not None and kind.spec == "remote-wins"


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


def _by_function(entry: Entry, doc: Doc, rule: Rule, mine: Document, cur: Document) -> Step:
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
        return Step(entry, doc, "hold", mine, mine, reason=reason)
    clash = Clash(doc.ref, "function", rule.policy, doc.orig, mine, cur, result, [])
    return Step(entry, doc, "keep", mine, result, clash)


def _copy(state: State) -> State:
    return None if state is None else diff.parse(diff.dump(state))
