"""Stores whose indexes are those that are declared, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn

from homeport.core.indexstats import IndexStats
from homeport.errors import UsageError

if TYPE_CHECKING:
    from typing import Any

    from homeport.core.codec import Table
    from homeport.core.indexes import Index
    from homeport.core.indexstats import OptimizeTask


class OnlyDeclared:
    """What a store says to whoever wants an index while the database is open.

    no_new_index: why it makes none.
    """

    no_new_index: ClassVar[str]

    def create_index(self, table: Table[Any], index: Index) -> NoReturn:
        """Raises ``UsageError``."""
        raise UsageError(
            f"{table.name}: an index on {', '.join(index.fields)} cannot be made while the "
            f"database is open. {self.no_new_index}",
            action="Declare it in indexes=[...]; it is made when the database is opened.",
        )

    def drop_index(self, table: Table[Any], name: str) -> bool:  # noqa: ARG002 - as other stores
        """There is none that was not declared."""
        return False

    def build_step(self, table: Table[Any], seconds: float) -> None:
        """Nothing is ever left to build."""


class DeclaredIndexes(OnlyDeclared):
    """The rest of it, where indexes are the browser's, which tells nothing of them."""

    def enforce_unique(self, table: Table[Any], name: str) -> bool:  # noqa: ARG002
        """What is declared unique is so from the start."""
        return False

    def index_stats(self, table: Table[Any]) -> list[IndexStats]:
        """What is declared."""
        return [
            IndexStats(table.name, index.name, index, True, True, None, None, None, None, None)
            for index in table.collection.indexes
        ]

    def optimize_tasks(self) -> list[OptimizeTask]:
        """Nothing that a program could do."""
        return []
