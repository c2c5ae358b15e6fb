"""A node with a bug: ``python -m tests.faults.planted BUG serve …``. The oracle must notice each."""

from __future__ import annotations

import sys
from typing import Any

from homeport.cli.main import app
from homeport.server import feed, push


def forgets_batches() -> None:
    """Every batch is taken for a new one, also the second copy of an old one."""
    identify: Any = push._Job._identify

    async def forgetful(self: Any, connection: Any) -> Any:
        who = (self.claims.tenant, self.claims.subject, self.client)
        await connection.execute(
            "update homeport.clients set number = $4, hash = ''"
            " where tenant = $1 and subject = $2 and client = $3",
            *who,
            self._batch.number - 1,
        )
        return await identify(self, connection)

    push._Job._identify = forgetful


def answers_without_writing() -> None:
    """One batch in ten is answered as applied, and never written."""
    write: Any = push._Job._write
    count = 0

    async def careless(self: Any, connection: Any, writes: Any) -> None:
        nonlocal count
        count += 1
        await write(self, connection, () if count % 10 == 0 else writes)

    push._Job._write = careless


def skips_open_transactions() -> None:
    """A cut goes on behind the newest transaction, and never comes back for those that were open."""
    feed._CHANGED = feed._CHANGED.replace("xid = any (array(select", "false and xid = any (array(select")


def tears_units() -> None:
    """The changes of a unit are committed one by one."""
    write: Any = push._Job._write

    async def torn(self: Any, connection: Any, writes: Any) -> None:
        for one in writes:
            await write(self, connection, [one])
            await connection.execute("commit")
            await connection.execute("begin")

    push._Job._write = torn


if __name__ == "__main__":
    globals()[sys.argv.pop(1)]()
    app()
