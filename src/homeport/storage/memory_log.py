"""Reading the log of changes of the store in memory, and what changes by the clock alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from homeport.core.keys import Key, decode, encode
from homeport.core.requests import Changes, ChangeSet

if TYPE_CHECKING:
    from homeport.storage.memory import MemoryStore


def read_changes(store: MemoryStore, request: Changes) -> ChangeSet:
    """Answers ``Changes``."""
    keys = {} if request.after is None else _logged(store, request.after, request)
    now = store.clock_ms()
    if request.since_ms is not None and request.since_ms > now:
        keys = None  # the clock was set back: what had expired is there again
    ends: list[int] = []
    for table in request.tables:
        expiring = table.collection.expiring
        for encoded, row in store.rows[table.name].items() if expiring else ():
            expires_ms = row.info.expires_ms
            if expires_ms is None:
                continue
            if expires_ms > now:
                ends.append(expires_ms)
            elif keys is not None and expires_ms > (request.since_ms or now):
                keys.setdefault(table.name, {})[encoded] = decode(encoded)
    listed = None if keys is None else {name: list(found.values()) for name, found in keys.items()}
    return ChangeSet(store.head, listed, now, min(ends, default=None))


def _logged(store: MemoryStore, after: int, request: Changes) -> dict[str, dict[Any, Key]] | None:
    """Keys by table and storable form; None when the log does not say."""
    first = store.log[0][0] if store.log else store.head + 1
    if first > after + 1 or after > store.head:
        return None
    names = {table.name for table in request.tables}
    keys: dict[str, dict[Any, Key]] = {}
    for _, body in store.log[max(0, after + 1 - first) :]:
        for name, changed in body.items():
            if name not in names:
                continue
            if changed is None:
                return None
            keys.setdefault(name, {}).update((encode(key), key) for key in changed)
    return keys
