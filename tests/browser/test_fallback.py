"""A browser that refuses IndexedDB: localStorage, memory, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from homeport.testing import conformance
from tests.browser.conftest import OpenPage
from tests.browser.pages import Page
from tests.browser.refusal import KINDS, give_back, take
from tests.facade import cases, shared
from tests.portable import inside

INSIDE = "browser.inside_fallback"


def pages_of(where: str) -> Any:
    return pytest.mark.parametrize("where", [where], indirect=True)


@pytest.fixture
def tab_page(page: Page) -> Iterator[Page]:
    yield page
    give_back(page)


def ask(page: Page, what: str, argument: Any = None, **options: Any) -> Any:
    return page.call(f"{INSIDE}.{what}", argument, **options)


@pages_of("page")
@pytest.mark.parametrize("browser", ["chromium"], indirect=True)
def test_the_conformance_suite_and_the_facades_on_localstorage(page: Page) -> None:
    found = ask(page, "suite", timeout_s=120)
    assert found["failed"] == {}
    assert found["ran"] == len(conformance.cases(inside.TABLE))
    found = ask(page, "facade", timeout_s=200)
    for form in ("asyncio", "blocking"):
        assert found[form]["failed"] == {}
        assert found[form]["ran"] == len(shared.checks(cases))


@pages_of("page")
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_down_to_localstorage_and_up_again(kind: str, tab_page: Page) -> None:
    """Puts, deletions and numbers of both sides; an interrupted move is repeated without doubling."""
    page = tab_page
    ask(page, "remove", "field")
    found = ask(page, "open_", ["field", {}])
    assert (found["engine"], found["fallback"], found["told"]) == ("IndexedDB", None, [])
    ask(page, "put", ["field", "docs", [{"id": key, "n": 0} for key in ("a", "b", "c")]])
    ask(page, "put", ["field", "numbered", [{"text": "first"}]])
    ask(page, "close", "field")

    take(page, kind)
    refused = ask(page, "open_", ["field", {"fallback": False}])
    assert refused["error"] == "StorageRefused"
    assert ask(page, "warned", "field") == ["StorageFallbackWarning"]
    found = ask(page, "open_", ["field", {}])
    assert found["engine"] == "localStorage"
    assert found["fallback"]
    assert [one for one, _ in found["told"]] == ["Fallback"]
    assert "does not sync" in found["told"][0][1]
    assert ask(page, "all_", "field") == [[], []]
    ask(page, "put", ["field", "docs", [{"id": "a", "n": 1}, {"id": "d", "n": 1}, {"id": "e"}]])
    ask(page, "delete", ["field", ["b", "e"]])
    ask(page, "put", ["field", "numbered", [{"text": "second"}]])
    assert ask(page, "sync", "field")["error"] == "CannotSync"
    ask(page, "close", "field")
    found = ask(page, "open_", ["field", {}])
    assert [one["id"] for one in ask(page, "all_", "field")[0]] == ["a", "d"], "kept"
    ask(page, "close", "field")

    give_back(page)
    assert ask(page, "interrupted_move", "field") == "killed"
    found = ask(page, "open_", ["field", {}])
    assert found["engine"] == "IndexedDB"
    docs, numbered = ask(page, "all_", "field")
    assert docs == [{"id": "a", "n": 1}, {"id": "c", "n": 0}, {"id": "d", "n": 1}]
    assert [one["text"] for one in numbered] == ["first", "second"], "neither number met the other"
    assert ask(page, "revisions", "field") == {"a": 2, "c": 1, "d": 1}, "written once"
    assert page.evaluate("return Object.keys(localStorage).length") == 0
    ask(page, "close", "field")
    assert ask(page, "open_", ["field", {}])["told"] == [], "told once"
    ask(page, "close", "field")
    assert ask(page, "remove", "field") is None


@pages_of("page")
def test_what_was_replaced_is_handed_over_and_what_is_refused_stays(tab_page: Page) -> None:
    page = tab_page
    ask(page, "open_", ["both", {}])
    ask(page, "put", ["both", "docs", [{"id": "a", "n": 0}, {"id": "b", "name": "taken"}]])
    ask(page, "close", "both")
    take(page)
    ask(page, "open_", ["both", {}])
    ask(page, "put", ["both", "docs", [{"id": "a", "n": 1}, {"id": "x", "name": "taken"}]])
    ask(page, "close", "both")
    give_back(page)
    found = ask(page, "open_", ["both", {}])
    assert [one for one, _ in found["told"]] == ["MovedUp"]
    assert "1 stay" in found["told"][0][1]
    assert found["replaced"] == [["docs", "a", {"id": "a", "n": 0}]]
    ask(page, "delete", ["both", ["b"]])
    ask(page, "close", "both")
    assert ask(page, "open_", ["both", {}])["told"][0][0] == "MovedUp"
    assert [one["id"] for one in ask(page, "all_", "both")[0]] == ["a", "x"]
    ask(page, "close", "both")
    assert ask(page, "remove", "both") is None


@pages_of("page")
def test_localstorage_gets_full_and_nothing_that_was_acknowledged_is_lost(tab_page: Page) -> None:
    page = tab_page
    found = ask(page, "open_", ["full", {"storage": "simple"}])
    assert found["engine"] == "localStorage"
    assert 4_000_000 < found["limit"] < 6_000_000
    filled = ask(page, "fill", "full")
    assert filled["failed"] == "QuotaExceeded"
    assert filled["kept"] == filled["stored"]
    assert "full" in page.call("browser.inside_lifecycle.databases")
    ask(page, "close", "full")
    ask(page, "open_", ["full", {"storage": "simple"}])
    assert sorted(one["id"] for one in ask(page, "all_", "full")[0]) == filled["stored"]
    assert ask(page, "delete", ["full", filled["stored"]]) == len(filled["stored"])
    assert ask(page, "put", ["full", "docs", [{"id": "after"}]]) == ["after"]
    ask(page, "close", "full")
    assert ask(page, "remove", "full") is None


@pages_of("page")
def test_a_second_tab_is_refused_and_a_dead_one_leaves_no_half(page: Page, tab: OpenPage) -> None:
    """It waits for the lock, sees everything then, and takes back what a tab that is gone had begun."""
    other = tab("page")
    ask(page, "open_", ["two", {"storage": "simple"}])
    refused = ask(other, "open_", ["two", {"storage": "simple", "busy_timeout_s": 0.2}])
    assert refused["error"] == "Busy"
    assert "Another tab" in refused["text"]
    waiting = other.start(f"{INSIDE}.open_", ["two", {"storage": "simple", "busy_timeout_s": 20}])
    keys = [f"{n:02}" for n in range(20)]
    for key in keys:
        ask(page, "put", ["two", "docs", [{"id": key, "n": 0}]])
    ask(page, "close", "two")
    assert waiting.result()["engine"] == "localStorage"
    assert [one["id"] for one in ask(other, "all_", "two")[0]] == keys

    assert ask(other, "die_at", ["two", 7, [{"id": key, "n": 1} for key in keys]]) == "killed"
    half = other.evaluate("return Object.keys(localStorage).filter((name) => name.endsWith('/journal')).length")
    assert half == 1, "it has died in the middle"
    other.close()
    assert ask(page, "open_", ["two", {"storage": "simple", "busy_timeout_s": 20}])["engine"] == "localStorage"
    assert ask(page, "all_", "two")[0] == [{"id": key, "n": 0} for key in keys]
    ask(page, "put", ["two", "docs", [{"id": key, "n": 2} for key in keys]])
    ask(page, "close", "two")
    assert ask(page, "remove", "two") is None


@pages_of("worker")
def test_a_worker_has_no_localstorage(page: Page) -> None:
    found = ask(page, "open_", ["here", {"storage": "simple"}])
    assert found["error"] == "StorageRefused"


@pages_of("page")
def test_memory_alone_may_be_allowed(tab_page: Page) -> None:
    page = tab_page
    take(page)
    memory = ask(page, "open_", ["off", {"fallback": ["memory"]}])
    assert memory["engine"] == "memory"
    assert "keeps nothing" in memory["told"][0][1]
    assert ask(page, "sync", "off")["error"] == "CannotSync"
    ask(page, "close", "off")
