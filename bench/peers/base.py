"""What every side of the comparison offers: the same operations on the same documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

Document = dict[str, Any]

CACHE_MB = 64
"""Page or object cache of every side that has one."""


class Peer:
    """One database, used as its own documentation recommends for this job.

    A peer keeps its files in a folder of its own. Methods of an asynchronous peer return awaitables.
    Methods that a peer does not have stand in ``unable``, with the reason that a reader sees.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    package: ClassVar[str] = ""
    is_async: ClassVar[bool] = False
    durabilities: ClassVar[Mapping[str, str]] = {}
    """Level → how it is set. full: an acknowledged write survives a power cut. relaxed: it survives
    the end of the process; a power cut may cost the last ones, never the file. none: less."""
    unable: ClassVar[Mapping[str, str]] = {}
    how: ClassVar[Mapping[str, str]] = {}
    """Operation → what must be said about how the peer does it."""
    same_file_as: ClassVar[str] = ""
    """Loaded by copying the files of another peer."""

    def __init__(self, folder: Path, durability: str) -> None:
        """Open, and create what is not there."""

    @classmethod
    def version(cls) -> str:
        from importlib.metadata import version

        return version(cls.package)

    @classmethod
    def plain(cls, result: Any) -> Document:
        """One document of a result as the dict that was stored; not timed."""
        return result

    # reads

    def get(self, key: str) -> Any: ...
    def get_many(self, keys: Sequence[str]) -> Any: ...
    def equal(self, name: str) -> Any: ...
    def between(self, bounds: tuple[int, int]) -> Any: ...
    def compound(self, area: tuple[str, str]) -> Any: ...
    def ordered(self, above: int) -> Any: ...
    def count(self, bounds: tuple[int, int]) -> Any: ...
    def iterate(self, _: object) -> Any:
        """→ the sum of ``pop`` over all documents, each of which was made."""

    def text(self, word: str) -> Any:
        """Notes that have the word."""

    def search(self, word: str) -> Any:
        """The 20 of them that suit it best."""

    # writes

    def put(self, document: Document) -> Any: ...
    def put_many(self, documents: Sequence[Document]) -> Any: ...
    def patch(self, change: tuple[str, int]) -> Any:
        """(key, new value of ``pop``)"""

    def delete(self, key: str) -> Any: ...
    def load(self, documents: Iterable[Document]) -> Any:
        """Into an empty file, as fast as it goes."""

    def load_texts(self, documents: Iterable[Document]) -> Any: ...
    def observe(self) -> Any:
        """Begin to follow all cities in the order of ``pop``."""

    def notify(self, document: Document) -> Any:
        """Put, and → the document as the observer got it."""

    def close(self) -> Any: ...


def batches(documents: Iterable[Document], size: int = 10_000) -> Iterable[list[Document]]:
    """Lists of at most ``size``."""
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def level_of(peer: type[Peer]) -> str:
    """The lightest durability that a peer has: reads and loads do not depend on it."""
    return next(level for level in ("relaxed", "none", "full") if level in peer.durabilities)
