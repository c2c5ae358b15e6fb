"""Building full text on a collection in use, in short transactions.

A new full-text table is filled beside the one that is read, if there is one, and takes its place
when it is complete. From the moment that it is announced, every write of every process keeps it:
what is changed is stored there anew, whether it is there already or not. So nothing has to be known
of a row but that the filling came by, and the collection's own rows are not touched. The table that
was read before is emptied in pieces; SQLite's own DROP would take more than a second for the words
of a million documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from homeport.core.codec import plain_reader
from homeport.core.models import decode_object
from homeport.core.words import TOKENIZER, indexed_form, text_of
from homeport.storage import sql
from homeport.storage.sql import quote
from homeport.storage.sql_layout import Building, Layout, NextText, text_columns

Execute = Callable[..., Any]

POSITION = "building-text."

SWEPT = (("_data", "id", " WHERE id>10"), ("_idx", "segid, term", ""), ("_docsize", "id", ""))
"""Tables of FTS5 that are emptied before theirs is dropped; the first rows of ``_data`` are what it
reads whenever it is looked at."""


MERGED = 16
"""So many segments of FTS5 are merged into one while a table is filled: the most that it can be
told to wait for, so each entry is written as seldom as can be."""
CRISIS = 256
"""With so many of one size FTS5 would merge them in whoever's commit comes next."""

FEW_SEGMENTS = 4
"""FTS5's own limit of segments of one size, in normal use and of a table that is complete."""
TOO_LARGE = 300_000
"""The entries of one word are merged in one go, 20 ms for so many. A table with more documents
keeps larger numbers of segments, so that no commit meets a word of all of them."""
LARGE_CRISIS = 64


class Position(msgspec.Struct):
    """How far a build has come; a named value of the file, written with each chunk.

    name: of the table that is filled. seq: the last row looked at. last: where the collection ended
    when it began; rows beyond were written with the new table. rows: documents taken so far.
    fresh: segments written since the last merge. filled: every document is in.
    """

    name: str
    seq: int
    last: int
    rows: int = 0
    fresh: int = 0
    filled: bool = False

    @property
    def to_merge(self) -> bool:
        """Is merging what comes next?"""
        return self.filled or self.fresh >= MERGED


# -- beginning


def change(
    execute: Execute, collection: str, layout: Layout, added: list[str], dropped: list[str]
) -> None:
    """Follow a declaration that has other full-text indexes; ``layout.specs`` has the new ones
    already."""
    again = [name for name in dropped if name in added]
    if again:
        # Another index by an old name: what is read has nothing to do with it.
        _retire(execute, collection, layout)
    for name in dropped:
        if name in layout.building and name not in again:
            layout.specs.pop(name)
            layout.building.pop(name)
    left = [name for name in dropped if name in layout.specs and name not in again]
    announce(execute, collection, layout, [*unread(layout), *added], [*_leaving(layout), *left])


def again(execute: Execute, collection: str, layout: Layout) -> None:
    """Begin to make anew what is read, or go on with what was begun; inside a write transaction.
    ``layout`` is changed and has to be stored."""
    there = any(spec.kind == "fulltext" for spec in layout.specs.values())
    if there and (layout.next_text is None or layout.next_text.words != TOKENIZER):
        announce(execute, collection, layout, unread(layout), _leaving(layout))


def announce(
    execute: Execute, collection: str, layout: Layout, added: Iterable[str], leaving: Iterable[str]
) -> None:
    """Begin the full text that ``layout.specs`` asks for, without the indexes that are leaving;
    inside a write transaction. ``layout`` is changed and has to be stored.

    added: names of the indexes that are not in the table that is read.
    """
    left = [*leaving]
    _give_up(execute, collection, layout)
    late = [*added]
    if layout.text and layout.words != TOKENIZER:
        # Words of another version are of no use to anybody.
        _retire(execute, collection, layout)
    names = [name for name, spec in layout.specs.items() if spec.kind == "fulltext"]
    if not layout.text:
        late = [name for name in names if name not in left]
    paths = [path for name in names if name not in left for path in layout.specs[name].fields]
    if not layout.text:
        for name in left:
            layout.specs.pop(name, None)
        left = []
    if not paths:
        for name in left:
            layout.specs.pop(name, None)
        _retire(execute, collection, layout)
        return
    layout.texts += 1
    columns = text_columns(dict.fromkeys(paths), layout.text)
    layout.next_text = NextText(f"~{layout.texts}", columns, TOKENIZER, left)
    for name in late:
        layout.building[name] = Building("", (), 0)
    ident = sql.text_ident(collection, layout.next_text.name)
    execute(sql.create_text(ident, columns)).fetchall()
    table = quote(sql.table_ident(collection))
    last = execute(f"SELECT coalesce(max(seq), 0) FROM {table}").get
    _store(execute, collection, Position(layout.next_text.name, -1, last))


def _retire(execute: Execute, collection: str, layout: Layout) -> None:
    """The table that is read is read no more. It gets another name: who has not noticed yet must
    meet an error, not a table that is being emptied."""
    if layout.text:
        old, new = layout.text_name, f"{layout.text_name}-{layout.texts}"
        execute(f"DROP TABLE IF EXISTS {quote(sql.vocabulary_ident(collection, old))}").fetchall()
        before, after = sql.text_ident(collection, old), sql.text_ident(collection, new)
        execute(f"ALTER TABLE {quote(before)} RENAME TO {quote(after)}").fetchall()
        layout.old_texts.append(new)
    forget(layout)


def forget(layout: Layout) -> None:
    """There is no full text to read."""
    layout.text, layout.text_name, layout.words = {}, "", 0


def _give_up(execute: Execute, collection: str, layout: Layout) -> None:
    """What was begun is not wanted any more."""
    if layout.next_text is None:
        return
    layout.old_texts.append(layout.next_text.name)
    layout.next_text = None
    execute(sql.DROP_META, (POSITION + collection,)).fetchall()


# -- filling


class TextFiller:
    """Brings the words of a collection into its new full-text table."""

    def __init__(
        self, execute: Execute, executemany: Execute, collection: str, layout: Layout
    ) -> None:
        assert layout.next_text is not None
        self.execute = execute
        self.executemany = executemany
        self.collection = collection
        self.name = layout.next_text.name
        columns = layout.next_text.columns
        self._read = [plain_reader(path) for path in columns]
        ident = sql.text_ident(collection, self.name)
        self._text = quote(ident)
        self._add = sql.text_put(ident, columns.values())
        self._table = quote(sql.table_ident(collection))

    def position(self) -> Position:
        found = read_position(self.execute, self.collection)
        if found is None or found.name != self.name:
            last = self.execute(f"SELECT coalesce(max(seq), 0) FROM {self._table}").get
            return Position(self.name, -1, last)
        return found

    def step(self, position: Position, limit: int) -> int:
        """Take up to so many rows; inside a write transaction → how many. ``position`` is changed
        and stored; it is ``filled`` when there were fewer rows than that."""
        rows = self.execute(
            f"SELECT seq, doc FROM {self._table} WHERE seq>? AND seq<=? ORDER BY seq LIMIT ?",
            (position.seq, position.last, limit),
        ).fetchall()
        if rows:
            self.executemany(self._add, [(*self._words(text), seq) for seq, text in rows])
            position.seq = rows[-1][0]
            position.rows += len(rows)
            position.fresh += 1
        position.filled = len(rows) < limit
        _store(self.execute, self.collection, position)
        return len(rows)

    def begin(self, position: Position) -> None:
        """Before the first rows, inside a write transaction: merging is left to ``merge``.

        By itself FTS5 merges in the commits that write, in pieces that nobody can choose: beside a
        build of a million documents that was up to 200 ms. So it is told to leave that to the steps
        of the build, which merge so many pages at a time as fit into one.
        """
        if position.seq < 0 and not position.filled:
            _configure(self.execute, self._text, automerge=0, usermerge=MERGED, crisismerge=CRISIS)

    def merge(self, position: Position, pages: int) -> bool:
        """Merge up to so many pages; inside a write transaction → whether nothing is left to merge.
        ``position`` is changed and stored."""
        if position.filled and position.rows <= TOO_LARGE:
            _configure(self.execute, self._text, usermerge=FEW_SEGMENTS)
        before = self.execute("SELECT total_changes()").get
        _configure(self.execute, self._text, merge=pages)
        # Each page is a changed row, those that went into it are more. Other writers may go on
        # adding segments, so there is no waiting for a step that finds nothing to do.
        ready: bool = self.execute("SELECT total_changes()").get - before < pages
        if ready:
            position.fresh = 0
        _store(self.execute, self.collection, position)
        return ready

    def _words(self, text: str) -> list[str]:
        doc = decode_object(text)
        return [indexed_form(text_of(read(doc))) for read in self._read]


def _configure(execute: Execute, text: str, **commands: int) -> None:
    """Give FTS5 commands by the name of what they set or do."""
    for command, value in commands.items():
        execute(f"INSERT INTO {text}({text}, rank) VALUES(?,?)", (command, value)).fetchall()


def read_position(execute: Execute, collection: str) -> Position | None:
    text = execute(sql.GET_META, (POSITION + collection,)).get
    return None if text is None else msgspec.json.decode(text, type=Position)


def _store(execute: Execute, collection: str, position: Position) -> None:
    text = msgspec.json.encode(position).decode()
    execute(sql.SET_META, (POSITION + collection, text)).fetchall()


# -- ending


def finish(execute: Execute, collection: str, layout: Layout) -> None:
    """Every document is in: the new table is the one that is read; inside a write transaction.
    ``layout`` is changed and has to be stored."""
    done = layout.next_text
    assert done is not None
    position = read_position(execute, collection)
    large = position is not None and position.rows > TOO_LARGE
    _configure(
        execute,
        quote(sql.text_ident(collection, done.name)),
        automerge=MERGED if large else FEW_SEGMENTS,
        usermerge=FEW_SEGMENTS,
        crisismerge=LARGE_CRISIS if large else MERGED,
    )
    _retire(execute, collection, layout)
    layout.text, layout.text_name, layout.words = done.columns, done.name, done.words
    layout.next_text = None
    execute(sql.create_vocabulary(collection, done.name)).fetchall()
    for name in done.leaving:
        layout.specs.pop(name, None)
    for name in [n for n in layout.building if layout.specs[n].kind == "fulltext"]:
        del layout.building[name]
    execute(sql.DROP_META, (POSITION + collection,)).fetchall()


def sweep(execute: Execute, collection: str, layout: Layout, limit: int) -> int:
    """Delete up to so many rows of a table that is read no more; inside a write transaction → how
    many. Fewer than that: it is gone from the file and from ``layout``, which has to be stored."""
    ident = sql.text_ident(collection, layout.old_texts[0])
    swept = 0
    for end, key, where in SWEPT:
        part = quote(ident + end)
        if not execute("SELECT 1 FROM sqlite_schema WHERE name=?", (ident + end,)).fetchall():
            continue
        execute(
            f"DELETE FROM {part} WHERE ({key}) IN"
            f" (SELECT {key} FROM {part}{where} LIMIT {limit - swept})"
        ).fetchall()
        changed: int = execute("SELECT changes()").get
        swept += changed
        if swept >= limit:
            return swept
    execute(f"DROP TABLE IF EXISTS {quote(ident)}").fetchall()
    del layout.old_texts[0]
    return swept


# -- taking away


def drop(execute: Execute, collection: str, layout: Layout, name: str) -> None:
    """Take a full-text index away; inside a write transaction. While others remain, it is read
    until a table without it is complete."""
    if name not in layout.building:
        announce(execute, collection, layout, unread(layout), [*_leaving(layout), name])
        return
    layout.specs.pop(name)
    layout.building.pop(name)
    others = unread(layout)
    if others or _leaving(layout) or not layout.text:
        announce(execute, collection, layout, others, _leaving(layout))
    else:
        _give_up(execute, collection, layout)


def unread(layout: Layout) -> list[str]:
    """Full-text indexes that are not complete."""
    return [name for name in layout.building if layout.specs[name].kind == "fulltext"]


def _leaving(layout: Layout) -> list[str]:
    return [] if layout.next_text is None else layout.next_text.leaving
