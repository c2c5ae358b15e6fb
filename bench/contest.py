"""One size of collection: every peer loads it, then all of them take turns at each operation."""

from __future__ import annotations

import asyncio
import inspect
import math
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from bench import peers
from bench.corpus import Notes, Sample, TooSlow
from bench.measure import Side, measure, plan
from bench.operations import LOAD, OPEN, READS, TEXT, TEXTS, WRITES, Operation
from bench.peers.base import Peer, level_of
from bench.proofs import Proofs, WrongAnswer

WARM_SIZE = 100_000
"""Up to here the files fit into the caches and are read once before anything is timed."""


@dataclass
class Pace:
    """How much is measured.

    rounds: of each operation, over all sittings. sittings: how often the files are opened anew:
    where their pages come to lie in memory moves the reads of one and the same file by a tenth.
    budget_s: a peer's share of one operation. load_budget_s: a peer whose load would take longer
    leaves the contest.
    """

    rounds: int = 24
    sittings: int = 3
    loads: int = 3
    budget_s: float = 1.5
    load_budget_s: float = 60.0


@dataclass
class Result:
    """What one side showed in one operation: samples in microseconds, or why there are none."""

    op: str
    n: int
    durability: str | None
    side: str
    samples: list[float] = field(default_factory=list)
    reason: str = ""


class Contest:
    """The peers at one size."""

    def __init__(
        self,
        folder: Path,
        classes: dict[str, type[Peer]],
        sample: Sample,
        pace: Pace,
        rng: random.Random,
        tell: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.classes = dict(classes)
        self.sample = sample
        self.pace = pace
        self.rng = rng
        self.tell = tell
        self.results: dict[tuple[str, str | None, str], Result] = {}
        self.load_s: dict[str, float] = {}
        self.bytes: dict[str, int] = {}
        self.left: dict[str, str] = {}
        self._loop = asyncio.new_event_loop()
        self._proofs = Proofs(sample, self.run)

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # one call, whether it is awaited or not

    def run(self, result: Any) -> Any:
        if inspect.isawaitable(result):
            return self._loop.run_until_complete(_awaited(result))
        return result

    def open(self, name: str, durability: str, place: str = "cities") -> Peer:
        folder = self.folder / place / name
        folder.mkdir(parents=True, exist_ok=True)
        peer = self.classes[name](folder, durability)
        if peer.is_async:
            self.run(peer.start())  # type: ignore[attr-defined]
        return peer

    def _result(self, op: str, durability: str | None, side: str) -> Result:
        key = (op, durability, side)
        return self.results.setdefault(key, Result(op, self.sample.size, durability, side))

    # loading

    def load(self) -> None:
        """Fill the files of every peer; the figure is the time until they are closed."""
        own = [name for name, peer in self.classes.items() if not peer.same_file_as]
        for number in range(self.pace.loads):
            for name in [name for name in own if name in self.classes]:
                spent_s = sum(self._result("load", None, name).samples) / 1e6 * self.sample.size
                if number and spent_s > self.pace.budget_s:
                    continue
                self.tell(f"load {name} ({number + 1})")
                shutil.rmtree(self.folder / "cities" / name, ignore_errors=True)
                try:
                    self._load(name)
                except TooSlow as error:
                    if name in (peers.OURS, peers.REFERENCE):
                        raise
                    self.left[name] = f"stopped while it loaded: {error}"
                    del self.classes[name]
                    self.results.pop((LOAD.name, None, name), None)
        for name, peer in self.classes.items():
            place = self.folder / "cities"
            if peer.same_file_as:
                shutil.copytree(place / peer.same_file_as, place / name)
            self.bytes[name] = sum(file.stat().st_size for file in (place / name).rglob("*.*"))

    def _load(self, name: str) -> None:
        limited = name not in (peers.OURS, peers.REFERENCE)
        feed = self.sample.feed(2 * self.pace.load_budget_s if limited else math.inf)
        peer = self.open(name, level_of(self.classes[name]))
        start = perf_counter()
        try:
            self.run(peer.load(feed))
        finally:
            self.run(peer.close())
        spent_s = perf_counter() - start - feed.spent_s
        self.load_s[name] = spent_s
        self._result(LOAD.name, None, name).samples.append(spent_s * 1e6 / self.sample.size)

    # operations

    def reads(self, operations: Sequence[Operation]) -> None:
        sittings = self.pace.sittings if self.sample.size <= WARM_SIZE else 1
        rounds = max(1, self.pace.rounds // self.pace.sittings)
        wanted = [operation for operation in READS if operation in operations]
        names = [name for name in self.classes if name != "raw-apsw-same-obligations"]
        for sitting in range(sittings if wanted else 0):
            with self._opened(names, None) as opened:
                if self.sample.size <= WARM_SIZE:
                    self._warm(opened)
                for operation in wanted:
                    self.tell(f"{operation.name} ({sitting + 1})")
                    self._case(operation, None, opened, rounds, sitting)
        if OPEN in operations:
            self.tell("open")
            self._open(names)

    def writes(self, operations: Sequence[Operation]) -> None:
        wanted = [operation for operation in WRITES if operation in operations]
        if not wanted:
            return
        for durability in ("full", "relaxed", "none"):
            names = [
                name for name, peer in self.classes.items() if durability in peer.durabilities
            ]
            with self._opened(names, durability) as opened:
                for operation in wanted:
                    self.tell(f"{operation.name} {durability}")
                    small = self.sample.size <= WARM_SIZE
                    rounds = self.pace.rounds if small else max(1, self.pace.rounds // 2)
                    self._case(operation, durability, opened, rounds, 0)

    def text(self, operations: Sequence[Operation]) -> None:
        """Words in short texts, in files of their own."""
        wanted = [operation for operation in TEXTS if operation in operations]
        if not wanted:
            return
        notes = Notes(self.sample.size)
        names = [name for name in self.classes if name not in peers.HELPERS]
        for name in names:
            peer = self.classes[name]
            if any(operation.name not in peer.unable for operation in wanted):
                self.tell(f"load texts {name}")
                loading = self.open(name, level_of(peer), "notes")
                self.run(loading.load_texts(notes.feed()))
                self.run(loading.close())
        with self._opened(names, None, "notes") as opened:
            for operation in wanted:
                self.tell(operation.name)
                words = notes.words if operation is TEXT else notes.common_words
                self._measure(
                    operation,
                    None,
                    self._able(operation, None, opened),
                    lambda: words(operation.per_round, self.rng),
                    self.pace.rounds,
                    lambda peer, call, given: self._proofs.words(operation, peer, call, given, notes),
                )

    def _able(
        self, operation: Operation, durability: str | None, opened: dict[str, Peer]
    ) -> dict[str, Peer]:
        """Those who can; the reason of the others goes into their rows."""
        able = {}
        for name, peer in opened.items():
            if operation.name in peer.unable:
                reason = peer.unable[operation.name]
                self._result(operation.name, durability, name).reason = reason
            else:
                able[name] = peer
        return able

    def _case(
        self,
        operation: Operation,
        durability: str | None,
        opened: dict[str, Peer],
        rounds: int,
        sitting: int,
    ) -> None:
        able = self._able(operation, durability, opened)
        if sitting:  # those who had time for all their rounds in the first one
            able = {
                name: peer
                for name, peer in able.items()
                if len(self._result(operation.name, durability, name).samples) >= rounds
            }
        if operation.name == "notify":
            able = {name: peer for name, peer in able.items() if name not in peers.HELPERS}
            for peer in able.values():
                self.run(peer.observe())

        def inputs() -> Sequence[Any]:
            return operation.inputs(self.sample, operation.per_round)

        if operation.name == "delete":
            pool = self.sample.new((rounds + 3) * operation.per_round)
            for peer in able.values():
                self.run(peer.put_many(pool))
            keys = iter([city["id"] for city in pool])

            def inputs() -> Sequence[Any]:
                return [next(keys) for _ in range(operation.per_round)]

        prove = self._proofs.write if operation.writes else self._proofs.read
        self._measure(
            operation,
            durability,
            able,
            inputs,
            rounds,
            lambda peer, call, given: prove(operation, peer, call, given),
        )

    def _measure(
        self,
        operation: Operation,
        durability: str | None,
        able: dict[str, Peer],
        inputs: Callable[[], Sequence[Any]],
        rounds: int,
        prove: Callable[[Peer, Callable[[Any], Any], Any], None],
    ) -> None:
        examples = inputs()
        sides = []
        scale = self.sample.size if operation.per_document else 1
        for name, peer in able.items():
            result = self._result(operation.name, durability, name)
            call = getattr(peer, operation.method)
            spent: list[float] = []

            def timed(given: Any, call: Any = call, spent: list[float] = spent) -> Any:
                start = perf_counter()
                answer = self.run(call(given))
                spent.append(perf_counter() - start)
                return answer

            try:
                for example in examples[:3]:
                    prove(peer, timed, example)
                    if sum(spent) > self.pace.budget_s / 4:
                        break
            except WrongAnswer as error:
                if name in (peers.OURS, peers.REFERENCE):
                    raise
                result.reason = f"gave a wrong answer: {error}"
                continue
            if min(spent) > self.pace.budget_s:
                # It has had its time; what it took once is its figure.
                result.samples.append(min(spent) * 1e6 / scale)
                continue
            per_round, share = plan(
                min(spent) * 1e6, operation.per_round, rounds, self.pace.budget_s
            )
            sides.append(Side(name, call, peer.is_async, per_round, share))
        if sides:
            measure(sides, inputs, rounds, self.rng, self._loop)
        for side in sides:
            result = self._result(operation.name, durability, side.name)
            result.samples += [value / scale for value in side.samples]

    def _open(self, names: Sequence[str]) -> None:
        """An existing file, opened and read once; closing is not counted."""
        key = self.sample.ids[0]

        def opener(name: str) -> Callable[[object], Any]:
            durability = "full" if "full" in self.classes[name].durabilities else "relaxed"

            def call(_: object) -> Peer:
                peer = self.open(name, durability)
                self.run(peer.get(key))
                return peer

            return call

        sides = []
        for name in names:
            call = opener(name)
            start = perf_counter()
            self.run(call(None).close())
            _, share = plan(
                (perf_counter() - start) * 1e6, 1, self.pace.rounds, self.pace.budget_s
            )
            sides.append(
                Side(name, call, rounds=share, finish=lambda peer: self.run(peer.close()))
            )
        measure(sides, lambda: [None], self.pace.rounds, self.rng, self._loop)
        for side in sides:
            self._result(OPEN.name, None, side.name).samples += side.samples

    @contextmanager
    def _opened(
        self, names: Sequence[str], durability: str | None, place: str = "cities"
    ) -> Iterator[dict[str, Peer]]:
        opened: dict[str, Peer] = {}
        try:
            for name in names:
                level = durability or level_of(self.classes[name])
                opened[name] = self.open(name, level, place)
            yield opened
        finally:
            for peer in opened.values():
                self.run(peer.close())

    def _warm(self, opened: dict[str, Peer]) -> None:
        """Every document and the index of ``pop``, once."""
        for name, peer in opened.items():
            self.tell(f"warm {name}")
            self.run(peer.iterate(None))
            if "count" not in peer.unable:
                self.run(peer.count((0, 1_000_000)))


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
