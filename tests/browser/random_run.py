"""Random operations in a browser's own IndexedDB, from two tabs in turn, beside the plain model.

The scripts and the model are those of ``tests/property``. Both tabs keep what they read in memory, so
that each burst of one is a chance for the other to answer with an old row. With --storms
both work at once twice in a script, several operations each, and have to see the same afterwards.

    python -m tests.browser.random_run --minutes 10            # in both browsers; --seed N repeats one
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from homeport.core.keys import encode
from tests.browser.chromium import Chromium
from tests.browser.firefox import Firefox
from tests.browser.inside_packed import pack, unpack
from tests.browser.pages import Browser, Page
from tests.browser.website import Website
from tests.property.generate import KEYS, Generator, collections_of, size_of
from tests.property.model import Mismatch, Model, Row, Rows, need
from tests.property.run import START_MS, shortest
from tests.property.shapes import Shape

INSIDE = "browser.inside_random"
BURST = 9
"""At most so many steps in one tab before the other's turn."""

STORM = 20
"""So many operations of each tab at once, twice in a script."""

SHORTENING_S = 120.0

OFTEN = 4
"""So many reads of a script come again and again."""

OPTIONS: list[dict[str, Any]] = [{}, {"cache_bytes": 6_000}, {"key": "k" * 20}, {}, {"cache_bytes": 0}]


class Played:
    """One script in two tabs."""

    def __init__(self, seed: int, tabs: list[Page], *, storms: bool = False) -> None:
        self.storms = storms
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
        storms = [operations // 3, operations * 2 // 3] if self.storms else []
        while total < operations:
            if storms and total >= storms[0]:
                del storms[0]
                made.append(("storm", *(storm_of(generator, dice) for _ in range(2))))
                total += 2 * STORM
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
                if burst[0][0] == "storm":
                    total += self.storm(model, burst[0], elapsed_ms)
                    continue
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

    def storm(self, model: Model, step: Any, elapsed_ms: int) -> int:
        """Both tabs at once: what comes of it is the browser's choice, but all see the same, and the
        rest of the script finds its indexes in order."""
        calls = [
            tab.start(f"{INSIDE}.storm", [self.name, elapsed_ms, pack(ops)])
            for tab, ops in zip(self.tabs, step[1:], strict=True)
        ]
        for call in calls:
            call.result()
        asked = [(self.tabs[0], True), (self.tabs[0], False), (self.tabs[1], False)]
        seen = [unpack(tab.call(f"{INSIDE}.rows", [self.name, anew])) for tab, anew in asked]
        need(repr(seen[1]) == repr(seen[0]), "behind a storm the page sees", seen[1], "instead of", seen[0])
        need(repr(seen[2]) == repr(seen[0]), "behind a storm the worker sees", seen[2], "instead of", seen[0])
        model.restore({name: _rows_of(name, *found) for name, found in seen[0].items()})
        return sum(map(len, step[1:]))

    def fails(self, script: list[Any]) -> bool:
        try:
            self.play(script)
        except Mismatch:
            return True
        return False


def storm_of(generator: Generator, dice: random.Random) -> list[Any]:
    """Half of it is what is asked behind it, so that an old answer could have been kept meanwhile."""
    asked = [
        read for where in ("docs", "other")
        for read in (("all", where, Shape(order=("id",))), ("keys", where, Shape()), ("get_many", where, KEYS))
    ]  # fmt: skip
    return [dice.choice(asked) if dice.random() < 0.5 else generator.operation() for _ in range(STORM)]


def _rows_of(name: str, documents: list[Any], by_key: list[Any], keys: list[str], metas: list[Any]) -> Rows:
    need(repr(by_key) == repr(documents), name, "by key is", by_key, "instead of", documents)
    need(keys == sorted(repr(one["id"]) for one in documents), name, "has keys", keys, "and", documents)
    rows: Rows = {}
    for document, meta in zip(documents, metas, strict=True):
        need(meta is not None, document, "has no metadata")
        rows[encode(document["id"])] = row = Row(document["id"], document, 0, None, None)
        times = [None if one is None else round(one.timestamp() * 1000) for one in meta[1:]]
        row.version, row.created, row.modified, row.expires = meta[0], *times
    return rows


def _bursts(script: list[Any]) -> list[tuple[int, list[Any]]]:
    found: list[tuple[int, list[Any]]] = []
    for step in script:
        if step[0] == "storm":
            found.append((-1, [step]))
            continue
        number = (max(0, found[-1][0]) if found else 0) if step[0] == "advance" else step[1]
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


def run(seed: int, operations: int, tabs: list[Page], *, storms: bool = False) -> Played:
    """Play a seed; a failing one is shortened, and printed in the message."""
    played = Played(seed, tabs, storms=storms)
    script = played.script(operations)
    try:
        assert played.play(script) >= operations
    except Mismatch as error:
        deadline = time.monotonic() + SHORTENING_S
        short = shortest(script, lambda part: time.monotonic() < deadline and played.fails(part))
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
    words.add_argument("--storms", action="store_true", help="both tabs at once, twice in a script")
    words.add_argument("--browser", choices=["chromium", "firefox", "both"], default="both")
    given = words.parse_args()
    kinds: list[type[Browser]] = [Chromium, Firefox]
    kinds = [kind for kind in kinds if given.browser in ("both", kind.__name__.lower())]
    with tempfile.TemporaryDirectory() as folder:
        website = Website(Path(folder))
        try:
            for kind in kinds:
                deadline = time.monotonic() + given.minutes * 60 / len(kinds)
                in_browser(kind(), website, given.seed, given.operations, deadline, storms=given.storms)
        finally:
            website.close()


def in_browser(
    browser: Browser, website: Website, seed: int, operations: int, deadline: float, *, storms: bool
) -> None:
    try:
        tabs = [browser.open(website.origin), browser.open(website.origin, "worker")]
        first, hits = seed, 0
        while time.monotonic() < deadline:
            hits += run(seed, operations, tabs, storms=storms).hits
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
