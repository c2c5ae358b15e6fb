"""The same cases as on CPython, in real browsers: on the page and in a Web Worker."""

from __future__ import annotations

import re

from homeport.testing import conformance
from tests.browser.conftest import OpenPage
from tests.browser.pages import Page
from tests.browser.website import ROOT
from tests.facade import cases, shared
from tests.portable import inside
from tests.portable.test_indexeddb import assert_together, guessed


def test_it_really_is_the_browsers_own_indexeddb(page: Page) -> None:
    found = page.call("browser.inside_place.place")
    assert found["platform"] == "emscripten"
    assert found["native"], "indexedDB.open is a function of the browser"
    assert found["window"] is (page.where == "page")


def test_the_store_passes_the_conformance_suite(page: Page) -> None:
    """The page and the worker of each browser take turns: the cases are the same, and each has run in
    both browsers."""
    every = [2, 0 if (page.where == "page") is (page._browser.name == "chromium") else 1]  # type: ignore[attr-defined]
    found = page.call("portable.inside_indexeddb.suite", every, timeout_s=200)["stores"]
    assert found["failed"] == {}
    assert found["ran"] == len(conformance.cases(inside.TABLE)[every[1] :: 2])


def test_both_facades_pass_their_cases(page: Page) -> None:
    found = page.call("portable.inside_indexeddb.facade", timeout_s=120)
    assert found["asyncio"]["failed"] == {}
    assert found["asyncio"]["ran"] == len(shared.checks(cases))
    assert found["blocking"]["failed"] == {}, "Python suspended until IndexedDB has answered"
    assert found["blocking"]["ran"] == len(shared.checks(cases))
    assert found["blocks"] == ["TransactionError", "TransactionError"]
    assert found["callback"][0] == "UsageError", "in a callback Python cannot be suspended"
    assert "open_async" in found["callback"][1]
    assert found["kept"]
    assert found["refused"] == ["ReadOnly", "Closed"]


def test_plans_tabs_and_faults_as_in_node(page: Page) -> None:
    found = page.call("portable.inside_indexeddb.beside_the_facade", timeout_s=120)
    plans, tabs = found["plans"], found["tabs"]
    assert plans["log"] == ['{"id":"a","n":0}', ["d", "c"], ["sum"], 5, "InvalidKey"]
    assert plans["begun"] == {"readonly": 0, "readwrite": 1}, "a plan of several steps is one transaction"
    assert [plans["failed"], plans["cancelled"], plans["lost"]] == ["on purpose", True, None]
    assert tabs["total"] == 40, "two connections lose no update"
    assert tabs["found"] == [["a"], ["a"], ["b699", "b697"], 5]
    assert tabs["refused"] == "SchemaMismatch"
    assert tabs["hinted"] == ["seen"], "a live query hears of a commit of another connection"
    assert tabs["twins"] == ["DuplicateValues", 1, "UsageError"], "refused, and nothing has changed"
    assert tabs["empty"] == 0
    assert found["pieces"]
    assert_together(found["together"])
    assert found["cleaned"] == ["one"], "what has expired is removed by one connection"
    assert found["faults"] == {
        "full": "QuotaExceeded",
        "keys": ["after", "before"],
        "older": ["d19", "d18", "d17"],
        "nowhere": "StorageRefused",
        "given up": [1, 1, 1, 1, 1],
        "empty": 1,
        "faulty 2": ["IndexedDB", 4],
        "faulty 1000": ["StorageRefused", 3],
    }


def test_what_is_kept_in_memory_is_never_stale(page: Page) -> None:
    found = page.call("portable.inside_cache.coherence", timeout_s=120)
    assert found["served"] >= 4, "what nobody has changed is not read again"
    assert found["bounded"]


def test_a_write_that_took_something_for_granted_is_right(page: Page) -> None:
    guessed(page.call("portable.inside_guess.by_hand"))
    found = page.call("portable.inside_guess.at_random")
    assert found["added"] > 0
    assert found["undone"] > 0


def test_tabs_that_write_at_once_read_no_old_row(tab: OpenPage) -> None:
    calls = [one.start("portable.inside_cache.turn", ["turns", 100]) for one in (tab(), tab())]
    found = [call.result(120) for call in calls]
    for seen in found:
        numbers = [n for pair in seen for n in pair]
        assert numbers == sorted(numbers), "no tab goes back"
        assert all(before < after for before, after in seen), "its own write is seen at once"
    assert max(seen[-1][1] for seen in found) == 200


def test_the_examples_of_the_documentation_run(page: Page) -> None:
    text = (ROOT / "docs" / "browser.md").read_text()
    scripts = re.findall(r"runPythonAsync\(`\n(.*?)`\)", text, re.DOTALL)
    examples = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert scripts and examples
    end = ["await db.close()\nawait browser.delete_database('field')"]
    assert page.call("browser.inside_place.run", [*scripts, *examples, *end]) == len(scripts + examples) + 1
