"""The reference: what a very good engineer writes by hand on apsw for exactly this data.

One connection, one kept cursor, constant SQL (so the statement cache always hits), real columns for
the three indexes, the document as JSON text by the same msgspec, and the same pragmas as Homeport's
store. It knows its table, its columns and its types; it checks nothing, and has no other use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apsw
import msgspec

from bench.peers import sql
from bench.peers.base import CACHE_MB

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode

# What Homeport's store sets; the hand-written side gets the same, so that code is compared with
# code and not one checkpoint interval with another. (A test keeps the two equal: importing ours here
# would count it as memory of the reference.)
PRAGMAS = {"cache_size": -1024 * CACHE_MB, "wal_autocheckpoint": 8_000, "temp_store": 2}


def row(city: dict[str, Any]) -> tuple[Any, ...]:
    return (
        city["id"],
        city["pop"],
        city["country"],
        city["admin1"],
        city["name"],
        encode(city).decode(),
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Raw:
    """The city table of one file."""

    def __init__(self, path: str, durability: str, pragmas: dict[str, int]) -> None:
        self.connection = apsw.Connection(path)
        self.connection.set_busy_timeout(5000)
        self._execute = self.connection.cursor().execute
        self._executemany = self.connection.cursor().executemany
        # One pragma per call: apsw stops a string of several at the first row.
        self._execute("pragma journal_mode = wal").get
        self._execute(f"pragma synchronous = {'full' if durability == 'full' else 'normal'}").get
        for name, value in pragmas.items():
            self._execute(f"pragma {name} = {value}").get
        self._execute(sql.TABLE)
        self._execute(sql.CHANGES)
        self.create_indexes()

    def create_indexes(self) -> None:
        for name, columns in sql.INDEXES.items():
            self._execute(f"create index if not exists {name} on {columns}")

    def drop_indexes(self) -> None:
        for name in sql.INDEXES:
            self._execute(f"drop index if exists {name}")

    # reads

    def get(self, key: str) -> Any:
        text = self._execute(sql.GET, (key,)).get
        return None if text is None else decode(text)

    def by_rowid(self, rowid: int) -> Any:
        return decode(self._execute("select doc from cities where rowid = ?", (rowid,)).get)

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        found = self._execute(sql.GET_MANY, (encode(keys).decode(),))
        return [None if text is None else decode(text) for (text,) in found]

    def equal(self, name: str) -> list[Any]:
        return [decode(text) for (text,) in self._execute(sql.EQUAL, (name,))]

    def between(self, bounds: tuple[int, int]) -> list[Any]:
        return [decode(text) for (text,) in self._execute(sql.BETWEEN, bounds)]

    def compound(self, area: tuple[str, str]) -> list[Any]:
        return [decode(text) for (text,) in self._execute(sql.COMPOUND, area)]

    def ordered(self, above: int) -> list[Any]:
        return [decode(text) for (text,) in self._execute(sql.ORDER, (above,))]

    def count(self, bounds: tuple[int, int]) -> int:
        return self._execute(sql.COUNT, bounds).get

    def all(self) -> Iterator[Any]:
        for (text,) in self._execute(sql.ALL):
            yield decode(text)

    def text(self, word: str) -> list[Any]:
        return [{"id": key, "text": text} for key, text in self._execute(sql.TEXT, (word,))]

    def search(self, word: str) -> list[Any]:
        return [{"id": key, "text": text} for key, text in self._execute(sql.SEARCH, (word,))]

    def texts(self) -> list[tuple[str, str]]:
        """(key, JSON text) of every city."""
        return self._execute("select id, doc from cities order by rowid").fetchall()

    def pragma(self, name: str) -> Any:
        return self._execute(f"pragma {name}").get

    # writes

    def put(self, city: dict[str, Any]) -> None:
        self._execute(sql.PUT, row(city))

    def put_many(self, cities: Sequence[dict[str, Any]]) -> None:
        self.write([row(city) for city in cities])

    def write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows made already (by the pull of the bench), in one transaction."""
        self._unit(lambda: self._executemany(sql.PUT, rows))

    def patch(self, change: tuple[str, int]) -> None:
        self._execute(sql.PATCH, (change[1], change[0]))

    def delete(self, key: str) -> None:
        self._execute(sql.DELETE, (key,))

    # the same, and the change row in the same transaction

    def put_logged(self, city: dict[str, Any]) -> None:
        self._logged(sql.PUT, row(city), [city["id"]])

    def patch_logged(self, change: tuple[str, int]) -> None:
        self._logged(sql.PATCH, (change[1], change[0]), [change[0]])

    def delete_logged(self, key: str) -> None:
        self._logged(sql.DELETE, (key,), [key])

    def put_many_logged(self, cities: Sequence[dict[str, Any]]) -> None:
        def write() -> None:
            self._executemany(sql.PUT, [row(city) for city in cities])
            keys = encode({"cities": [city["id"] for city in cities]}).decode()
            self._execute(sql.LOG, (_now_ms(), keys))

        self._unit(write)

    def put_texts(self, documents: Sequence[dict[str, Any]]) -> None:
        for statement in sql.TEXT_SCHEMA:
            self._execute(statement)
        rows = [(document["id"], document["text"]) for document in documents]
        self._unit(lambda: self._executemany(sql.PUT_TEXT, rows))

    def _logged(self, statement: str, values: tuple[Any, ...], keys: list[str]) -> None:
        execute = self._execute
        execute("begin immediate")
        try:
            execute(statement, values)
            execute(sql.LOG, (_now_ms(), encode({"cities": keys}).decode()))
        except BaseException:
            execute("rollback")
            raise
        execute("commit")

    def _unit(self, write: Callable[[], object]) -> None:
        self._execute("begin immediate")
        try:
            write()
        except BaseException:
            self._execute("rollback")
            raise
        self._execute("commit")

    def checkpoint(self) -> None:
        self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self) -> None:
        self.connection.close()
