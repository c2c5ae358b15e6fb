"""The tab that syncs for all stops without a word: another goes on, and nothing is lost or doubled."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from homeport.testing import FaultProxy
from tests.browser.firefox import Firefox, FirefoxPage
from tests.browser.network import INSIDE, REFUSED, Desktop, look, until
from tests.browser.pages import Page
from tests.browser.website import Website
from tests.e2e.world import Node


@contextmanager
def stopped(page: FirefoxPage, other: FirefoxPage) -> Iterator[None]:
    """The process behind the tab is stopped: nothing of it runs, as of a page that hangs."""
    process = page.process()
    assert process != other.process()
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_a_leader_that_hangs_is_replaced_and_goes_on_as_one_of_many(
    firefox: Firefox, website: Website, node: Node
) -> None:
    """Its lease would hold for ten minutes, and its lock is held: only that it does not answer tells.
    It is stopped with a batch on its way, which the other tab sends again."""
    name = key = f"frozen-{firefox.name}"
    one, two = firefox.open(website.origin), firefox.open(website.origin)
    assert isinstance(one, FirefoxPage) and isinstance(two, FirefoxPage)
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
        with stopped(one, two):
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
