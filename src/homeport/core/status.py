"""What replication says of itself."""

from __future__ import annotations

import msgspec


class Traffic(msgspec.Struct, frozen=True):
    """Bytes of one database since the program started.

    Attributes:
        sent_bytes, received_bytes: on the wire: exchanges and live streams with all heads and
            encryption, without what TCP and IP put around them.
        packed_sent_bytes, packed_received_bytes: bodies of exchanges, as they travel.
        body_sent_bytes, body_received_bytes: the same before they were packed.
    """

    sent_bytes: int = 0
    received_bytes: int = 0
    packed_sent_bytes: int = 0
    packed_received_bytes: int = 0
    body_sent_bytes: int = 0
    body_received_bytes: int = 0

    @property
    def saved_bytes(self) -> int:
        """What packing saved."""
        packed = self.packed_sent_bytes + self.packed_received_bytes
        return self.body_sent_bytes + self.body_received_bytes - packed


class SyncStatus(msgspec.Struct, frozen=True):
    """What replication is doing. Times ``_ms`` are ms since 1970 by this device's clock.

    Attributes:
        state: ``off`` (not started), ``idle`` (connected and done), ``syncing``, ``offline`` (waits
            for the next attempt), ``needs-auth``, ``wrong-user``, ``forbidden``, ``incompatible``,
            ``refused``, ``standby`` (another process syncs this file), ``paused``,
            ``needs-recovery`` (``on_reset="manual"``: call ``recover()``).
        queued: changes that wait for the server, conflicts of a person included.
        oldest_s: age of the oldest of them.
        in_flight: a batch was sent and is not answered.
        last_error: of the last attempt; None when it succeeded.
        next_attempt_s: pause until the next attempt, in ``standby`` of who syncs; None when the
            last one succeeded, or none is planned.
        lag_s: time since the last complete exchange.
        clock_offset_ms: the server's clock minus this one; shown only, nothing depends on it.
        conflicts, dead: what waits for a person.
        stream: the kind of live stream that hints come by: ``websocket``, ``sse``, ``long-poll``,
            or ``backend`` (the watch of another back end); None = none is open, and only the timer
            asks for news.
        traffic: bytes since the program started (none are counted for another back end).
        integrity: violations of unique indexes and models by rows of the server; nothing waits
            for them (``integrity()`` lists them).
        rows, total: of a large cut that is being fetched, else None.
        pushed, pulled, requests: changes and rows since the program started, and the requests they
            took; ``pushed + pulled - requests`` calls were saved by batching.
        optimistic: optimistic updates that wait for ``commit()`` or ``rollback()``; their changes
            are counted in ``queued`` and not sent.
        unknown: collections that the server does not have; their changes stay queued.
    """

    state: str
    queued: int
    oldest_s: float | None
    in_flight: bool
    last_attempt_ms: int | None
    last_success_ms: int | None
    last_error: str | None
    next_attempt_s: float | None
    lag_s: float | None
    clock_offset_ms: int | None
    conflicts: int
    dead: int
    rows: int | None
    total: int | None
    pushed: int
    pulled: int
    requests: int
    unknown: list[str] = []
    integrity: int = 0
    optimistic: int = 0
    stream: str | None = None
    traffic: Traffic = Traffic()

    @property
    def calls_saved(self) -> int:
        """Calls that batching saved, compared with one call per change."""
        return max(0, self.pushed + self.pulled - self.requests)
