"""Small plans of the replication worker: lease, binding, back-off, and its view of the queue."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from homeport.core.layers import open_layers
from homeport.core.outbox import (
    CONFLICTS,
    DEAD,
    META_BINDING,
    META_CLIENT,
    META_CURSOR,
    META_IN_FLIGHT,
    META_LAST,
    META_LEASE,
    META_OUTBOX,
    META_RETRY,
    META_STAGED,
    META_UNKNOWN,
    OUTBOX,
    read_entry,
    read_state,
    write_json,
)
from homeport.core.query import EMPTY, Compare
from homeport.core.requests import Count, Find, Meta, Part, Plan, SetMeta, TxInfo, Write
from homeport.core.signs import sign
from homeport.core.staging import read_staged
from homeport.errors import WrongUser


class Lease(msgspec.Struct):
    """Which process syncs this file, and until when it need not be asked again (ms)."""

    owner: str
    until_ms: int


class Binding(msgspec.Struct):
    """Whose file this is. ``url`` is for reading only: a server may move."""

    tenant: str
    subject: str
    url: str = ""


class Retry(msgspec.Struct):
    failures: int = 0
    retry_at_ms: int | None = None


class LastSync(msgspec.Struct):
    """The last cut: when (clock of this device), and what the server's clock said."""

    at_ms: int
    server_ms: int


class QueueView(msgspec.Struct):
    """The queue, for a look from outside. oldest_ms: stamp of the oldest entry. in_flight: number
    of the frozen batch. optimistic: updates that are neither committed nor rolled back. rows,
    total: of a cut that is being fetched."""

    queued: int = 0
    oldest_ms: int | None = None
    in_flight: int | None = None
    conflicts: int = 0
    dead: int = 0
    held: int = 0
    unknown: list[str] = []
    rows: int | None = None
    total: int | None = None
    client: str | None = None
    cursor: str | None = None
    binding: Binding | None = None
    adopting: list[str] = []
    last: LastSync | None = None
    limit: int = 0
    optimistic: int = 0


class _Number(msgspec.Struct):
    number: int


_number = msgspec.json.Decoder(_Number)


def claim(owner: str, ttl_ms: int, is_dead: Callable[[str], bool]) -> Plan[bool]:
    """Take or renew the lease → whether this owner has it. A write operation.

    is_dead: whether the process of another owner is known to be gone; then its lease is void.

    A lease that ends further away than it could have been given was written by another clock.
    """
    tx: TxInfo = yield Meta("tx")
    text = yield Meta(META_LEASE)
    if text is not None:
        lease = msgspec.json.decode(text, type=Lease)
        alive = 0 < lease.until_ms - tx.stamp_ms <= ttl_ms
        if lease.owner != owner and alive and not is_dead(lease.owner):
            return False
    yield Write([SetMeta(META_LEASE, write_json(Lease(owner, tx.stamp_ms + ttl_ms)))])
    return True


def release(owner: str) -> Plan[None]:
    text = yield Meta(META_LEASE)
    if text is not None and msgspec.json.decode(text, type=Lease).owner == owner:
        yield Write([SetMeta(META_LEASE, None)])


def check_binding(tenant: str | None, subject: str | None) -> Plan[bool]:
    """May this user's token be used with this file? → whether the file is bound already.

    Raises ``WrongUser``.
    """
    text = yield Meta(META_BINDING)
    if text is None:
        return False
    binding = msgspec.json.decode(text, type=Binding)
    if subject is not None and (binding.tenant, binding.subject) != (tenant, subject):
        raise WrongUser(
            f"This file belongs to {binding.subject!r} of {binding.tenant!r}; the token is for "
            f"{subject!r} of {tenant!r}.",
            subject=binding.subject,
            tenant=binding.tenant,
        )
    return True


def bind(tenant: str, subject: str, url: str) -> Plan[None]:
    """The server has accepted this user's token: the file is theirs from now on."""
    if (yield Meta(META_BINDING)) is None:
        yield Write([SetMeta(META_BINDING, write_json(Binding(tenant, subject, url)))])


def load_retry() -> Plan[Retry]:
    text = yield Meta(META_RETRY)
    return Retry() if text is None else msgspec.json.decode(text, type=Retry)


def save_retry(retry: Retry) -> Plan[None]:
    value = write_json(retry) if retry.failures else None
    parts: list[Part] = [SetMeta(META_RETRY, value)]
    if ((yield Meta(META_RETRY)) is None) != (value is None):
        parts.append(sign("offline", value is not None))
    yield Write(parts)


def queue_mark() -> Plan[tuple[int, int, int]]:
    """(next id, entries, last frozen id): moves whenever the queue does."""
    state = read_state((yield Meta(META_OUTBOX)))
    return (state.next, state.queued, state.frozen)


def queue_view() -> Plan[QueueView]:
    """What ``status()`` and ``homeport inspect`` show. A read operation."""
    state = read_state((yield Meta(META_OUTBOX)))
    view = QueueView(queued=state.queued, adopting=state.adopting, limit=state.limit)
    if state.queued:
        first = yield Find(OUTBOX, EMPTY.with_order("id").with_limit(1), "texts")
        view.oldest_ms = read_entry(first[0]).at if first else None
    flying = yield Meta(META_IN_FLIGHT)
    if flying is not None:
        view.in_flight = _number.decode(flying).number
    view.conflicts = yield Count(CONFLICTS, EMPTY)
    view.dead = yield Count(DEAD, EMPTY)
    if view.conflicts:
        view.held = yield Count(OUTBOX, EMPTY.and_where(Compare("held", "==", True)))
    view.optimistic = (yield from open_layers()).open
    staged = read_staged((yield Meta(META_STAGED)))
    if staged is not None:
        view.rows, view.total = staged.rows, staged.total
    view.unknown = msgspec.json.decode((yield Meta(META_UNKNOWN)) or "[]", type=list[str])
    view.client = yield Meta(META_CLIENT)
    view.cursor = yield Meta(META_CURSOR)
    binding = yield Meta(META_BINDING)
    if binding is not None:
        view.binding = msgspec.json.decode(binding, type=Binding)
    last = yield Meta(META_LAST)
    if last is not None:
        view.last = msgspec.json.decode(last, type=LastSync)
    return view
