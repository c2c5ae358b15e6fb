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
    ref_of,
)
from homeport.core.paths import MISSING
from homeport.core.policies import Clash, Rule
from homeport.core.query import EMPTY, AnyOf
from homeport.core.requests import Delete, Find, GetMany, Part, Plan, Put, Write
from homeport.core.wire import ABSENT, RESOLUTIONS, present


def reconcile(context: Context, back: PutBack, moved: Mapping[str, Moved]) -> Plan[list[Clash]]:
    """Take out of the entries that were queued again what is in the fresh cut → what this device
    had written and gives up for it, to be recorded."""
    texts = yield GetMany(OUTBOX, back.ids)
    by_ref: dict[str, list[Entry]] = {}
    for entry in (read_entry(text) for text in texts if text is not None):
        by_ref.setdefault(entry.ref, []).append(entry)
    found = yield GetMany(BASE, list(by_ref))
    bases = {base.id: base for base in (read_base(text) for text in found if text is not None)}
    kept: list[Entry] = []
    gone: list[int] = []
    changed: list[Base] = []
    clashes: list[Clash] = []
    idle: list[str] = []
    """Documents that are gone on both sides: nothing of the cut speaks of them."""
    for ref, entries in by_ref.items():
        now = parsed(moved[ref].body) if ref in moved else None
        base, known = bases[ref], back.known[ref]
        rule = context.rule(ref.partition("/")[0])
        if same(now, known) and not rule.types:
            gone += [entry.id for entry in entries]
            base.doc = ABSENT if now is None else raw(diff.dump(now))
            if ref not in moved:
                idle.append(ref)
        elif now is not None and known is not None and rule.policy == "merge":
            if _creates(entries[0]):
                clashes += _given_up(ref, parsed(entries[0].doc), now, known, rule)
            left, origin = _only_missing(entries, parsed(base.doc), now, known, rule)
            kept += left
            gone += [entry.id for entry in entries if entry not in left]
            base.doc = ABSENT if origin is None else raw(diff.dump(origin))
        elif now is None and known is not None and _creates(entries[0]):
            left = _made_anew(entries, known, rule)
            kept += left
            gone += [entry.id for entry in entries if entry not in left]
            continue
        else:
            continue
        changed.append(base)
    context.state.queued -= len(gone)
    over = yield from _without_entries(idle, set(gone))
    changed = [base for base in changed if base.id not in over]
    parts: list[Part] = [Put(BASE, base_rows(changed))] if changed else []
    if kept:
        parts.append(Put(OUTBOX, entry_rows(kept)))
    if gone:
        parts.append(Delete(OUTBOX, gone))
    if over:
        parts.append(Delete(BASE, over))
    if parts:
        yield Write(parts)
    return clashes


def queue_records(context: Context, keys: list[str]) -> Plan[None]:
    """Send records of settlements that the server made, and lost with its newest history. This
    device has them from the server; whoever else brings one back brings the same text."""
    texts = yield GetMany(context.tables[RESOLUTIONS], keys)
    entries: list[Entry] = []
    bases: list[Base] = []
    for key, text in zip(keys, texts, strict=True):
        number, ref = context.state.next, ref_of(RESOLUTIONS, key)
        context.state.next += 1
        stamp_ms = context.tx.stamp_ms
        entries.append(Entry(number, ref, RESOLUTIONS, key, "put", stamp_ms, doc=raw(text)))
        bases.append(Base(ref, RESOLUTIONS, key, known=True))
        context.event("recovered", RESOLUTIONS, key, "the server had lost it")
    context.state.queued += len(entries)
    if entries:
        yield Write([Put(OUTBOX, entry_rows(entries)), Put(BASE, base_rows(bases))])


def _without_entries(refs: list[str], gone: set[int]) -> Plan[list[str]]:
    """Those that nothing queued speaks of any more: they need no base."""
    if not refs:
        return []
    texts = yield Find(OUTBOX, EMPTY.and_where(AnyOf("ref", tuple(refs))), "texts")
    left = {entry.ref for entry in map(read_entry, texts) if entry.id not in gone}
    return [ref for ref in refs if ref not in left]


def _given_up(
    ref: str, mine: dict[str, Any], now: dict[str, Any], known: dict[str, Any], rule: Rule
) -> list[Clash]:
    """Somebody has made this document anew, with other values than were known here."""
    fields = [
        name
        for name, value in known.items()
        if name in now and not same(now[name], value) and name not in rule.types
    ]
    if not fields:
        return []
    return [Clash(ref, "remote", rule.policy, None, {**mine, **known}, now, now, fields)]


def _only_missing(
    entries: list[Entry], origin: Any, now: dict[str, Any], known: dict[str, Any], rule: Rule
) -> tuple[list[Entry], Any]:
    """The entries without what is there, and the document on which they stand then."""
    left: list[Entry] = []
    seen: set[str] = set()
    """Paths whose value before these entries is in ``origin``."""
    created = origin is None and _creates(entries[0])
    if origin is None:
        entries = _since_birth(entries)
    ground: Any = now if created else origin
    whole = False
    """An entry before wrote or removed the whole document: what follows stands on that."""
    for position, entry in enumerate(entries):
        if created and not position:
            document = parsed(entry.doc)
            entry.op, entry.doc = "patch", ABSENT
            entry.set = {name: value for name, value in document.items() if name not in now}
        elif entry.op != "patch":
            whole = True
        elif not whole:
            for path in entry.patch.paths:
                at = get(now, path)
                if created if path in rule.types else same(at, get(known, path)):
                    ground = diff.put_at(ground, path, at)
                    entry.set.pop(path, None)
                    entry.old.pop(path, None)
                    entry.unset = [name for name in entry.unset if name != path]
                elif created and path not in seen:
                    ground = diff.put_at(ground, path, entry.old.get(path, MISSING))
                seen.add(path)
        if entry.op != "patch" or entry.set or entry.unset:
            left.append(entry)
    return left, ground


def _creates(entry: Entry) -> bool:
    return entry.op == "put" and not present(entry.was)


def _since_birth(entries: list[Entry]) -> list[Entry]:
    """Of a document that was deleted and made anew in between, only what its last life is about."""
    born = [position for position, entry in enumerate(entries) if _creates(entry)]
    return entries[born[-1] :] if born else entries


def _made_anew(entries: list[Entry], known: dict[str, Any], rule: Rule) -> list[Entry]:
    """A document that the server lost whole comes back as it was known last, so that all who bring
    it back bring the same; of fields with a merge type each brings what it did itself."""
    entries = _since_birth(entries)
    first = entries[0]
    document = parsed(first.doc)
    for path in rule.types:
        known = diff.put_at(known, path, get(document, path))
    first.doc = raw(diff.dump(known))
    for entry in entries[1:]:
        if entry.op == "patch":
            for path in entry.patch.paths:
                if path not in rule.types:
                    entry.set.pop(path, None)
                    entry.old.pop(path, None)
            entry.unset = [path for path in entry.unset if path in rule.types]
    return [e for e in entries if e.op != "patch" or e.set or e.unset]
