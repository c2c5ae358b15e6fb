"""Encrypted databases in real browsers, on the page and in a Web Worker."""

from __future__ import annotations

from homeport.testing import conformance
from tests.browser.pages import Browser, Page
from tests.browser.website import Website
from tests.facade import cases, shared
from tests.portable import inside
from tests.portable.test_sealed import check, from_cpython


def test_an_encrypted_database_shows_nothing_and_opens_to_its_key_only(page: Page) -> None:
    check(page.call("portable.inside_sealed.everything", from_cpython(), timeout_s=120))


def test_the_suites_pass_with_a_key(browser: Browser, website: Website) -> None:
    """Half of the cases in each browser."""
    every = [2, 0 if browser.name == "chromium" else 1]
    page = browser.open(website.origin)
    suite = page.call("portable.inside_sealed.suite", every, timeout_s=200)
    assert suite["failed"] == {}
    assert suite["ran"] == len(conformance.cases(inside.TABLE)[every[1] :: 2])
    found = page.call("portable.inside_sealed.facade", timeout_s=120)
    for kind in ("asyncio", "blocking"):
        assert found[kind]["failed"] == {}
        assert found[kind]["ran"] == len(shared.checks(cases))
    page.check()
    page.close()
