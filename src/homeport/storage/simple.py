"""The simple store: everything in memory, and each commit kept as a few texts.

For little data (a few thousand documents), in a place that is no database: one JSON file. Every
query looks at every document, as in the store in memory, whose answers these are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import version
from typing import TYPE_CHECKING, Any

import msgspec

from homeport.core.indexing import BUILD_ALL, Build
from homeport.core.keys import encode_key
from homeport.core.loading import META_LOAD
from homeport.core.numbering import META_NUMBER
from homeport.core.storageinfo import StoreFacts
from homeport.errors import Corrupted, HomeportError, SchemaMismatch
from homeport.storage.declared_indexes import OnlyDeclared
from homeport.storage.memory import MemoryStore
from homeport.storage.memory_session import MemorySession, StoredRow
from homeport.storage.simple_items import (
    COLLECTIONS,
    DOCS,
    META,
    Declared,
    declared_of,
    is_gone,
    json_of,
    read_doc,
    text_of,
)
from homeport.storage.simple_session import SimpleSession

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.storage.keeper import Keeper


NOT_MEANWHILE = (
    "The browser refused IndexedDB, so the documents are kept where there is no queue for a server."
)


class SimpleStore(OnlyDeclared, MemoryStore):
    """Documents of a keeper.

    no_sync: why it does not sync. readonly: writing raises ``ReadOnly``.
    """

    no_new_index = "A simple store reads no index: every query of it looks at every document."
    no_sync: str = (
        "A simple store (storage='simple') keeps documents, and no queue for a server beside them."
    )

    def __init__(
        self,
        keeper: Keeper,
        name: str,
        *,
        clock_ms: Callable[[], int],
        max_bytes: int | None = None,
        readonly: bool = False,
        fallback: str | None = None,
    ) -> None:
        """Takes what the keeper has; raises what its ``load`` raises.

        fallback: why this store stands in for another one. Then deletions are remembered, and
        numbers count on from the clock, so that none meets a document of the other's.
        """
        super().__init__(clock_ms=clock_ms, max_bytes=max_bytes)
        self.keeper = keeper
        self.name = name
        self.readonly = readonly
        self.fallback = fallback
        if fallback is not None:
            self.no_sync = NOT_MEANWHILE
        self.gone: dict[str, list[str]] = {}  # JSON texts of keys, as the keeper had them
        self.unkept: dict[str, str] = {}  # goes with the next commit
        # Items of collections not declared yet.
        self._waiting: dict[str, list[tuple[str, str]]] = {}
        self._declared: dict[str, Declared] = {}
        for item, text in keeper.load().items():
            try:
                self._take(item, text)
            except (msgspec.DecodeError, ValueError) as error:
                raise self._unreadable(item) from error

    def _take(self, item: str, text: str) -> None:
        if item.startswith(DOCS):
            collection, _, key = item.removeprefix(DOCS).partition("/")
            if is_gone(text):
                self.gone.setdefault(collection, []).append(key)
            else:
                self._waiting.setdefault(collection, []).append((key, text))
        elif item.startswith(META):
            self.meta[item.removeprefix(META)] = text_of(text)
        elif item == COLLECTIONS:
            self._declared = declared_of(text)

    def _unreadable(self, item: str) -> Corrupted:
        return Corrupted(
            f"{self.name} holds an item {item!r} that is none of Homeport's.", path=self.name
        )

    @property
    def undeclared(self) -> bool:
        """Is there something of collections that were not declared?"""
        return bool(self._waiting) or any(name not in self.tables for name in self.gone)

    def session(self, *, readonly: bool = False) -> MemorySession:
        if readonly:
            return MemorySession(self._frozen())
        session = SimpleSession(self)
        if self._main is None:
            self._main = session
        return session

    def define(self, tables: Sequence[Table[Any]], *, build: Build = BUILD_ALL) -> None:
        for table in tables:
            known = self._declared.get(table.name)
            if known is not None and known.key != table.codec.key:
                raise SchemaMismatch(
                    f"The documents of {table.name} have their key in {known.key!r}, the "
                    f"declaration says {table.codec.key!r}.",
                    collection=table.name,
                )
        for table in tables:
            self._fill(table)
        super().define(tables, build=build)
        declared = dict(self._declared)
        for table in tables:
            known = declared.get(table.name, Declared(table.codec.key))
            models = list(dict.fromkeys([*known.models, table.codec.fingerprint]))
            declared[table.name] = Declared(known.key, models)
            if self.fallback is not None and table.collection.key_generator == "autoincrement":
                self.meta.setdefault(META_NUMBER + table.name, str(self.clock_ms()))
            table.keep_unknown = table.collection.model is not None and len(models) > 1
        if declared != self._declared and not self.readonly:
            # A fallback in which nothing is written leaves nothing behind.
            self.unkept = {COLLECTIONS: json_of(declared)}
            if self.fallback is None:
                self.keeper.write(self.unkept)
                self.unkept = {}
            self._declared = declared

    def _fill(self, table: Table[Any]) -> None:
        """The rows of a collection that is declared for the first time."""
        rows = self.rows.setdefault(table.name, {})
        for key, text in self._waiting.pop(table.name, ()):
            item = f"{DOCS}{table.name}/{key}"
            try:
                document, info = read_doc(text)
                row = table.codec.row_of_text(document)
                named = encode_key(msgspec.json.decode(key))
            except (msgspec.DecodeError, HomeportError, ValueError, LookupError) as error:
                raise self._unreadable(item) from error
            if row[0] != named:
                raise self._unreadable(item)
            rows[named] = StoredRow(row, None, info)
            self.used_bytes += len(document.encode())
            self.stamp_ms = max(self.stamp_ms, info.modified_ms)

    def facts(self) -> StoreFacts:
        loads = [(name, text) for name, text in self.meta.items() if name.startswith(META_LOAD)]
        return StoreFacts(
            self.keeper.engine,
            version.split()[0],
            1,
            self.max_bytes,
            self.keeper.free_bytes(),
            loads,
            fallback=self.fallback,
        )

    def close(self) -> None:
        super().close()
        self.keeper.close()
