"""The writes of a SQLite session: puts and deletes of many rows, side tables, full text.

A write reads the old row only where something needs it: entries of multi-entry indexes and full
text are changed by the difference, unique indexes are checked by query (``sqlite_unique.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from homeport.core.codec import Extras, Row
from homeport.core.keys import Encoded, Key, encode_key
from homeport.core.requests import (
    Delete,
    DeleteWhere,
    Indexes,
    Part,
    PartResult,
    Put,
    SetMeta,
    Write,
)
from homeport.core.uniqueness import refusals
from homeport.core.words import indexed_form
from homeport.errors import HomeportError
from homeport.storage import sql, sqlite_loading
from homeport.storage.sql import Statements, TextTable
from homeport.storage.sqlite_keys import json_list, public, publics
from homeport.storage.sqlite_unique import holders

if TYPE_CHECKING:
    from homeport.storage.sqlite_session import SQLiteSession

Old = tuple[Encoded, int, str]
"""(encoded key, seq, stored text)"""

MANY_ROWS = 500
"""From here on, preparing a statement of its own costs less than lengthening every row."""


class Writes:
    """Answers to the writing requests, inside the transaction of ``session``."""

    def __init__(self, session: SQLiteSession) -> None:
        self.session = session
        self.execute: Callable[..., Any] = session.execute
        self.executemany: Callable[..., Any] = session.executemany
        self.statements: dict[str, Statements] = session.reads.held

    # -- requests

    def write(self, request: Write) -> list[PartResult]:
        parts = request.parts
        session = self.session
        if session.quota is not None:
            return session.within(lambda: self._within_quota(parts))
        if len(parts) == 1 and session.writing:
            part = parts[0]
            # One statement needs no care that half of it might stay.
            if type(part) is Put and len(part.rows) == 1:
                result = self._put_one(part)
                if result is not None:
                    return [result]
        return session.within(lambda: [self._part(part) for part in parts])

    def _within_quota(self, parts: Sequence[Part]) -> list[PartResult]:
        results = [self._part(part) for part in parts]
        quota = self.session.quota
        # The library's own records (outbox, bases) have what is kept free for them.
        if quota and any(type(part) is Put and not part.table.system for part in parts):
            quota.check()
        return results

    def delete_where(self, request: DeleteWhere) -> list[Key]:
        return self.session.within(lambda: self._delete_where(request))

    def _part(self, part: Part) -> PartResult:
        if type(part) is Put:
            return self._put(part)
        if type(part) is Delete:
            return self._delete(part)
        if type(part) is Indexes:
            return self._indexes(part)
        assert isinstance(part, SetMeta)
        if part.value is None:
            self.execute(sql.DROP_META, (part.name,)).fetchall()
        else:
            self.execute(sql.SET_META, (part.name, part.value)).fetchall()
        if part.name in ("epoch", "sync.collections"):
            self.session.declarations_changed = True
        return PartResult([])

    def _indexes(self, part: Indexes) -> PartResult:
        statements = self.statements[part.table.name]
        if part.action == "defer":
            done = sqlite_loading.defer(self.execute, statements, self.session.stamp_ms)
        else:
            changes = self.session.connection.total_changes
            done = sqlite_loading.build(self.execute, statements, changes)
        return PartResult([statements.name] if done else [])

    # -- put

    def _put(self, part: Put) -> PartResult:
        return self._put_plain(part) if self._is_plain(part) else self._put_rows(part)

    def _is_plain(self, part: Put) -> bool:
        """Nothing but rows: no side tables, nothing to refuse, no tokens."""
        statements = self.statements[part.table.name]
        return statements.plain and part.mode == "put" and part.tokens is None

    def _put_one(self, part: Put) -> PartResult | None:
        """``_put_plain`` of one row with nothing but what that needs; None = not of that kind."""
        statements = self.statements[part.table.name]
        row = part.rows[0]
        key = row[0]
        if (
            not statements.plain
            or part.mode != "put"
            or part.tokens is not None
            or type(key) is not str
            or not key.isascii()
        ):
            return None
        self.execute(statements.put, (*row, self.session.stamp_ms, None))
        self.session.note(statements, (key,))
        return PartResult([key])

    def _put_plain(self, part: Put) -> PartResult:
        statements = self.statements[part.table.name]
        rows = part.rows
        keys = [row[0] for row in rows]
        stamp = self.session.stamp_ms
        if len(rows) < MANY_ROWS:
            tail = (stamp, None)
            self.executemany(statements.put, [row + tail for row in rows])
        else:
            self.executemany(statements.put_at(stamp), rows)
        self.session.note(statements, keys)
        return PartResult([*publics(keys)])

    def _put_rows(self, part: Put) -> PartResult:
        statements = self.statements[part.table.name]
        rows: Sequence[Row] = part.rows
        extras = part.extras
        if statements.foreign:
            rows, extras = [statements.codec.row_of_text(row[1]) for row in rows], None
        if statements.expiring:
            self._remove_expired(statements, [row[0] for row in rows])
        if statements.has_extras and extras is None:
            extras = [statements.codec.extras_of_text(row[1]) for row in rows]
        failures = self._refused(statements, part, rows, extras)
        chosen: Sequence[int] = range(len(rows))
        if failures:
            chosen = [n for n in chosen if n not in failures]
        bound = self._bound(statements, part, rows, chosen)
        if statements.has_extras:
            assert extras is not None
            self._put_with_extras(statements, part, rows, extras, chosen, bound)
        else:
            text = statements.put if part.tokens is None else statements.put_token
            if len(bound) == 1:
                self.execute(text, bound[0]).fetchall()
            elif bound:
                self.executemany(text, bound)
        self.session.note(statements, [rows[n][0] for n in chosen])
        if not failures:
            return PartResult([*publics([row[0] for row in rows])])
        keys = [None if n in failures else public(row[0]) for n, row in enumerate(rows)]
        return PartResult(keys, failures)

    def _bound(
        self, statements: Statements, part: Put, rows: Sequence[Row], chosen: Sequence[int]
    ) -> list[tuple[Any, ...]]:
        stamp = self.session.stamp_ms
        tokens = part.tokens
        if statements.expiring:
            ends = [statements.codec.expires_ms(rows[n], stamp) for n in chosen]
            dated = [(*rows[n], stamp, end) for n, end in zip(chosen, ends, strict=True)]
            if tokens is None:
                return dated
            return [(*row, *tokens[n]) for n, row in zip(chosen, dated, strict=True)]
        tail = (stamp, None)
        if tokens is not None:
            return [(*rows[n], *tail, *tokens[n]) for n in chosen]
        return [(*rows[n], *tail) for n in chosen]

    def _put_with_extras(
        self,
        statements: Statements,
        part: Put,
        rows: Sequence[Row],
        extras: Sequence[Extras],
        chosen: Sequence[int],
        bound: list[tuple[Any, ...]],
    ) -> None:
        old_texts: dict[Encoded, str] = {}
        if part.olds is None:
            found = self._old_rows(statements, [rows[n][0] for n in chosen])
            old_texts = {key: text for key, _, text in found}
        else:
            for n in chosen:
                text = part.olds[n]
                if text is not None:
                    old_texts.setdefault(rows[n][0], text)
        upsert = statements.put if part.tokens is None else statements.put_token
        seqs = [seq for row in bound for (seq,) in self.execute(upsert, row).fetchall()]
        # A key may occur several times: what counts is before the first and after the last.
        last = {rows[n][0]: (seq, extras[n]) for n, seq in zip(chosen, seqs, strict=True)}
        of_text = statements.codec.extras_of_text
        self._index(
            statements,
            [
                (seq, of_text(old_texts[key]) if key in old_texts else None, new)
                for key, (seq, new) in last.items()
            ],
        )

    def _index(
        self, statements: Statements, changes: Iterable[tuple[int, Extras | None, Extras | None]]
    ) -> None:
        """Bring side tables and full text from the old to the new extras of each row."""
        changes = list(changes)
        for number in range(len(statements.multi)):
            drops: list[tuple[Encoded, int]] = []
            adds: list[tuple[Encoded, int]] = []
            unfilled = statements.codec.multi[number].name in statements.layout.building
            for seq, old, new in changes:
                before = set(old[0][number]) if old else set()
                after = set(new[0][number]) if new else set()
                drops += [(key, seq) for key in before - after]
                # While it is being built, what the old text had may not be in it yet.
                adds += [(key, seq) for key in (after if unfilled else after - before)]
            if drops:
                self.executemany(statements.multi_drop[number], drops)
            if adds:
                self.executemany(statements.multi_add[number], adds)
        for table in statements.texts:
            self._index_text(table, changes)

    def _index_text(
        self, table: TextTable, changes: list[tuple[int, Extras | None, Extras | None]]
    ) -> None:
        # Of a table that is being filled it is not known what is in it. That makes no difference:
        # a row that is not there yet is taken when the filling comes by.
        gone = [(seq,) for seq, old, new in changes if old and not new]
        changed = [
            (seq, new[1]) for seq, old, new in changes if new and not (old and old[1] == new[1])
        ]
        if gone:
            self.executemany(table.drop, gone)
        if changed:
            places = table.places
            self.executemany(
                table.put,
                [
                    (*[indexed_form(texts[place]) for place in places], seq)
                    for seq, texts in changed
                ],
            )

    def _refused(
        self,
        statements: Statements,
        part: Put,
        rows: Sequence[Row],
        extras: Sequence[Extras] | None,
    ) -> dict[int, HomeportError]:
        adding = part.mode == "add"
        if part.tokens is not None or not (adding or statements.unique):
            return {}
        existing: set[Encoded] = set()
        if adding:
            existing = {key for key, _, _ in self._old_rows(statements, [row[0] for row in rows])}
        return refusals(
            statements.name,
            statements.codec,
            rows,
            extras,
            holders(self.execute, statements, self.session.stamp_ms),
            adding=adding,
            existing=existing,
        )

    # -- delete

    def _delete(self, part: Delete) -> PartResult:
        statements = self.statements[part.table.name]
        keys = [encode_key(key) for key in part.keys]
        if len(keys) == 1 and not statements.has_extras and not statements.expiring:
            self.execute(statements.delete, (keys[0],)).fetchall()
            gone = keys if self.session.connection.changes() else []
            self.session.note(statements, gone)
            return PartResult([*publics(gone)])
        if statements.expiring:
            self._remove_expired(statements, keys)
        removed = self._remove(statements, self._old_rows(statements, keys))
        return PartResult([*removed])

    def _delete_where(self, request: DeleteWhere) -> list[Key]:
        statements = self.statements[request.table.name]
        rows = self.session.reads.matching(statements, request.query)
        return self._remove(statements, rows)

    def _remove(self, statements: Statements, rows: list[Old]) -> list[Key]:
        if not rows:
            return []
        if len(rows) == 1:
            self.execute(statements.delete_seq, (rows[0][1],)).fetchall()
        else:
            self.executemany(statements.delete_seq, [(seq,) for _, seq, _ in rows])
        if statements.has_extras:
            of_text = statements.codec.extras_of_text
            self._index(statements, [(seq, of_text(text), None) for _, seq, text in rows])
        self.session.note(statements, [key for key, _, _ in rows])
        return publics([key for key, _, _ in rows])

    def _remove_expired(self, statements: Statements, keys: list[Encoded]) -> None:
        """Expired rows under these keys go before a write, which must not see them."""
        olds = {key: row for row in self._old_rows(statements, keys) for key in (row[0],)}
        if not olds:
            return
        now = self.session.stamp_ms
        dead = [row for key, row in olds.items() if not self._alive(statements, key, now)]
        self._remove(statements, dead)

    def _alive(self, statements: Statements, key: Encoded, now: int) -> bool:
        return bool(self.execute(statements.exists, (key, now)).fetchall())

    def purge(self, statements: Statements, limit: int) -> int:
        """Delete up to ``limit`` expired rows of one collection; inside a write transaction."""
        rows = self.execute(statements.expired, (self.session.stamp_ms, limit)).fetchall()
        return len(self._remove(statements, rows))

    def _old_rows(self, statements: Statements, keys: Sequence[Encoded]) -> list[Old]:
        """The stored rows of these keys, each once."""
        if len(keys) == 1:
            return self.execute(statements.old, (keys[0],)).fetchall()  # type: ignore[no-any-return]
        distinct = list(dict.fromkeys(keys))
        listed = json_list(distinct)
        if listed is not None:
            return self.execute(statements.olds, (listed,)).fetchall()  # type: ignore[no-any-return]
        return [row for key in distinct for row in self.execute(statements.old, (key,)).fetchall()]
