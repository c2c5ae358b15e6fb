"""The reference: what a very good engineer writes by hand on apsw for exactly this data.

One connection, one kept cursor, constant SQL (so the statement cache always hits), real columns for
the three indexes, the document as JSON text by the same msgspec, and the same pragmas as Homeport's
store. It knows its table, its columns and its types; it checks nothing, and has no other use.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode

SCHEMA = (
    "create table if not exists cities("
    "id text primary key not null, pop int, country text, admin1 text, name text, doc text)",
    "create index if not exists cities_pop on cities(pop)",
    "create index if not exists cities_area on cities(country, admin1)",
    "create index if not exists cities_name on cities(name)",
    "create table if not exists changes(n integer primary key, at int, body text)",
)
PUT = (
    "insert into cities(id, pop, country, admin1, name, doc) values(?, ?, ?, ?, ?, ?) "
    "on conflict(id) do update set pop = excluded.pop, country = excluded.country, "
    "admin1 = excluded.admin1, name = excluded.name, doc = excluded.doc"
)
LOG = "insert into changes(at, body) values(?, ?)"
GET = "select doc from cities where id = ?"
# Keeps the order asked for and gives null for a missing key, as get_many does.
GET_MANY = "select t.doc from json_each(?) j left join cities t on t.id = j.value"
BETWEEN = "select doc from cities where pop between ? and ?"
COMPOUND = "select doc from cities where country = ? and admin1 = ?"
ORDER = "select doc from cities where pop > ? order by pop limit 50"
COUNT = "select count(*) from cities where pop between ? and ?"


def _row(city: dict[str, Any]) -> tuple[Any, ...]:
    return (
        city["id"],
        city["pop"],
        city["country"],
        city["admin1"],
        city["name"],
        encode(city).decode(),
    )


class Raw:
    """The city table of one file."""

    def __init__(self, path: str, durability: str, pragmas: dict[str, int]) -> None:
        self._connection = apsw.Connection(path)
        self._connection.set_busy_timeout(5000)
        self._execute = self._connection.cursor().execute
        self._executemany = self._connection.cursor().executemany
        # One pragma per call: apsw stops a string of several at the first row.
        self._execute("pragma journal_mode = wal").get
        self._execute(f"pragma synchronous = {'full' if durability == 'full' else 'normal'}").get
        for name, value in pragmas.items():
            self._execute(f"pragma {name} = {value}").get
        for statement in SCHEMA:
            self._execute(statement)

    def get(self, key: str) -> Any:
        text = self._execute(GET, (key,)).get
        return None if text is None else decode(text)

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        found = self._execute(GET_MANY, (encode(keys).decode(),))
        return [None if text is None else decode(text) for (text,) in found]

    def between(self, bounds: tuple[int, int]) -> list[Any]:
        return [decode(text) for (text,) in self._execute(BETWEEN, bounds)]

    def compound(self, area: tuple[str, str]) -> list[Any]:
        return [decode(text) for (text,) in self._execute(COMPOUND, area)]

    def ordered(self, above: int) -> list[Any]:
        return [decode(text) for (text,) in self._execute(ORDER, (above,))]

    def count(self, bounds: tuple[int, int]) -> int:
        return self._execute(COUNT, bounds).get

    def put(self, city: dict[str, Any]) -> None:
        self._execute(PUT, _row(city))

    def put_logged(self, city: dict[str, Any]) -> None:
        """The same, and the change row in the same transaction."""
        execute = self._execute
        execute("begin immediate")
        try:
            execute(PUT, _row(city))
            execute(LOG, (time.time_ns() // 1_000_000, encode({"cities": [city["id"]]}).decode()))
        except BaseException:
            execute("rollback")
            raise
        execute("commit")

    def put_many(self, cities: Sequence[dict[str, Any]]) -> None:
        self.write([_row(city) for city in cities])

    def write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows made already (by the pull of the bench), in one transaction."""
        self._execute("begin immediate")
        try:
            self._executemany(PUT, rows)
        except BaseException:
            self._execute("rollback")
            raise
        self._execute("commit")

    def put_many_logged(self, cities: Sequence[dict[str, Any]]) -> None:
        self._execute("begin immediate")
        try:
            self._executemany(PUT, [_row(city) for city in cities])
            keys = encode({"cities": [city["id"] for city in cities]}).decode()
            self._execute(LOG, (time.time_ns() // 1_000_000, keys))
        except BaseException:
            self._execute("rollback")
            raise
        self._execute("commit")

    def texts(self) -> list[tuple[str, str]]:
        """(key, JSON text) of every city."""
        return self._execute("select id, doc from cities order by rowid").fetchall()

    def pragma(self, name: str) -> Any:
        return self._execute(f"pragma {name}").get

    def checkpoint(self) -> None:
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self) -> None:
        self._connection.close()
