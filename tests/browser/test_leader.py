"""The tab that syncs for all stops without a word: another goes on, and nothing is lost or doubled."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from homeport.testing import FaultProxy
from tests.browser.firefox import FirefoxPage
from tests.browser.network import INSIDE, REFUSED, Desktop, look, until
from tests.browser.pages import Browser, Page
from tests.browser.plain_chromium import PlainChromium, PlainPage
from tests.browser.website import Website
from tests.e2e.world import Node


@pytest.fixture(params=["chromium", "firefox"])
def freezing(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """A browser whose tabs can be stopped."""
    if request.param == "firefox":
        yield request.getfixturevalue("firefox")
        return
    found = PlainChromium()
    yield found
    found.close()


WRITES_PASS = """
  const database = await new Promise((done, failed) => {
    const request = indexedDB.open(arguments_[0]);
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
  const writing = database.transaction([...database.objectStoreNames], "readwrite");
  const passed = new Promise((done) => { writing.oncomplete = () => done(true); });
  const found = await Promise.race([passed, new Promise((done) => setTimeout(done, 2000, false))]);
  database.close();
  return found;
"""


@contextmanager
def frozen(page: Page, other: Page, name: str) -> Iterator[None]:
    """The browser's own freezing; or the process behind the tab is stopped, at a moment when it has
    no transaction open: that would hold up all others, which a browser's own freezing does not."""
    if isinstance(page, PlainPage):
        page.protocol("Page.setWebLifecycleState", state="frozen")
        try:
            yield
        finally:
            page.protocol("Page.setWebLifecycleState", state="active")
        return
    assert isinstance(page, FirefoxPage) and isinstance(other, FirefoxPage)
    process = page.process()
    assert process != other.process()
    try:
        for _ in range(20):
            os.kill(process, signal.SIGSTOP)
            if other.evaluate(WRITES_PASS, name):
                break
            os.kill(process, signal.SIGCONT)
            time.sleep(0.1)
        else:
            pytest.fail("the tab has a transaction open whenever one looks")
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_a_leader_that_is_frozen_is_replaced_and_goes_on_as_one_of_many(
    freezing: Browser, website: Website, node: Node
) -> None:
    """Its lease would hold for ten minutes, and its lock is held: only that it does not answer tells.
    It is stopped with a batch on its way, which the other tab sends again."""
    name = key = f"frozen-{freezing.name}"
    one, two = freezing.open(website.origin), freezing.open(website.origin)
    with FaultProxy(node.url) as proxy:
        for page, url, live in ((one, proxy.url, False), (two, node.url, True)):
            page.forgive(*REFUSED)
            page.call(f"{INSIDE}.quick", {"lease_ms": 600_000})
            page.call(f"{INSIDE}.open_", [name, url, node.token, live])
        desktop = Desktop(node)
        one.call(f"{INSIDE}.add", [name, key, 3])
        until(lambda: look(two, name), lambda found: found["counts"].get(key) == 3 and not found["queued"])
        until(lambda: [look(page, name)["leads"] for page in (one, two)], [True, False].__eq__)
        until(lambda: look(one, name)["state"], "idle".__eq__)  # and no hint makes it ask
        proxy.latency_s, before = 0.5, len(proxy.requests)
        adding = one.start(f"{INSIDE}.add", [name, key, 5])
        until(lambda: len(proxy.requests), lambda found: found > before)
        proxy.held, proxy.latency_s = "answers", 0.0  # this one is still on its way to the node
        adding.result()
        # The node has at least the first of them, and one has no answer.
        until(desktop.counts, lambda found: found[key] > 3)
        with frozen(one, two, name):
            began = time.monotonic()
            two.call(f"{INSIDE}.add", [name, key, 7])
            until(desktop.counts, lambda found: found.get(key) == 15)
            print(f"taken over after {time.monotonic() - began:.1f} s")
            assert look(two, name)["leads"]
        proxy.heal()
        until(lambda: [look(page, name)["leads"] for page in (one, two)], [False, True].__eq__)
        one.call(f"{INSIDE}.add", [name, key, 1])
        two.call(f"{INSIDE}.add", [name, key, 1])
        until(desktop.counts, lambda found: found.get(key) == 17)
        for page in (one, two):
            until(lambda page=page: look(page, name), lambda found: found["queued"] == 0)
            assert look(page, name)["counts"][key] == 17
        two.call(f"{INSIDE}.close", name)
        until(lambda: look(one, name), lambda found: found["leads"])
        one.call(f"{INSIDE}.add", [name, key, 1])
        until(desktop.counts, lambda found: found.get(key) == 18)
        desktop.close()
        one.call(f"{INSIDE}.close", name)
    one.call(f"{INSIDE}.destroy", name)
    for page in (one, two):
        page.check()
        page.close()
