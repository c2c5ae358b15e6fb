"""Pages and workers sync with a real node and PostgreSQL, and agree with a desktop device."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import OpenPage
from tests.browser.network import until
from tests.browser.pages import Page
from tests.browser.refusal import give_back, take
from tests.e2e.world import Device, Node

INSIDE = "browser.inside_sync"


def test_a_page_a_second_tab_and_a_desktop_device_agree(
    page: Page, tab: OpenPage, node: Node, tmp_path: Path
) -> None:
    """Also over a restart of the node, while which both sides write; and the second tab, which only
    shows what the first one fetches, takes over when that is closed."""
    name = f"sync-{page._browser.name}-{page.where}"  # type: ignore[attr-defined]
    one, two, three = (f"{name}-{n}" for n in (1, 2, 3))
    first = tab(page.where)
    for each in (first, page):
        each.call(f"{INSIDE}.open_", [name, node.url, node.token])
    desktop = Device(tmp_path / "desktop.db", node.url, node.token)
    try:
        desktop.do("start")
        first.call(f"{INSIDE}.put", [name, [{"id": one, "depth_m": 1.0}]])
        until(lambda: desktop.do("get", c="wells", key=one), lambda found: found is not None)
        desktop.do("put", c="wells", doc={"id": two, "depth_m": 2.0})
        for each in (first, page):
            until(lambda each=each: each.call(f"{INSIDE}.state", name), lambda found: two in found["wells"])
        leads = [each.call(f"{INSIDE}.state", name)["leads"] for each in (first, page)]
        assert leads == [True, False], "one tab replicates for both"

        node.stop()
        first.call(f"{INSIDE}.put", [name, [{"id": one, "depth_m": 10.0}]])
        desktop.do("put", c="wells", doc={"id": three, "depth_m": 3.0})
        until(lambda: first.call(f"{INSIDE}.state", name), lambda found: found["state"] == "offline")
        assert first.call(f"{INSIDE}.state", name)["queued"] == 1
        found = until(
            lambda: page.call(f"{INSIDE}.state", name), lambda found: found["next_attempt_s"] is not None
        )
        assert found["state"] == "standby", "the other tab knows that the one which syncs is offline"
        first.close()
        node.start()
        found = until(
            lambda: page.call(f"{INSIDE}.state", name),
            lambda found: three in found["wells"] and found["queued"] == 0,
        )
        assert found["leads"], "the tab that is left has taken over"
        until(
            lambda: desktop.do("get", c="wells", key=one),
            lambda found: found is not None and found["depth_m"] == 10.0,
        )
        assert found["wells"][one] == 10.0
    finally:
        desktop.quit()
    page.call(f"{INSIDE}.close", name)
    # A refused connection is an error on the console of the page by itself.
    page.forgive("Failed to load resource", "WebSocket connection to", "NetworkError")


def test_every_kind_of_stream_and_the_blocking_facade(page: Page, node: Node) -> None:
    found = page.call(f"{INSIDE}.kinds", [node.url, node.token])
    assert {name for name, said in found.items() if said == "ready"} == {
        "websocket good", "sse good", "long-poll good",
    }, found  # fmt: skip
    assert found["websocket bad"] == found["sse bad"] == found["long-poll bad"] == "StreamEnded: auth"
    name = f"blocking-{page._browser.name}-{page.where}"  # type: ignore[attr-defined]
    queued, count = page.call(f"{INSIDE}.blocking", [name, node.url, node.token])
    assert [queued, count > 0] == [0, True]
    page.forgive("Failed to load resource")


@pytest.mark.parametrize("where", ["page"], indirect=True)
def test_what_was_written_without_indexeddb_is_sent_once(page: Page, node: Node, tmp_path: Path) -> None:
    """The queue, the ids of the device and its checkpoint are IndexedDB's and stay; the move up is
    killed once in between, and a desktop device has edited one of the documents meanwhile."""
    name = f"moved-{page._browser.name}"  # type: ignore[attr-defined]
    kept, edited, gone, offline, new = (f"{name}-{n}" for n in ("kept", "edited", "gone", "offline", "new"))
    desktop = Device(tmp_path / "desktop.db", node.url, node.token)
    try:
        page.call(f"{INSIDE}.open_", [name, node.url, node.token])
        page.call(f"{INSIDE}.put", [name, [{"id": key, "depth_m": 1.0} for key in (kept, edited, gone)]])
        until(lambda: page.call(f"{INSIDE}.state", name), lambda found: found["queued"] == 0)
        page.call(f"{INSIDE}.stop", name)
        page.call(f"{INSIDE}.put", [name, [{"id": offline, "depth_m": 2.0}]])
        page.call(f"{INSIDE}.leave", name)
        before = page.call(f"{INSIDE}.what_waits", name)
        assert before["queue"] == [["put", offline]]
        assert all(before["device"])
        desktop.do("now")
        desktop.do("patch", c="wells", key=edited, changes={"field": "north"})
        desktop.do("now")

        take(page)
        written = [{"id": edited, "depth_m": 5.0}, {"id": new, "depth_m": 6.0}]
        assert page.call(f"{INSIDE}.meanwhile", [name, written, [gone]]) == ["localStorage", "Fallback"]
        give_back(page)
        assert page.call(f"{INSIDE}.killed_move", name) == "killed"
        after = page.call(f"{INSIDE}.what_waits", name)
        assert sorted(after["queue"]) == sorted(
            [["put", offline], ["patch", edited], ["put", new], ["delete", gone]]
        ), "each once"
        assert after["device"] == before["device"]
        assert after["told"] == [[0, 1, 0, 0]], "the documents had been moved already"

        page.call(f"{INSIDE}.open_", [name, node.url, node.token])
        found = until(
            lambda: page.call(f"{INSIDE}.state", name),
            lambda found: found["queued"] == 0 and found["error"] is None and found["state"] == "idle",
        )
        assert found["pushed"] == 4
        assert found["pulled"] <= 10, "it goes on from its checkpoint"
        desktop.do("now")
        wells = {key: doc for key, doc in desktop.do("all")["wells"].items() if key.startswith(name)}
        assert wells == {
            kept: {"id": kept, "depth_m": 1.0},
            edited: {"id": edited, "depth_m": 5.0, "field": "north"},
            offline: {"id": offline, "depth_m": 2.0},
            new: {"id": new, "depth_m": 6.0},
        }
        mine = page.call(f"{INSIDE}.state", name)["wells"]
        assert {key: depth for key, depth in mine.items() if key.startswith(name)} == {
            key: doc["depth_m"] for key, doc in wells.items()
        }
        page.call(f"{INSIDE}.close", name)
    finally:
        give_back(page)
        desktop.quit()
