"""A tab that is alone answers from memory; whatever other tabs do, it is never stale."""

from __future__ import annotations

import os
import signal
from typing import cast

import pytest

from tests.browser.conftest import OpenPage
from tests.browser.firefox import Firefox, FirefoxPage
from tests.browser.pages import Page
from tests.browser.plain_chromium import PlainChromium, PlainPage
from tests.browser.website import Website

INSIDE = "portable.inside_alone"
SECONDS = 6
CLOCK_S = 0.002
"""The clocks of two pages show whole milliseconds."""


@pytest.mark.parametrize("where", ["page"], indirect=True)
def test_a_lone_tab_asks_nothing_and_hears_of_the_next_one(page: Page) -> None:
    found = page.call(f"{INSIDE}.lone", timeout_s=120)
    assert found["begun"] == {"readonly": 0, "readwrite": 0}
    assert found["own"] == [2, 11, 2], "its own commit is seen, what was undone is not"
    assert found["theirs"] == [4, False, None], "another connection's commit is seen at once"
    assert found["last"] == [4, None, 10]


@pytest.mark.parametrize("browser", ["chromium"], indirect=True)  # in Firefox a process is stopped, below
def test_no_old_row_is_read_by_a_tab_that_hears_nothing(tab: OpenPage) -> None:
    first, second = tab(), tab()
    assert first.call(f"{INSIDE}.enter", "busy")
    reading = first.start(f"{INSIDE}.stubborn", ["busy", 3.0])
    before, acknowledged = second.call(f"{INSIDE}.write", "busy", timeout_s=60)
    seen = reading.result(60)
    assert before == 0
    old = [at for at, n in seen if n == 0]
    assert max(old, default=0.0) <= acknowledged + CLOCK_S, "after the acknowledgement nobody has read what was before"
    assert first.call(f"{INSIDE}.look", "busy") == 1
    first.call(f"{INSIDE}.leave", "busy")


def test_reads_of_one_tab_follow_the_writes_of_another_at_once(tab: OpenPage) -> None:
    first, second = tab(), tab("worker")
    assert first.call(f"{INSIDE}.enter", "register")
    reading = first.start(f"{INSIDE}.watch", ["register", SECONDS + 2])
    written = dict(second.call(f"{INSIDE}.come_and_go", ["register", SECONDS, 1], timeout_s=SECONDS + 60))
    found = reading.result(60)
    assert found["at_hand"] > 0
    for n, begun in found["last"]:
        acknowledged = written.get(n + 1, begun)
        assert begun <= acknowledged + CLOCK_S, f"{n} was read although {n + 1} was acknowledged"
    # On a slow machine the last writes come behind the last read.
    assert first.call(f"{INSIDE}.look", "register") == max(written)
    first.call(f"{INSIDE}.leave", "register")


def test_a_tab_that_dies_in_a_write_leaves_nothing_stale(tab: OpenPage) -> None:
    first = tab()
    assert first.call(f"{INSIDE}.enter", "dies")
    second = tab()
    second.start(f"{INSIDE}.write_for_ever", "dies")
    while first.call(f"{INSIDE}.look", "dies") == 0:
        pass
    second.close()
    found = first.call(f"{INSIDE}.compare", "dies", timeout_s=60)
    assert len(set(found)) == 1, found
    assert found[0] > 0
    first.call(f"{INSIDE}.leave", "dies")


def test_a_stopped_process_wakes_up_to_what_is_stored(firefox: Firefox, website: Website) -> None:
    first, second = (cast("FirefoxPage", firefox.open(website.origin)) for _ in range(2))
    assert first.call(f"{INSIDE}.enter", "stopped")
    process = first.process()
    assert process != second.process()
    os.kill(process, signal.SIGSTOP)
    try:
        assert second.call(f"{INSIDE}.write", "stopped", timeout_s=60)[0] == 0
    finally:
        os.kill(process, signal.SIGCONT)
    assert first.call(f"{INSIDE}.look", "stopped") == 1
    first.call(f"{INSIDE}.leave", "stopped")
    for one in (first, second):
        one.check()
        one.close()


def test_a_frozen_tab_wakes_up_to_what_is_stored(website: Website) -> None:
    browser = PlainChromium()  # Playwright's pages are never really frozen
    try:
        first = cast("PlainPage", browser.open(website.origin))
        assert first.call(f"{INSIDE}.enter", "frozen")
        second = browser.open(website.origin)  # in front of the first, which can be frozen then
        first.protocol("Page.setWebLifecycleState", state="frozen")
        assert second.call(f"{INSIDE}.write", "frozen", timeout_s=60)[0] == 0
        first.protocol("Page.setWebLifecycleState", state="active")
        assert first.call(f"{INSIDE}.look", "frozen") == 1
        first.call(f"{INSIDE}.leave", "frozen")
        for one in (first, second):
            one.check()
    finally:
        browser.close()
