"""Running a script against a database and the model side by side; finding the short script behind a
failing one.

    python -m tests.property.run SEED [memory]     # repeat a failing seed and print its short form
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import homeport as hp
from homeport import making
from tests.property import apply as apply_async
from tests.property import apply_blocking
from tests.property.generate import Generator, collections_of, size_of
from tests.property.model import Mismatch, Model, need

START_MS = 1_800_000_000_000


class Abort(Exception):
    """Ends a transaction that is not to be kept."""


class Clock:
    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


class Blocking:
    """A script on the blocking facade."""

    def __init__(self, seed: int, path: str | Path, connections: int) -> None:
        self.collections = collections_of(seed)
        self.path = path
        self.clock = Clock()
        self.model = Model(self.collections, START_MS)
        self.databases = [self.open() for _ in range(connections)]
        self.operations = 0

    def open(self) -> hp.Database:
        before, making.clock_ms = making.clock_ms, self.clock
        try:
            return hp.open(self.path, collections=self.collections, durability="relaxed")
        finally:
            making.clock_ms = before

    def close(self) -> None:
        for db in self.databases:
            db.close()

    def step(self, step: Any) -> None:
        kind = step[0]
        if kind == "advance":
            self.clock.now_ms += step[1]
            self.model.now_ms = self.clock.now_ms
        elif kind == "reopen":
            if self.path != ":memory:":
                self.databases[step[1]].close()
                self.databases[step[1]] = self.open()
        elif kind == "do":
            self.do(self.databases[step[1]], step[2])
            return
        elif kind == "unit":
            self.unit(self.databases[step[1]], step[2], keep=step[3])
        else:
            self.block(self.databases[step[1]], step[2], keep=step[3], outside=self.model.snapshot())
        self.operations += 1

    def do(self, db: hp.Database, op: Any) -> None:
        self.operations += 1
        self.model.check(op, apply_blocking.apply(lambda name: db[name], op))

    def unit(self, db: hp.Database, ops: list[Any], *, keep: bool) -> None:
        before = self.model.snapshot()
        try:
            db.run(unit_of(self, ops, keep=keep))
        except Abort:
            self.model.restore(before)
        except BaseException:
            self.model.restore(before)
            raise

    def block(self, db: hp.Database, items: list[Any], *, keep: bool, outside: Any) -> None:
        before = self.model.snapshot()
        try:
            with db.transaction():
                for item in items:
                    if item[0] == "block":
                        self.block(db, item[1], keep=item[2], outside=outside)
                        self.operations += 1
                    elif item[0] == "aside":
                        self.aside(db, item[1], outside)
                    else:
                        self.do(db, item[1])
                if not keep:
                    raise Abort
        except Abort:
            self.model.restore(before)

    def aside(self, db: hp.Database, op: Any, outside: Any) -> None:
        """Another connection sees nothing of an open transaction."""
        other = next(one for one in self.databases if one is not db)
        inside = self.model.snapshot()
        self.model.restore(dict(outside))
        try:
            self.do(other, op)
        finally:
            self.model.restore(inside)


def unit_of(runner: Any, ops: list[Any], *, keep: bool) -> Any:
    """The coroutine of a unit: the same on both facades."""

    async def body(tx: Any) -> None:
        for op in ops:
            runner.operations += 1
            runner.model.check(op, await apply_async.apply(lambda name: tx[name], op))
        if not keep:
            raise Abort

    return body


class Asyncio:
    """A script on the asyncio facade, on any engine."""

    def __init__(self, seed: int, path: str) -> None:
        self.collections = collections_of(seed)
        self.path = path
        self.clock = Clock()
        self.model = Model(self.collections, START_MS)
        self.databases: list[hp.AsyncDatabase] = []
        self.operations = 0

    async def open(self, connections: int) -> None:
        self.databases = [await self.opened() for _ in range(connections)]

    async def opened(self) -> hp.AsyncDatabase:
        before, making.clock_ms = making.clock_ms, self.clock
        try:
            return await hp.open_async(self.path, collections=self.collections, durability="relaxed")
        finally:
            making.clock_ms = before

    async def close(self) -> None:
        for db in self.databases:
            await db.close()

    async def step(self, step: Any) -> None:
        kind = step[0]
        if kind == "advance":
            self.clock.now_ms += step[1]
            self.model.now_ms = self.clock.now_ms
        elif kind == "reopen":
            await self.databases[step[1]].close()
            self.databases[step[1]] = await self.opened()
        elif kind == "do":
            db = self.databases[step[1]]
            self.model.check(step[2], await apply_async.apply(lambda name: db[name], step[2]))
        else:
            before = self.model.snapshot()
            try:
                await self.databases[step[1]].run(unit_of(self, step[2], keep=step[3]))
            except Abort:
                self.model.restore(before)
            except BaseException:
                self.model.restore(before)
                raise
        self.operations += 1


def play(seed: int, script: list[Any], path: str | Path, connections: int) -> int:
    """Run a script on the blocking facade → how many operations; raises at the first that is wrong."""
    runner = Blocking(seed, path, connections)
    try:
        for n, step in enumerate(script):
            try:
                runner.step(step)
            except Exception as error:
                error.add_note(f"step {n} of seed {seed}: {step!r}")
                raise
    finally:
        runner.close()
    return runner.operations


def script_of(seed: int, operations: int, *, memory: bool) -> tuple[list[Any], int]:
    """→ the script of a seed, and how many connections it wants."""
    connections = 1 if memory or seed % 3 else 2
    return Generator(seed, blocks=True, connections=connections).script(operations), connections


def shortest(script: list[Any], fails: Callable[[list[Any]], bool]) -> list[Any]:
    """A part of a failing script that still fails and of which nothing can be left out.

    By halves, then quarters … (Zeller, Hildebrandt: Simplifying and isolating failure-inducing
    input), first of steps, then of the operations within them.
    """
    chunk = max(1, len(script) // 2)
    while True:
        at, removed = 0, False
        while at < len(script):
            shorter = script[:at] + script[at + chunk :]
            if fails(shorter):
                script, removed = shorter, True
            else:
                at += chunk
        if chunk == 1 and not removed:
            break
        chunk = max(1, chunk // 2)
    for n, step in enumerate(script):
        for place, part in enumerate(step):
            if isinstance(part, list) and step[0] in ("unit", "block"):
                for item in list(part):
                    fewer = [one for one in script[n][place] if one is not item]
                    shorter = [*script[:n], (*script[n][:place], fewer, *script[n][place + 1 :]), *script[n + 1 :]]
                    if fails(shorter):
                        script = shorter
    return script


def failing(seed: int, connections: int, *, memory: bool) -> Callable[[list[Any]], bool]:
    """Does a script fail? On a fresh database each time."""

    def fails(script: list[Any]) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            path = ":memory:" if memory else Path(folder) / "a.db"
            try:
                play(seed, script, path, connections)
            except Exception:
                return True
        return False

    return fails


def explained(seed: int, operations: int, *, memory: bool) -> str:
    """The short form of a failing seed, as text."""
    script, connections = script_of(seed, operations, memory=memory)
    fails = failing(seed, connections, memory=memory)
    if not fails(script):
        return f"seed {seed} does not fail when it is repeated"
    short = shortest(script, fails)
    indexes = [repr(index) for one in collections_of(seed) for index in one.indexes]
    lines = [f"seed {seed}, {len(short)} of {len(script)} steps, indexes {', '.join(indexes)}:"]
    return "\n".join([*lines, *(f"    {step!r}," for step in short)])


if __name__ == "__main__":
    print(explained(int(sys.argv[1]), 400, memory="memory" in sys.argv))
