"""The random machine on IndexedDB, under Pyodide."""

from __future__ import annotations

import traceback
from typing import Any

from homeport.storage.indexeddb import IndexedDBStore
from tests.property.generate import Generator
from tests.property.run import Asyncio

CONNECTIONS = 2


async def machine(wanted: list[int]) -> dict[str, Any]:
    """wanted: first seed, how many, operations of each."""
    first, seeds, operations = wanted
    done, failed = 0, {}
    for seed in range(first, first + seeds):
        script = Generator(seed, blocks=False, connections=CONNECTIONS).script(operations)
        runner = Asyncio(seed, f"machine-{seed}")
        await runner.open(CONNECTIONS)
        step: Any = None
        try:
            for step in script:
                await runner.step(step)
        except Exception:
            failed[str(seed)] = f"{step!r}\n{traceback.format_exc()[-3_000:]}"
        finally:
            await runner.close()
        await IndexedDBStore.delete(runner.path)
        done += runner.operations
    return {"operations": done, "failed": failed}
