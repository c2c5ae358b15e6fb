"""Is the full text of a file what its documents hold? Read from the file alone, by no declaration.

Every occurrence of a word (word, document, field, place) becomes a number; those of the documents
and those of the index are added up apart. The sums are kept for groups of documents, and only
groups that differ are looked at document by document, so the memory that this takes does not grow
with the collection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from homeport.core.keys import decode
from homeport.core.models import decode_object
from homeport.core.paths import MISSING, get_path
from homeport.core.words import TOKENIZER, text_of, words
from homeport.storage.sql import quote, table_ident, text_ident
from homeport.storage.sql_layout import Layout

Execute = Callable[..., Any]

GROUPS = 1_024
CHUNK = 500
NAMED = 5
"""So many documents are named in a message."""

_MASK = (1 << 64) - 1
_OCCURRENCES = "homeport_occurrences"


def unmatched(execute: Execute, collection: str, layout: Layout) -> list[str]:
    """What is wrong with the rows of the full text: documents without one, rows without a
    document. Quick: it compares numbers, not words."""
    if not layout.text:
        return []
    text = text_ident(collection, layout.text_name)
    table, rows = quote(table_ident(collection)), quote(text + "_docsize")
    found: list[str] = []
    lost = _named(
        execute, f"SELECT {table}.id FROM {table} LEFT JOIN {rows} d ON d.id=seq WHERE d.id IS NULL"
    )
    if lost:
        found.append(f"{collection}: the full text lacks {lost}.")
    extra: int = execute(
        f"SELECT count(*) FROM {rows} d LEFT JOIN {table} ON seq=d.id WHERE seq IS NULL"
    ).get
    if extra:
        found.append(f"{collection}: the full text holds {_documents(extra)} that are gone.")
    return found


def differing(execute: Execute, collection: str, layout: Layout) -> list[str]:
    """What is wrong with the full text word by word. The caller has a read transaction open, on a
    connection that may create temporary tables."""
    problems = unmatched(execute, collection, layout)
    if problems or not layout.text or layout.words != TOKENIZER:
        return problems  # words of another version are made anew when the file is opened
    columns = {column: number for number, column in enumerate(layout.text.values())}
    text = text_ident(collection, layout.text_name).replace("'", "''")
    execute(
        f"CREATE VIRTUAL TABLE temp.{_OCCURRENCES} USING fts5vocab(main, '{text}', 'instance')"
    ).fetchall()
    try:
        ours, theirs = _Sums(), _Sums()
        _of_documents(execute, collection, layout, ours)
        _of_index(execute, columns, theirs)
        groups = {n for n in ours.found.keys() | theirs.found.keys() if ours.of(n) != theirs.of(n)}
        if not groups:
            return []
        ours, theirs = _Sums(groups), _Sums(groups)
        _of_documents(execute, collection, layout, ours)
        _of_index(execute, columns, theirs)
    finally:
        execute(f"DROP TABLE temp.{_OCCURRENCES}").fetchall()
    wrong = sorted(n for n in ours.found.keys() | theirs.found.keys() if ours.of(n) != theirs.of(n))
    table = quote(table_ident(collection))
    named = [
        repr(decode(execute(f"SELECT id FROM {table} WHERE seq=?", (seq,)).get))
        for seq in wrong[:NAMED]
    ]
    more = ", …" if len(wrong) > NAMED else ""
    count = _documents(len(wrong))
    return [
        f"{collection}: the full text of {count} is not what they hold: {', '.join(named)}{more}."
    ]


class _Sums:
    """Sums of numbers by document; without ``groups`` by group of documents, to begin with."""

    def __init__(self, groups: set[int] | None = None) -> None:
        self.groups = groups
        self.found: dict[int, int] = {}

    def add(self, seq: int, number: int) -> None:
        name = seq % GROUPS
        if self.groups is not None:
            if name not in self.groups:
                return
            name = seq
        self.found[name] = (self.found.get(name, 0) + number) & _MASK

    def of(self, name: int) -> int:
        return self.found.get(name, 0)


def _of_documents(execute: Execute, collection: str, layout: Layout, sums: _Sums) -> None:
    paths = list(layout.text)
    for seq, doc in _rows(execute, collection):
        plain = decode_object(doc)
        total = 0
        for column, path in enumerate(paths):
            value = get_path(plain, path)
            text = text_of(None if value is MISSING else value)
            for place, word in enumerate(words(text)):
                total += _number(word, column, place)
        sums.add(seq, total)


def _of_index(execute: Execute, columns: dict[str, int], sums: _Sums) -> None:
    for word, seq, column, place in execute(f"SELECT * FROM temp.{_OCCURRENCES}"):
        sums.add(seq, _number(word, columns[column], place))


def _number(word: str, column: int, place: int) -> int:
    """Of one occurrence. A product, because hashes of tuples are nearly linear: with them, two
    words that change places give the same sum."""
    return hash(word) * (hash((column, place)) | 1)


def _rows(execute: Execute, collection: str) -> Iterator[tuple[int, str]]:
    """All rows, the cursor free between two chunks."""
    table = quote(table_ident(collection))
    select = f"SELECT seq, doc FROM {table} WHERE seq>? ORDER BY seq LIMIT ?"
    last = -(2**63)
    while rows := execute(select, (last, CHUNK)).fetchall():
        yield from rows
        last = rows[-1][0]


def _named(execute: Execute, select: str) -> str:
    rows = execute(f"{select} LIMIT {NAMED + 1}").fetchall()
    if not rows:
        return ""
    total: int = execute(f"SELECT count(*) FROM ({select})").get
    keys = ", ".join(repr(decode(key)) for (key,) in rows[:NAMED])
    return f"{_documents(total)}: {keys}{', …' if total > NAMED else ''}"


def _documents(count: int) -> str:
    return f"{count:,} document{'' if count == 1 else 's'}"
