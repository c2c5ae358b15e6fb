"""What stands between a page and its node in these tests, and how a page is asked about it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import homeport as hp
from homeport.server.serve import mint
from tests.browser.inside_tabs import COUNTS
from tests.browser.pages import Page
from tests.e2e.world import Node
from tests.server.middlebox import Middlebox

INSIDE = "browser.inside_tabs"
REFUSED = ("Failed to load resource", "WebSocket connection to", "NetworkError", "can\u2019t establish",
           "ERR_", "was interrupted")  # fmt: skip
"""What browsers say by themselves of connections that end."""


def until(look: Callable[[], Any], good: Callable[[Any], bool], limit_s: float = 40.0) -> Any:
    deadline = time.monotonic() + limit_s
    while not good(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def look(page: Page, name: str) -> dict[str, Any]:
    found: dict[str, Any] = page.call(f"{INSIDE}.look", name)
    return found


def token_of(node: Node, ttl_s: float = 600.0, subject: str = "dev") -> str:
    return mint(subject, "dev", ttl_s, data_dir=node.folder)


def finish(page: Page, name: str) -> None:
    page.call(f"{INSIDE}.close", name)
    page.call(f"{INSIDE}.destroy", name)


class Desktop:
    """A device elsewhere, which syncs when it is asked."""

    def __init__(self, node: Node) -> None:
        self.db = hp.open(":memory:", collections=[COUNTS])
        self.sync = self.db.sync(node.url, token=node.token, live=False)

    def counts(self) -> dict[str, int]:
        self.sync.now(timeout_s=30)
        return {one["id"]: one["n"] for one in self.db[COUNTS].all()}

    def notes(self) -> dict[str, str]:
        self.sync.now(timeout_s=30)
        return {one["id"]: one["note"] for one in self.db[COUNTS].all() if "note" in one}

    def note(self, key: str, text: str) -> None:
        self.db[COUNTS].update(key, lambda found: {**found, "note": text})
        self.sync.now(timeout_s=30)

    def add(self, key: str, n: int) -> None:
        self.sync.now(timeout_s=30)
        self.db[COUNTS].update(key, lambda found: {**found, "n": found["n"] + n})
        self.sync.now(timeout_s=30)

    def close(self) -> None:
        self.sync.stop()
        self.db.close()


@contextmanager
def between(url: str, **faults: Any) -> Iterator[Middlebox]:
    """A bad proxy on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    box = Middlebox(url, **faults)

    async def end() -> None:
        await box.__aexit__(None, None, None)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # sockets are closed in the loop's next turn

    asyncio.run_coroutine_threadsafe(box.__aenter__(), loop).result(10)
    try:
        yield box
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
