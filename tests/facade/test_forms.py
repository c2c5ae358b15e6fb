"""The facade cases in both forms, on a file and in memory. Under Pyodide: ``tests/portable``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import homeport as hp
from tests.facade import cases, cases_blocking, shared

ASYNC = shared.checks(cases)
BLOCKING = shared.checks(cases_blocking)


def options(place: str, tmp_path: Path) -> dict[str, Any]:
    path = ":memory:" if place == "memory" else tmp_path / "a.db"
    return {"path": path, "collections": shared.COLLECTIONS, "durability": "relaxed"}


@pytest.mark.parametrize("place", ["memory", "file"])
@pytest.mark.parametrize("name", ASYNC)
async def test_asyncio(name: str, place: str, tmp_path: Path) -> None:
    async with hp.open_async(**options(place, tmp_path)) as db:
        await ASYNC[name](db)


@pytest.mark.parametrize("place", ["memory", "file"])
@pytest.mark.parametrize("name", BLOCKING)
def test_blocking(name: str, place: str, tmp_path: Path) -> None:
    with hp.open(**options(place, tmp_path)) as db:
        BLOCKING[name](db)


def test_both_forms_have_the_same_cases() -> None:
    assert list(ASYNC) == list(BLOCKING)
    assert len(ASYNC) >= 10
