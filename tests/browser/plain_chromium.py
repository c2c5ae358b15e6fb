"""Chromium by its DevTools protocol alone. Playwright keeps every page focused, and a page in the
foreground cannot be frozen."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from websockets.sync.client import connect

from tests.browser import programs
from tests.browser.chromium import FLAGS
from tests.browser.pages import Browser, Hung, Page


class PlainChromium(Browser):
    name = "chromium"

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [programs.chromium(), "--headless=new", *FLAGS, "--remote-debugging-port=0",
             "--disable-renderer-backgrounding",  # of processes: pages behind others get no time
             f"--user-data-dir={self._folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._port = self._find_port()

    def _find_port(self) -> int:
        found = Path(self._folder.name) / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (found.exists() and (lines := found.read_text().split())):
            if time.monotonic() > deadline:
                self._process.kill()
                raise Hung("Chromium has not told its port")
            time.sleep(0.05)
        return int(lines[0])

    def _new_page(self) -> PlainPage:
        with urlopen(Request(f"http://127.0.0.1:{self._port}/json/new", method="PUT"), timeout=30) as answer:
            return PlainPage(json.load(answer)["webSocketDebuggerUrl"])

    def set_offline(self, offline: bool) -> None:
        for page in self.pages:
            assert isinstance(page, PlainPage)
            page.protocol("Network.emulateNetworkConditions", offline=offline, latency=0,
                          downloadThroughput=-1, uploadThroughput=-1)  # fmt: skip

    def kill(self) -> None:
        assert programs.kill_profile(self._folder.name) > 0

    def close(self) -> None:
        for page in self.pages:
            if not page.closed:
                page.close()
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait(20)
        self._folder.cleanup()


class PlainPage(Page):
    def __init__(self, url: str) -> None:
        self._held = ExitStack()
        self._socket = self._held.enter_context(connect(url, max_size=None))
        self._last = 0
        self._loaded = 0
        self.protocol("Page.enable")

    def protocol(self, method: str, *, timeout_s: float = 30.0, **words: Any) -> Any:
        """A command of the DevTools protocol."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": words}))
        while True:
            said = self._next(timeout_s, method)
            if said.get("id") == self._last:
                assert "error" not in said, said
                return said["result"]

    def _next(self, timeout_s: float, what: str) -> dict[str, Any]:
        try:
            said: dict[str, Any] = json.loads(self._socket.recv(timeout_s))
        except TimeoutError:
            raise Hung(f"Chromium has not answered within {timeout_s} s: {what}") from None
        self._loaded += said.get("method") == "Page.loadEventFired"
        return said

    def evaluate(self, body: str, *arguments: Any, timeout_s: float = 30.0) -> Any:
        found = self.protocol(
            "Runtime.evaluate", awaitPromise=True, returnByValue=True, timeout_s=timeout_s,
            expression=f"(async (arguments_) => {{ {body} }})({json.dumps(list(arguments))})",
        )  # fmt: skip
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def load(self, url: str) -> None:
        before = self._loaded
        self.protocol("Page.navigate", url=url)
        while self._loaded == before:
            self._next(30, url)

    def close(self) -> None:
        self.closed = True
        self.protocol("Page.close")
        self._held.close()
