"""Chromium, driven by Playwright on a thread of its own, so that tests may have their own loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from playwright.async_api import BrowserContext, async_playwright
from playwright.async_api import Page as PlaywrightPage

from tests.browser import programs
from tests.browser.pages import Browser, Hung, Page

R = TypeVar("R")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
]  # fmt: skip


class Chromium(Browser):
    """profile: a folder that outlives the browser; without one every context begins empty."""

    name = "chromium"

    def __init__(self, profile: str | None = None, *, flags: list[str] | None = None) -> None:
        super().__init__()
        path = programs.chromium()
        self.profile = profile
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._words = {
            "executable_path": path, "headless": True, "args": [*FLAGS, *(flags or [])],
        }  # fmt: skip
        try:
            self.run(self._start, 60)
        except BaseException:
            self._stop()
            raise

    def run(self, work: Callable[[], Coroutine[Any, Any, R]], timeout_s: float) -> R:
        """Run a coroutine function on Playwright's loop → its value."""
        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            if future.done():
                raise
            future.cancel()
            raise Hung(f"Chromium has not answered within {timeout_s} s") from None

    async def _start(self) -> None:
        self._playwright = await async_playwright().start()
        chromium = self._playwright.chromium
        if self.profile is None:
            self._browser = await chromium.launch(**self._words)
            self.context = await self._browser.new_context()
        else:
            self.context = await chromium.launch_persistent_context(self.profile, **self._words)

    def new_context(self) -> BrowserContext:
        """Another storage; give it to ``in_context``."""
        return self.run(self._browser.new_context, 30)

    def in_context(self, context: BrowserContext, origin: str, where: Any = "page") -> ChromiumPage:
        page = self._page_of(context)
        self.pages.append(page)
        page.boot(origin, where)
        return page

    def _new_page(self) -> ChromiumPage:
        return self._page_of(self.context)

    def _page_of(self, context: BrowserContext) -> ChromiumPage:
        async def make() -> ChromiumPage:  # listeners are commands too: on Playwright's own loop
            return ChromiumPage(self, await context.new_page())

        return self.run(make, 30)

    def set_offline(self, offline: bool) -> None:
        """For all pages that share this storage."""
        self.run(lambda: self.context.set_offline(offline), 10)

    def kill(self) -> None:
        assert self.profile is not None
        assert programs.kill_profile(self.profile) > 0
        for page in self.pages:
            page.closed = True
        self.close()

    def close(self) -> None:
        async def end() -> None:
            try:
                await self.context.close()
                if self.profile is None:
                    await self._browser.close()
            except Exception:
                pass  # it was killed
            await self._playwright.stop()

        try:
            self.run(end, 30)
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class ChromiumPage(Page):
    def __init__(self, browser: Chromium, page: PlaywrightPage) -> None:
        self._browser = browser
        self.page = page
        self._said: list[str] = []
        self._heard = 0
        page.on("pageerror", lambda error: self._said.append(f"page error: {error}"))
        page.on("crash", lambda _: self._said.append("the page has crashed"))
        page.on("console", self._console)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self._said.append(f"console: {message.text}")

    def evaluate(self, body: str, *arguments: Any, timeout_s: float = 30.0) -> Any:
        return self._browser.run(
            lambda: self.page.evaluate(f"async (arguments_) => {{ {body} }}", list(arguments)), timeout_s
        )

    def complaints(self) -> list[str]:
        return [*self._said, *super().complaints()]

    def load(self, url: str) -> None:
        self._browser.run(lambda: self.page.goto(url), 30)

    def protocol(self, method: str, **words: Any) -> Any:
        """A command of the DevTools protocol."""

        async def send() -> Any:
            session = await self.page.context.new_cdp_session(self.page)
            return await session.send(method, words)

        return self._browser.run(send, 30)

    def close(self) -> None:
        self.closed = True
        self._browser.run(self.page.close, 30)
