"""Look into a file, whatever it was declared with, and change nothing.

It reads the tables directly instead of opening a database: a declaration that differs would make
``hp.open`` rebuild indexes, and a damaged file must still show what is readable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote as quote_url

import apsw
import msgspec

from homeport.cli.keys import key_for
from homeport.core.outbox import (
    META_BINDING,
    META_CLIENT,
    META_COLLECTIONS,
    META_IN_FLIGHT,
    SYSTEM,
)
from homeport.core.wire import RESOLUTIONS
from homeport.errors import CannotOpen, Corrupted, FileTooNew
from homeport.storage.secret import Secret, secret_of
from homeport.storage.sql import APPLICATION_ID, FORMAT, quote
from homeport.storage.sql_layout import Layout
from homeport.storage.sqlite_errors import translate
from homeport.storage.sqlite_key import refused, unlock
from homeport.storage.sqlite_packing import register
from homeport.storage.sqlite_verify import differing, unmatched

# A side object of a collection: i_wells.depth_m, m_wells.tags_m, f_wells.text_data, x_wells.expires
_SIDE = re.compile(r"(?:sqlite_autoindex_)?[cimfx]_([A-Za-z_][A-Za-z0-9_-]*?)(?:\..*|_\d+)?")


class CollectionFacts(msgspec.Struct, frozen=True):
    """One collection. bytes: its table with all indexes; indexes: as declared when last opened."""

    name: str
    key: str
    documents: int
    bytes: int
    indexes: list[str]
    synced: bool


class QueueFacts(msgspec.Struct, frozen=True):
    """The outbox. oldest_ms: commit time of its oldest entry, since 1970."""

    queued: int
    in_flight: bool
    held: int
    oldest_ms: int | None
    by_collection: dict[str, int]


class Findings(msgspec.Struct, frozen=True):
    """Everything about one file; ``problems`` is empty when it is healthy."""

    file: str
    bytes: int
    wal_bytes: int
    format: int
    changes: int
    collections: list[CollectionFacts]
    queue: QueueFacts
    conflicts: list[dict[str, Any]]
    dead_letters: list[dict[str, Any]]
    resolutions: int
    binding: Any
    client: Any
    problems: list[str]


def inspect_file(path: Path, *, verify: bool = False) -> Findings:
    """Read the facts of one file.

    verify: compare the full text with the documents word by word, too; else only whether every
    document has one.

    Raises:
        CannotOpen: there is no such file, or this user may not read it.
        Corrupted: it is no database of Homeport, or too damaged to be read.
        FileTooNew: a newer version of Homeport wrote it.
        Busy: another process holds the whole file.
    """
    if not path.is_file():
        raise CannotOpen(f"There is no file {path}.", action="Check the path.", path=str(path))
    with _reading(path) as db:
        version = _check_kind(db, path)
        return _findings(db, path, version, verify=verify)


@contextmanager
def _reading(path: Path) -> Iterator[apsw.Connection]:
    # Without a write-ahead log beside it nobody has the file open, and it can be read as it stands;
    # otherwise SQLite would leave an empty log behind, or refuse a folder that cannot be written.
    secret: Secret | None = None
    alone = not path.with_name(path.name + "-wal").exists()
    address = "file:" + quote_url(str(path.absolute())) + ("?immutable=1" if alone else "")
    try:
        with path.open("rb"):
            pass
        db = apsw.Connection(address, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            secret = secret_of(key_for(path))
            if secret is not None:
                unlock(db, str(path), secret)
            register(db, str(path))
            db.set_busy_timeout(2000)
            db.execute("begin")
            yield db
        finally:
            db.close()
    except apsw.NotADBError as error:
        raise refused(str(path), secret) or translate(error, str(path)) from error
    except apsw.Error as error:
        raise translate(error, str(path)) from error
    except OSError as error:
        raise CannotOpen(f"{path} cannot be read: {error.strerror}.", path=str(path)) from error


def _check_kind(db: apsw.Connection, path: Path) -> int:
    if db.pragma("application_id") != APPLICATION_ID:
        raise Corrupted(
            f"{path} is a SQLite file, but not one of Homeport.",
            action="Name a file that homeport.open() has made.",
        )
    version = int(db.pragma("user_version"))
    if version > FORMAT:
        raise FileTooNew(f"{path} has format {version}; this version of Homeport reads {FORMAT}.")
    return version


def _findings(db: apsw.Connection, path: Path, version: int, *, verify: bool) -> Findings:
    system = {collection.name for collection in SYSTEM}
    compare = differing if verify else unmatched
    problems = _problems(db)
    sizes = _sizes(db)
    synced = set(_meta(db, META_COLLECTIONS) or ())
    own = []
    wrong: list[str] = []
    rows: list[Any] = db.execute(
        "select name, key, layout from collections order by name"
    ).fetchall()
    for name, key, text in rows:
        layout = msgspec.json.decode(text, type=Layout)
        if not problems:
            wrong += compare(db.execute, name, layout)
        if name not in system:
            count = _count(db, name)
            indexes = _indexes(layout)
            size = sizes.get(name.lower(), 0)
            own.append(CollectionFacts(name, key, count, size, indexes, name in synced))
    wal = path.with_name(path.name + "-wal")
    return Findings(
        file=str(path),
        bytes=path.stat().st_size,
        wal_bytes=wal.stat().st_size if wal.exists() else 0,
        format=version,
        changes=_one(db, "select coalesce(max(n), 0) from changes"),
        collections=own,
        queue=_queue(db),
        conflicts=_documents(db, "_conflicts"),
        dead_letters=_documents(db, "_dead"),
        resolutions=_count(db, RESOLUTIONS),
        binding=_meta(db, META_BINDING),
        client=_meta(db, META_CLIENT),
        problems=problems + wrong,
    )


def _queue(db: apsw.Connection) -> QueueFacts:
    entries = _documents(db, "_outbox")
    by_collection: dict[str, int] = {}
    for entry in entries:
        by_collection[entry["collection"]] = by_collection.get(entry["collection"], 0) + 1
    return QueueFacts(
        queued=len(entries),
        in_flight=bool(_meta(db, META_IN_FLIGHT)),
        held=sum(bool(entry.get("held")) for entry in entries),
        oldest_ms=min((entry["at"] for entry in entries), default=None),
        by_collection=by_collection,
    )


def _indexes(layout: Layout) -> list[str]:
    texts = [f"full text of {path}" for path in layout.text]
    unfinished = [f"{name} (being built)" for name in layout.building]
    return [*layout.indexes, *layout.multi, *texts, *unfinished]


def _sizes(db: apsw.Connection) -> dict[str, int]:
    """Lower-case collection name → bytes of its table, indexes and side tables."""
    sizes: dict[str, int] = {}
    for name, size in db.execute("select name, sum(pgsize) from dbstat group by name"):
        side = _SIDE.fullmatch(name)
        if side is not None:
            owner = side.group(1).lower()
            sizes[owner] = sizes.get(owner, 0) + size
    return sizes


def _problems(db: apsw.Connection) -> list[str]:
    try:
        return [row[0] for row in db.execute("pragma quick_check(20)") if row[0] != "ok"]
    except Corrupted as error:  # of a packed document: the check unpacks each of them
        return [error.message]


def _exists(db: apsw.Connection, collection: str) -> bool:
    found = _one(db, "select count(*) from sqlite_schema where name = ?", f"c_{collection}")
    return bool(found)


def _count(db: apsw.Connection, collection: str) -> int:
    if not _exists(db, collection):
        return 0
    return int(_one(db, f"select count(*) from {quote(f'c_{collection}')}"))


def _documents(db: apsw.Connection, collection: str) -> list[dict[str, Any]]:
    if not _exists(db, collection):
        return []
    rows = db.execute(f"select doc from {quote(f'c_{collection}')} order by seq")
    return [json.loads(text) for (text,) in rows]


def _meta(db: apsw.Connection, name: str) -> Any:
    """A named value; most are JSON, and some plain texts."""
    text = _one(db, "select value from meta where name = ?", name)
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


def _one(db: apsw.Connection, sql: str, *values: Any) -> Any:
    rows = db.execute(sql, values).fetchall()
    return rows[0][0] if rows else None
