"""Reading the log of changes, and what changes by the clock alone."""

from __future__ import annotations

from typing import Any

import msgspec

from homeport.core.keys import Key, encode
from homeport.core.requests import Changes, ChangeSet
from homeport.storage import sql
from homeport.storage.sqlite_keys import public
from homeport.storage.sqlite_read import Reads


def read_changes(reads: Reads, request: Changes) -> ChangeSet:
    """Answers ``Changes``."""
    execute, after = reads.execute, request.after
    keys: dict[str, dict[Any, Key]] | None = {}
    rows = () if after is None else execute(sql.READ_CHANGES, (after,)).fetchall()
    if rows and after is not None:
        head, keys = rows[-1][0], _logged(rows, after, request)
    else:
        head = execute(sql.CHANGES_HEAD).get
        if after is not None and after > head:
            # A number beyond the head belongs to another file (a restored copy): start again.
            keys = None
    now, next_ms = reads.now(), None
    for table in request.tables:
        statements = reads.declared.statements[table.name]
        if not statements.expiring:
            continue
        ends = execute(statements.expires_next, (now,)).get
        if ends is not None and (next_ms is None or ends < next_ms):
            next_ms = ends
        if keys is None or request.since_ms is None:
            continue
        if request.since_ms > now:
            keys = None  # the clock was set back: what had expired is there again
            continue
        rows = execute(statements.expired_since, (request.since_ms, now)).fetchall()
        keys.setdefault(table.name, {}).update((key, public(key)) for (key,) in rows)
    if keys is None:
        return ChangeSet(head, None, now, next_ms)
    listed = {name: list(found.values()) for name, found in keys.items()}
    return ChangeSet(head, listed, now, next_ms)


def _logged(
    rows: list[tuple[int, str]], after: int, request: Changes
) -> dict[str, dict[Any, Key]] | None:
    """Keys by table and storable form; None when the log does not say."""
    if rows[0][0] != after + 1:
        return None
    names = {table.name for table in request.tables}
    keys: dict[str, dict[Any, Key]] = {}
    for _, body in rows:
        for name, changed in msgspec.json.decode(body).items():
            if name not in names:
                continue
            if changed is None:
                return None
            keys.setdefault(name, {}).update({encode(key): key for key in changed})
    return keys
