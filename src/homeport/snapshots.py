"""``with db.snapshot()``: several queries on one committed state. Of the blocking facade only."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeVar, overload

from homeport._blocking.documents import Documents
from homeport.core.codec import Table
from homeport.core.schema import Collection
from homeport.drivers.snapshots import SnapshotRunner
from homeport.handles import Handle
from homeport.transactions import table_of

T = TypeVar("T")


class Snapshot(Handle):
    """One committed state of the database: ``then[wells].get(key)``.

    It holds no lock: others write meanwhile, and threads may share it. While it is open, the log
    beside the file cannot be emptied, so do not keep it for hours.
    """

    __slots__ = ("_runner", "_tables")

    def __init__(self, runner: SnapshotRunner, tables: Mapping[str, Table[Any]]) -> None:
        self._runner = runner
        self._tables = tables

    @overload
    def __getitem__(self, collection: Collection[T]) -> Documents[T]: ...
    @overload
    def __getitem__(self, collection: str) -> Documents[Any]: ...
    def __getitem__(self, collection: Any) -> Any:
        return Documents(self._runner, table_of(self._tables, collection))

    def __enter__(self) -> Snapshot:
        self._runner.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.end()

    def __repr__(self) -> str:
        return f"<Snapshot, {'open' if self._runner.is_open else 'not open'}>"
