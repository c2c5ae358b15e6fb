"""What a handle says about its replication: the status, what breaks here, what was not sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homeport.core.exporting import unsent, waiting
from homeport.core.integrity import Broken, IntegrityConflict, list_integrity, prune
from homeport.core.status import SyncStatus
from homeport.core.worker import load_retry, queue_view
from homeport.errors import UsageError
from homeport.transport.exports import lines
from homeport.transport.rounds import now_ms

if TYPE_CHECKING:
    from homeport.transport.pump import Pump


async def status(pump: Pump) -> SyncStatus:
    """What it is doing; asks the database only."""
    rounds, session, now = pump.rounds, pump.session, now_ms()
    view = await rounds.read(queue_view())
    broken = await rounds.read(list_integrity(rounds.tables))
    success = session.last_success_ms
    if success is None and view.last is not None:
        success = view.last.at_ms
    state = session.state if session.state != "off" else pump.attempted or "off"
    retry_at_ms, waits = session.retry_at_ms, session.retry_at_ms is not None
    failures = session.failures
    if state == "standby":  # what the one has left that syncs
        retry = await rounds.read(load_retry())
        failures, retry_at_ms, waits = retry.failures, retry.retry_at_ms, True
    unknown = ", ".join(view.unknown)
    error = session.last_error
    if error is None and unknown:
        error = f"The server does not know {unknown}; their changes stay queued."
    return SyncStatus(
        state=state,
        queued=view.queued,
        oldest_s=None if view.oldest_ms is None else max(0, now - view.oldest_ms) / 1000,
        in_flight=view.in_flight is not None,
        last_attempt_ms=session.last_attempt_ms,
        last_success_ms=success,
        last_error=error,
        next_attempt_s=max(0, (retry_at_ms or 0) - now) / 1000 if waits and failures else None,
        lag_s=None if success is None else max(0, now - success) / 1000,
        clock_offset_ms=rounds.server_offset_ms,
        conflicts=view.conflicts,
        dead=view.dead,
        rows=view.rows,
        total=view.total,
        pushed=rounds.pushed,
        pulled=rounds.pulled,
        requests=rounds.requests,
        optimistic=view.optimistic,
        unknown=view.unknown,
        integrity=len(broken.conflicts),
        stream=pump.stream,
        traffic=rounds.meter.counted(),
    )


async def integrity(pump: Pump) -> list[IntegrityConflict]:
    """Documents that break what this device declares."""
    found: Broken = await pump.rounds.read(list_integrity(pump.rounds.tables))
    if found.over:
        await pump.rounds.run(prune(pump.rounds.tables))
    return found.conflicts


async def not_sent(pump: Pump) -> AsyncIterator[dict[str, Any]]:
    """Everything that has not reached the server, in short reads."""
    chunk: list[dict[str, Any]] = [{"id": 0}]
    while chunk := await pump.rounds.read(unsent(chunk[-1]["id"])):
        for each in chunk:
            yield each
    for each in await pump.rounds.read(waiting()):
        yield each


async def export(pump: Pump, path: str | Path, *, plaintext: bool) -> int:
    """Write ``not_sent`` to a file → how many lines. Raises ``CannotOpen``; ``UsageError`` for an
    encrypted database, unless that is meant."""
    if pump.rounds.recovery.encrypted and not plaintext:
        raise UsageError(
            "The database is encrypted, and what is exported would not be.",
            action="Say sync.export(path, plaintext=True) if you mean it.",
        )
    count = 0
    with lines(path) as write:
        async for record in not_sent(pump):
            write(record)
            count += 1
    return count
