"""What the collections of an open file look like: following declarations, noticing those of other
processes, and building indexes while everybody works.

Statements are published as a whole and never changed. A transaction keeps the ones it began with,
because an index that was completed after its snapshot must not be read in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from time import perf_counter, sleep, thread_time
from typing import TYPE_CHECKING, Any, NoReturn

import apsw
import msgspec

from homeport.core.codec import Table
from homeport.core.indexes import Index
from homeport.core.indexing import GAP_S, Build, Duplicates, IndexProgress, Pace, Report, refused
from homeport.core.keys import decode
from homeport.core.outbox import META_VERSIONS
from homeport.core.words import TOKENIZER
from homeport.errors import Corrupted, SchemaError, SchemaMismatch, UnknownCollection
from homeport.storage import sql, sqlite_build, sqlite_loading, sqlite_schema, sqlite_textbuild
from homeport.storage.sql import Statements
from homeport.storage.sql_layout import Layout, Spec
from homeport.storage.sqlite_packing import require
from homeport.storage.sqlite_step import BuildStep
from homeport.storage.sqlite_usage import Usage

if TYPE_CHECKING:
    from homeport.storage.sqlite_session import SQLiteSession

Execute = Callable[..., Any]

CHECKPOINT_STEPS = 8
"""After so many steps of a build the log is moved into the file: some 1,000 pages, 20 to 60 ms in
which others write. The 8,000 at which SQLite does that in somebody's commit take 160 ms."""

DUPLICATES_LISTED = 100
"""So many values are named in an error, and of each value so many documents."""


class Known(dict[str, Statements]):
    """Name → statements of the collections that the database was opened with."""

    def __missing__(self, name: str) -> NoReturn:
        raise UnknownCollection(f"This database was opened without {name!r}.", collection=name)


class Declarations:
    """The declarations in use on one file, by all sessions of a store.

    broken: what documents of synced collections have in common under a new unique index.
    """

    def __init__(self, path: str, usage: Usage, *, readonly: bool) -> None:
        self.path = path
        self.usage = usage
        self.readonly = readonly
        self.tables: dict[str, Table[Any]] = {}
        self.statements: dict[str, Statements] = Known()
        self.stamp_ms = 0
        self._epoch = -1
        self._layouts: dict[str, bytes] = {}
        self._versions: dict[str, int] = {}
        """Of the documents of each collection, as far as this process may go on with them."""
        self._paces: dict[str, Pace] = {}
        self._publishing = Lock()
        self.broken: list[tuple[Table[Any], Index, Duplicates]] = []

    # -- following

    def define(
        self,
        session: SQLiteSession,
        tables: Sequence[Table[Any]],
        now_ms: int,
        build: Build,
    ) -> None:
        """Make the file follow the declarations. Raises ``SchemaMismatch`` when the documents
        contradict one, ``DuplicateValues`` when they break a new unique index, ``SchemaError`` when
        two names differ by case alone,
        ``MissingDependency`` for a compression that is not here.
        """
        if not self.readonly:
            for table in tables:
                require(table.collection.compression, table.name)
        stored = sqlite_schema.read_stored(session.execute)
        _check_names([*self.tables.values(), *tables], session.execute)
        for table in tables:
            sqlite_schema.check(table, stored.get(table.name.lower()))
        late = [t for t in tables if not sqlite_schema.fits(t, stored.get(t.name.lower()))]
        if self.readonly:
            for table in late:
                record = stored.get(table.name.lower())
                if record is None or not self._serves(table, record.layout):
                    raise SchemaMismatch(
                        f"{self.path} has no collection {table.name} as this version of Homeport "
                        "reads it, and it is open for reading only.",
                        action="Open it once without readonly=True.",
                    )
        elif late:
            self._follow(session, late)
        for table in tables:
            self.tables[table.name] = table
            self._layouts.pop(table.name, None)
        self.publish(session.execute, force=True)
        if self.readonly:
            return
        sqlite_schema.keep_declared(session, tables)
        recover_loads(session, self.statements, now_ms)
        for table in late:
            if build.wait:
                self._complete(session, table, build.report)
            self._prove(session, table, now_ms)

    def _follow(self, session: SQLiteSession, tables: Sequence[Table[Any]]) -> None:
        with self.changing(session) as execute:
            stored = sqlite_schema.read_stored(execute)
            follower = sqlite_schema.Follower(execute, session.executemany)
            for table in tables:
                sqlite_schema.check(table, stored.get(table.name.lower()))
                if not sqlite_schema.fits(table, stored.get(table.name.lower())):
                    follower.follow(table, stored.get(table.name.lower()))

    def _complete(self, session: SQLiteSession, table: Table[Any], report: Report | None) -> None:
        start = perf_counter()
        while (progress := self.step(session, table, perf_counter() - start)) is not None:
            if report is not None:
                report(progress)
            sleep(GAP_S)

    def _prove(self, session: SQLiteSession, table: Table[Any], now_ms: int) -> None:
        for index in table.collection.indexes:
            if not index.unique or not self.enforce(session, table, index.name):
                continue
            found = self.duplicates(session, table, index.name, now_ms)
            # Of a synced collection they may have come from the server, which this device cannot
            # refuse (rule G): they are listed, and what is written here is checked all the same.
            self.settle(session, table, index.name, unique=not found or table.synced)
            if found and table.synced:
                self.broken.append((table, index, found))
            elif found:
                raise refused(table.name, index, found)

    @contextmanager
    def changing(self, session: SQLiteSession) -> Iterator[Execute]:
        """A write transaction that changes what other processes have to notice."""
        with session.alone() as execute:
            yield execute
            sqlite_schema.next_epoch(execute)

    # -- noticing

    def _statements_of(self, table: Table[Any], layout: Layout) -> Statements:
        try:
            return Statements(table, layout)
        except KeyError as error:  # an index without its column
            raise Corrupted(f"The record of {table.name} in {self.path} is damaged.") from error

    def publish(self, execute: Execute, *, force: bool = False) -> None:
        """Notice what another connection may have changed: declarations, sync, the clock."""
        epoch, stamp = execute(sql.READ_EPOCH).fetchall()[0]
        self.stamp_ms = max(self.stamp_ms, stamp or 0)
        if int(epoch) == self._epoch and not force:
            return
        with self._publishing:
            # An old snapshot must not take back what is known already.
            if int(epoch) < self._epoch:
                return
            stored = sqlite_schema.read_stored(execute)
            synced = msgspec.json.decode(execute(sql.GET_META, ("sync.collections",)).get or "[]")
            versions = msgspec.json.decode(execute(sql.GET_META, (META_VERSIONS,)).get or "{}")
            found = Known(self.statements)
            for name, table in self.tables.items():
                self._check_version(table, versions.get(name, 1))
                record = stored.get(name.lower())
                if record is None or not self._serves(table, record.layout):
                    raise SchemaMismatch(
                        f"Another process has changed the indexes of {name} in {self.path}.",
                        action="Use one declaration in all processes, then open the file again.",
                        collection=name,
                    )
                layout = msgspec.json.encode(record.layout)
                if self._layouts.get(name) != layout:
                    self._layouts[name] = layout
                    found[name] = self._statements_of(table, record.layout)
                    table.usable = found[name].usable
                table.synced = name in synced
                foreign = record.fingerprints != [table.codec.fingerprint]
                table.keep_unknown = table.collection.model is not None and foreign
            self.statements = found
            self._epoch = int(epoch)

    def _check_version(self, table: Table[Any], there: int) -> None:
        """Refuse to go on beside a newer program: it has brought all documents to its form, and
        would take one of ours for one of them. What was newer when the file was opened was judged
        then."""
        current = table.collection.versions.current
        if there > self._versions.setdefault(table.name, max(there, current)):
            raise SchemaMismatch(
                f"Another process has brought the documents of {table.name} in {self.path} to "
                f"version {there}; this program knows {current}.",
                action="Update this program, then open the file again.",
                collection=table.name,
            )

    def _serves(self, table: Table[Any], layout: Layout) -> bool:
        """Can this process write with such indexes? It maintains those that it does not know, and
        does without those that are gone, unless they promise something."""
        for index in table.collection.indexes:
            if index.unique and index.name not in layout.specs and not self.readonly:
                return False
        coming = layout.next_text
        return (not layout.text or layout.words == TOKENIZER) and (
            coming is None or coming.words == TOKENIZER
        )

    # -- building

    def create(self, session: SQLiteSession, table: Table[Any], index: Index) -> None:
        """Begin an index that no declaration has; one that was begun is gone on with."""
        with self.changing(session) as execute:
            layout = self._layout(execute, table)
            known = layout.specs.get(index.name)
            if known is not None:
                if known.shape != Spec.of(index).shape:
                    raise SchemaError(
                        f"{table.name} has another index by the name of {index.name}."
                    )
                if index.unique and not known.unique and index.name not in layout.unproved:
                    layout.unproved.append(index.name)
            else:
                layout.specs[index.name] = Spec.of(index, created=True)
                if index.unique:
                    layout.unproved.append(index.name)
                if index.kind == "fulltext":
                    sqlite_textbuild.change(execute, table.name, layout, [index.name], [])
                else:
                    sqlite_build.announce(execute, table.name, layout, [index])
            sqlite_schema.store_layout(execute, table.name, layout)
        self.publish(session.execute)

    def drop(self, session: SQLiteSession, table: Table[Any], name: str) -> bool:
        """Take an index away → was there one?"""
        with self.changing(session) as execute:
            layout = self._layout(execute, table)
            there = name in layout.specs
            if there:
                if layout.specs[name].kind == "fulltext":
                    sqlite_textbuild.drop(execute, table.name, layout, name)
                else:
                    sqlite_build.drop(execute, table.name, layout, name)
                if name in layout.unproved:
                    layout.unproved.remove(name)
                sqlite_schema.store_layout(execute, table.name, layout)
        self.publish(session.execute)
        return there

    def step(
        self, session: SQLiteSession, table: Table[Any], seconds: float
    ) -> IndexProgress | None:
        """One short transaction of building what is begun → progress, or None when nothing is left
        to do. seconds: since the caller began."""
        if not self.statements[table.name].layout.unfinished:
            return None
        pace = self._paces.setdefault(table.name, Pace())
        with session.alone() as execute:
            start = perf_counter()
            # In the transaction: another process may be building the same, or have ended it.
            layout = self._layout(execute, table)
            step = BuildStep(execute, session.executemany, table.name, layout)
            step.take(pace.rows, pace.pages)
            if step.changed:
                sqlite_schema.store_layout(execute, table.name, layout)
                sqlite_schema.next_epoch(execute)
            worked = perf_counter() - start - thread_time()
        pace.took(worked + thread_time(), rows=step.rows, pages=step.pages)
        if pace.steps % CHECKPOINT_STEPS == 0:
            # Else whoever fills the log has to move all of it at once, and waits for that.
            with suppress(apsw.LockedError):  # another connection is at it
                session.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        if step.changed or not step.names:
            self.publish(session.execute)
        return IndexProgress(table.name, step.names, step.done, step.total, seconds, "filling")

    def enforce(self, session: SQLiteSession, table: Table[Any], name: str) -> bool:
        """From now on a complete index is unique for what is written; its documents have to be
        examined behind that, so that nothing slips through between → is there anything to do?"""
        if name not in self.statements[table.name].layout.unproved:
            return False
        with self.changing(session) as execute:
            layout = self._layout(execute, table)
            waits = name in layout.unproved and name not in layout.building
            if waits:
                layout.specs[name].unique = True
                sqlite_schema.store_layout(execute, table.name, layout)
        self.publish(session.execute)
        return waits

    def duplicates(
        self, session: SQLiteSession, table: Table[Any], name: str, now_ms: int
    ) -> Duplicates:
        """(value, keys) of the documents that have the same value in a complete index."""
        found = sqlite_build.duplicates(
            session.execute, table.name, self.statements[table.name].layout, name, now_ms,
            at_most=DUPLICATES_LISTED,
        )  # fmt: skip
        return [
            (tuple(decode(one) for one in values), [decode(key) for key in keys])
            for values, keys in found
        ]

    def settle(self, session: SQLiteSession, table: Table[Any], name: str, *, unique: bool) -> None:
        """What the examination found: the index is unique, or it is not and will be examined again
        by whoever declares it so."""
        with self.changing(session) as execute:
            layout = self._layout(execute, table)
            if name in layout.specs:
                layout.specs[name].unique = unique
                layout.unproved = [one for one in layout.unproved if one != name or not unique]
                sqlite_schema.store_layout(execute, table.name, layout)
        self.publish(session.execute)

    def rebuild_text(self, session: SQLiteSession, names: Sequence[str]) -> None:
        """Begin to make the full text of collections anew, from their documents."""
        with self.changing(session) as execute:
            for name in names:
                layout = self._layout(execute, self.tables[name])
                sqlite_textbuild.again(execute, name, layout)
                sqlite_schema.store_layout(execute, name, layout)
        self.publish(session.execute)

    def _layout(self, execute: Execute, table: Table[Any]) -> Layout:
        return sqlite_schema.read_stored(execute)[table.name.lower()].layout


def recover_loads(session: SQLiteSession, statements: dict[str, Statements], now_ms: int) -> None:
    """Build what a load that was killed left unbuilt."""
    if not sqlite_loading.abandoned(session.execute, now_ms):
        return

    def build() -> None:
        names = sqlite_loading.abandoned(session.execute, now_ms)
        found = [statements[name] for name in names if name in statements]
        sqlite_loading.recover(session.execute, found)

    session.within(build)


def _check_names(tables: Sequence[Table[Any]], execute: Execute) -> None:
    names = {table.name for table in tables}
    names |= {name for (name,) in execute("SELECT name FROM collections").fetchall()}
    lowered: dict[str, str] = {}
    for name in sorted(names):
        twin = lowered.setdefault(name.lower(), name)
        if twin != name:
            raise SchemaError(
                f"The collections {twin} and {name} differ by upper and lower case alone, which "
                "SQLite does not tell apart.",
                action="Give one of them another name.",
            )
