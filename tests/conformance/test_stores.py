"""Both stores on the public conformance suite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from homeport.core.schema import Collection
from homeport.storage import sqlite_packing
from homeport.storage.memory import MemoryStore
from homeport.storage.sqlite import SQLiteStore
from homeport.testing import conformance
from tests.conformance.test_agreement import packed_always

TABLE = json.loads(
    (Path(__file__).parent.parent / "cases" / "semantics.json").read_text(encoding="utf-8")
)
CASES = conformance.cases(TABLE)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("kind", ["sqlite", "memory", "packed"])
def test_conformance(
    kind: str, case: conformance.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "packed":
        # Every document of every collection; how large they are is a case of its own.
        if str(case) == "sizes":
            return
        monkeypatch.setattr(Collection, "compression", property(lambda _: "gzip", lambda *_: None))
        monkeypatch.setattr(sqlite_packing, "pack", packed_always)

    def make_store(clock_ms: Any) -> Any:
        if kind == "memory":
            return MemoryStore(clock_ms=clock_ms)
        path = str(tmp_path / "a.db")
        return SQLiteStore.open(path, durability="relaxed", clock_ms=clock_ms)

    case.run(make_store)


def test_the_table_is_large_enough_to_mean_something() -> None:
    assert sum(len(group["cases"]) for group in TABLE["groups"]) >= 120
    assert len(CASES) > 30


def test_a_store_is_proved_by_one_call_and_a_broken_one_is_named() -> None:
    """``run_conformance`` is what the author of another store calls."""

    def make_store(clock_ms: Any) -> Any:
        return MemoryStore(clock_ms=clock_ms)

    assert conformance.run_conformance(make_store) == len(conformance.cases())

    class Forgetful(MemoryStore):
        def size(self) -> dict[str, int]:
            return {}

    with pytest.raises(Exception) as caught:
        conformance.run_conformance(lambda clock_ms: Forgetful(clock_ms=clock_ms))
    assert any("sizes" in note for note in caught.value.__notes__)
