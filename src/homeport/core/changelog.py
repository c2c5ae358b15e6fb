"""A database made of immutable files: its state is a function of the set of files. Pure.

Each pushed batch is a ``Commit`` that names the commits its author had seen (its parents). Any
order that puts parents first would do; all devices take the same one: by depth (longest way from
the beginning), then by id. Folding the commits in this order gives the documents. A commit that
arrives late may come to stand in the middle, and the documents are then what they would have been:
two devices with the same files have the same documents, whatever the order of arrival.

When an author's file and another one did not know of each other, the later in the order meets
documents that its author had not seen. It is settled then by the policy of the collection, with the
same function that devices use (``core.merge.rebase``), and recorded in ``_resolutions``. Where the
policy would ask a person or a function of the program, the earlier change stays, because a fold can
ask nobody; the record holds the other one, and ``undo()`` brings it back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from homeport.core import diff
from homeport.core.backend import ChangeBatch, ChangeRecord, CollectionRules
from homeport.core.diff import same
from homeport.core.merge import Group, rebase
from homeport.core.mergetypes import type_of
from homeport.core.outbox import Entry, raw, ref_of
from homeport.core.paths import MISSING
from homeport.core.policies import Clash, Doc, Rule, State, forced, step_of
from homeport.core.records import record_text
from homeport.core.wire import ABSENT, RESOLUTIONS, BatchAnswer, Verdict

_sorted = msgspec.json.Encoder(order="sorted")
KEPT_STATES = 8
"""States whose versions are remembered, for devices that ask what changed since."""


class LoggedChange(msgspec.Struct, omit_defaults=True):
    """A change, and the document that its author replaced or deleted (a patch says that itself)."""

    change: ChangeRecord
    was: dict[str, Any] | None = None


class LoggedUnit(msgspec.Struct):
    id: str
    changes: list[LoggedChange]


class Commit(msgspec.Struct):
    """One answered batch: what was accepted of it, on what, and what was answered."""

    client: str
    number: int
    hash: str
    parents: list[str]
    at_ms: int
    rules: dict[str, CollectionRules]
    units: list[LoggedUnit]
    verdicts: list[Verdict]

    @property
    def name(self) -> tuple[str, int, str]:
        return (self.client, self.number, self.hash)


class _State:
    """A document. last: its content before it was deleted. digest: sum over the changes that
    touched it, so that it does not depend on their order."""

    __slots__ = ("body", "digest", "last", "version")

    def __init__(self) -> None:
        self.body: State = None
        self.last: State = None
        self.digest = 0
        self.version: str | None = None

    def become(self, body: State) -> None:
        if body is None and self.body is not None:
            self.last = self.body
        self.body = body
        if body is None:
            self.version = None
        else:
            content = hashlib.sha256(_sorted.encode(body)).hexdigest()
            self.version = f"{self.digest:032x}.{content[:16]}"


class Fold:
    """The documents after some commits."""

    def __init__(self) -> None:
        self.docs: dict[str, _State] = {}
        self.rules: dict[str, CollectionRules] = {}
        self.answers: dict[str, BatchAnswer] = {}
        self.done: set[tuple[str, int, str]] = set()
        self._made: dict[str, Rule] = {}

    # -- what a device asks before it writes

    def judge(self, batch: ChangeBatch) -> tuple[list[LoggedUnit], list[Verdict]]:
        """Which units can be accepted as the documents are now."""
        rules = {**batch.rules, **self.rules}
        accepted: list[LoggedUnit] = []
        verdicts: list[Verdict] = []
        for unit in batch.units:
            at = [
                n
                for n, change in enumerate(unit.changes)
                if not self._fits(change, _rule(rules, change.collection))
            ]
            if at:
                verdicts.append(Verdict(unit.id, "conflict", "changed", "", at))
                continue
            accepted.append(LoggedUnit(unit.id, [self._logged(c) for c in unit.changes]))
            verdicts.append(Verdict(unit.id, "applied"))
        return accepted, verdicts

    def _fits(self, change: ChangeRecord, rule: Rule) -> bool:
        state = self._state(change)
        body = state.body
        if change.base == state.version:
            return body is not None or change.op != "patch"
        if change.op == "delete":
            return body is None
        if change.op == "put":
            return body is not None and same(body, change.document)
        if body is None or rule.policy != "merge":
            return False
        doc = Doc(change.collection, change.key, _before(change, body), body)
        step = step_of(_entry(1, change, 0, "", None), doc, rule)
        return step.kind == "keep" and step.clash is None

    def _logged(self, change: ChangeRecord) -> LoggedChange:
        state = self._state(change)
        return LoggedChange(change, None if change.op == "patch" else state.body)

    # -- folding

    def apply(self, commit: Commit) -> None:
        """Add the next commit in the order."""
        if commit.name in self.done:
            return
        self.done.add(commit.name)
        for name, rules in commit.rules.items():
            if self.rules.setdefault(name, rules) is rules:
                self._made.pop(name, None)
        for index, unit in enumerate(commit.units):
            self._unit(commit, index, unit)
        before = self.answers.get(commit.client)
        if before is None or commit.number > before.number:
            answer = BatchAnswer(commit.number, commit.hash, commit.verdicts)
            self.answers[commit.client] = answer

    def _unit(self, commit: Commit, index: int, unit: LoggedUnit) -> None:
        docs: dict[str, Doc] = {}
        entries: list[Entry] = []
        clean = True
        for n, logged in enumerate(unit.changes):
            change, state = logged.change, self._state(logged.change)
            orig = state.body
            if change.base != state.version:
                clean = False
                orig = logged.was
                if change.op == "patch":
                    orig = _before(change, state.body or state.last)
            entry = _entry(n + 1, change, commit.at_ms, unit.id, logged.was)
            entries.append(entry)
            docs[entry.ref] = Doc(change.collection, change.key, orig, state.body)
        clashes: list[Clash] = []
        if clean:
            for entry in entries:
                docs[entry.ref].cur = forced(entry, docs[entry.ref].cur)[1]
        else:
            clashes = self._settle(docs, entries)
        for n, logged in enumerate(unit.changes):
            state = self._state(logged.change)
            state.digest = (state.digest + _digest(commit, index, n)) % (1 << 128)
            state.become(docs[ref_of(logged.change.collection, logged.change.key)].cur)
        for n, clash in enumerate(clashes):
            key = f"{commit.client}-{commit.number}-{commit.hash[:8]}-{index}-{n}"
            doc = docs[clash.ref]
            doc.bucket = ""
            text = record_text(key, clash, doc, commit.at_ms, commit.client)
            record = self.docs.setdefault(ref_of(RESOLUTIONS, key), _State())
            record.become(diff.parse(text))

    def _settle(self, docs: Mapping[str, Doc], entries: list[Entry]) -> list[Clash]:
        """Let the policies decide what was written without knowing of each other."""
        there = {ref: doc.cur for ref, doc in docs.items()}
        origs = {ref: doc.orig for ref, doc in docs.items()}
        wanted = {e.ref: forced(e, docs[e.ref].orig)[1] for e in entries}
        outcome = rebase(docs, [Group(entries)], self._rule)
        if not (outcome.held or outcome.dead):
            return [clash for _, clash in outcome.logged]
        for ref, doc in docs.items():
            doc.cur = there[ref]
        return [
            Clash(
                ref, "remote", self._rule(doc.collection).policy,
                origs[ref], wanted[ref], there[ref], there[ref], [],
            )
            for ref, doc in docs.items()
            if doc.collection != RESOLUTIONS and not same(wanted[ref], there[ref])
        ]  # fmt: skip

    def _rule(self, collection: str) -> Rule:
        if collection not in self._made:
            self._made[collection] = _rule(self.rules, collection)
        return self._made[collection]

    def _state(self, change: ChangeRecord) -> _State:
        ref = ref_of(change.collection, change.key)
        state = self.docs.get(ref)
        if state is None:
            state = self.docs[ref] = _State()
        return state

    def versions(self) -> dict[str, str]:
        return {ref: s.version for ref, s in self.docs.items() if s.version is not None}


class ChangeLog:
    """All commits that are known, and the documents that follow from those whose parents are."""

    def __init__(self) -> None:
        self.waiting: dict[str, Commit] = {}
        """Read, but something that their authors had seen is not here yet."""
        self.commits: dict[str, Commit] = {}
        self.heads: set[str] = set()
        self.fold = Fold()
        self._depth: dict[str, int] = {}
        self._blocks: dict[str, list[str]] = {}
        """By missing commit, those that wait for it."""
        self._last: tuple[int, str] = (0, "")
        self._states: dict[str, dict[str, str]] = {}

    def add(self, commits: Mapping[str, Commit]) -> None:
        """Take in what was read. Unknown parents: it waits for them."""
        fresh: list[tuple[int, str]] = []
        todo = [name for name in commits if name not in self.commits and name not in self.waiting]
        self.waiting.update((name, commits[name]) for name in todo)
        while todo:
            name = todo.pop()
            commit = self.waiting[name]
            missing = next((p for p in commit.parents if p not in self.commits), None)
            if missing is not None:
                self._blocks.setdefault(missing, []).append(name)
                continue
            del self.waiting[name]
            self.commits[name] = commit
            depth = 1 + max((self._depth[parent] for parent in commit.parents), default=0)
            self._depth[name] = depth
            self.heads.difference_update(commit.parents)
            self.heads.add(name)
            fresh.append((depth, name))
            todo.extend(self._blocks.pop(name, ()))
        if not fresh:
            return
        fresh.sort()
        if fresh[0] < self._last:
            self.fold = self._folded(self.commits)
        else:
            for _, name in fresh:
                self.fold.apply(self.commits[name])
        self._last = max(self._last, fresh[-1])

    def _folded(self, names: Iterable[str]) -> Fold:
        fold = Fold()
        for name in sorted(names, key=lambda one: (self._depth[one], one)):
            fold.apply(self.commits[name])
        return fold

    @property
    def cursor(self) -> str:
        """Names the state: the commits that no other one has as a parent."""
        return "log1:" + ".".join(sorted(self.heads))

    def since(self, cursor: str | None) -> list[str]:
        """Documents that are not as they were at a cursor of which nothing is ``missing``."""
        if cursor == self.cursor:
            return []
        now = self._versions(self.cursor)
        if cursor is None:
            return list(now)
        before = self._versions(cursor)
        gone = [ref for ref in before if ref not in now]
        return [ref for ref, version in now.items() if before.get(ref) != version] + gone

    def missing(self, cursor: str) -> bool:
        """Is a commit of the cursor not here?"""
        heads = _heads_of(cursor)
        return heads is None or not all(head in self.commits for head in heads)

    def _versions(self, cursor: str) -> dict[str, str]:
        found = self._states.get(cursor)
        if found is None:
            if cursor == self.cursor:
                found = self.fold.versions()
            else:
                found = self._folded(self._ancestors(_heads_of(cursor) or [])).versions()
            while len(self._states) >= KEPT_STATES:
                del self._states[next(iter(self._states))]
            self._states[cursor] = found
        return found

    def _ancestors(self, heads: Iterable[str]) -> set[str]:
        found: set[str] = set()
        todo = list(heads)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo.extend(self.commits[name].parents)
        return found

    def record(self, ref: str) -> ChangeRecord:
        """The document as it is now."""
        collection, _, key = ref.partition("/")
        state = self.fold.docs.get(ref)
        if state is None or state.body is None:
            return ChangeRecord(collection=collection, key=key, op="delete")
        return ChangeRecord(
            collection=collection, key=key, document=state.body, version=state.version
        )


def _heads_of(cursor: str) -> list[str] | None:
    kind, _, names = cursor.partition(":")
    if kind != "log1":
        return None
    return names.split(".") if names else []


def _rule(rules: Mapping[str, CollectionRules], collection: str) -> Rule:
    found = rules.get(collection)
    if found is None or collection == RESOLUTIONS:
        return Rule()
    types = {path: kind for path, spec in found.fields.items() if (kind := type_of(spec))}
    return Rule(found.policy, found.deletes, types=types)


def _before(change: ChangeRecord, body: State) -> State:
    """The document as the author of a patch saw it, as far as the patch touches it."""
    if body is None:
        return None
    for path in (*change.set, *change.unset):
        body = diff.put_at(body, path, change.old.get(path, MISSING))
    return body


def _entry(number: int, change: ChangeRecord, at_ms: int, unit: str, was: State) -> Entry:
    entry = Entry(
        number, ref_of(change.collection, change.key), change.collection, change.key, change.op,
        at_ms, unit, set=change.set, unset=change.unset, old=change.old,
    )  # fmt: skip
    entry.doc = ABSENT if change.document is None else raw(diff.dump(change.document))
    entry.was = ABSENT if was is None else raw(diff.dump(was))
    return entry


def _digest(commit: Commit, unit: int, change: int) -> int:
    text = f"{commit.client}/{commit.number}/{commit.hash}/{unit}/{change}"
    return int(hashlib.sha256(text.encode()).hexdigest()[:32], 16)
