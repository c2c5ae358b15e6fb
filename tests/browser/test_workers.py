"""Sync where no page is: in a worker that all tabs share; and of databases that are encrypted. Each in one
browser, for the time it takes; both pass in the other."""

from __future__ import annotations

from tests.browser.chromium import Chromium
from tests.browser.firefox import Firefox
from tests.browser.network import INSIDE, REFUSED, Desktop, finish, look, until
from tests.browser.website import Website
from tests.e2e.world import Node


def test_a_shared_worker_syncs_for_all_tabs(chromium: Chromium, website: Website, node: Node) -> None:
    """One Python, one connection, one leader; and it goes on when the tab that began it is closed."""
    name = key = "shared-worker"
    one, two = chromium.open(website.origin, "shared"), chromium.open(website.origin, "shared")
    desktop = Desktop(node)
    one.call(f"{INSIDE}.open_", [name, node.url, node.token])
    two.call(f"{INSIDE}.add", [name, key, 2])  # opened by the other tab: it is the same Python
    until(desktop.counts, lambda found: found.get(key) == 2)
    until(lambda: look(two, name), lambda found: found["stream"] == "websocket")
    one.close()
    desktop.add(key, 10)
    found = until(lambda: look(two, name), lambda found: found["counts"][key] == 12)
    assert found["leads"]
    two.call(f"{INSIDE}.add", [name, key, 1])
    until(desktop.counts, lambda found: found.get(key) == 13)
    desktop.close()
    finish(two, name)
    two.check()
    two.close()


def test_an_encrypted_database_syncs_and_shows_nothing_of_it(
    firefox: Firefox, website: Website, node: Node
) -> None:
    """Neither its queue nor what came in; the node and a desktop device have the documents."""
    name, mine, theirs = "sealed-sync", "mine", "theirs"
    page, desktop = firefox.open(website.origin, "worker"), Desktop(node)
    page.forgive(*REFUSED)
    page.call(f"{INSIDE}.open_", [name, "http://127.0.0.1:9", node.token, True, True])
    page.call(f"{INSIDE}.note", [name, mine, "marzipan and rum"])
    found = until(lambda: look(page, name), lambda found: found["state"] == "offline")
    assert found["queued"] == 1
    kept = page.call(f"{INSIDE}.everything", name)
    assert "counts" in kept
    assert "marzipan" not in kept
    page.call(f"{INSIDE}.close", name)

    page.call(f"{INSIDE}.open_", [name, node.url, node.token, True, True])
    until(desktop.notes, lambda found: found.get(mine) == "marzipan and rum")
    desktop.note(mine, "only currants")
    desktop.db["counts"].put({"id": theirs, "n": 0, "note": "raisins"})
    desktop.sync.now(timeout_s=30)
    wanted = {mine: "only currants", theirs: "raisins"}
    until(lambda: page.call(f"{INSIDE}.notes", name), lambda found: wanted.items() <= found.items())
    until(lambda: look(page, name), lambda found: found["queued"] == 0 and found["state"] == "idle")
    assert desktop.notes().items() >= wanted.items()
    kept = page.call(f"{INSIDE}.everything", name)
    assert not [word for word in ("marzipan", "currants", "raisins") if word in kept]
    desktop.close()
    finish(page, name)
    page.call(f"{INSIDE}.unseal", name)
    page.check()
    page.close()
