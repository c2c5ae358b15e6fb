"""The node's pool, over the simulated server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from homeport.errors import DatabaseUnavailable
from homeport.server.database import Database
from homeport.testing.simulation.connection import SimulatedConnection
from homeport.testing.simulation.faults import Faults
from homeport.testing.simulation.postgres import SimulatedPostgres


class SimulatedDatabase(Database):
    """The node's way to ``SimulatedPostgres``."""

    def __init__(self, postgres: SimulatedPostgres, faults: Faults) -> None:
        super().__init__("simulated")
        self.postgres = postgres
        self.faults = faults

    @contextlib.asynccontextmanager
    async def session(self, timeout_s: float | None = None) -> AsyncIterator[Any]:
        del timeout_s
        if not self.postgres.up:
            raise DatabaseUnavailable("PostgreSQL does not answer (simulated).")
        connection = SimulatedConnection(self.postgres, self.faults)
        try:
            yield connection
        finally:
            connection.terminate()
