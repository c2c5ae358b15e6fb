"""Sync from pages over networks that are bad: proxies that break streams, tokens that expire, none at
all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.network import INSIDE, REFUSED, Desktop, between, finish, look, until
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
