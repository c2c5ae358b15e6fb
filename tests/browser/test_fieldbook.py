"""The field book, as a person uses it: real clicks in real browsers, a real node, real well logs."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page as PlaywrightPage
from selenium.webdriver.common.by import By

import homeport as hp
from tests.browser.chromium import Chromium
from tests.browser.firefox import Firefox

ROOT = Path(__file__).resolve().parent.parent.parent
FIELDBOOK = ROOT / "examples" / "fieldbook"
sys.path.insert(0, str(FIELDBOOK))

from models import CHARTS, COLLECTIONS, MAIN, WELLS  # noqa: E402

ROWS = "#wells .ag-row"
BOXES = "#curve-grid .ag-row .ag-checkbox-input"


class Server:
    """``serve.py`` in a process of its own; it can be stopped and started again on the same port."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(FIELDBOOK / "serve.py"), "--json", "--port", str(self.port),
                   "--data", str(self.data), "--logs", str(ROOT / ".data")]  # fmt: skip
        self.log = self.data.with_suffix(".log").open("ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.data.with_suffix(".log").read_text()
        ready = json.loads(line)
        self.url, self.token, self.wells = ready["url"], ready["token"], ready["wells"]
        self.port = int(self.url.rsplit(":", 1)[1])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("fieldbook") / "data")
    yield server
    server.stop()


@pytest.fixture
def desktop(server: Server) -> Iterator[hp.Database]:
    """A colleague's desktop program on the same server."""
    with hp.open(":memory:", collections=COLLECTIONS) as db:
        db.sync(server.url, token=server.token, live=False).now()
        yield db


def sync(db: hp.Database) -> None:
    db._syncs[0].now(timeout_s=30)


class Hand:
    """A person in front of a tab of Chromium."""

    def __init__(self, browser: Chromium, page: PlaywrightPage) -> None:
        self.browser = browser
        self.page = page
        self.wrong: list[str] = []

        async def listen() -> None:  # on the loop of Playwright, as all that it is told
            page.on("pageerror", lambda error: self.wrong.append(str(error)))
            page.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)

        browser.run(listen, 10)

    def do(self, work: Any, timeout_s: float = 60.0) -> Any:
        return self.browser.run(lambda: work, timeout_s)

    def open(self, url: str) -> None:
        self.do(self.page.goto(url + "/"))
        self.until("window.fieldbook?.ready", timeout_s=90)

    def until(self, condition: str, timeout_s: float = 20.0) -> None:
        self.do(self.page.wait_for_function(condition, timeout=timeout_s * 1000), timeout_s + 5)

    def click(self, selector: str, number: int = 0) -> None:
        self.do(self.page.locator(selector).nth(number).click(timeout=15_000))

    def type(self, selector: str, text: str) -> None:
        self.do(self.page.locator(selector).first.dblclick(timeout=15_000))
        self.do(self.page.keyboard.press("Control+A"))
        self.do(self.page.keyboard.type(text))
        self.do(self.page.keyboard.press("Enter"))

    def press(self, key: str) -> None:
        self.do(self.page.keyboard.press(key))

    def ask(self, expression: str) -> Any:
        return self.do(self.page.evaluate(expression))

    def checked(self) -> list[bool]:
        return self.ask(f"[...document.querySelectorAll('{BOXES}')].map((box) => box.checked)")

    def tracks(self) -> int:
        return self.ask("document.querySelectorAll('#chart .track').length")

    def close(self) -> None:
        self.do(self.page.close())


@pytest.fixture
def hands(chromium: Chromium) -> Iterator[Any]:
    """Opens tabs of one person: they share what the browser keeps, and nobody else has it."""
    context = chromium.new_context()
    opened: list[Hand] = []

    def another(**size: int) -> Hand:
        hand = Hand(chromium, chromium.run(context.new_page, 30))
        if size:
            chromium.run(lambda: hand.page.set_viewport_size(size), 10)  # type: ignore[arg-type]
        opened.append(hand)
        return hand

    yield another
    wrong = [line for hand in opened for line in hand.wrong if "ERR_" not in line]
    chromium.run(context.close, 30)
    assert wrong == [], wrong


SYNCED = "document.getElementById('badge').textContent === 'synced'"


def row(number: int) -> str:
    return f"#wells .ag-row[row-index='{number}']"


def wells_with_curves(db: hp.Database) -> list[str]:
    """Keys of wells where there is something to choose from."""
    return [well.id for well in db[WELLS].order_by("name") if well.curves >= 3]


def open_well(hand: Hand, key: str) -> None:
    hand.click(f".ag-row[row-id='{key}'] [col-id=name]")
    hand.until(f"document.querySelectorAll('{BOXES}').length > 0")


TWO_CLICKS = """(async () => {
  const boxes = [...document.querySelectorAll('%s')].slice(0, 2), seen = new Set();
  const pause = () => new Promise((r) => setTimeout(r, 1));
  boxes[0].click();
  await pause();
  boxes[1].click();
  const end = performance.now() + 20000;
  for (let rest = 100; rest > 0 && performance.now() < end; rest -= window.fieldbook.writes === 2) {
    await pause();
    seen.add(boxes.map((box) => box.checked).join());
  }
  return [...seen];
})()"""
"""Click two curves as fast as one can, and look at both until they have been written → all that was
seen."""


def test_d8_a_selection_is_instant_and_leaves_no_ghosts_and_no_loops(
    hands: Any, server: Server, desktop: hp.Database
) -> None:
    hand = hands()
    hand.open(server.url)
    hand.until(f"document.querySelectorAll('{ROWS}').length > 5")
    assert hand.ask("document.getElementById('count').textContent") == f"{server.wells} wells"

    first, second, *_ = wells_with_curves(desktop)
    open_well(hand, first)
    shown = hand.ask("window.fieldbook.shown")
    assert hand.ask(TWO_CLICKS % BOXES) == ["true,true"], "the news of the first takes nothing back"
    hand.until("document.querySelectorAll('#chart .track').length === 2")
    hand.click(BOXES, 0)
    hand.until("document.querySelectorAll('#chart .track').length === 1")
    assert hand.ask("window.fieldbook.shown") - shown <= 3, "each click is shown once at most"
    hand.until("window.fieldbook.writes === 3")

    hand.press("Escape")
    open_well(hand, first)
    assert hand.checked()[:2] == [False, True], "what was deselected stays so"
    hand.press("Escape")
    open_well(hand, second)
    assert not any(hand.checked()), "the choice of one well is not another's"
    hand.press("Escape")

    hand.until(SYNCED)
    sync(desktop)
    assert len(desktop[CHARTS].get(MAIN).curves) == 1

    desktop[CHARTS].patch(MAIN, {"curves": []})
    sync(desktop)
    hand.until("document.querySelectorAll('#chart .track').length === 0")
    open_well(hand, first)
    assert not any(hand.checked()), "deselected elsewhere, and the dialog knows it"
    assert hand.ask("window.fieldbook.writes") == 3, "what comes from elsewhere is not written again"


def test_two_tabs_agree(hands: Any, server: Server, desktop: hp.Database) -> None:
    one, two = hands(), hands()
    well = wells_with_curves(desktop)[1]
    one.open(server.url)
    two.open(server.url)
    for hand in (one, two):
        hand.until(f"document.querySelectorAll('{ROWS}').length > 5")
        open_well(hand, well)
    one.click(BOXES, 0)
    two.until(f"document.querySelectorAll('{BOXES}')[0].checked")
    two.until("document.querySelectorAll('#chart .track').length === 1")
    two.click(BOXES, 1)
    one.until(f"document.querySelectorAll('{BOXES}')[1].checked")
    two.click(BOXES, 0)
    one.until(f"!document.querySelectorAll('{BOXES}')[0].checked")
    assert one.checked()[:2] == two.checked()[:2] == [False, True]
    one.click(BOXES, 1)
    two.until("document.querySelectorAll('#chart .track').length === 0")
    one.until("window.fieldbook.writes === 2")
    two.until("window.fieldbook.writes === 2")


def test_d9_without_a_network_the_page_opens_and_keeps_what_is_written(
    hands: Any, server: Server, desktop: hp.Database
) -> None:
    hand = hands()
    hand.open(server.url)
    hand.until(SYNCED)
    hand.until("navigator.serviceWorker.controller !== null || navigator.serviceWorker.ready")
    hand.until("caches.open('fieldbook-1').then((cache) => cache.match('pyodide/pyodide.asm.wasm'))")
    server.stop()
    try:
        hand.type(f"{row(0)} [col-id=remark]", "written in the field")
        hand.until(
            "document.getElementById('badge').textContent.includes('waiting')"
            " || document.getElementById('badge').textContent.includes('pending')"
        )
        hand.open(server.url)  # nobody answers: this is the Service Worker
        hand.until(f"document.querySelector(\"{row(0)} [col-id=remark]\")?.textContent"
                   " === 'written in the field'")
        hand.until(f"document.querySelector(\"{row(0)} [col-id=badge]\").textContent === 'offline'")
    finally:
        server.start()
    hand.until(SYNCED, timeout_s=60)
    hand.until(f"document.querySelector(\"{row(0)} [col-id=badge]\").textContent === 'synced'")
    sync(desktop)
    assert desktop[WELLS].where(hp.F.remark == "written in the field").count() == 1


def test_a_conflict_is_shown_and_merged_field_by_field(
    hands: Any, server: Server, desktop: hp.Database
) -> None:
    hand = hands()
    hand.open(server.url)
    hand.until(SYNCED)
    well = desktop[WELLS].order_by("name").first()
    assert well is not None
    hand.click("#offline")
    hand.until("window.fieldbook.state === 'paused'")
    for column, text in (("remark", "mine"), ("status", "reviewed")):
        hand.type(f"{row(0)} [col-id={column}]", text)
        hand.until(f"document.querySelector(\"{row(0)} [col-id={column}]\").textContent === '{text}'")
    desktop[WELLS].patch(well.id, {"remark": "theirs", "status": "plugged"})
    sync(desktop)
    hand.click("#offline")
    hand.until("!document.getElementById('conflicts').hidden")
    hand.until(f"document.querySelector(\"{row(0)} [col-id=badge]\").textContent === 'conflict'")
    hand.click("#conflicts")
    hand.until("document.querySelectorAll('.conflict').length === 1")
    hand.do(hand.page.locator("input[name$='/remark'][value=theirs]").check())
    hand.click(".conflict .buttons button:nth-child(1)")
    hand.until("!document.getElementById('conflict').open")
    hand.until(f"document.querySelector(\"{row(0)} [col-id=badge]\").textContent === 'synced'")
    sync(desktop)
    settled = desktop[WELLS].get(well.id)
    assert (settled.remark, settled.status) == ("theirs", "reviewed")
    hand.until("document.getElementById('conflicts').hidden")


def test_it_fits_the_window_light_and_dark(hands: Any, server: Server) -> None:
    hand = hands()
    hand.open(server.url)
    grounds = []
    for width, scheme in itertools.product([1280, 390], ["light", "dark"]):
        hand.do(hand.page.set_viewport_size({"width": width, "height": 800}))
        hand.until(f"document.querySelectorAll('{ROWS}').length > 2")
        hand.do(hand.page.emulate_media(color_scheme=scheme))
        hand.until(f"document.body.dataset.agThemeMode === '{scheme}'")
        assert hand.ask("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
        grounds.append(hand.ask(
            "[getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('#wells .ag-row')).backgroundColor]"
        ))
        if folder := os.environ.get("FIELDBOOK_SCREENSHOTS"):
            hand.do(hand.page.screenshot(path=f"{folder}/fieldbook-{width}-{scheme}.png"))
    assert grounds[0][0] != grounds[1][0]
    assert grounds[2:] == grounds[:2]


def test_firefox_selects_and_syncs(firefox: Firefox, server: Server, desktop: hp.Database) -> None:
    chart = desktop[CHARTS].get(MAIN)
    before = set(chart.curves) if chart else set()
    page = firefox._new_page()
    page.load(server.url + "/")

    def until(condition: str, timeout_s: float = 20.0) -> None:
        page.evaluate(
            f"while (!({condition})) await new Promise((r) => setTimeout(r, 50));", timeout_s=timeout_s
        )

    try:
        until("window.fieldbook?.ready", 90)
        until(f"document.querySelectorAll('{ROWS}').length > 5")
        firefox.driver.find_element(By.CSS_SELECTOR, f".ag-row[row-id='{wells_with_curves(desktop)[0]}'] [col-id=name]").click()
        until(f"document.querySelectorAll('{BOXES}').length > 0")
        firefox.driver.find_elements(By.CSS_SELECTOR, BOXES)[0].click()
        until("window.fieldbook.writes === 1")
        until(SYNCED)
        sync(desktop)
        chosen = desktop[CHARTS].get(MAIN)
        assert len(set(chosen.curves) - before) == 1
        desktop[CHARTS].patch(MAIN, {"curves": []})
        sync(desktop)
        until("document.querySelectorAll('#chart .track').length === 0")
    finally:
        page.close()
