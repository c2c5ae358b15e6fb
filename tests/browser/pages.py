"""What a test does with a page, in either browser: call Python in it, and hear what went wrong."""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from typing import Any, Literal

Where = Literal["page", "worker", "shared", "nowhere"]
BOOT_S = 90.0
_numbers = itertools.count(1)


class CallFailed(AssertionError):
    """A Python function in the page raised; the text is its traceback."""


class Hung(AssertionError):
    """A call did not return in time."""


class Call:
    """A call of Python in a page that has begun."""

    def __init__(self, page: Page, number: int, what: str) -> None:
        self._page = page
        self._number = number
        self._what = what

    def result(self, timeout_s: float = 60.0) -> Any:
        found = self._page.evaluate(
            "return await window.harness.wait(arguments_[0], arguments_[1])",
            self._number, timeout_s * 1000, timeout_s=timeout_s + 10,
        )  # fmt: skip
        if found.get("late"):
            raise Hung(f"{self._what} has not returned within {timeout_s} s; {self._page.complaints()}")
        if "error" in found:
            raise CallFailed(f"{self._what}: {found['error'][-6_000:]}\n{self._page.complaints()}")
        return json.loads(found["result"])


class Page(ABC):
    """A tab. ``where``: whether Python runs on its main thread, in a Web Worker of it, or in one that
    all tabs share."""

    where: Where
    closed = False
    _forgiven: tuple[str, ...] = ()

    @abstractmethod
    def evaluate(self, body: str, *arguments: Any, timeout_s: float = 30.0) -> Any:
        """Run the body of an async JavaScript function (``arguments_``) → what it returns."""

    @abstractmethod
    def load(self, url: str) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def complaints(self) -> list[str]:
        """Errors that nobody caught, and what was written to the console as one."""
        found: list[str] = self.evaluate("return window.harness?.complaints ?? ['no harness']")
        return found

    def boot(self, origin: str, where: Where) -> None:
        self.where = where
        self.load(f"{origin}/?where={where}")
        self.evaluate("while (!window.harness) await new Promise((r) => setTimeout(r, 10));")
        self.times: dict[str, float] = self.evaluate(
            "return await window.harness.ready()", timeout_s=BOOT_S
        )

    def start(self, function: str, argument: Any = None) -> Call:
        """Begin a call of ``tests.…`` (module and name) in the page."""
        module, _, name = function.rpartition(".")
        number = next(_numbers)
        self.evaluate(
            "window.harness.start(...arguments_)",
            number, f"tests.{module}", name, "" if argument is None else json.dumps(argument),
        )  # fmt: skip
        return Call(self, number, function)

    def call(self, function: str, argument: Any = None, *, timeout_s: float = 60.0) -> Any:
        return self.start(function, argument).result(timeout_s)

    def forgive(self, *beginnings: str) -> None:
        """Forget complaints with such words: what a browser says by itself of a refused connection."""
        self._forgiven = (*self._forgiven, *beginnings)

    def check(self) -> None:
        """Fail when anything went wrong that no call has reported."""
        if not self.closed:
            found = [one for one in self.complaints() if not any(w in one for w in self._forgiven)]
            assert found == [], found


class Browser(ABC):
    """A running browser; pages live until they or it are closed."""

    name: str

    def __init__(self) -> None:
        self.pages: list[Page] = []

    @abstractmethod
    def _new_page(self) -> Page: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def set_offline(self, offline: bool) -> None:
        """As if there were no network, for all pages."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL to all of its processes."""

    def open(self, origin: str, where: Where = "page") -> Page:
        page = self._new_page()
        self.pages.append(page)
        page.boot(origin, where)
        return page
