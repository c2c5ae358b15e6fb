"""Writing: rows, uniqueness, and the side tables that follow a row.

Multi-entry and full-text entries are found through the *old* text of a row, because a side table
cannot be searched by row number cheaply. Uniqueness is checked by query, for local writes only: a
row from the server is stored whatever stands in its way (rule G).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from homeport.core.keys import decode, encode
from homeport.core.requests import Delete, PartResult, Put, TxInfo
from homeport.core.words import words
from homeport.errors import HomeportError, KeyExists, UniqueViolation

if TYPE_CHECKING:
    from homeport.core.codec import Codec, Extras, Row
    from homeport.core.schema import Index
    from homeport.storage.sql import Statements
    from homeport.storage.sqlite_session import SQLiteSession

_to_json = msgspec.json.Encoder().encode
_NO_EXTRAS: Extras = ((), ())


class Writer:
    def __init__(self, session: SQLiteSession) -> None:
        self._session = session

    # -- put

    def put(self, st: Statements, part: Put, tx: TxInfo) -> PartResult:
        rows, tokens = part.rows, part.tokens
        expires = None if st.ttl_ms is None else tx.stamp_ms + st.ttl_ms
        tail = (tx.stamp_ms, expires)
        failures: dict[int, HomeportError] = {}
        if part.mode == "add":
            failures = self._existing(st, rows)
        unique = st.unique if tokens is None else ()
        if unique or st.has_extras:
            self._one_by_one(st, part, tail, unique, failures)
        elif tokens is not None:
            bound = [
                row + tail + token
                for i, (row, token) in enumerate(zip(rows, tokens, strict=True))
                if i not in failures
            ]
            self._session.cursor.executemany(st.put_token, bound)
        elif len(rows) == 1 and not failures:
            self._session.execute(st.put, rows[0] + tail)
        elif failures:
            self._session.cursor.executemany(
                st.put, [row + tail for i, row in enumerate(rows) if i not in failures]
            )
        else:
            self._session.cursor.executemany(st.put, [row + tail for row in rows])
        keys: list[Any] = decoded([row[0] for row in rows])
        if failures:
            written = [key for i, key in enumerate(keys) if i not in failures]
            keys = [None if i in failures else key for i, key in enumerate(keys)]
        else:
            written = keys
        if st.tracked:
            self._session.touch(st.name, written)
        return PartResult(keys, failures)

    def _existing(self, st: Statements, rows: Any) -> dict[int, HomeportError]:
        """Positions whose key is there already, or earlier in the same call."""
        taken: set[Any] = set()
        for row in rows:
            key = row[0]
            bound = (key, self._session.store.clock_ms()) if st.alive else (key,)
            if self._session.execute(st.exists, bound).get is not None:
                taken.add(key)
        failures: dict[int, HomeportError] = {}
        for i, row in enumerate(rows):
            if row[0] in taken:
                failures[i] = KeyExists(
                    f"{st.name} has a document {row[0]!r} already.", collection=st.name, key=row[0]
                )
            taken.add(row[0])
        return failures

    def _one_by_one(
        self,
        st: Statements,
        part: Put,
        tail: tuple[Any, ...],
        unique: tuple[tuple[Index, str, tuple[int, ...]], ...],
        failures: dict[int, HomeportError],
    ) -> None:
        """Rows whose uniqueness or side tables depend on what the row before has written."""
        codec: Codec[Any] = part.table.codec
        text = st.put if part.tokens is None else st.put_token
        for i, row in enumerate(part.rows):
            if i in failures:
                continue
            extras = part.extras[i] if part.extras is not None else _NO_EXTRAS
            for index, query, places in unique:
                error = self._collision(st, index, query, places, row, extras)
                if error is not None:
                    failures[i] = error
                    break
            if i in failures:
                continue
            bound = row + tail if part.tokens is None else row + tail + part.tokens[i]
            if not st.has_extras:
                self._session.execute(text, bound)
                continue
            old = self._session.execute(st.old, (row[0],)).get
            seq = self._session.execute(text, bound).get
            before = _NO_EXTRAS if old is None else codec.extras_of_text(old[1])
            self._follow(st, seq, before, extras, new=old is None)

    def _collision(
        self,
        st: Statements,
        index: Index,
        query: str,
        places: tuple[int, ...],
        row: Row,
        extras: Extras,
    ) -> UniqueViolation | None:
        now = (self._session.store.clock_ms(),) if st.alive else ()
        if index.multi:
            groups = [(entry,) for entry in extras[0][st.multi_place[index.name]]]
        else:
            values = tuple(row[place] for place in places)
            groups = [] if any(value is None for value in values) else [values]
        for values in groups:
            other = self._session.execute(query, (*values, row[0], *now)).get
            if other is not None:
                return UniqueViolation(
                    f"{st.name}: another document ({other!r}) has the same "
                    f"{', '.join(index.fields)}.",
                    collection=st.name,
                    index=index.name,
                    key=row[0],
                    other=other,
                )
        return None

    def _follow(
        self, st: Statements, seq: int, before: Extras, after: Extras, *, new: bool
    ) -> None:
        """Make the side tables of a row follow from one text to the next."""
        for n in range(len(st.multi)):
            had = before[0][n] if before[0] else ()
            has = after[0][n] if after[0] else ()
            gone = [(k, seq) for k in had if k not in has] if had else ()
            come = [(k, seq) for k in has if k not in had] if had else [(k, seq) for k in has]
            if gone:
                self._session.cursor.executemany(st.multi_drop[n], gone)
            if come:
                self._session.cursor.executemany(st.multi_add[n], come)
        if st.text and (new or before[1] != after[1]):
            if not new:
                self._session.execute(st.text_drop, (seq,))
            if after[1]:
                self._session.execute(st.text_add, (*folded(after[1]), seq))

    # -- delete

    def delete(self, st: Statements, part: Delete) -> PartResult:
        codec: Codec[Any] = part.table.codec
        went: list[Any] = []
        execute = self._session.execute
        if not st.has_extras and len(part.keys) > 1:
            return self._delete_many(st, part)
        for key in part.keys:
            encoded = encode(key)
            if not st.has_extras:
                execute(st.delete, (encoded,))
                if self._session.connection.changes():
                    went.append(key)
                continue
            old = execute(st.old, (encoded,)).get
            if old is None:
                continue
            execute(st.delete_seq, (old[0],))
            self._follow(st, old[0], codec.extras_of_text(old[1]), _NO_EXTRAS, new=False)
            went.append(key)
        if st.tracked and went:
            self._session.touch(st.name, went)
        return PartResult(went)

    def _delete_many(self, st: Statements, part: Delete) -> PartResult:
        encoded = [encode(key) for key in part.keys]
        there: set[Any] = set()
        plain = [key for key in encoded if not isinstance(key, bytes)]
        for row in self._session.execute(st.there, (_to_json(plain).decode(),)):
            there.add(row[0])
        for key in encoded:
            if isinstance(key, bytes) and self._session.execute(st.old, (key,)).get is not None:
                there.add(key)
        self._session.cursor.executemany(st.delete, [(key,) for key in there])
        went: list[Any] = []
        for key, given in zip(encoded, part.keys, strict=True):
            if key in there:
                there.discard(key)
                went.append(given)
        if st.tracked and went:
            self._session.touch(st.name, went)
        return PartResult(went)


def folded(texts: tuple[str, ...]) -> tuple[str, ...]:
    """What the full-text table holds: folded words, so that one tokenizer decides everywhere."""
    return tuple(" ".join(words(text)) for text in texts)


def decoded(keys: list[Any]) -> list[Any]:
    """Document keys of encoded ones; text without rewritten characters is itself."""
    return [k if type(k) is str and k.isascii() else decode(k) for k in keys]
