"""What a restored server has already is not written a second time.

Several devices bring back what the server lost, in any order, and each knows documents that others
have written too. So where the server is again at what this device knew last, nothing is left to
do; the same for a single field. And a document that this device once created and that is there now
was brought back by somebody who had seen it: only what it lacks is added.

Fields with a merge type are the exception: two counters that stand at the same number need not have
counted the same things. There every change of this device is made again, unless this device
created the document. What remains: of a document that the server lost whole, and that a second
device brought back, a third one adds its counts again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeport.core import diff
from homeport.core.acknowledged import PutBack
from homeport.core.context import Context, Moved
from homeport.core.diff import get, same
from homeport.core.outbox import (
    BASE,
    OUTBOX,
    Base,
    Entry,
    base_rows,
    entry_rows,
    parsed,
    raw,
    read_base,
    read_entry,
)
from homeport.core.paths import MISSING
from homeport.core.policies import Rule
from homeport.core.requests import Delete, GetMany, Part, Plan, Put, Write
from homeport.core.wire import ABSENT, present


def reconcile(context: Context, back: PutBack, moved: Mapping[str, Moved]) -> Plan[None]:
    """Take out of the entries that were queued again what is in the fresh cut."""
    texts = yield GetMany(OUTBOX, back.ids)
    by_ref: dict[str, list[Entry]] = {}
    for entry in (read_entry(text) for text in texts if text is not None):
        by_ref.setdefault(entry.ref, []).append(entry)
    found = yield GetMany(BASE, list(by_ref))
    bases = {base.id: base for base in (read_base(text) for text in found if text is not None)}
    kept: list[Entry] = []
    gone: list[int] = []
    changed: list[Base] = []
    for ref, entries in by_ref.items():
        now = parsed(moved[ref].body) if ref in moved else None
        base, known = bases[ref], back.known[ref]
        rule = context.rule(ref.partition("/")[0])
        if same(now, known) and not rule.types:
            gone += [entry.id for entry in entries]
            base.doc = ABSENT if now is None else raw(diff.dump(now))
        elif now is not None and known is not None and rule.policy == "merge":
            left, origin = _only_missing(entries, parsed(base.doc), now, known, rule)
            kept += left
            gone += [entry.id for entry in entries if entry not in left]
            base.doc = raw(diff.dump(origin))
        elif now is None and known is not None and _creates(entries[0]):
            left = _made_anew(entries, known, rule)
            kept += left
            gone += [entry.id for entry in entries if entry not in left]
            continue
        else:
            continue
        changed.append(base)
    context.state.queued -= len(gone)
    parts: list[Part] = [Put(BASE, base_rows(changed))] if changed else []
    if kept:
        parts.append(Put(OUTBOX, entry_rows(kept)))
    if gone:
        parts.append(Delete(OUTBOX, gone))
    if parts:
        yield Write(parts)


def _only_missing(
    entries: list[Entry], origin: Any, now: dict[str, Any], known: dict[str, Any], rule: Rule
) -> tuple[list[Entry], dict[str, Any]]:
    """The entries without what is there, and the document on which they stand then."""
    left: list[Entry] = []
    seen: set[str] = set()
    """Paths whose value before these entries is in ``origin``."""
    created = origin is None
    if created:
        origin = now
    for entry in entries:
        if _creates(entry):
            document = parsed(entry.doc)
            entry.op, entry.doc = "patch", ABSENT
            entry.set = {name: value for name, value in document.items() if name not in now}
        elif entry.op == "patch":
            for path in entry.patch.paths:
                at = get(now, path)
                if created if path in rule.types else same(at, get(known, path)):
                    origin = _put(origin, path, at)
                    entry.set.pop(path, None)
                    entry.old.pop(path, None)
                    entry.unset = [name for name in entry.unset if name != path]
                elif created and path not in seen:
                    origin = _put(origin, path, entry.old.get(path, MISSING))
                seen.add(path)
        if entry.op != "patch" or entry.set or entry.unset:
            left.append(entry)
    return left, origin


def _creates(entry: Entry) -> bool:
    return entry.op == "put" and not present(entry.was)


def _made_anew(entries: list[Entry], known: dict[str, Any], rule: Rule) -> list[Entry]:
    """A document that the server lost whole comes back as it was known last, so that all who bring
    it back bring the same; of fields with a merge type each brings what it did itself."""
    first = entries[0]
    document = parsed(first.doc)
    for path in rule.types:
        known = _put(known, path, get(document, path))
    first.doc = raw(diff.dump(known))
    for entry in entries[1:]:
        if entry.op == "patch":
            for path in entry.patch.paths:
                if path not in rule.types:
                    entry.set.pop(path, None)
                    entry.old.pop(path, None)
            entry.unset = [path for path in entry.unset if path in rule.types]
    return [e for e in entries if e.op != "patch" or e.set or e.unset]


def _put(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    if value is MISSING:
        return diff.unset_at(document, path)
    return diff.set_at(document, path, value)
