"""A real node on a thread of its own, for tests of the blocking facade."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from homeport.server.rules import ServerCollection

from ..server.helpers import NodeFactory, served


class Site:
    """A node on a real database; ``restart()`` gives it another declaration, or just new life."""

    def __init__(
        self, dsn: str, collections: list[ServerCollection] | None = None, **options: Any
    ) -> None:
        self.dsn = dsn
        self.collections = collections
        self.options = options
        self._start()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.failed: BaseException | None = None
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(20)
        if self.failed is not None:
            raise self.failed

    def _run(self, ready: threading.Event) -> None:
        try:
            self.loop.run_until_complete(self._serve(ready))
        except BaseException as error:
            self.failed = error
        finally:
            ready.set()
            self.loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        factory, self._stopping = NodeFactory(), asyncio.Event()
        try:
            self.node = await factory(self.dsn, self.collections, **self.options)
            async with served(self.node) as self.url:
                ready.set()
                await self._stopping.wait()
        finally:
            await factory.stop()

    def stop(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(20)

    def restart(self) -> None:
        """The process ends and another begins; its address is another too."""
        self.stop()
        self._start()

    def token(self, subject: str = "ann", ttl_s: float = 600, tenant: str = "t1") -> str:
        return self.node.auth.mint(subject, tenant, ttl_s)

    def sync(self, db: Any, subject: str = "ann", **options: Any) -> Any:
        return db.sync(self.url, token=self.token(subject), live=False, **options)

    def sql(self, statement: str, *values: object) -> Any:
        """Rows of a statement of another program."""

        async def run() -> Any:
            async with self.node.database.session() as connection:
                return await connection.fetch(statement, *values)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)


def settle(*syncs: Any) -> None:
    for _ in range(3):
        for sync in syncs:
            sync.now(timeout_s=30)
