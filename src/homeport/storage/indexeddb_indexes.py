"""Indexes of a database of the browser: those that are declared, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from homeport.core.indexstats import IndexStats, OptimizeTask
from homeport.errors import UsageError

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.indexes import Index


class DeclaredIndexes:
    """What a store says to whoever wants an index while the database is open."""

    def create_index(self, table: Table[Any], index: Index) -> NoReturn:
        """Only an upgrade of the whole database makes indexes, and every tab must let go of it."""
        raise UsageError(
            f"{table.name}: an index on {', '.join(index.fields)} cannot be made while a database "
            "of the browser is open.",
            action="Declare it in indexes=[...]; it is made when the database is opened.",
        )

    def drop_index(self, table: Table[Any], name: str) -> bool:  # noqa: ARG002 - as other stores
        """There is none that was not declared."""
        return False

    def build_step(self, table: Table[Any], seconds: float) -> None:
        """Nothing is ever left to build."""

    def enforce_unique(self, table: Table[Any], name: str) -> bool:  # noqa: ARG002
        """What is declared unique is so from the start."""
        return False

    def index_stats(self, table: Table[Any]) -> list[IndexStats]:
        """What is declared; the browser tells nothing of it."""
        return [
            IndexStats(table.name, index.name, index, True, True, None, None, None, None, None)
            for index in table.collection.indexes
        ]

    def optimize_tasks(self) -> list[OptimizeTask]:
        """Nothing that a program could do."""
        return []
