"""Firefox, driven by Selenium and geckodriver."""

from __future__ import annotations

import tempfile
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.firefox.options import Options
from selenium.webdriver.firefox.service import Service

from tests.browser import programs
from tests.browser.pages import Browser, Hung, Page

# A script of Selenium has a global object of its own, so the page's is always named: window.
SCRIPT = """
const done = arguments[arguments.length - 1], arguments_ = [...arguments].slice(0, -1);
(async () => { %s })().then((ok) => done({ ok }), (error) => done({ error: String(error?.stack ?? error) }));
"""
PREFERENCES = {
    "privacy.reduceTimerPrecision": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "network.disable-localhost-when-offline": True,
    # A process for each tab, so that one can be stopped.
    "dom.ipc.processCount.webIsolated": 4,
    "dom.ipc.processCount.webCOOP+COEP": 4,
}


class Firefox(Browser):
    """profile: a folder that outlives the browser."""

    name = "firefox"

    def __init__(self, profile: str | None = None, **preferences: Any) -> None:
        super().__init__()
        options = Options()
        options.binary_location = programs.firefox()
        options.add_argument("-headless")
        options.add_argument("-remote-allow-system-access")
        for name, value in {**PREFERENCES, **preferences}.items():
            options.set_preference(name, value)
        self._own = None if profile is not None else tempfile.TemporaryDirectory(prefix="firefox-")
        self.profile = profile or self._own.name  # type: ignore[union-attr]
        options.add_argument("-profile")
        options.add_argument(self.profile)
        self.driver = webdriver.Firefox(options=options, service=Service(programs.geckodriver()))
        self._first: str | None = self.driver.current_window_handle

    def _new_page(self) -> FirefoxPage:
        if self._first is not None:
            handle, self._first = self._first, None
        else:
            self.driver.switch_to.window(self.driver.window_handles[0])
            self.driver.switch_to.new_window("tab")
            handle = self.driver.current_window_handle
        return FirefoxPage(self, handle)

    def privileged(self, script: str, *arguments: Any) -> Any:
        """Run a script as the browser's own code."""
        with self.driver.context(self.driver.CONTEXT_CHROME):
            return self.driver.execute_script(script, *arguments)

    def set_offline(self, offline: bool) -> None:
        """As "Work Offline" of its menu."""
        self.privileged("Services.io.offline = arguments[0]", offline)

    def kill(self) -> None:
        assert programs.kill_profile(self.profile) > 0
        for page in self.pages:
            page.closed = True
        self.close()

    def close(self) -> None:
        try:
            self.driver.quit()
        except WebDriverException:
            pass  # it was killed
        except Exception:  # the connection to geckodriver is gone with it
            pass
        if self._own is not None:
            self._own.cleanup()


class FirefoxPage(Page):
    def __init__(self, browser: Firefox, handle: str) -> None:
        self._browser = browser
        self._handle = handle

    def evaluate(self, body: str, *arguments: Any, timeout_s: float = 30.0) -> Any:
        driver = self._browser.driver
        if driver.current_window_handle != self._handle:
            driver.switch_to.window(self._handle)
        driver.set_script_timeout(timeout_s)
        try:
            found = driver.execute_async_script(SCRIPT % body, *arguments)
        except TimeoutException:
            raise Hung(f"Firefox has not answered within {timeout_s} s") from None
        if "error" in found:
            raise AssertionError(found["error"])
        return found.get("ok")

    def process(self) -> int:
        """Of the tab."""
        self._browser.driver.switch_to.window(self._handle)
        found: int = self._browser.privileged(
            "return Services.wm.getMostRecentWindow('navigator:browser').gBrowser"
            ".selectedBrowser.browsingContext.currentWindowGlobal.osPid"
        )
        return found

    def load(self, url: str) -> None:
        driver = self._browser.driver
        driver.switch_to.window(self._handle)
        driver.get(url)

    def close(self) -> None:
        self.closed = True
        driver = self._browser.driver
        driver.switch_to.window(self._handle)
        if len(driver.window_handles) == 1:
            driver.switch_to.new_window("tab")
            keep = driver.current_window_handle
            self._browser._first = keep
            driver.switch_to.window(self._handle)
        driver.close()
        driver.switch_to.window(driver.window_handles[0])
