"""One exchange with the node after the other: ask, send, receive, and what the answers mean."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec

from homeport.core.adopt import adopt_chunk
from homeport.core.backend import Backend
from homeport.core.codec import Table
from homeport.core.context import Event
from homeport.core.cuts import Received, receive
from homeport.core.exchange import Question, ask
from homeport.core.layers import open_layers
from homeport.core.optimistic import expire
from homeport.core.outbox import (
    META_CLIENT,
    META_OUTBOX,
    META_UNKNOWN,
    OUTBOX,
    QueueState,
    read_state,
)
from homeport.core.query import EMPTY, Compare
from homeport.core.requests import Count, Meta, Operation, Plan
from homeport.core.streams import Kind
from homeport.core.wire import PROTOCOL, Hello, Hint, Reply, Seen
from homeport.core.worker import bind, check_binding
from homeport.errors import (
    HistoryBroken,
    IdentityBroken,
    NeedsAuth,
    UnknownRemoteCollection,
    Unreachable,
)
from homeport.ids import new_id
from homeport.transport.answers import identity_of
from homeport.transport.backend import BackendTransport
from homeport.transport.hosts import Perform, aside, plain
from homeport.transport.network import transport_to
from homeport.transport.recovery import OnReset, Recovery
from homeport.transport.traffic import Meter

R = TypeVar("R")
Token: TypeAlias = "str | Callable[[], str | Awaitable[str]] | None"  # noqa: S105 - a type


class Transport(Protocol):
    """The way to a node. ``HttpTransport`` is the one over a network.

    ``exchange`` raises ``Unreachable``, ``NeedsAuth``, ``Forbidden``, ``IdentityBroken``,
    ``HistoryBroken``, ``ProtocolMismatch`` or ``ServerRefused``.
    """

    async def exchange(self, body: bytes, token: str) -> Reply: ...

    def hints(self, hello: Hello, kind: Kind, heartbeat_s: float) -> AsyncGenerator[Hint, None]: ...

    async def close(self) -> None: ...


ADOPT_BELOW = 500
"""Older documents are queued while fewer entries than this wait."""


class Rounds:
    """Exchanges for the synced tables of one database. Used from one event loop at a time.

    pushed, pulled, requests: changes settled, rows received, requests made. blocked: entries that
    could not be sent when last looked (held, behind a held one, or unknown to the server).
    """

    def __init__(
        self,
        perform: Perform,
        tables: Mapping[str, Table[Any]],
        url: str,
        token: Token,
        tell: Callable[[Event], None],
        on_reset: OnReset = "recover",
        path: str = ":memory:",
        net: Transport | None = None,
        make_id: Callable[[], str] = new_id,
        backend: Backend | None = None,
    ) -> None:
        self._perform = perform
        self.tables = tables
        self.url = url
        self.backend = backend
        self.token = token
        self.tell = tell
        self.declared = {
            name: table.collection.sync.policy
            for name, table in tables.items()
            if table.collection.sync
        }
        self.pushed = self.pulled = self.requests = 0
        self.blocked = 0
        self.server_offset_ms: int | None = None
        self.sums: Mapping[str, Mapping[int, str]] = {}
        """Of the last cut (``transport.comparing``)."""
        self.meter = Meter()
        self.seen: Seen | None = None
        """Transactions that the last cut of this program held."""
        self._given: str | None = None
        self._net = net
        self._resets = 0
        """How often in a row the file began anew without an answer in between."""
        self._busy = asyncio.Lock()
        self.recovery = Recovery(self.run, tables, path, on_reset, tell, make_id, now_ms)

    @property
    def renewable(self) -> bool:
        """Can another token be had?"""
        return callable(self.token)

    def forget_token(self) -> None:
        """Ask for a new one before the next exchange."""
        self._given = None

    @property
    def net(self) -> Transport:
        if self._net is None:
            backend = self.backend
            self._net = (
                transport_to(self.url, self.meter) if backend is None else BackendTransport(backend)
            )
        return self._net

    def reopen(self) -> None:
        """Called by a new event loop: nothing of the last one is used again."""
        self._net = None
        self._busy = asyncio.Lock()

    async def close(self) -> None:
        net, self._net = self._net, None
        if net is not None:
            await net.close()

    async def run(self, plan: Plan[R]) -> R:
        result: R = await self._perform(Operation(plan, "write"))
        return result

    async def read(self, plan: Plan[R]) -> R:
        result: R = await self._perform(Operation(plan, "read"))
        return result

    async def hello(self, since: str | None = None) -> Hello:
        """What begins a live stream. since: the ``id`` of the last message there was."""
        client: str | None = await self.read(_meta(META_CLIENT))
        return Hello(PROTOCOL, await self._fresh_token(), client or "", sorted(self.tables), since)

    async def check_unknown(self) -> None:
        """Raise ``UnknownRemoteCollection`` when changes wait for what the server has not."""
        unknown: str | None = await self.read(_meta(META_UNKNOWN))
        names = msgspec.json.decode(unknown or "[]", type=list[str])
        waiting = [name for name in names if await self.read(_count(name))]
        if waiting:
            raise UnknownRemoteCollection(
                f"The server does not know {', '.join(waiting)}; all else is done.",
                collections=waiting,
            )

    async def state(self) -> QueueState:
        return read_state(await self.read(_meta(META_OUTBOX)))

    async def roll_back_late(self) -> None:
        """Optimistic updates that nobody committed in time, of whatever program."""
        until_ms = (await self.read(open_layers())).until_ms
        if until_ms is not None and until_ms <= now_ms():
            for event in (await self.run(expire(self.tables))).events:
                self.tell(event)

    def alone(self) -> asyncio.Lock:
        """Held while an exchange runs: nothing else may move the file's place with the server."""
        return self._busy

    async def exchange(
        self,
        *,
        pull: bool,
        verify: Sequence[str] = (),
        repair: Mapping[str, list[int]] | None = None,
    ) -> bool:
        """Send and fetch once → is everything done? One at a time."""
        async with self._busy:
            await self.roll_back_late()
            state = await self.state()
            if state.adopting and state.queued < ADOPT_BELOW:
                await self.run(adopt_chunk(self.tables))
            question = await self.run(ask(self.tables, self.declared, verify=verify, repair=repair))
            self.blocked = (await self.state()).queued if question.number is None else 0
            if question.number is None and question.asked.position is None and not pull:
                return True
            token = await self._fresh_token()
            identity = identity_of(token)
            bound = await self.read(check_binding(*(identity or (None, None))))
            self.requests += 1
            sent_ms = now_ms()
            try:
                reply = await self.net.exchange(question.body, token)
            except (HistoryBroken, IdentityBroken) as error:
                self.seen = None
                await self.recovery.begin(question.asked.client, error)
                self._resets += 1
                if self._resets > 1:
                    # Begun anew, and refused again: that would go on for ever, without a pause.
                    raise Unreachable(f"The server keeps refusing what it gave: {error}") from error
                return False
            if identity is not None and not bound:
                await self.run(bind(*identity, self.url))
            self.server_offset_ms = reply.now_ms - (sent_ms + now_ms()) // 2
            self._resets = 0
            received = await self.run(receive(reply, question.asked, self.tables))
            for event in received.events:
                self.tell(event)
            if received.kind == "identity":
                self.seen = None
                twin = IdentityBroken("Another copy of this file has synced.")
                await self.recovery.begin(question.asked.client, twin)
                return False
            if received.kind == "applied":
                await self.recovery.applied()
                self.sums, self.seen = reply.sums, reply.seen
            self.pushed += received.committed
            if received.kind in ("staged", "applied"):
                # What was staged is not received again when it is shown.
                self.pulled += len(reply.rows)
            return await self._done(received, question)

    async def _done(self, received: Received, question: Question) -> bool:
        if received.news:
            return False
        if question.asked.position is not None:
            return False  # while a cut came in page by page, nothing was sent
        if received.kind == "applied" and received.retried and not received.applied:
            raise Unreachable("The server puts these changes off; they are sent again.")
        sent = question.number is not None
        if sent and received.kind == "applied" and not received.answered:
            raise Unreachable("The server does not answer the changes; they are sent again.")
        return received.kind == "applied" and not sent and not (await self.state()).adopting

    async def _fresh_token(self) -> str:
        if not callable(self.token):
            return self.token or ""
        if self._given is None:
            try:
                given: Any = await aside(plain(self.token))
                if inspect.isawaitable(given):
                    given = await given
            except Exception as error:  # the user's function: no network, a locked keychain …
                raise NeedsAuth(f"token() raised {type(error).__name__}: {error}.") from error
            if not isinstance(given, str) or not given:
                # Its type, not its text: that may be a secret.
                gave = "an empty text" if given == "" else f"a {type(given).__name__}"
                gave = "None" if given is None else gave
                raise NeedsAuth(f"token() returned {gave}, which is no token.")
            self._given = given
        return self._given


def _meta(name: str) -> Plan[str | None]:
    return (yield Meta(name))  # type: ignore[no-any-return]


def _count(collection: str) -> Plan[int]:
    where = Compare("collection", "==", collection)
    return (yield Count(OUTBOX, EMPTY.and_where(where)))  # type: ignore[no-any-return]


def now_ms() -> int:
    return time.time_ns() // 1_000_000
