"""What runs under Pyodide; ``test_portable.py`` starts it and reads what it returns."""

from __future__ import annotations

import inspect
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import homeport as hp
from homeport.storage.memory import MemoryStore
from homeport.testing import conformance
from tests.facade import cases, cases_blocking, shared

TABLE = json.loads((Path(__file__).parent.parent / "cases" / "semantics.json").read_text("utf-8"))


class Outcome:
    """How many cases ran, and the traces of those that failed."""

    def __init__(self) -> None:
        self.ran = 0
        self.failed: dict[str, str] = {}

    async def run(self, name: str, case: Callable[[], Any]) -> None:
        self.ran += 1
        try:
            result = case()
            if inspect.isawaitable(result):
                await result
        except Exception:
            self.failed[name] = traceback.format_exc()[-2_000:]

    def json(self) -> dict[str, Any]:
        return {"ran": self.ran, "failed": self.failed}


async def memory() -> Mapping[str, Any]:
    """Everything that needs no engine of the browser's."""
    stores, asyncio_form, blocking_form = Outcome(), Outcome(), Outcome()
    for case in conformance.cases(TABLE):
        await stores.run(str(case), lambda case=case: case.run(lambda now: MemoryStore(clock_ms=now)))
    for name, check in shared.checks(cases).items():

        async def case(check: Any = check) -> None:
            async with hp.open_async(":memory:", collections=shared.COLLECTIONS) as db:
                await check(db)

        await asyncio_form.run(name, case)
    for name, check in shared.checks(cases_blocking).items():

        def case(check: Any = check) -> None:
            with hp.open(":memory:", collections=shared.COLLECTIONS) as db:
                check(db)

        await blocking_form.run(name, case)
    return {
        "stores": stores.json(),
        "asyncio": asyncio_form.json(),
        "blocking": blocking_form.json(),
        "python": list(sys.version_info[:2]),
        "platform": sys.platform,
        "loaded": sorted({name.split(".")[0] for name in sys.modules}),
        "quota": _refusal(lambda: hp.open("field.db", collections=[], max_bytes=2**20)),
        "transaction": _transaction(),
    }


def _refusal(call: Callable[[], Any]) -> list[str]:
    try:
        call()
    except hp.HomeportError as error:
        return [type(error).__name__, str(error)]
    return []


def _transaction() -> list[Any]:
    """The block of the blocking facade, and one in it that fails."""
    with hp.open(":memory:", collections=shared.COLLECTIONS) as db:
        plain = db[shared.PLAIN]
        with db.transaction():
            plain.put({"id": 1})
            with shared.raises(LookupError), db.transaction():
                plain.put({"id": 2})
                raise LookupError
        return plain.keys()

