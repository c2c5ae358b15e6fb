"""One size of collection: every peer loads it, then all of them take turns at each operation."""

from __future__ import annotations

import asyncio
import inspect
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from bench import peers
from bench.corpus import Notes, Sample, answer_of
from bench.measure import Side, measure, plan
from bench.operations import LOAD, OPEN, READS, TEXT, WRITES, Operation
from bench.peers.base import Peer, level_of

WARM_SIZE = 100_000
"""Up to here the files fit into the caches and are read once before anything is timed."""


class WrongAnswer(Exception):
    """A ratio between different answers means nothing."""


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
    budget_s: float = 2.0
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
        self._loop = asyncio.new_event_loop()

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
            for name in own:
                spent_s = sum(self._result("load", None, name).samples) / 1e6 * self.sample.size
                if number and spent_s > self.pace.budget_s:
                    continue
                self.tell(f"load {name} ({number + 1})")
                shutil.rmtree(self.folder / "cities" / name, ignore_errors=True)
                self._load(name)
        for name, peer in self.classes.items():
            place = self.folder / "cities"
            if peer.same_file_as:
                shutil.copytree(place / peer.same_file_as, place / name)
            self.bytes[name] = sum(file.stat().st_size for file in (place / name).rglob("*.*"))

    def _load(self, name: str) -> None:
        feed = self.sample.feed()
        peer = self.open(name, level_of(self.classes[name]))
        start = perf_counter()
        self.run(peer.load(feed))
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
                    self._case(operation, durability, opened, self.pace.rounds, 0)

    def text(self) -> None:
        """Words in short texts, in files of their own."""
        notes = Notes(self.sample.size)
        names = []
        for name, peer in self.classes.items():
            if name in peers.HELPERS:
                continue
            if TEXT.name in peer.unable:
                self._result(TEXT.name, None, name).reason = peer.unable[TEXT.name]
                continue
            self.tell(f"load texts {name}")
            loading = self.open(name, level_of(peer), "notes")
            self.run(loading.load_texts(notes.feed()))
            self.run(loading.close())
            names.append(name)
        self.tell("text")
        with self._opened(names, None, "notes") as opened:
            self._measure(
                TEXT,
                None,
                opened,
                lambda: notes.words(TEXT.per_round, self.rng),
                self.pace.rounds,
                lambda peer, call, given: self._same(peer, TEXT, call(given), notes.text(given)),
            )

    def _case(
        self,
        operation: Operation,
        durability: str | None,
        opened: dict[str, Peer],
        rounds: int,
        sitting: int,
    ) -> None:
        able = {}
        for name, peer in opened.items():
            known = self.results.get((operation.name, durability, name))
            if operation.method in peer.unable or operation.name in peer.unable:
                reason = peer.unable.get(operation.name) or peer.unable[operation.method]
                self._result(operation.name, durability, name).reason = reason
            elif known is None or (sitting and len(known.samples) >= rounds and not known.reason):
                able[name] = peer
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

        prove = self._prove_write if operation.writes else self._prove_read
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
            per_round, share = plan(
                min(spent) * 1e6, operation.per_round, rounds, self.pace.budget_s
            )
            sides.append(Side(name, call, peer.is_async, per_round, share))
        if sides:
            measure(sides, inputs, rounds, self.rng, self._loop)
        for side in sides:
            result = self._result(operation.name, durability, side.name)
            result.samples += [value / scale for value in side.samples]

    def _prove_read(
        self, operation: Operation, peer: Peer, call: Callable[[Any], Any], given: Any
    ) -> None:
        self._same(peer, operation, call(given), getattr(self.sample, operation.method)(given))

    def _same(self, peer: Peer, operation: Operation, found: Any, right: Any) -> None:
        if answer_of(peer.plain, operation.name, found) != answer_of(
            lambda row: row, operation.name, right
        ):
            raise WrongAnswer(f"{peer.name}, {operation.name}")

    def _prove_write(
        self, operation: Operation, peer: Peer, call: Callable[[Any], Any], given: Any
    ) -> None:
        """The write is there afterwards, and the index knows it."""
        if operation.name == "patch":
            # A document of its own: the inputs are shared by all sides.
            (document,) = self.sample.new(1)
            self.run(peer.put(document))
            call((document["id"], given[1]))
            self._stored(peer, {**document, "pop": given[1]})
            if "range_1000" not in peer.unable:
                pop = given[1]
                found = [peer.plain(row)["id"] for row in self.run(peer.between((pop, pop)))]
                if document["id"] not in found:
                    raise WrongAnswer(f"{peer.name}, {operation.name}: the index is stale")
            return
        if operation.name == "delete":
            call(given)
            if self.run(peer.get(given)) is not None:
                raise WrongAnswer(f"{peer.name}, {operation.name}: it is still there")
            return
        fresh = self.sample.new(200) if operation.name == "bulk_put_200" else self.sample.new(1)
        answer = call(fresh if operation.name == "bulk_put_200" else fresh[0])
        self._stored(peer, fresh[-1])
        if operation.name == "notify" and peer.plain(answer) != fresh[0]:
            raise WrongAnswer(f"{peer.name}, {operation.name}")

    def _stored(self, peer: Peer, document: dict[str, Any]) -> None:
        found = self.run(peer.get(document["id"]))
        if found is None or peer.plain(found) != document:
            raise WrongAnswer(f"{peer.name}: what was written is not what is read")

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
