"""A model of the node: the protocol of core/wire.py in memory, nothing else.

One user per call; buckets by a function of the document. Every rule is written out plainly, so that
the device is tested against the protocol and not against our own server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from homeport.core.diff import apply, Patch, get, MISSING, dump, parse
from homeport.core.wire import (
    ABSENT,
    PROTOCOL,
    Batch,
    BatchAnswer,
    Change,
    CollectionInfo,
    Hold,
    PushRequest,
    Reply,
    Unit,
    Verdict,
    WireRow,
    present,
)


class Problem(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


def same(a: Any, b: Any) -> bool:
    return msgspec.json.encode(a, order="sorted") == msgspec.json.encode(b, order="sorted")


class Doc:
    def __init__(self, token: str, bucket: str, body: str) -> None:
        self.token, self.bucket, self.body = token, bucket, body


class ModelServer:
    def __init__(
        self,
        policies: dict[str, tuple[str, str]] | None = None,
        *,
        page: int = 1_000,
        bucket: Callable[[str, dict[str, Any]], str] = lambda c, d: "",
        allowed: Callable[[str, str], set[str]] = lambda user, collection: {""},
        open_world: bool = True,
        fields: dict[str, dict[str, str]] | None = None,
    ) -> None:
        self.fields = fields or {}
        """Merge types; this node knows none of them and leaves the merge to the device."""
        self.policies = dict(policies or {})
        self.page = page
        self.bucket = bucket
        self.allowed = allowed
        self.open_world = open_world
        self.docs: dict[tuple[str, str], Doc] = {}
        self.seq = 0
        self.log: dict[tuple[str, str], int] = {}
        """Last change of each key that ever existed."""
        self.was_in: dict[tuple[str, str], set[str]] = {}
        self.clients: dict[str, BatchAnswer] = {}
        self.epoch = 1
        self.generation = 1
        self.reject: Callable[[Change], str | None] = lambda change: None
        self.put_off: Callable[[Unit], bool] = lambda unit: False
        self.requests = 0
        self.history: dict[tuple[str, str], list[str | None]] = {}
        self.writer: str | None = None
        self.drops: list[tuple[str | None, str | None, str | None]] = []
        """(client or None, text before, text after) of every write."""

    # -- the world outside

    def write(self, collection: str, key: str, doc: dict[str, Any] | None) -> None:
        """Another program changes a row."""
        self.seq += 1
        place = (collection, key)
        self.log[place] = self.seq
        before = self.docs.get(place)
        text = None if doc is None else dump(doc)
        self.drops.append((self.writer, before and before.body, text))
        self.history.setdefault(place, []).append(text)
        if doc is None:
            self.docs.pop(place, None)
        else:
            bucket = self.bucket(collection, doc)
            self.docs[place] = Doc(f"t{self.seq}", bucket, dump(doc))

    def state(self, collection: str) -> dict[str, Any]:
        return {k: parse(d.body) for (c, k), d in sorted(self.docs.items()) if c == collection}

    # -- the protocol

    def sync(self, request_text: bytes, user: str = "u") -> bytes:
        self.requests += 1
        request = msgspec.json.decode(request_text, type=PushRequest)
        assert request.v == PROTOCOL
        for name, policy in request.pull.collections.items():
            if self.open_world or name == "_resolutions":
                self.policies.setdefault(name, (policy, "delete-wins"))
        cursor = self._cursor(request.pull.cursor)
        if present(request.batch):
            self._push(request.client, bytes(request.batch), request.hash, user)
        return msgspec.json.encode(self._pull(request, cursor, user))

    def _cursor(self, cursor: str | None) -> int:
        if cursor is None:
            return 0
        epoch, _, seq = cursor.partition(":")
        if int(epoch) != self.epoch:
            raise Problem(410, "history-broken")
        return int(seq)

    def _push(self, client: str, body: bytes, digest: str, user: str) -> None:
        assert hashlib.sha256(body).hexdigest() == digest
        batch = msgspec.json.decode(body, type=Batch)
        last = self.clients.get(client)
        number = 0 if last is None else last.number
        if batch.number == number and last is not None and last.hash == digest:
            return
        if batch.number != number + 1:
            raise Problem(409, "identity-broken")
        changes = [c for u in batch.units for c in u.changes]
        places = [(c.collection, c.key) for c in changes]
        assert len(set(places)) == len(places), "a document occurs once in a batch"
        assert len(batch.units) == 1 or (len(changes) <= 500 and len(body) < 1_100_000)
        self.writer = client
        verdicts = [self._unit(unit, user) for unit in batch.units]
        self.writer = None
        self.clients[client] = BatchAnswer(batch.number, digest, verdicts)

    def _unit(self, unit: Unit, user: str) -> Verdict:
        if self.put_off(unit):
            return Verdict(unit.id, "retry", "later")
        at: list[int] = []
        writes: list[tuple[str, str, dict[str, Any] | None]] = []
        for n, change in enumerate(unit.changes):
            if change.collection not in self.policies:
                return Verdict(unit.id, "retry", "unknown-collection")
            code = self.reject(change)
            if code:
                return Verdict(unit.id, "rejected", code, f"refused: {code}", [n])
            result = self._change(change, user)
            if result == "conflict":
                at.append(n)
            elif result == "forbidden":
                return Verdict(unit.id, "rejected", "forbidden", "no", [n])
            elif result is not None:
                writes.append(result)
        if at:
            return Verdict(unit.id, "conflict", "changed", "", at)
        for collection, key, doc in writes:
            self.write(collection, key, doc)
        return Verdict(unit.id, "applied")

    def _change(self, change: Change, user: str) -> Any:
        place = (change.collection, change.key)
        policy, deletes = self.policies[change.collection]
        row = self.docs.get(place)
        scope = self.allowed(user, change.collection)
        if row is not None and row.bucket not in scope:
            return "forbidden" if change.op != "delete" else None
        if change.op == "delete":
            if row is None:
                return None
            if change.base != row.token:
                return "conflict"
            return (*place, None)
        if change.op == "put":
            doc = parse(change.doc)
            assert doc["id"] == change.key
            if row is None:
                if change.base is not None:
                    return "conflict"
            elif row.token != change.base:
                return None if same(parse(row.body), doc) else "conflict"
        else:
            if row is None:
                return "conflict"
            current = parse(row.body)
            if change.base != row.token:
                if policy != "merge":
                    return "conflict"
                for path in (*change.set, *change.unset):
                    now, saw = get(current, path), change.old.get(path, MISSING)
                    wants = change.set.get(path, MISSING)
                    agree = _eq(now, wants) and path not in self.fields.get(change.collection, {})
                    if not (_eq(now, saw) or agree):
                        return "conflict"
            doc = apply(current, Patch(change.set, change.unset, change.old))
            if same(doc, current):
                return None
        if self.bucket(change.collection, doc) not in scope:
            return "forbidden"
        return (*place, doc)

    def _pull(self, request: PushRequest, cursor: int, user: str) -> Reply:
        pull = request.pull
        infos, joined, left = {}, [], []
        unknown = [name for name in pull.collections if name not in self.policies]
        for name in pull.collections:
            if name in unknown:
                continue
            buckets = sorted(self.allowed(user, name))
            policy, deletes = self.policies[name]
            infos[name] = CollectionInfo(
                self.generation, buckets, policy, deletes, self.fields.get(name, {})
            )
            held = pull.holds.get(name)
            had = set(held.buckets) if held and held.generation == self.generation else set()
            if pull.cursor is None:
                had = set()
            joined += [(name, b) for b in buckets if b not in had]
            if held:
                left += [(name, b) for b in held.buckets if b not in buckets]
        places = []
        for place, seq in self.log.items():
            if place[0] not in infos:
                continue
            row = self.docs.get(place)
            if seq > cursor or (row is not None and (place[0], row.bucket) in joined):
                places.append((seq, place))
        places.sort()
        start = int(pull.position) if pull.position is not None else 0
        todo = [(seq, place) for seq, place in places if seq > start]
        rows = []
        for _, place in todo[: self.page]:
            row = self.docs.get(place)
            if row is None or row.bucket not in self.allowed(user, place[0]):
                rows.append(WireRow(*place, None, None, ABSENT))
            else:
                rows.append(WireRow(*place, row.token, row.bucket, msgspec.Raw(row.body.encode())))
        reply = Reply(PROTOCOL, self.seq, rows, joined, left, collections=infos, unknown=unknown)
        reply.total = len(places)
        if len(todo) > self.page:
            reply.more = str(todo[self.page - 1][0])
            return reply
        reply.cursor = f"{self.epoch}:{self.seq}"
        reply.holds = {n: Hold(i.generation, i.buckets) for n, i in infos.items()}
        reply.batch = self.clients.get(request.client)
        if pull.former:
            none = BatchAnswer(0, "", [])
            reply.former = {client: self.clients.get(client, none) for client in pull.former}
        return reply


def _eq(a: Any, b: Any) -> bool:
    if a is MISSING or b is MISSING:
        return a is b
    return same(a, b)
