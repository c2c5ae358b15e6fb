"""Homeport's tables in PostgreSQL: installed idempotently, checked at every start.

``documents`` is an ordinary table: any program may write it by plain SQL. Statement-level triggers
note the keys (never the content) in ``change_log``, so that every write reaches the devices;
a row trigger keeps ``version`` = the transaction of the last write. ``truncate`` has no rows to
note: it raises the generation of every collection, which has them sent anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from homeport.core.wire import RESOLUTIONS, UniqueIndex
from homeport.errors import DuplicateValues, ServerError

from .database import Connection, connect
from .rules import ServerCollection, write_specs
from .unique import DDL as UNIQUE_DDL
from .unique import drop_others, keep_unique

SCHEMA_VERSION = 5
_LOCK = 7_305_808_868_231_942  # any constant of our own: "homeport" on a telephone, roughly

_DDL = """
create schema if not exists homeport;

create table if not exists homeport.settings (
    name text primary key,
    value text not null
);

create table if not exists homeport.collections (
    name text collate "C" primary key,
    generation bigint not null default 1,
    policy text not null,
    deletes text not null default 'delete-wins',
    fields text not null default '{}'
);

create table if not exists homeport.documents (
    tenant text collate "C" not null,
    collection text collate "C" not null,
    key text collate "C" not null,
    version xid8 not null default pg_current_xact_id(),
    bucket text collate "C" not null default '',
    schema integer not null default 1,
    -- json, not jsonb: numbers and the order of keys come back byte for byte.
    body json not null check (json_typeof(body) = 'object'),
    primary key (tenant, collection, key)
);
create index if not exists documents_by_bucket
    on homeport.documents (tenant, collection, bucket, key);

create table if not exists homeport.change_log (
    tenant text collate "C" not null,
    xid xid8 not null default pg_current_xact_id(),
    seq bigint not null generated always as identity,
    collection text collate "C" not null,
    op "char" not null,
    key text collate "C" not null,
    bucket text collate "C" not null,
    primary key (tenant, xid, seq)
);
create index if not exists change_log_by_xid on homeport.change_log (xid);

create table if not exists homeport.clients (
    tenant text not null,
    subject text not null,
    client text not null,
    number bigint not null default 0,
    hash text not null default '',
    answer text,
    retired boolean not null default false,
    seen timestamptz not null default now(),
    primary key (tenant, subject, client)
);

create table if not exists homeport.markers (
    nonce uuid primary key,
    made timestamptz not null default now()
);

-- Snapshots taken now and then; the newest one older than the retention becomes the horizon.
create table if not exists homeport.checkpoints (
    made timestamptz primary key default clock_timestamp(),
    snapshot pg_snapshot not null default pg_current_snapshot()
);
create table if not exists homeport.horizon (
    one boolean primary key default true check (one),
    snapshot pg_snapshot not null,
    made timestamptz not null
);

create or replace function homeport.set_version() returns trigger
language plpgsql as $$
begin
    new.version := pg_catalog.pg_current_xact_id();
    return new;
end $$;

create or replace function homeport.log_insert() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    insert into homeport.change_log (tenant, collection, op, key, bucket)
    select tenant, collection, 'u', key, bucket from new_rows;
    return null;
end $$;

create or replace function homeport.log_update() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    insert into homeport.change_log (tenant, collection, op, key, bucket)
    select tenant, collection, 'u', key, bucket from new_rows
    union all
    -- A row that leaves a bucket (or its key) is a delete for those who see that bucket only.
    (select tenant, collection, 'd', key, bucket from old_rows
     except
     select tenant, collection, 'd', key, bucket from new_rows);
    return null;
end $$;

create or replace function homeport.log_delete() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    insert into homeport.change_log (tenant, collection, op, key, bucket)
    select tenant, collection, 'd', key, bucket from old_rows;
    return null;
end $$;

create or replace function homeport.log_truncate() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    update homeport.collections set generation = generation + 1;
    return null;
end $$;

create or replace trigger homeport_version before insert or update on homeport.documents
    for each row when (new.version is distinct from pg_current_xact_id())
    execute function homeport.set_version();
create or replace trigger homeport_log_insert after insert on homeport.documents
    referencing new table as new_rows for each statement execute function homeport.log_insert();
create or replace trigger homeport_log_update after update on homeport.documents
    referencing old table as old_rows new table as new_rows
    for each statement execute function homeport.log_update();
create or replace trigger homeport_log_delete after delete on homeport.documents
    referencing old table as old_rows for each statement execute function homeport.log_delete();
create or replace trigger homeport_log_truncate after truncate on homeport.documents
    for each statement execute function homeport.log_truncate();
"""

_UPGRADES = {
    1: "alter table homeport.collections add column if not exists fields text"
    " not null default '{}'",
    2: "alter table homeport.clients add column if not exists retired boolean"
    " not null default false",
    3: UNIQUE_DDL,
    4: "alter table homeport.documents add column if not exists schema integer not null default 1",
}
"""What leads from an older version of the schema to the next."""

_RESTORED = """
select exists (select from homeport.change_log
               where xid >= pg_snapshot_xmax(pg_current_snapshot()))
    or coalesce((select value::xid8 >= pg_snapshot_xmax(pg_current_snapshot())
                 from homeport.settings where name = 'highest_xid'), false)
"""


async def install(
    connection: Connection, collections: Iterable[ServerCollection] | None = None
) -> None:
    """Create what is missing and record the declared collections; None = development mode, where
    nothing is taken away.

    Raises:
        ServerError: a newer Homeport made the schema, or this server is a standby.
        DuplicateValues: documents break a unique index that is declared; nothing was changed.
    """
    declared_here = list(collections or ())
    await refuse_standby(connection)
    await connection.execute("begin")
    await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
    version = None
    if await connection.fetchval("select to_regclass('homeport.settings') is not null"):
        version = await connection.fetchval(
            "select value::int from homeport.settings where name = 'schema_version'"
        )
    if version is not None and version > SCHEMA_VERSION:
        await connection.execute("rollback")
        raise ServerError(
            f"The database has schema version {version}; this node knows {SCHEMA_VERSION}.",
            action="Upgrade homeport on this node.",
        )
    if version is None:
        await connection.execute(_DDL + UNIQUE_DDL)
        await connection.execute(
            "insert into homeport.settings values ('schema_version', $1)"
            " on conflict (name) do update set value = excluded.value",
            str(SCHEMA_VERSION),
        )
    for older in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
        await connection.execute(_UPGRADES[older])
        await connection.execute(
            "update homeport.settings set value = $1 where name = 'schema_version'", str(older + 1)
        )
    for declared in (ServerCollection(RESOLUTIONS, policy="last-write-wins"), *declared_here):
        await connection.execute(
            "insert into homeport.collections as c (name, policy, deletes, fields)"
            " values ($1, $2, $3, $4)"
            " on conflict (name) do update set policy = excluded.policy,"
            " deletes = excluded.deletes, fields = excluded.fields"
            " where (c.policy, c.deletes, c.fields)"
            " is distinct from (excluded.policy, excluded.deletes, excluded.fields)",
            declared.name,
            declared.policy,
            declared.deletes,
            write_specs({path: kind.spec for path, kind in declared.types.items()}),
        )
    if collections is not None:
        await drop_others(connection, [declared.name for declared in declared_here])
        for declared in declared_here:
            await keep_unique(connection, declared.name, declared.unique_indexes, drop=True)
    await connection.execute("commit")


async def adopt_unique(
    connection: Connection, collection: str, indexes: Iterable[UniqueIndex]
) -> list[DuplicateValues]:
    """Development mode: keep the unique indexes that a device declares → why it cannot keep some.

    Nothing is taken away: an older program may still count on it.
    """
    broken: list[DuplicateValues] = []
    for index in indexes:
        await connection.execute("begin")
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
        try:
            await keep_unique(connection, collection, [index], drop=False)
        except DuplicateValues as error:
            broken.append(error)
        await connection.execute("commit")
    return broken


async def refuse_standby(connection: Connection) -> None:
    """A standby's snapshot lists no open transactions: cursors from it would lose rows."""
    if await connection.fetchval("select pg_is_in_recovery()"):
        raise ServerError(
            "This PostgreSQL is a standby (in recovery); cuts come from the primary only.",
            action="Point the node at the primary.",
        )


async def check_history(connection: Connection) -> None:
    """Refuse a restored dump: its transaction ids lie above those of this server.

    Raises:
        ServerError: with the way out.
    """
    await refuse_standby(connection)
    if await connection.fetchval(_RESTORED):
        raise ServerError(
            "This database is a restored dump: its change log names transactions that this "
            "server has not reached.",
            action="Run once: homeport rebase-log --postgres DSN",
        )
    await connection.execute(
        "insert into homeport.settings values ('highest_xid', pg_current_xact_id()::text)"
        " on conflict (name) do update set value = excluded.value"
    )


async def rebase_log(dsn: str) -> int:
    """Make a restored dump usable; returns the number of documents given a new version.

    Log, cursors and checkpoints are dropped, so every device fetches everything again and keeps
    its queued writes. Versions above this server's counter are replaced: they would be issued
    a second time.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot be reached.
        ServerError: it is a standby.
    """
    connection = await connect(dsn)
    try:
        await refuse_standby(connection)
        await connection.execute("set statement_timeout = 0")
        await connection.execute("begin")
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
        done = await connection.execute(
            "update homeport.documents set version = pg_current_xact_id()"
            " where version >= pg_snapshot_xmax(pg_current_snapshot())"
        )
        await connection.execute(
            "truncate homeport.change_log, homeport.markers, homeport.checkpoints, homeport.horizon"
        )
        await connection.execute("update homeport.collections set generation = generation + 1")
        await connection.execute("delete from homeport.settings where name = 'highest_xid'")
        await connection.execute("commit")
    finally:
        connection.terminate()
    return int(done.split()[-1])
