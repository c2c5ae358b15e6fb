"""Unique indexes, checked by query: physically they are plain indexes, because a row from the
server must always find its place (rule G). What follows from the answers is ``core.uniqueness``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from homeport.core.keys import Encoded
from homeport.core.schema import Index
from homeport.core.uniqueness import Holders, Value
from homeport.storage.sql import Statements
from homeport.storage.sqlite_keys import json_list


def holders(execute: Callable[..., Any], statements: Statements, now: int) -> Holders:
    """The function that asks the file who holds which values of an index."""

    def ask(index: Index, values: Sequence[Value]) -> Iterable[tuple[Value, Encoded]]:
        rows = _stored(execute, statements, index, values, now)
        return [((*value,), key) for *value, key in rows]

    return ask


def _stored(
    execute: Callable[..., Any],
    statements: Statements,
    index: Index,
    wanted: Sequence[Value],
    now: int,
) -> list[Any]:
    """(value..., key) of the stored documents that hold one of the wanted values."""
    alive = " AND (t.expires IS NULL OR t.expires>?)" if statements.expiring else ""
    clock = (now,) if alive else ()
    if index.multi:
        columns = ["m.k"]
        source = f"{statements.multi_of[index.name]} m"
        owner = f" CROSS JOIN {statements.table} t ON t.seq=m.seq"
    else:
        columns = [f"t.{statements.column_of_index[path]}" for path in index.fields]
        source, owner = f"{statements.table} t", ""
    select = f"SELECT {', '.join(columns)}, t.id FROM "
    same = " AND ".join(f"{column}=?" for column in columns)
    one_by_one = f"{select}{source}{owner} WHERE {same}{alive}"
    if len(wanted) == 1:
        return execute(one_by_one, (*wanted[0], *clock)).fetchall()  # type: ignore[no-any-return]
    if len(columns) == 1:
        listed = json_list([value for (value,) in wanted])
        if listed is not None:
            joined = f"json_each(?) j CROSS JOIN {source} ON {columns[0]}=j.value{owner}"
            return execute(f"{select}{joined}{_where(alive)}", (listed, *clock)).fetchall()  # type: ignore[no-any-return]
    return [row for value in wanted for row in execute(one_by_one, (*value, *clock)).fetchall()]


def _where(alive: str) -> str:
    return f" WHERE {alive.removeprefix(' AND ')}" if alive else ""
