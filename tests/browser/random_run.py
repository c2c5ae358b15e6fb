"""Random operations in a browser's own IndexedDB, from two tabs in turn, beside the plain model.

The scripts and the model are those of ``tests/property``. Both tabs keep what they read in memory, so
that each burst of one is a chance for the other to answer with an old row.

    python -m tests.browser.random_run --minutes 10            # in both browsers; --seed N repeats one
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.browser.chromium import Chromium
from tests.browser.firefox import Firefox
from tests.browser.inside_packed import pack, unpack
from tests.browser.pages import Browser, Page
from tests.browser.website import Website
from tests.property.generate import KEYS, Generator, collections_of, size_of
from tests.property.model import Mismatch, Model, need
from tests.property.run import START_MS, shortest

INSIDE = "browser.inside_random"
BURST = 9
"""At most so many steps in one tab before the other's turn."""

OFTEN = 4
"""So many reads of a script come again and again."""

OPTIONS: list[dict[str, Any]] = [{}, {"cache_bytes": 6_000}, {"key": "k" * 20}, {}, {"cache_bytes": 0}]


class Played:
    """One script in two tabs."""

    def __init__(self, seed: int, tabs: list[Page]) -> None:
        self.seed = seed
        self.tabs = tabs
        self.name = f"random-{seed}"
        self.options = OPTIONS[seed % len(OPTIONS)]
        self.hits = 0

    def script(self, operations: int) -> list[Any]:
        """Steps of the generator in bursts, and between them reads that come again and again: only
        these may find themselves in memory."""
        generator = Generator(self.seed, blocks=False, connections=1)
        dice, made, tab, left, total = random.Random(f"{self.seed} tabs"), [], 0, 0, 0
        often = [generator.read(dice.choice(["docs", "docs", "other"])) for _ in range(OFTEN)]
        often += [("get_many", where, dice.sample(KEYS, 8)) for where in ("docs", "other")]
        while total < operations:
            if left == 0:
                tab, left = 1 - tab, dice.randint(1, BURST)
            left -= 1
            again = dice.random() < 0.45
            step = ("do", tab, dice.choice(often)) if again else generator.step()
            made.append(step if step[0] == "advance" else (step[0], tab, *step[2:]))
            total += size_of(step)
        return made

    def play(self, script: list[Any]) -> int:
        """→ how many operations; raises ``Mismatch`` at the first that is wrong."""
        model = Model(collections_of(self.seed), START_MS)
        total = 0
        self.tabs[0].call(f"{INSIDE}.remove", self.name)
        for tab in self.tabs:
            tab.call(f"{INSIDE}.begin", [self.name, self.seed, self.options])
        try:
            for number, burst in _bursts(script):
                elapsed_ms = model.now_ms - START_MS
                answer = self.tabs[number].call(f"{INSIDE}.play", [self.name, elapsed_ms, pack(burst)])
                outcomes = unpack(answer)
                for step, found in zip(burst, outcomes, strict=False):
                    try:
                        follow(model, step, found)
                    except Exception as error:
                        error.add_note(f"seed {self.seed}, options {self.options}: {step!r}")
                        raise
                    total += size_of(step)
            self.hits += sum(tab.call(f"{INSIDE}.state", self.name)["hits"] for tab in self.tabs)
        finally:
            for tab in self.tabs:
                tab.call(f"{INSIDE}.end", self.name)
            self.tabs[0].call(f"{INSIDE}.remove", self.name)
        return total

    def fails(self, script: list[Any]) -> bool:
        try:
            self.play(script)
        except Mismatch:
            return True
        return False


def _bursts(script: list[Any]) -> list[tuple[int, list[Any]]]:
    found: list[tuple[int, list[Any]]] = []
    for step in script:
        number = (found[-1][0] if found else 0) if step[0] == "advance" else step[1]
        if not found or found[-1][0] != number:
            found.append((number, []))
        found[-1][1].append(step)
    return found


def follow(model: Model, step: Any, found: Any) -> None:
    """Compare what came of a step with what had to, and let the model do it as well."""
    need(not isinstance(found, str), "it raised", found)
    if step[0] == "advance":
        model.now_ms += step[1]
    elif step[0] == "do":
        model.check(step[2], found[0])
    elif step[0] == "unit":
        before = model.snapshot()
        need(len(found) == len(step[2]), "a unit has", len(found), "of", len(step[2]), "operations")
        for op, outcome in zip(step[2], found, strict=True):
            model.check(op, outcome)
        if not step[3]:
            model.restore(before)


def run(seed: int, operations: int, tabs: list[Page]) -> Played:
    """Play a seed; a failing one is shortened, and printed in the message."""
    played = Played(seed, tabs)
    script = played.script(operations)
    try:
        assert played.play(script) >= operations
    except Mismatch as error:
        short = shortest(script, played.fails)
        lines = [repr(index) for one in collections_of(seed) for index in one.indexes]
        text = "\n".join([f"indexes {', '.join(lines)}", *(f"    {step!r}," for step in short)])
        error.add_note(f"{len(short)} of {len(script)} steps:\n{text}")
        raise
    return played


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m tests.browser.random_run")
    words.add_argument("--minutes", type=float, default=10.0, help="for both browsers together")
    words.add_argument("--operations", type=int, default=400, help="of each script")
    words.add_argument("--seed", type=int, default=1, help="the first")
    words.add_argument("--browser", choices=["chromium", "firefox", "both"], default="both")
    given = words.parse_args()
    kinds: list[type[Browser]] = [Chromium, Firefox]
    kinds = [kind for kind in kinds if given.browser in ("both", kind.__name__.lower())]
    with tempfile.TemporaryDirectory() as folder:
        website = Website(Path(folder))
        try:
            for kind in kinds:
                deadline = time.monotonic() + given.minutes * 60 / len(kinds)
                in_browser(kind(), website, given.seed, given.operations, deadline)
        finally:
            website.close()


def in_browser(browser: Browser, website: Website, seed: int, operations: int, deadline: float) -> None:
    try:
        tabs = [browser.open(website.origin), browser.open(website.origin, "worker")]
        first, hits = seed, 0
        while time.monotonic() < deadline:
            hits += run(seed, operations, tabs).hits
            for tab in tabs:
                tab.check()
            seed += 1
        print(
            f"{browser.name}: {(seed - first) * operations:,} operations, seeds {first} to {seed - 1}, "
            f"{hits:,} answers from memory: as the model says",
            flush=True,
        )
    finally:
        browser.close()


if __name__ == "__main__":
    main()
