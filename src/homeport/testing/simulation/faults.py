"""When the node's connections break."""

from __future__ import annotations

from homeport.errors import DatabaseUnavailable


class Faults:
    """When connections break. client: whose push is running, for the record of who wrote what."""

    def __init__(self) -> None:
        self.client: str | None = None
        self.cut_in: int | None = None
        self.cut_after_commit = False

    def before(self) -> None:
        if self.cut_in is not None:
            self.cut_in -= 1
            if self.cut_in < 0:
                self.cut_in = None
                raise DatabaseUnavailable("The connection was lost (simulated).")

    def after(self, query: str) -> None:
        if self.cut_after_commit and query == "commit":
            self.cut_after_commit = False
            raise DatabaseUnavailable("The connection was lost at the commit (simulated).")
