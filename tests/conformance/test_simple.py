"""The simple store on a JSON file: the conformance suite, and what was written is there again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import homeport as hp
from homeport.storage.json_file import JsonFile
from homeport.storage.simple import SimpleStore
from homeport.testing import conformance
from tests.conformance.test_stores import CASES
from tests.facade import cases_blocking, shared


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conformance(case: conformance.Case, tmp_path: Path) -> None:
    def make_store(clock_ms: Any) -> Any:
        path = str(tmp_path / "a.json")
        return SimpleStore(JsonFile(path, durable=False), path, clock_ms=clock_ms)

    case.run(make_store)


@pytest.mark.parametrize("name", sorted(shared.checks(cases_blocking)))
def test_the_facade_on_it_and_opened_again(name: str, tmp_path: Path) -> None:
    """Every case of the facade; what it leaves is the same when the file is opened again."""
    words: dict[str, Any] = {
        "collections": shared.COLLECTIONS, "storage": "simple", "durability": "relaxed",
    }  # fmt: skip
    with hp.open(tmp_path / "a.json", **words) as db:
        shared.checks(cases_blocking)[name](db)
        before = {one.name: sorted(map(repr, db[one].keys())) for one in shared.COLLECTIONS}
        metas = {one.name: [db[one].meta(key) for key in db[one].keys()] for one in shared.COLLECTIONS}
    with hp.open(tmp_path / "a.json", **words) as db:
        assert {one.name: sorted(map(repr, db[one].keys())) for one in shared.COLLECTIONS} == before
        for one in shared.COLLECTIONS:
            assert sorted(map(repr, metas[one.name])) == sorted(
                repr(db[one].meta(key)) for key in db[one].keys()
            )
