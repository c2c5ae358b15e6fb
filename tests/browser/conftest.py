"""Both browsers, once per session; every test ends with a look at what went wrong unasked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser.chromium import Chromium
from tests.browser.firefox import Firefox
from tests.browser.pages import Browser, Page, Where
from tests.browser.website import Website
from tests.e2e.world import Node

OpenPage = Callable[..., Page]


@pytest.hookimpl(tryfirst=True)  # before the scheduler reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker has the browsers: they are started once, and two at a time is what a small machine
    bears."""
    for item in items:
        if "tests/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def website(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    site = Website(tmp_path_factory.mktemp("wheel"))
    yield site
    site.close()


@pytest.fixture(scope="module")
def node(
    module_database_dsn: str, website: Website, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """A node and its PostgreSQL, which pages of the website may ask."""
    found = Node(
        module_database_dsn, tmp_path_factory.mktemp("node"), extra=("--origin", website.origin)
    )
    yield found
    found.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    browser = Chromium()
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def firefox() -> Iterator[Firefox]:
    browser = Firefox()
    yield browser
    browser.close()


@pytest.fixture(scope="session", params=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> Browser:
    found: Browser = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session", params=["page", "worker"])
def where(request: pytest.FixtureRequest) -> Where:
    found: Where = request.param
    return found


@pytest.fixture(scope="session")
def shared_page(browser: Browser, where: Where, website: Website) -> Iterator[Page]:
    """Python in a page or a worker of it, started once for all tests that only call it."""
    page = browser.open(website.origin, where)
    yield page
    page.close()


@pytest.fixture
def page(shared_page: Page) -> Iterator[Page]:
    yield shared_page
    shared_page.check()


@pytest.fixture
def tab(browser: Browser, website: Website) -> Iterator[OpenPage]:
    """Opens further tabs; they are checked and closed behind the test."""
    opened: list[Page] = []

    def open_tab(where: Where = "page", **words: Any) -> Page:
        page = browser.open(words.pop("origin", website.origin), where)
        opened.append(page)
        return page

    yield open_tab
    for one in opened:
        try:
            one.check()
        finally:
            if not one.closed:
                one.close()
