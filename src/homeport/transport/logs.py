"""A back end that needs nothing but a place for files: list, read, create.

Each accepted batch is one immutable file; ``core.changelog`` makes the documents of all of them.
Nothing is ever changed or replaced, so files may arrive late, in any order, twice or half.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

import msgspec

from homeport.core.backend import (
    BatchAnswer,
    ChangeBatch,
    ChangeRecord,
    ConflictRecord,
    PulledChanges,
    Verdict,
)
from homeport.core.changelog import ChangeLog, Commit
from homeport.errors import HistoryBroken, IdentityBroken, ProtocolMismatch, Unreachable

FORMAT: Final = 1


class FileStore(Protocol):
    """Where the files are. Names are texts with one slash; the content never changes."""

    async def names(self) -> Iterable[str]:
        """All that are there. Raises ``Unreachable`` when that cannot be told."""
        ...

    async def read(self, name: str) -> bytes | None:
        """None when it is not there (any more)."""
        ...

    async def create(self, name: str, data: bytes) -> bool:
        """Make the file, durably and whole → False when there is one already."""
        ...


class LogReport(NamedTuple):
    """What is in the store.

    Attributes:
        changes: batches that the documents are made of. waiting: batches whose authors had seen
            others that are not here yet. unreadable: names of files that are not whole (yet).
    """

    changes: int
    waiting: int
    unreadable: list[str]


class _Header(msgspec.Struct):
    homeport: int
    sha256: str
    bytes: int


_header = msgspec.json.Decoder(_Header)
_commit = msgspec.json.Decoder(Commit)


def encode_commit(commit: Commit) -> tuple[str, bytes]:
    """→ id and file: a line that tells the length and SHA-256 of the JSON that follows."""
    payload = msgspec.json.encode(commit)
    digest = hashlib.sha256(payload).hexdigest()
    return digest, msgspec.json.encode(_Header(FORMAT, digest, len(payload))) + b"\n" + payload


def decode_commit(data: bytes) -> tuple[str, Commit] | None:
    """None when the file is not whole. Raises ``ProtocolMismatch`` for a newer format."""
    first, _, payload = data.partition(b"\n")
    try:
        header = _header.decode(first)
        if header.homeport > FORMAT:
            raise ProtocolMismatch(
                f"These files are of format {header.homeport}, this program reads {FORMAT}."
            )
        if len(payload) != header.bytes or hashlib.sha256(payload).hexdigest() != header.sha256:
            return None
        return header.sha256, _commit.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


class LogBackend:
    """Replication over a ``FileStore`` (a ``Backend`` for ``db.sync``).

    Args:
        store: where the files are.
        poll_s: while a device listens, the store is looked at so often.
    """

    def __init__(self, store: FileStore, *, poll_s: float = 1.0) -> None:
        self.store = store
        self.poll_s = poll_s
        self._log = ChangeLog()
        self._names: dict[str, str] = {}
        """Files that were read, with the id of what they hold."""
        self._batches: dict[tuple[str, int], dict[str, list[Verdict]]] = {}
        """Every answer that was ever written, also of commits that wait, by client and number."""
        self._numbers: dict[str, int] = {}
        self._sent: dict[str, tuple[int, str]] = {}
        """Of each client, the batch that was pushed last through this object. Where a file was
        cloned, another one may have the same number."""
        self._unreadable: set[str] = set()
        self._lock = threading.Lock()

    async def push_changes(self, batch: ChangeBatch) -> Sequence[Verdict]:
        """Write the batch as one file, with what can be accepted of it."""
        await self._refresh()
        with self._lock:
            known = self._batches.get((batch.client, batch.number), {})
            if batch.hash in known:
                self._sent[batch.client] = (batch.number, batch.hash)
                return known[batch.hash]
            self._check(batch.cursor)
            last = self._numbers.get(batch.client, 0)
            if batch.number != last + 1:
                raise IdentityBroken(
                    f"Batch {batch.number} does not follow {last}, the last of this device."
                )
            units, verdicts = self._log.fold.judge(batch)
            now_ms = time.time_ns() // 1_000_000
            commit = Commit(
                batch.client, batch.number, batch.hash, sorted(self._log.heads), now_ms,
                batch.rules, units, verdicts,
            )  # fmt: skip
        identity, data = encode_commit(commit)
        name = f"{quote(batch.client, safe='~')}/{batch.number:010d}-{batch.hash[:16]}.json"
        if not await self.store.create(name, data):
            # Another worker of the same file was faster with the same batch.
            await self._refresh()
            with self._lock:
                known = self._batches.get((batch.client, batch.number), {})
            if batch.hash not in known:
                raise Unreachable(f"{name} is there and cannot be read yet.")
            return known[batch.hash]
        with self._lock:
            self._take({name: (identity, commit)})
            self._sent[batch.client] = (batch.number, batch.hash)
        return verdicts

    async def pull_changes(
        self, since: str | None, collections: Sequence[str], clients: Sequence[str]
    ) -> PulledChanges:
        """What the files that are here make of the documents."""
        await self._refresh()
        with self._lock:
            self._check(since)
            wanted = set(collections)
            records = [self._log.record(ref) for ref in self._log.since(since)]
            return PulledChanges(
                [one for one in records if one.collection in wanted],
                self._log.cursor,
                {one: found for one in clients if (found := self._answer(one)) is not None},
                {n: r for n, r in self._log.fold.rules.items() if n in wanted},
            )

    async def resolve_conflicts(
        self, conflicts: Sequence[ConflictRecord]
    ) -> Sequence[ChangeRecord | None]:
        """Leaves all of them to the devices' policies."""
        return [None] * len(conflicts)

    async def watch(self, collections: Sequence[str]) -> AsyncIterator[None]:  # noqa: ARG002
        """Looks at the store every ``poll_s``."""
        told: set[str] = set()
        while True:
            await asyncio.sleep(self.poll_s)
            names = set(await self.store.names())
            with self._lock:
                fresh = names - self._names.keys() - told
            told |= fresh
            if fresh:
                yield None

    async def report(self) -> LogReport:
        """How many files there are, and which of them cannot be used yet."""
        await self._refresh()
        with self._lock:
            log = self._log
            return LogReport(len(log.commits), len(log.waiting), sorted(self._unreadable))

    async def _refresh(self) -> None:
        names = set(await self.store.names())
        found: dict[str, tuple[str, Commit]] = {}
        unreadable: set[str] = set()
        for name in sorted(names - self._names.keys()):
            data = await self.store.read(name)
            read = None if data is None else decode_commit(data)
            if read is None:
                unreadable.add(name)
            else:
                found[name] = read
        with self._lock:
            self._unreadable = unreadable
            left = {name: self._names[name] for name in self._names.keys() & names}
            if len(left) < len(self._names):
                if set(left.values()) != set(self._names.values()):
                    # The store is not the one that it was: nothing of what was read counts.
                    self._log = ChangeLog()
                    self._names, self._batches, self._numbers = {}, {}, {}
                    raise Unreachable("Files went away; all of them are read again.")
                self._names = left  # copies of files that are still there
            self._take(found)

    def _take(self, found: dict[str, tuple[str, Commit]]) -> None:
        for name, (identity, commit) in found.items():
            self._names[name] = identity
            answers = self._batches.setdefault((commit.client, commit.number), {})
            answers.setdefault(commit.hash, commit.verdicts)
            self._numbers[commit.client] = max(commit.number, self._numbers.get(commit.client, 0))
        self._log.add(dict(found.values()))

    def _check(self, cursor: str | None) -> None:
        """Is everything here that the device has seen?"""
        if cursor is None or not self._log.missing(cursor):
            return
        if self._unreadable or self._log.waiting:
            raise Unreachable("Files that this device has seen are not here yet, or not whole.")
        raise HistoryBroken("Files that this device has seen are gone.")

    def _answer(self, client: str) -> BatchAnswer | None:
        """The last batch of a client that is in the documents."""
        answer = self._log.fold.answers.get(client)
        number, digest = self._sent.get(client, (0, ""))
        if (
            answer is None
            or answer.number != number
            or (client, number, digest) not in (self._log.fold.done)
        ):
            return answer
        return BatchAnswer(number, digest, self._batches[client, number][digest])
