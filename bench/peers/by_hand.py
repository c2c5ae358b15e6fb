"""SQL by hand on apsw: the reference of all ratios."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.byhand import PRAGMAS, Raw
from bench.peers.base import Document, Peer, batches


class RawApsw(Peer):
    name = "raw-apsw"
    title = "apsw by hand"
    package = "apsw-sqlite3mc"
    durabilities = {"full": "WAL, synchronous=FULL", "relaxed": "WAL, synchronous=NORMAL"}
    how = {"notify": "preupdate hook, then the row read by its key; no order is kept"}

    def __init__(self, folder: Path, durability: str) -> None:
        self.raw = raw = Raw(str(folder / "cities.db"), durability, PRAGMAS)
        self.get = raw.get
        self.get_many = raw.get_many
        self.equal = raw.equal
        self.between = raw.between
        self.compound = raw.compound
        self.ordered = raw.ordered
        self.count = raw.count
        self.text = raw.text
        self.search = raw.search
        self.put = raw.put
        self.put_many = raw.put_many
        self.patch = raw.patch
        self.delete = raw.delete
        self.close = raw.close

    def iterate(self, _: object) -> int:
        return sum(city["pop"] for city in self.raw.all())

    def load(self, documents: Iterable[Document]) -> None:
        """Indexes afterwards, as everybody does who loads by hand."""
        self.raw.drop_indexes()
        for batch in batches(documents):
            self.raw.put_many(batch)
        self.raw.create_indexes()

    def load_texts(self, documents: Iterable[Document]) -> None:
        for batch in batches(documents):
            self.raw.put_texts(batch)

    def observe(self) -> None:
        self._seen: list[int] = []
        self.raw.connection.preupdate_hook(self._saw, id="bench")

    def _saw(self, update: Any) -> None:
        self._seen.append(update.rowid_new)

    def notify(self, document: Document) -> Any:
        self._seen.clear()
        self.raw.put(document)
        return self.raw.by_rowid(self._seen[-1])


class RawApswAgain(RawApsw):
    """A second copy of the reference: its ratio to the first is the noise."""

    name = "again"
    title = "apsw by hand, again"
    same_file_as = "raw-apsw"


class RawApswLogged(RawApsw):
    """Writes that leave behind the change row that every write of Homeport leaves behind."""

    name = "raw-apsw-same-obligations"
    title = "apsw by hand + change row"
    same_file_as = "raw-apsw"

    def __init__(self, folder: Path, durability: str) -> None:
        super().__init__(folder, durability)
        self.put = self.raw.put_logged
        self.put_many = self.raw.put_many_logged
        self.patch = self.raw.patch_logged
        self.delete = self.raw.delete_logged

