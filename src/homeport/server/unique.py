"""Declared unique indexes, kept by PostgreSQL across all devices, nodes and plain SQL.

Each index is a table of its own, (tenant, value) → key, with a unique constraint, filled by a
trigger on the documents. An expression index on the documents themselves would cost every update
of every collection its place in the page (HOT), could not hold one entry for each element of a
list, and could not wait until a unit has swapped two values: this constraint is deferred, and a
push has it checked before it answers.

Values are compared as devices compare them (``core.keys``): 1 equals 1.0, "1" and true do not; a
document without one of the fields, or with null or an object there, is not in the index.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from zlib import crc32

import msgspec

from homeport.core.indexes import Index
from homeport.core.keys import encode as encode_key
from homeport.core.paths import get_path
from homeport.core.wire import UniqueIndex
from homeport.errors import DuplicateValues, SchemaError

from .database import Connection

log = logging.getLogger("homeport.server.unique")

MOST_REPORTED: Final = 20
"""Duplicated values that an error lists."""
MOST_DECLARED: Final = 20
"""Unique indexes of a collection that a development node adopts."""
STRIPES: Final = 64
"""Locks for the values of an index: few enough for PostgreSQL's table of locks."""
_LONGEST_NAME: Final = 63  # of PostgreSQL's identifiers, in bytes

DDL: Final = """
create table if not exists homeport.unique_indexes (
    name text collate "C" primary key,
    collection text collate "C" not null,
    fields text[] not null,
    multi boolean not null
);

create or replace function homeport.index_part(value json) returns jsonb
language plpgsql immutable parallel safe as $$
declare
    parts jsonb := '[]';
    part jsonb;
    element json;
begin
    case json_typeof(value)
        when 'string', 'boolean' then
            return value::jsonb;
        when 'number' then
            -- As devices read it; beyond 2^53 whole numbers differ between engines.
            if value::text ~ '^-?[0-9]+$' and abs(value::text::numeric) > 9007199254740992 then
                return null;
            end if;
            return to_jsonb(value::text::float8 + 0);
        when 'array' then
            for element in select e from json_array_elements(value) with ordinality as a(e, n)
                           order by n
            loop
                part := homeport.index_part(element);
                if part is null then
                    return null;
                end if;
                parts := parts || jsonb_build_array(part);
            end loop;
            return parts;
        else
            return null;
    end case;
exception when data_exception then
    return null;  -- what no device can read has no value
end $$;

create or replace function homeport.index_entries(body json, fields text[], multi boolean)
returns setof jsonb language plpgsql immutable parallel safe as $$
declare
    head jsonb := '[]';
    part jsonb;
    last json;
begin
    last := body #> string_to_array(fields[cardinality(fields)], '.');
    for n in 1 .. cardinality(fields) - 1 loop
        part := homeport.index_part(body #> string_to_array(fields[n], '.'));
        if part is null then
            return;
        end if;
        head := head || jsonb_build_array(part);
    end loop;
    if not multi then
        part := homeport.index_part(last);
        if part is not null then
            return next head || jsonb_build_array(part);
        end if;
    elsif json_typeof(last) = 'array' then
        return query
            select distinct head || jsonb_build_array(p)
            from json_array_elements(last) as e, homeport.index_part(e) as p
            where p is not null;
    end if;
exception when data_exception then
    return;
end $$;
"""

_ENTRIES = "homeport.index_entries({row}.body, {fields}, {multi}) as entry"
_VALUE = "sha256(convert_to(entry::text, 'UTF8'))"

_INDEX = """
create table {table} (
    tenant text collate "C" not null,
    value bytea not null,
    key text collate "C" not null,
    constraint {constraint} unique (tenant, value) deferrable initially deferred
);

create function {table}() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    if tg_op = 'UPDATE' and new.body::text = old.body::text
        and (new.tenant, new.key, new.collection) = (old.tenant, old.key, old.collection)
    then
        return null;
    end if;
    if tg_op <> 'INSERT' and old.collection = {collection} then
        delete from {table} where tenant = old.tenant and key = old.key
            and value in (select {value} from {old});
    end if;
    if tg_op <> 'DELETE' and new.collection = {collection} then
        insert into {table} (tenant, value, key) select new.tenant, {value}, new.key from {new};
    end if;
    return null;
end $$;

create function {table}_truncate() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    truncate {table};
    return null;
end $$;

insert into {table} (tenant, value, key)
    select d.tenant, {value}, d.key from homeport.documents d, {there}
    where d.collection = {collection};

create trigger {name}_insert after insert on homeport.documents
    for each row when (new.collection = {collection}) execute function {table}();
create trigger {name}_update after update on homeport.documents
    for each row when (new.collection = {collection} or old.collection = {collection})
    execute function {table}();
create trigger {name}_delete after delete on homeport.documents
    for each row when (old.collection = {collection}) execute function {table}();
create trigger {name}_truncate after truncate on homeport.documents
    for each statement execute function {table}_truncate();
"""

_DUPLICATES = """
select d.tenant, entry::text as value, array_agg(d.key order by d.key) as keys
from homeport.documents d, {there}
where d.collection = {collection}
group by d.tenant, entry having count(*) > 1
order by d.tenant, entry limit {limit}
"""


def declared_unique(forms: Iterable[Any], what: str) -> tuple[UniqueIndex, ...]:
    """Field names, tuples of them or ``hp.Unique``, ``hp.Multi(..., unique=True)`` → indexes.

    Raises:
        SchemaError: it is none of these.
    """
    if isinstance(forms, (str, Index)) or not isinstance(forms, Iterable):
        raise SchemaError(f"{what}: unique= takes a list, for example unique=['name'].")
    made: dict[tuple[tuple[str, ...], bool], UniqueIndex] = {}
    for form in forms:
        index = form
        if isinstance(form, (str, tuple)):
            index = Index(*((form,) if isinstance(form, str) else form), unique=True)
        if not isinstance(index, Index) or not index.unique:
            raise SchemaError(
                f"{what}: unique= takes field names, tuples of them and unique indexes, "
                f"not {form!r:.60}."
            )
        made[index.fields, index.multi] = UniqueIndex(list(index.fields), index.multi)
    return tuple(made.values())


def usable(indexes: Sequence[UniqueIndex]) -> list[UniqueIndex]:
    """Of what a device declares, what PostgreSQL can be asked to keep."""
    return [
        index
        for index in indexes[:MOST_DECLARED]
        if 0 < len(index.fields) <= 16
        and all(0 < len(path) <= 400 and "\0" not in path for path in index.fields)
    ]


def name_of(collection: str, index: UniqueIndex) -> str:
    """Name of the table, the same on every node."""
    text = msgspec.json.encode([collection, index.fields, index.multi])
    return f"unique_{hashlib.sha256(text).hexdigest()[:16]}"


def constraint_of(collection: str, index: UniqueIndex) -> str:
    """What devices are told: ``wells (field, name)``."""
    plain = f"{collection} ({', '.join(index.fields)})"
    if len(plain.encode()) <= _LONGEST_NAME:
        return plain
    return f"{collection[:40]} {name_of(collection, index)[:20]}"


def stripes(
    tenant: str, bodies: Iterable[tuple[str, str]], kept: Mapping[str, Sequence[UniqueIndex]]
) -> set[int]:
    """Numbers of the locks to take before documents, given as (collection, text), are written.

    Without them, two pushes that bring the same values in another order would each wait for the
    other, and PostgreSQL needs a second to find out. The constraint does not depend on them.
    """
    found: set[int] = set()
    for collection, body in bodies:
        for index in kept.get(collection, ()):
            doc = msgspec.json.decode(body)
            *heads, last = [get_path(doc, path, None) for path in index.fields]
            values = last if index.multi and isinstance(last, list) else [last]
            place = f"{tenant}\n{collection}\n{index.fields}"
            for value in values:
                text = repr([encode_key([part]) for part in (*heads, value)])
                number = crc32(text.encode(errors="replace")) % STRIPES
                found.add((crc32(place.encode(errors="replace")) << 8) | number)
    return found


async def take(connection: Connection, numbers: Iterable[int]) -> None:
    """Take the locks of ``stripes``, in their order, until the end of the transaction."""
    await connection.execute(
        "select pg_advisory_xact_lock(n) from unnest($1::bigint[]) as u(n) order by n",
        sorted(numbers),
    )


async def keep_unique(
    connection: Connection, collection: str, indexes: Iterable[UniqueIndex], *, drop: bool
) -> None:
    """Make what is missing; with ``drop``, take away what is not declared any more. Inside a
    transaction that holds the lock of installations.

    Raises:
        DuplicateValues: documents have the same value already. The transaction can go on; indexes
            before this one are made.
    """
    wanted = {name_of(collection, index): index for index in indexes}
    rows = await connection.fetch(
        "select name from homeport.unique_indexes where collection = $1", collection
    )
    there = {row["name"] for row in rows}
    if drop:
        for name in sorted(there - set(wanted)):
            await _drop(connection, name)
    for name, index in wanted.items():
        if name not in there:
            await _make(connection, collection, name, index)


async def drop_others(connection: Connection, collections: Iterable[str]) -> None:
    """Take away the indexes of collections that are not served any more."""
    rows = await connection.fetch(
        "select name from homeport.unique_indexes where not collection = any ($1)",
        list(collections),
    )
    for row in rows:
        await _drop(connection, row["name"])


async def _make(connection: Connection, collection: str, name: str, index: UniqueIndex) -> None:
    fields = f"array[{', '.join(map(_literal, index.fields))}]::text[]"
    multi = "true" if index.multi else "false"

    def entries(row: str) -> str:
        return _ENTRIES.format(row=row, fields=fields, multi=multi)

    parts = {
        "name": name,
        "table": f"homeport.{name}",
        "constraint": '"' + constraint_of(collection, index).replace('"', '""') + '"',
        "collection": _literal(collection),
        "value": _VALUE,
        "old": entries("old"),
        "new": entries("new"),
        "there": entries("d"),
    }
    # A large collection takes its time; readers go on meanwhile, writers wait.
    await connection.execute("set local statement_timeout = 0; set local lock_timeout = 0")
    await connection.execute("lock table homeport.documents in share row exclusive mode")
    found = await connection.fetch(_DUPLICATES.format(limit=MOST_REPORTED, **parts))
    if found:
        raise _duplicates(collection, index, found)
    await connection.execute(_INDEX.format(**parts))
    await connection.execute(
        "insert into homeport.unique_indexes (name, collection, fields, multi)"
        " values ($1, $2, $3, $4)",
        name,
        collection,
        index.fields,
        index.multi,
    )
    log.info("unique index %s", constraint_of(collection, index))


async def _drop(connection: Connection, name: str) -> None:
    table = f"homeport.{name}"
    await connection.execute(
        f"drop function if exists {table}() cascade;"
        f" drop function if exists {table}_truncate() cascade; drop table if exists {table}"
    )
    await connection.execute("delete from homeport.unique_indexes where name = $1", name)


def _duplicates(collection: str, index: UniqueIndex, found: Sequence[Any]) -> DuplicateValues:
    fields = ", ".join(index.fields)
    duplicates: list[tuple[object, list[str]]] = []
    for row in found:
        value = msgspec.json.decode(row["value"])
        duplicates.append((value[0] if len(value) == 1 else value, list(row["keys"])))
    first = found[0]
    return DuplicateValues(
        f"{collection} cannot have a unique index on {fields}: in the tenant "
        f"{first['tenant']!r} the documents {', '.join(first['keys'][:5])} have the same value"
        + (f", and {len(found) - 1} more values are shared." if len(found) > 1 else "."),
        collection=collection,
        index=constraint_of(collection, index),
        duplicates=duplicates,
    )


def _literal(text: str) -> str:
    # It stands inside of a function's body, which the next dollar signs would end.
    quoted = text.replace("\\", "\\\\").replace("'", "''").replace("$", "\\x24")
    return f"'{quoted}'" if quoted == text else f" E'{quoted}'"
