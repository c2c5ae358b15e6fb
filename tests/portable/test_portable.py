"""The core, the store in memory and both facades under Pyodide, in Node: no browser, no SQLite.

What is missing makes these fail, never skip: ``make setup`` installs all of it.
"""

from __future__ import annotations

from typing import Any

import pytest

from homeport.testing import conformance
from tests.facade import cases, shared
from tests.portable import inside, pyodide

pytestmark = pytest.mark.xdist_group("pyodide")


@pytest.fixture(scope="module")
def memory() -> Any:
    return pyodide.run("memory")


def test_it_really_was_pyodide(memory: Any) -> None:
    assert memory["platform"] == "emscripten"
    assert memory["python"] >= [3, 14]


def test_the_store_in_memory_passes_the_conformance_suite(memory: Any) -> None:
    assert memory["stores"]["failed"] == {}
    assert memory["stores"]["ran"] == len(conformance.cases(inside.TABLE))


@pytest.mark.parametrize("form", ["asyncio", "blocking"])
def test_both_facades_pass_their_cases(memory: Any, form: str) -> None:
    assert memory[form]["failed"] == {}
    assert memory[form]["ran"] == len(shared.checks(cases))


def test_nothing_of_the_desktop_is_loaded(memory: Any) -> None:
    assert not {"apsw", "sqlite3", "aiohttp", "msgpack", "pydantic"} & set(memory["loaded"])


def test_an_option_that_a_browser_cannot_keep_is_refused(memory: Any) -> None:
    kind, text = memory["quota"]
    assert kind == "UsageError"
    assert "max_bytes" in text


def test_the_transaction_block_works_in_memory(memory: Any) -> None:
    assert memory["transaction"] == [1]
