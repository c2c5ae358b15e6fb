"""The life of a database in real browsers: several tabs, upgrades, quotas, deletion, a killed browser."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import Chromium
from tests.browser.conftest import OpenPage
from tests.browser.firefox import Firefox
from tests.browser.pages import Browser, Page
from tests.browser.website import Website

INSIDE = "browser.inside_lifecycle"
FALLBACK = "browser.inside_fallback"
LOCALSTORAGE_S = 5.0
"""Browsers write it to the disk about five seconds behind."""


def open_in(page: Page, name: str, kind: str = "docs", **options: Any) -> Any:
    return page.call(f"{INSIDE}.open_", [name, kind, options])


def test_durability_is_what_the_browser_is_asked_for(page: Page) -> None:
    assert page.call(f"{INSIDE}.durabilities") == [["strict"], ["relaxed"]]


def test_the_browser_is_asked_to_keep_the_data_and_for_how_much_room_there_is(page: Page) -> None:
    answer, seconds = page.call(f"{INSIDE}.promise")
    assert answer in (True, False, None)
    assert seconds < 4, "no question to the user is waited for"
    if page.where == "worker":
        assert answer is None, "a worker cannot ask"
    open_in(page, "room")
    found = page.call(f"{INSIDE}.info", "room")
    assert found["engine"] == "IndexedDB"
    assert found["limit"] > 10_000_000
    assert found["persistent"] in (True, False, None)
    assert not found["near"]
    page.call(f"{INSIDE}.close", "room")
    assert page.call(f"{INSIDE}.destroy", "room") is None


def test_the_databases_of_the_site_are_listed(page: Page) -> None:
    before = page.call(f"{INSIDE}.databases")
    names = ["list ü/1", "list 2"]
    for name in names:
        assert open_in(page, name) == "open"
    page.call(f"{INSIDE}.foreign", "not ours")
    assert page.call(f"{INSIDE}.databases") == sorted([*before, *names])
    for name in names:
        page.call(f"{INSIDE}.close", name)
        page.call(f"{INSIDE}.destroy", name)
    assert page.call(f"{INSIDE}.databases") == before


def test_a_connection_that_the_browser_has_closed_is_made_again(page: Page) -> None:
    assert open_in(page, "lost") == "open"
    assert page.call(f"{INSIDE}.lose_connections", "lost") == [1, 2]
    page.call(f"{INSIDE}.close", "lost")
    assert page.call(f"{INSIDE}.destroy", "lost") is None


def test_two_tabs(page: Page, tab: OpenPage) -> None:
    """Updates of both are kept, each hears of the other's commits, an upgrade and a deletion in one
    are told to the other."""
    other = tab(page.where)
    for one in (page, other):
        assert open_in(one, "two") == "open"
    page.call(f"{INSIDE}.put", ["two", [{"id": "a", "n": 0}]])
    running = [one.start(f"{INSIDE}.increment", ["two", "a", 50]) for one in (page, other)]
    assert max(call.result() for call in running) == 100, "no update is lost"

    following = page.start(f"{INSIDE}.follow", ["two", 20])
    page.call(f"{INSIDE}.following")
    other.call(f"{INSIDE}.put", ["two", [{"id": "news", "n": 2_000}]])
    assert following.result() == ["news"], "heard by a hint: the query does not look by itself"

    other.call(f"{INSIDE}.close", "two")
    assert open_in(other, "two", "more") == "open", "the first tab lets go of the old version"
    refused = page.call(f"{INSIDE}.keys", "two")
    assert refused["error"] == "SchemaMismatch"
    assert "Reload the page" in refused["text"]
    page.call(f"{INSIDE}.close", "two")
    assert open_in(page, "two", "more") == "open"
    assert page.call(f"{INSIDE}.keys", "two") == ["a", "news"]

    assert other.call(f"{INSIDE}.destroy", "two") is None
    for _ in range(2):
        gone = page.call(f"{INSIDE}.keys", "two")
        assert gone["error"] == "Closed"
        assert "deleted" in gone["text"]
    page.call(f"{INSIDE}.close", "two")
    assert open_in(page, "two") == "open"
    assert page.call(f"{INSIDE}.keys", "two") == []
    page.call(f"{INSIDE}.close", "two")
    other.call(f"{INSIDE}.close", "two")
    assert page.call(f"{INSIDE}.destroy", "two") is None


@pytest.mark.parametrize(
    "browser, where", [("chromium", "page"), ("firefox", "worker")], indirect=True
)
def test_a_tab_with_a_newer_form_of_documents_takes_over(page: Page, tab: OpenPage) -> None:
    """The old tab is told to reload, and cannot write an old form among the new ones; a tab that is
    closed while documents are brought up leaves them all old or all new."""
    name = f"forms-{page.where}"
    newer = tab(page.where)
    assert open_in(page, name) == "open"
    page.call(f"{INSIDE}.put", [name, [{"id": n, "n": n} for n in range(1_000)]])
    newer.start(f"{INSIDE}.open_", [name, "second", {}])
    newer.close()
    found = page.call(f"{INSIDE}.keys", name)
    if isinstance(found, dict):
        assert found["error"] == "SchemaMismatch"
    else:
        assert len(found) == 1_000
    newer = tab(page.where)
    assert open_in(newer, name, "second") == "open"
    assert newer.call(f"{INSIDE}.forms", name) == [2]
    assert len(newer.call(f"{INSIDE}.keys", name)) == 1_000
    refused = page.call(f"{INSIDE}.put", [name, [{"id": 1, "n": 7}]])
    assert refused["error"] == "SchemaMismatch"
    assert "Reload the page" in refused["text"]
    page.call(f"{INSIDE}.close", name)
    refused = open_in(page, name)
    assert refused["error"] == "SchemaMismatch"
    assert "this program knows 1" in refused["text"]
    assert open_in(page, name, "second") == "open", "reloaded, it is the newer program"
    assert page.call(f"{INSIDE}.forms", name) == [2]
    for one in (page, newer):
        one.call(f"{INSIDE}.close", name)
    assert page.call(f"{INSIDE}.destroy", name) is None


def test_a_tab_that_does_not_let_go_is_told_of_and_waited_for(page: Page) -> None:
    assert open_in(page, "stuck") == "open"
    page.call(f"{INSIDE}.close", "stuck")
    page.evaluate("""
        window.stubborn = await new Promise((done, failed) => {
          const request = indexedDB.open("stuck");
          request.onsuccess = () => done(request.result);
          request.onerror = () => failed(request.error);
        });
    """)
    page.call(f"{INSIDE}.wait_for_others", 1.0)
    refused = open_in(page, "stuck", "more")
    page.call(f"{INSIDE}.wait_for_others", None)
    assert refused["error"] == "Busy"
    assert "Another tab" in refused["text"]
    page.evaluate("window.stubborn.close();")
    assert open_in(page, "stuck", "more") == "open"
    page.call(f"{INSIDE}.close", "stuck")
    assert page.call(f"{INSIDE}.destroy", "stuck") is None


def test_a_database_of_another_program_is_left_alone(page: Page) -> None:
    page.evaluate("""
        await new Promise((done, failed) => {
          const request = indexedDB.open("foreign");
          request.onupgradeneeded = () => request.result.createObjectStore("things").put("thing", 1);
          request.onsuccess = () => { request.result.close(); done(); };
          request.onerror = () => failed(request.error);
        });
    """)
    refused = open_in(page, "foreign")
    assert refused["error"] == "CannotOpen"
    assert "not one of Homeport's" in refused["text"]
    assert page.call(f"{INSIDE}.destroy", "foreign") is None


def filled(page: Page, kind: str = "docs") -> list[str]:
    assert open_in(page, "full", kind) == "open"
    found = page.call(f"{INSIDE}.fill", ["full", 40], timeout_s=100)
    assert found["failed"] is not None, ("the browser has refused", len(found["stored"]), len(found["kept"]))
    assert found["failed"]["error"] == "QuotaExceeded"
    assert len(found["stored"]) >= 3
    assert found["kept"] == sorted(found["stored"]), "what was acknowledged is there, the rest is not"
    stored: list[str] = found["stored"]
    return stored


def still_usable(page: Page, stored: list[str]) -> None:
    """A store that is full refuses with the same error again and again, and keeps what it has; what is
    deleted makes room."""
    for n in range(3):
        answers = page.call(f"{INSIDE}.put_large_at_once", ["full", f"large{n}-"])
        assert {one["error"] for one in answers if isinstance(one, dict)} == {"QuotaExceeded"}
        stored += [key for one in answers if isinstance(one, list) for key in one]
        assert page.call(f"{INSIDE}.tidy", ["full", [stored.pop()]]) == 1
        assert page.call(f"{INSIDE}.put", ["full", [{"id": f"small{n}"}]]) == [f"small{n}"]
        stored.append(f"small{n}")
        assert page.call(f"{INSIDE}.keys", "full") == sorted(stored)


def test_a_full_quota_is_typed_in_chromium(chromium: Chromium, website: Website) -> None:
    context = chromium.new_context()
    page = chromium.in_context(context, website.second_origin)
    page.protocol("Storage.overrideQuotaForOrigin", origin=website.second_origin, quotaSize=12_000_000)
    stored = filled(page)
    # Chromium gives room back when it tidies up, some time later; until then it refuses everything.
    page.protocol("Storage.overrideQuotaForOrigin", origin=website.second_origin, quotaSize=50_000_000)
    assert page.call(f"{INSIDE}.tidy", ["full", stored]) == len(stored)
    assert page.call(f"{INSIDE}.put", ["full", [{"id": "after"}]]) == ["after"]
    page.check()
    page.close()
    chromium.run(context.close, 30)


def test_data_that_the_user_clears_is_told(chromium: Chromium, website: Website) -> None:
    """The browser closes the connection; the next call says what has happened."""
    context = chromium.new_context()
    page = chromium.in_context(context, website.second_origin)
    assert open_in(page, "cleared") == "open"
    page.call(f"{INSIDE}.put", ["cleared", [{"id": 1}]])
    page.protocol("Storage.clearDataForOrigin", origin=website.second_origin, storageTypes="indexeddb")
    found = page.call(f"{INSIDE}.keys", "cleared")
    assert found["error"] == "Closed"
    page.call(f"{INSIDE}.close", "cleared")
    assert open_in(page, "cleared") == "open"
    assert page.call(f"{INSIDE}.keys", "cleared") == []
    page.check()
    page.close()
    chromium.run(context.close, 30)


def start(kind: str, profile: Path) -> Browser:
    if kind == "chromium":
        return Chromium(str(profile))
    # 20 MB for all, of which one site gets a part.
    return Firefox(str(profile), **{"dom.quotaManager.temporaryStorage.fixedLimit": 20_480})


@pytest.mark.parametrize("kind", ["chromium", "firefox"])
def test_a_killed_browser_has_kept_what_it_acknowledged(kind: str, website: Website, tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    profile.mkdir()
    first = start(kind, profile)
    try:
        page = first.open(website.origin)
        page.call(f"{FALLBACK}.open_", ["crash", {"storage": "simple"}])
        page.start(f"{FALLBACK}.write_for_ever", "crash")
        time.sleep(LOCALSTORAGE_S)
        assert open_in(page, "crash") == "open"
        page.start(f"{INSIDE}.write_for_ever", "crash")
        deadline = time.monotonic() + 60
        while (acknowledged := page.evaluate("return window.acknowledged ?? -1")) < 100:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert page.evaluate("return window.pairs ?? -1") > 20
    finally:
        first.kill()
    again = start(kind, profile)
    try:
        page = again.open(website.origin)
        assert open_in(page, "crash") == "open"
        found = page.call(f"{INSIDE}.keys", "crash")
        assert found[: acknowledged + 1] == list(range(acknowledged + 1))
        assert found == list(range(len(found))), "nothing is there that was not written in order"
        assert page.call(f"{FALLBACK}.open_", ["crash", {"storage": "simple"}])["engine"] == "localStorage"
        pairs = [one["id"] for one in page.call(f"{FALLBACK}.all_", "crash")[0]]
        whole = {f"{letter}{n}" for letter in "ab" for n in range(len(pairs) // 2)}
        assert set(pairs) == whole, "the last commits of localStorage may be gone, none is there by half"
        if kind == "firefox":
            # Nothing follows such a write in its transaction: the commit itself waits for it.
            still_usable(page, filled(page, "untracked"))
        page.check()
    finally:
        again.close()
