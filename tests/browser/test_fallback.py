"""A browser that refuses IndexedDB: localStorage, memory, and the way back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homeport.testing import conformance
from tests.browser.chromium import Chromium
from tests.browser.conftest import OpenPage
from tests.browser.firefox import Firefox
from tests.browser.pages import Browser, Page
from tests.browser.website import Website
from tests.facade import cases, shared
from tests.portable import inside

INSIDE = "browser.inside_fallback"
KINDS = {
    "absent": "Object.defineProperty(window, 'indexedDB', { value: undefined, configurable: true });",
    "throwing": """Object.defineProperty(window, 'indexedDB', {
        get() { throw new DOMException('not here', 'SecurityError'); }, configurable: true });""",
    "refusing": """Object.defineProperty(window, 'indexedDB', {
        value: { open() { throw new DOMException('not here', 'SecurityError'); } }, configurable: true });""",
}  # fmt: skip
RESTORE = "delete window.indexedDB; if (window.before_) Object.defineProperty(window, 'indexedDB', window.before_);"


@pytest.fixture(scope="module")
def own_page(browser: Browser, website: Website) -> Iterator[Page]:
    page = browser.open(website.second_origin)
    page.evaluate("window.before_ = Object.getOwnPropertyDescriptor(window, 'indexedDB');")
    yield page
    page.close()


@pytest.fixture
def tab_page(own_page: Page) -> Iterator[Page]:
    yield own_page
    own_page.evaluate(RESTORE)
    own_page.check()


def ask(page: Page, what: str, argument: Any = None, **options: Any) -> Any:
    return page.call(f"{INSIDE}.{what}", argument, **options)


def test_the_conformance_suite_and_the_facades_on_localstorage(tab_page: Page) -> None:
    found = ask(tab_page, "suite", timeout_s=120)
    assert found["failed"] == {}
    assert found["ran"] == len(conformance.cases(inside.TABLE))
    found = ask(tab_page, "facade", timeout_s=200)
    for form in ("asyncio", "blocking"):
        assert found[form]["failed"] == {}
        assert found[form]["ran"] == len(shared.checks(cases))


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

    page.evaluate(KINDS[kind])
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

    page.evaluate(RESTORE)
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


def test_what_was_replaced_is_handed_over_and_what_is_refused_stays(tab_page: Page) -> None:
    page = tab_page
    ask(page, "open_", ["both", {}])
    ask(page, "put", ["both", "docs", [{"id": "a", "n": 0}, {"id": "b", "name": "taken"}]])
    ask(page, "close", "both")
    page.evaluate(KINDS["absent"])
    ask(page, "open_", ["both", {}])
    ask(page, "put", ["both", "docs", [{"id": "a", "n": 1}, {"id": "x", "name": "taken"}]])
    ask(page, "close", "both")
    page.evaluate(RESTORE)
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


def test_localstorage_gets_full_and_nothing_that_was_acknowledged_is_lost(tab_page: Page) -> None:
    page = tab_page
    found = ask(page, "open_", ["full", {"storage": "simple"}])
    assert found["engine"] == "localStorage"
    assert 4_000_000 < found["limit"] < 6_000_000
    filled = ask(page, "fill", "full")
    assert filled["failed"] == "QuotaExceeded"
    assert filled["kept"] == filled["stored"]
    ask(page, "close", "full")
    ask(page, "open_", ["full", {"storage": "simple"}])
    assert sorted(one["id"] for one in ask(page, "all_", "full")[0]) == filled["stored"]
    assert ask(page, "delete", ["full", filled["stored"]]) == len(filled["stored"])
    assert ask(page, "put", ["full", "docs", [{"id": "after"}]]) == ["after"]
    ask(page, "close", "full")
    assert ask(page, "remove", "full") is None


def test_a_second_tab_is_refused_and_then_sees_everything(tab_page: Page, tab: OpenPage, website: Website) -> None:
    other = tab("page", origin=website.second_origin)
    ask(tab_page, "open_", ["two", {"storage": "simple"}])
    refused = ask(other, "open_", ["two", {"storage": "simple", "busy_timeout_s": 0.2}])
    assert refused["error"] == "Busy"
    assert "Another tab" in refused["text"]
    waiting = other.start(f"{INSIDE}.open_", ["two", {"storage": "simple", "busy_timeout_s": 20}])
    for n in range(20):
        ask(tab_page, "put", ["two", "docs", [{"id": f"{n:02}"}]])
    ask(tab_page, "close", "two")
    assert waiting.result()["engine"] == "localStorage"
    assert [one["id"] for one in ask(other, "all_", "two")[0]] == [f"{n:02}" for n in range(20)]
    ask(other, "close", "two")
    assert ask(other, "remove", "two") is None


def test_where_both_are_refused_it_is_memory(browser: Browser, website: Website) -> None:
    """A Web Worker has no localStorage."""
    page = browser.open(website.second_origin, "worker")
    try:
        found = ask(page, "open_", ["here", {"storage": "simple"}])
        assert found["error"] == "StorageRefused"
        page.evaluate("return 0")
    finally:
        page.check()
        page.close()


def test_memory_alone_may_be_allowed(tab_page: Page) -> None:
    page = tab_page
    page.evaluate(KINDS["absent"])
    memory = ask(page, "open_", ["off", {"fallback": ["memory"]}])
    assert memory["engine"] == "memory"
    assert "keeps nothing" in memory["told"][0][1]
    assert ask(page, "sync", "off")["error"] == "CannotSync"
    ask(page, "close", "off")


@pytest.mark.parametrize("kind", ["chromium", "firefox"])
def test_a_killed_browser_has_no_half_of_a_commit(kind: str, website: Website, tmp_path: Path) -> None:
    """Browsers write localStorage to the disk within seconds, so the last commits may be gone."""
    start = {"chromium": Chromium, "firefox": Firefox}[kind]
    (tmp_path / "profile").mkdir()
    first = start(str(tmp_path / "profile"))
    try:
        page = first.open(website.origin)
        ask(page, "open_", ["crash", {"storage": "simple"}])
        page.start(f"{INSIDE}.write_for_ever", "crash")
        time.sleep(7)
        acknowledged = page.evaluate("return window.acknowledged ?? -1")
    finally:
        first.kill()
    again = start(str(tmp_path / "profile"))
    try:
        page = again.open(website.origin)
        assert ask(page, "open_", ["crash", {"storage": "simple"}])["engine"] == "localStorage"
        keys = [one["id"] for one in ask(page, "all_", "crash")[0]]
        total = len(keys) // 2
        assert set(keys) == {f"{letter}{n}" for letter in "ab" for n in range(total)}
        assert acknowledged > 20
        page.check()
    finally:
        again.close()
