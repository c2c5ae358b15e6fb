"""Sync from pages over networks that are bad: proxies that break streams, tokens that expire, none at
all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from homeport.testing import FaultProxy
from tests.browser.network import INSIDE, REFUSED, Desktop, between, finish, look, token_of, until
from tests.browser.pages import Browser, Page
from tests.browser.website import Website
from tests.e2e.world import Node


@pytest.fixture(scope="module")
def kept(browser: Browser, website: Website) -> Iterator[Page]:
    page = browser.open(website.origin)
    yield page
    page.close()


@pytest.fixture
def page(kept: Page) -> Iterator[Page]:
    """One tab for all of these tests."""
    kept.call(f"{INSIDE}.quick", {})
    kept.forgive(*REFUSED)
    yield kept
    kept.check()


@pytest.fixture
def desktop(node: Node) -> Iterator[Desktop]:
    found = Desktop(node)
    yield found
    found.close()


@pytest.mark.parametrize(
    "stream, faults",
    [("sse", {"no_upgrade": 403}), ("long-poll", {"no_upgrade": 403, "buffered": True})],
)
def test_r22_a_proxy_that_breaks_streams_is_met_with_the_next_kind(
    browser: Browser, page: Page, node: Node, desktop: Desktop, stream: str, faults: dict[str, Any]
) -> None:
    name = key = f"{stream}-{browser.name}"
    page.call(f"{INSIDE}.quick", {"ready_s": 1.5, "longest_pause_ms": 300})
    with between(node.url, **faults) as proxy:
        page.call(f"{INSIDE}.open_", [name, proxy.url, node.token])
        page.call(f"{INSIDE}.add", [name, key, 1])
        until(lambda: look(page, name), lambda found: found["stream"] == stream)
        assert proxy.asked["/v1/live"] == 3, "a page is not told why: it tries again before it gives up"
        until(desktop.counts, lambda found: found.get(key) == 1)
        desktop.add(key, 10)
        until(lambda: look(page, name), lambda found: found["counts"][key] == 11)  # told of by the stream
        finish(page, name)


def test_a_node_that_is_away_is_no_reason_for_less_than_a_websocket(
    browser: Browser, page: Page, node: Node
) -> None:
    name = key = f"away-{browser.name}"
    page.call(f"{INSIDE}.quick", {"longest_pause_ms": 150})
    page.call(f"{INSIDE}.open_", [name, node.url, node.token])
    page.call(f"{INSIDE}.add", [name, key, 1])
    until(lambda: look(page, name), lambda found: found["stream"] == "websocket" and not found["queued"])
    node.stop()
    try:  # nobody writes: it is only the stream that is missed
        until(lambda: look(page, name), lambda found: found["stream"] is None)
        page.call(f"{INSIDE}.ended", ["unreachable", 5])
    finally:
        node.start()
    found = until(lambda: look(page, name), lambda found: found["stream"] is not None)
    assert found["stream"] == "websocket"
    finish(page, name)


def test_what_a_page_sends_and_fetches_is_packed(browser: Browser, page: Page, node: Node) -> None:
    name = f"packed-{browser.name}"
    page.call(f"{INSIDE}.open_", [name, node.url, node.token])
    until(lambda: look(page, name), lambda found: found["state"] == "idle")
    page.call(f"{INSIDE}.fill", [name, 300])
    found = until(lambda: look(page, name), lambda found: found["state"] == "idle" and not found["queued"])
    body, packed = found["sent"]
    assert 0 < packed * 5 < body, (body, packed)
    finish(page, name)
    page.call(f"{INSIDE}.open_", [name, node.url, node.token])
    found = until(lambda: look(page, name), lambda found: found["state"] == "idle")
    body, packed = found["received"]
    assert 0 < packed * 5 < body, (body, packed)
    finish(page, name)


def test_a_browser_asks_once_whether_the_page_may_ask(browser: Browser, page: Page, node: Node) -> None:
    """The node is on another origin than the page: each exchange could cost two requests."""
    name = key = f"preflight-{browser.name}"
    with between(node.url) as proxy:
        page.call(f"{INSIDE}.open_", [name, proxy.url, node.token])
        for _ in range(8):
            page.call(f"{INSIDE}.add", [name, key, 1])
            until(lambda: look(page, name), lambda found: not found["queued"])
        assert proxy.asked["/v1/sync"] >= 8
        assert 1 <= proxy.preflights <= 2, "once for each set of headers"
        finish(page, name)


@contextmanager
def no_network(browser: Browser, proxy: FaultProxy | None = None) -> Iterator[None]:
    """proxy: what the page goes through; Firefox keeps connections to its own machine."""
    if proxy is not None:
        proxy.down()
    browser.set_offline(True)
    try:
        yield
    finally:
        if proxy is not None:
            proxy.up()
        browser.set_offline(False)


def test_r01_offline_and_online_are_followed_at_once(
    browser: Browser, page: Page, node: Node, desktop: Desktop
) -> None:
    """By the events of the browser alone: any other pause is of ten minutes. One attempt looks
    whether it is true, and no other is made until the browser is online again."""
    name = key = f"offline-{browser.name}"
    with FaultProxy(node.url) as proxy:
        page.call(f"{INSIDE}.open_", [name, proxy.url, node.token])
        page.call(f"{INSIDE}.add", [name, key, 1])
        until(lambda: look(page, name), lambda found: found["stream"] == "websocket" and not found["queued"])
        page.call(f"{INSIDE}.quick", {"pause_ms": 600_000})
        page.call(f"{INSIDE}.forget")
        with no_network(browser, proxy):
            found = until(lambda: look(page, name), lambda found: found["state"] == "offline")  # nobody wrote
            asked = found["requests"]
            page.call(f"{INSIDE}.add", [name, key, 4])
            found = until(lambda: look(page, name), lambda found: "offline" in found["badges"])
            assert found["queued"] >= 1
            assert found["error"] is not None
            time.sleep(2.5)
            assert look(page, name)["requests"] == asked, "nothing is tried before the browser is online"
        found = until(
            lambda: look(page, name), lambda found: not found["queued"] and found["badges"][-1:] == ["synced"]
        )
        assert found["badges"].index("offline") < len(found["badges"]) - 1
        assert "offline" in found["states"]
        assert found["states"][-1] in ("idle", "syncing")
        assert desktop.counts()[key] == 5
        until(lambda: look(page, name), lambda found: found["stream"] == "websocket")
        desktop.add(key, 10)
        until(lambda: look(page, name), lambda found: found["counts"][key] == 15)  # the stream lives
        finish(page, name)


def test_r20_tokens_that_expire_are_renewed_and_refused_ones_are_a_state(
    browser: Browser, page: Page, node: Node, desktop: Desktop
) -> None:
    name = key = f"token-{browser.name}"
    # The second one is good for some seconds: the node grants five to clocks.
    tokens = [token_of(node, -60), token_of(node, -2), token_of(node)]
    page.call(f"{INSIDE}.open_", [name, node.url, tokens])
    for count in range(1, 400):
        page.call(f"{INSIDE}.add", [name, key, 1])
        time.sleep(0.05)
        if look(page, name)["asked"] >= 3:
            break
    else:
        pytest.fail("the token was not asked for again")
    found = until(lambda: look(page, name), lambda found: found["queued"] == 0 and found["state"] == "idle")
    assert "needs-auth" not in found["states"], "a token that is renewed is nothing to bother people with"
    assert desktop.counts()[key] == count, "nothing is lost, nothing is doubled"

    page.call(f"{INSIDE}.sign_in", ["nonsense"])
    found = until(lambda: look(page, name), lambda found: found["state"] == "needs-auth")
    page.call(f"{INSIDE}.add", [name, key, 1])
    assert look(page, name)["queued"] == 1
    page.call(f"{INSIDE}.sign_in", [token_of(node, subject="somebody-else")])
    found = until(lambda: look(page, name), lambda found: found["state"] == "wrong-user")
    assert "belongs to 'dev'" in found["error"]
    page.call(f"{INSIDE}.close", name)

    page.call(f"{INSIDE}.reject_text", [name, node.url])  # Pyodide alone would wait for ever
    found = until(lambda: look(page, name), lambda found: found["state"] == "needs-auth")
    assert "nobody is signed in" in found["error"]
    page.call(f"{INSIDE}.close", name)

    page.call(f"{INSIDE}.open_", [name, node.url, [token_of(node)]])
    until(lambda: look(page, name), lambda found: found["queued"] == 0 and found["state"] == "idle")
    assert desktop.counts()[key] == count + 1
    finish(page, name)


def test_r20_a_token_that_needs_the_network_is_no_sign_in_while_there_is_none(
    browser: Browser, page: Page, node: Node, desktop: Desktop
) -> None:
    """The page that is opened offline says offline, and goes on when it is online."""
    name = key = f"early-{browser.name}"
    with no_network(browser):
        page.call(f"{INSIDE}.open_", [name, node.url, ["", token_of(node)]])
        page.call(f"{INSIDE}.add", [name, key, 1])
        found = until(lambda: look(page, name), lambda found: found["state"] not in ("off", "syncing"))
        assert found["state"] == "offline"
        assert "no sign-in without a network" in found["error"]
    until(lambda: look(page, name), lambda found: found["queued"] == 0 and found["state"] == "idle")
    assert desktop.counts()[key] == 1
    finish(page, name)
