"""A back end in the place of a node: its three calls, as the messages that the device speaks."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence

import msgspec

from homeport.core import diff
from homeport.core.backend import (
    Backend,
    ChangeBatch,
    ChangeRecord,
    ChangeUnit,
    CollectionRules,
    ConflictRecord,
    PulledChanges,
    Verdict,
    Watched,
)
from homeport.core.policies import Clash, Doc
from homeport.core.records import record_text
from homeport.core.streams import Kind
from homeport.core.verify import slot_of, sums_of
from homeport.core.wire import (
    ABSENT,
    PROTOCOL,
    RESOLUTIONS,
    Batch,
    BatchAnswer,
    Change,
    CollectionInfo,
    Hello,
    Hint,
    Hold,
    PullRequest,
    PushRequest,
    Reply,
    WireRow,
    present,
)
from homeport.errors import HomeportError, ServerRefused, Unreachable

_request = msgspec.json.Decoder(PushRequest)
_batch = msgspec.json.Decoder(Batch)
_NONE = BatchAnswer(0, "", [])


class BackendTransport:
    """Carries the exchanges of one device to a ``Backend``.

    There is one bucket (everything), one generation, and a cut is one page.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    async def exchange(self, body: bytes, token: str) -> Reply:  # noqa: ARG002 - no tokens here
        try:
            return await self._exchange(_request.decode(body))
        except HomeportError:
            raise
        except Exception as error:
            name = type(error).__name__
            raise Unreachable(f"The back end failed: {name}: {error}") from error

    async def _exchange(self, request: PushRequest) -> Reply:
        pull = request.pull
        rules = {
            name: CollectionRules(
                policy,
                "edit-wins" if name in pull.edit_wins else "delete-wins",
                pull.fields.get(name, {}),
            )
            for name, policy in pull.collections.items()
        }
        batch: ChangeBatch | None = None
        verdicts: Sequence[Verdict] = ()
        if present(request.batch):
            sent = _batch.decode(request.batch)
            units = [ChangeUnit(u.id, [_record(c) for c in u.changes]) for u in sent.units]
            batch = ChangeBatch(
                request.client, sent.number, request.hash, units, pull.cursor, rules
            )
            verdicts = await self.backend.push_changes(batch)
        names = sorted(pull.collections)
        fresh = pull.cursor is None or any(name not in pull.holds for name in names)
        since = None if fresh else pull.cursor
        clients = [request.client, *pull.former]
        pulled = await self.backend.pull_changes(since, names, clients)
        if batch is not None and any(verdict.result == "conflict" for verdict in verdicts):
            settled = await self._resolve(batch, verdicts, pulled)
            if settled is not None:
                verdicts = settled
                pulled = await self.backend.pull_changes(since, names, clients)
        reply = _reply(request, pulled, {**rules, **pulled.rules}, full=fresh)
        if (
            batch is not None
            and reply.batch is not None
            and (reply.batch.number, reply.batch.hash) == (batch.number, batch.hash)
        ):
            reply.batch = BatchAnswer(batch.number, batch.hash, list(verdicts))
        if pull.verify or pull.repair:
            all_of_it = pulled
            if not fresh:
                all_of_it = await self.backend.pull_changes(None, names, [])
            if all_of_it.cursor == pulled.cursor:
                _compare(reply, pull, all_of_it)
        return reply

    async def _resolve(
        self, batch: ChangeBatch, verdicts: Sequence[Verdict], pulled: PulledChanges
    ) -> list[Verdict] | None:
        """Let the back end settle conflicts, as a batch of its own with a number of its own, so
        that this too happens once. None when it settles none."""
        now = {(c.collection, c.key): c for c in pulled.changes}
        refused = {v.unit: v for v in verdicts if v.result == "conflict"}
        asked: list[tuple[ChangeUnit, list[int]]] = []
        records: list[ConflictRecord] = []
        for unit in batch.units:
            at = refused[unit.id].at if unit.id in refused else []
            changes = [unit.changes[n] for n in at]
            if changes and all((c.collection, c.key) in now for c in changes):
                asked.append((unit, at))
                records += [ConflictRecord(c, now[c.collection, c.key]) for c in changes]
        if not records:
            return None
        answers = list(await self.backend.resolve_conflicts(records))
        if len(answers) != len(records):
            raise ServerRefused("resolve_conflicts() must return one answer for each conflict.")
        units: list[ChangeUnit] = []
        for unit, at in asked:
            mine, answers = answers[: len(at)], answers[len(at) :]
            theirs, records = records[: len(at)], records[len(at) :]
            chosen = [one for one in mine if one is not None]
            if len(chosen) == len(at):
                changes = list(unit.changes)
                for n, one in zip(at, chosen, strict=True):
                    changes[n] = one
                pairs = zip(theirs, chosen, strict=True)
                log = [_log(batch, unit, n, c, one) for n, (c, one) in enumerate(pairs)]
                units.append(ChangeUnit(unit.id, [*changes, *log]))
        if not units:
            return None
        settled = await self.backend.push_changes(
            ChangeBatch(
                f"{batch.client}~{batch.number}", 1, batch.hash, units, batch.cursor, batch.rules
            )
        )
        done = {verdict.unit for verdict in settled if verdict.result == "applied"}
        return [Verdict(v.unit, "applied") if v.unit in done else v for v in verdicts]

    async def hints(
        self, hello: Hello, kind: Kind, heartbeat_s: float
    ) -> AsyncGenerator[Hint, None]:
        """A hint whenever the back end says that something moved, in its own way."""
        del kind, heartbeat_s
        if not isinstance(self.backend, Watched):
            return
        try:
            async for _ in self.backend.watch(hello.collections):
                yield Hint("hint", hello.collections)
        except (HomeportError, OSError):
            return

    async def close(self) -> None:
        """The back end belongs to its user."""


def _record(change: Change) -> ChangeRecord:
    return ChangeRecord(
        collection=change.collection,
        key=change.key,
        op=change.op,
        document=diff.parse(change.doc) if present(change.doc) else None,
        set=change.set,
        unset=change.unset,
        old=change.old,
        base=change.base,
    )


def _reply(
    request: PushRequest,
    pulled: PulledChanges,
    rules: Mapping[str, CollectionRules],
    *,
    full: bool,
) -> Reply:
    names = [name for name in request.pull.collections if name in rules]
    reply = Reply(PROTOCOL, time.time_ns() // 1_000_000)
    reply.rows = [_row(change) for change in pulled.changes if change.collection in rules]
    if full:
        reply.joined = [(name, "") for name in names]
    reply.cursor = pulled.cursor
    reply.holds = {name: Hold(1, [""]) for name in names}
    reply.batch = pulled.answers.get(request.client)
    reply.collections = {
        name: CollectionInfo(1, [""], rules[name].policy, rules[name].deletes, rules[name].fields)
        for name in names
    }
    if request.pull.former:
        reply.former = {one: pulled.answers.get(one, _NONE) for one in request.pull.former}
    return reply


def _row(change: ChangeRecord) -> WireRow:
    if change.op == "delete" or change.document is None:
        return WireRow(change.collection, change.key, None, None, ABSENT)
    body = msgspec.Raw(diff.dump(change.document).encode())
    return WireRow(change.collection, change.key, change.version or "", "", body)


def _compare(reply: Reply, pull: PullRequest, pulled: PulledChanges) -> None:
    """Sums for what the device compares, and all rows of what it repairs."""
    there: dict[str, dict[str, str]] = {}
    rows: list[WireRow] = []
    for change in pulled.changes:
        if change.op != "delete":
            there.setdefault(change.collection, {})[change.key] = change.version or ""
            if slot_of(change.key) in pull.repair.get(change.collection, ()):
                rows.append(_row(change))
    reply.sums = {name: sums_of(there.get(name, {})) for name in pull.verify}
    if pull.repair:
        named = {(row.collection, row.key) for row in reply.rows}
        reply.rows += [row for row in rows if (row.collection, row.key) not in named]
        reply.repaired = dict(pull.repair)


def _log(
    batch: ChangeBatch, unit: ChangeUnit, n: int, conflict: ConflictRecord, result: ChangeRecord
) -> ChangeRecord:
    """What ``resolve_conflicts`` did, for both sides to read."""
    change, current = conflict.change, conflict.current
    local = change.document
    if change.op == "patch" and current.document is not None:
        patch = diff.Patch(change.set, change.unset, change.old)
        local = diff.apply(current.document, patch)
    result_doc = result.document
    clash = Clash(
        f"{change.collection}/{change.key}", "function", "resolve_conflicts",
        None, local, current.document, result_doc, [],
    )  # fmt: skip
    key = f"{batch.client}-{batch.number}-{unit.id}-{n}"
    doc = Doc(change.collection, change.key, None, None, bucket="")
    text = record_text(key, clash, doc, time.time_ns() // 1_000_000, batch.client)
    return ChangeRecord(collection=RESOLUTIONS, key=key, document=diff.parse(text))
