"""The session of a simple store: that of the store in memory, and a commit is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from homeport.core.keys import Encoded, Key, encode_key
from homeport.core.requests import Mode, SetMeta
from homeport.errors import ReadOnly
from homeport.storage.memory_session import MemorySession
from homeport.storage.simple_items import META, doc_name, doc_text, gone_text, json_of

if TYPE_CHECKING:
    from homeport.core.codec import Extras, Row, Table
    from homeport.storage.simple import SimpleStore


class SimpleSession(MemorySession):
    """Answers requests on a ``SimpleStore``."""

    def __init__(self, store: SimpleStore) -> None:
        super().__init__(store)
        self._simple = store
        # What may have changed in the open transaction; rolling back to a savepoint leaves it.
        self._changed: dict[tuple[str, Encoded], None] = {}
        self._named: dict[str, None] = {}

    def begin(self, mode: Mode, unit: str | None = None, timeout_s: float | None = None) -> None:
        if mode == "write" and self._simple.readonly:
            raise ReadOnly(
                f"{self._simple.name} is open for reading only.",
                action="Open it without readonly=True.",
            )
        super().begin(mode, unit, timeout_s)

    def _store(
        self,
        table: Table[Any],
        row: Row,
        extras: Extras | None,
        token: tuple[str | None, str | None] | None,
    ) -> None:
        super()._store(table, row, extras, token)
        self._changed[table.name, row[0]] = None

    def _delete(self, table: Table[Any], keys: Sequence[Key]) -> list[Key | None]:
        rows = self._of(table)
        self._changed.update(
            ((table.name, encoded), None)
            for encoded in map(encode_key, keys)
            if encoded in rows or self._remembers(table)
        )
        return super()._delete(table, keys)

    def _remembers(self, table: Table[Any]) -> bool:
        """Has a deletion to be remembered, because another store may have the document?"""
        return self._simple.fallback is not None and not table.system

    def _set_meta(self, part: SetMeta) -> None:
        super()._set_meta(part)
        self._named[part.name] = None

    def commit(self) -> None:
        changes: dict[str, str | None] = {}
        for name, encoded in self._changed:
            row = self.store.rows[name].get(encoded)
            text = None if row is None else doc_text(row.row[1], row.info)
            if row is None and self._remembers(self.store.tables[name]):
                text = gone_text(self.store.stamp_ms)
            changes[doc_name(name, encoded)] = text
        for name in self._named:
            value = self.store.meta.get(name)
            changes[META + name] = None if value is None else json_of(value)
        if changes:
            self._simple.keeper.write({**self._simple.unkept, **changes})
            self._simple.unkept = {}
        super().commit()

    def _forget(self) -> None:
        super()._forget()
        self._changed, self._named = {}, {}
