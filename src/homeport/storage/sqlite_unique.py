"""Unique indexes, checked by query: physically they are plain indexes, because a row from the
server must always find its place (rule G)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from homeport.core.codec import Extras, Row
from homeport.core.keys import Encoded
from homeport.core.schema import Index
from homeport.errors import HomeportError, UniqueViolation
from homeport.storage.sql import Statements
from homeport.storage.sqlite_read import json_list, public

Value = tuple[Encoded, ...]


def refuse_duplicates(
    execute: Callable[..., Any],
    statements: Statements,
    rows: Sequence[Row],
    extras: Sequence[Extras] | None,
    failures: dict[int, HomeportError],
    now: int,
) -> None:
    """Add a failure for each row whose value another document holds at its turn.

    The rows are taken one after the other, as if each were written before the next is looked at. A
    document that holds its value already may keep it, even if the server has sent a twin.
    """
    checks = [_Check(execute, statements, index, rows, extras, now) for index in statements.unique]
    for n, row in enumerate(rows):
        if n in failures:
            continue
        key = row[0]
        clash = next(((c, other) for c in checks if (other := c.other(n, key)) is not None), None)
        if clash is None:
            for check in checks:
                check.accept(n, key)
            continue
        check, other = clash
        fields = ", ".join(check.index.fields)
        failures[n] = UniqueViolation(
            f"{statements.name}: {public(other)!r} has the same {fields} as {public(key)!r}, and "
            f"the index is unique.",
            collection=statements.name,
            index=check.index.name,
            key=public(key),
            other=public(other),
        )


class _Check:
    """Who holds which value of one unique index, as the rows are taken one after the other."""

    def __init__(
        self,
        execute: Callable[..., Any],
        statements: Statements,
        index: Index,
        rows: Sequence[Row],
        extras: Sequence[Extras] | None,
        now: int,
    ) -> None:
        self.index = index
        self.values: list[list[Value]] = _values(statements, index, rows, extras)
        self.holders: dict[Value, set[Encoded]] = {}
        self.held: dict[Encoded, set[Value]] = {}
        wanted = list({value: None for values in self.values for value in values})
        for *value, key in _stored(execute, statements, index, wanted, now):
            self._hold(tuple(value), key)

    def _hold(self, value: Value, key: Encoded) -> None:
        self.holders.setdefault(value, set()).add(key)
        self.held.setdefault(key, set()).add(value)

    def other(self, n: int, key: Encoded) -> Encoded | None:
        """Another document that holds a value of row n."""
        for value in self.values[n]:
            holders = self.holders.get(value)
            if holders and key not in holders:
                return next(iter(holders))
        return None

    def accept(self, n: int, key: Encoded) -> None:
        for value in self.held.pop(key, ()):
            self.holders[value].discard(key)
        for value in self.values[n]:
            self._hold(value, key)


def _values(
    statements: Statements, index: Index, rows: Sequence[Row], extras: Sequence[Extras] | None
) -> list[list[Value]]:
    """The values of each row in the index; a row without one of the fields has none."""
    if index.multi:
        assert extras is not None
        number = [one.name for one in statements.codec.multi].index(index.name)
        return [[(entry,) for entry in found[0][number]] for found in extras]
    places = [2 + statements.codec.columns.index(path) for path in index.fields]
    found = (tuple(row[place] for place in places) for row in rows)
    return [[] if None in value else [value] for value in found]


def _stored(
    execute: Callable[..., Any],
    statements: Statements,
    index: Index,
    wanted: list[Value],
    now: int,
) -> Iterable[Sequence[Any]]:
    """(value..., key) of the stored documents that hold one of the wanted values."""
    if not wanted:
        return ()
    alive = " AND (t.expires IS NULL OR t.expires>?)" if statements.ttl_ms is not None else ""
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
        rows: list[Any] = execute(one_by_one, (*wanted[0], *clock)).fetchall()
        return rows
    if len(columns) == 1:
        listed = json_list([value for (value,) in wanted])
        if listed is not None:
            joined = f"json_each(?) j CROSS JOIN {source} ON {columns[0]}=j.value{owner}"
            return execute(f"{select}{joined}{_where(alive)}", (listed, *clock)).fetchall()  # type: ignore[no-any-return]
    return [row for value in wanted for row in execute(one_by_one, (*value, *clock)).fetchall()]


def _where(alive: str) -> str:
    return f" WHERE {alive.removeprefix(' AND ')}" if alive else ""
