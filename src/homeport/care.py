"""Care of an open database: sizes, what it may take, cleaning up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from homeport.core.codec import Table
from homeport.core.storageinfo import TOTAL, CleanupReport, StorageInfo, assemble, count_all
from homeport.indexing import AsyncIndexBuilder
from homeport.runners import AsyncDriver
from homeport.version import __version__

PURGE_ROWS = 500


class AsyncCare:
    """The care of one database."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def sizes(self) -> dict[str, int]:
        """Bytes of every part of the database."""
        return await self._driver.aside(self._driver.engine.store.size, "size()")

    async def info(self, tables: Iterable[Table[Any]], path: str) -> StorageInfo:
        """What the database takes and may take."""
        own = [table for table in tables if not table.system]
        store = self._driver.engine.store
        facts = await self._driver.aside(store.facts, "storage_info()")
        counts = await self._driver.run(count_all(own))
        return assemble(path, __version__, facts, await self.sizes(), counts)

    async def cleanup(self, *, aggressive: bool) -> CleanupReport:
        """Remove what nobody needs, in steps between which others read and write."""
        call, store = self._driver.call, self._driver.engine.store
        before = (await self.sizes())[TOTAL]
        expired = 0
        while removed := await call(lambda: store.purge_expired(PURGE_ROWS), "cleanup()"):
            expired += removed
        changes = await call(lambda: store.prune(aggressive=aggressive), "cleanup()")
        reason = await call(lambda: store.shrink(aggressive=aggressive), "cleanup()")
        after = await self.sizes()
        return CleanupReport(
            expired=expired,
            changes=changes,
            before_bytes=before,
            after_bytes=after[TOTAL],
            reusable_bytes=after.get("homeport.free", 0),
            skipped=() if reason is None else (reason,),
        )

    async def verify_text(self) -> list[str]:
        """What is wrong with the full text, in sentences."""
        return await self._driver.aside(self._driver.engine.store.verify_text, "verify_text()")

    async def rebuild_text(self, tables: Iterable[Table[Any]]) -> None:
        """Make the full text of collections anew, in steps between which everybody works."""
        chosen = [table for table in tables if table.usable.text_paths or table.codec.text_paths]
        names = [table.name for table in chosen]
        store = self._driver.engine.store
        await self._driver.call(lambda: store.rebuild_text(names), "rebuild_text()")
        for table in chosen:
            await AsyncIndexBuilder(self._driver, table).complete()
