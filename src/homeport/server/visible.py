"""The only code that selects bodies for a device: current rows, through the user's scope.

Both functions read in the caller's transaction, so every row of a page is of one snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .database import Connection
from .rules import Scope

# Read by key: whoever asks for a key that is not in his buckets (any more) gets nothing.
# The limit keeps the planner at one look into the primary key for each key (see ``push``).
_BY_KEY = """
select d.collection, d.key, d.token, d.bucket, d.body, d.schema
from unnest($2::text[], $3::text[]) as k(collection, key)
cross join lateral (
    select d.collection, d.key, d.version::text as token, d.bucket, d.body, d.schema
    from homeport.documents d
    where d.tenant = $1 and d.collection = k.collection and d.key = k.key
    limit 1
) d
join unnest($4::text[], $5::text[]) as s(collection, bucket)
  on s.collection = d.collection and s.bucket = d.bucket
"""

_BY_BUCKET = """
select d.collection, d.key, d.version::text as token, d.bucket, d.body, d.schema
from homeport.documents d
where d.tenant = $1 and d.collection = $2 and d.bucket = $3 and d.key > $4
order by d.key limit $5
"""

_SLOT = "get_byte(sha256(convert_to(d.key, 'UTF8')), 0)"

_BY_SLOT = f"""
select d.collection, d.key, d.version::text as token, d.bucket, d.body, d.schema
from homeport.documents d
where d.tenant = $1 and d.collection = $2 and d.bucket = any ($3) and {_SLOT} = any ($4::int[])
"""

_SUMS = f"""
select {_SLOT} as slot,
    sum(('x' || left(md5(d.key || E'\\n' || d.version::text), 15))::bit(60)::bigint)::text as total
from homeport.documents d
where d.tenant = $1 and d.collection = $2 and d.bucket = any ($3)
group by 1
"""

_FIRST_OF_BUCKET = _BY_BUCKET.replace(" and d.key > $4", "").replace("$5", "$4")


def pairs(scope: Mapping[str, frozenset[str]]) -> tuple[list[str], list[str]]:
    """A scope as two arrays for SQL."""
    flat = [(name, bucket) for name, buckets in scope.items() for bucket in buckets]
    return [name for name, _ in flat], [bucket for _, bucket in flat]


async def visible_rows(
    connection: Connection, tenant: str, scope: Scope, keys: Sequence[tuple[str, str]]
) -> list[Any]:
    """Current rows of ``keys`` (collection, key) that lie in ``scope``, in no order."""
    names, buckets = pairs(scope)
    return await connection.fetch(
        _BY_KEY, tenant, [name for name, _ in keys], [key for _, key in keys], names, buckets
    )


async def visible_slots(
    connection: Connection, tenant: str, scope: Scope, name: str, slots: Sequence[int]
) -> list[Any]:
    """Current rows of one collection in some slots (see ``core.verify``), through the scope."""
    return await connection.fetch(
        _BY_SLOT, tenant, name, sorted(scope.get(name, frozenset())), list(slots)
    )


async def visible_sums(
    connection: Connection, tenant: str, scope: Scope, name: str
) -> dict[int, str]:
    """Slot → sum over the versions that the user sees."""
    buckets = sorted(scope.get(name, frozenset()))
    found = await connection.fetch(_SUMS, tenant, name, buckets)
    return {row["slot"]: row["total"] for row in found}


async def visible_page(
    connection: Connection,
    tenant: str,
    scope: Scope,
    place: tuple[str, str],
    *,
    after: str | None,
    limit: int,
) -> list[Any]:
    """Up to ``limit`` rows of ``place`` (collection, bucket) behind the key ``after``, in order."""
    collection, bucket = place
    if bucket not in scope.get(collection, frozenset()):
        return []
    if after is None:
        return await connection.fetch(_FIRST_OF_BUCKET, tenant, collection, bucket, limit)
    return await connection.fetch(_BY_BUCKET, tenant, collection, bucket, after, limit)
