"""A deterministic simulation of the whole path: devices, network, node, PostgreSQL.

    report = Simulation(seed=7).run()
    assert report.ok, report.violations

One seed draws one schedule: writes of users, exchanges, lost and repeated messages, crashes of
devices, node and database, transactions that stay open, clocks that jump, files that are put back.
The devices have real stores and run the real plans; the node is the real one, on a database that
behaves like PostgreSQL (``postgres``). Time is virtual.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from homeport.testing.simulation.checks import check, settle
from homeport.testing.simulation.steps import RARE, WEIGHTS, Step, draw
from homeport.testing.simulation.world import DOCS, UNITS, World

__all__ = ["Simulation", "SimulationReport", "Step", "main"]

Store = Literal["memory", "sqlite"]


class SimulationReport(msgspec.Struct, frozen=True):
    """What a run found.

    Attributes:
        seed: of the schedule.
        ok: nothing is wrong.
        violations: what is, in words.
        trace: the steps that were made, in order.
        final: the documents that everybody ends with.
        statements: how many statements the database answered.
    """

    seed: int
    ok: bool
    violations: list[str]
    trace: list[Step]
    final: dict[str, Any]
    statements: int

    def __str__(self) -> str:
        head = f"seed {self.seed}: " + ("ok" if self.ok else "; ".join(self.violations))
        return "\n".join([head, *(f"  {step}" for step in self.trace)])


class Simulation:
    """One seeded run of several devices against one server.

    Args:
        seed: draws the schedule.
        clients: devices, 1 to 8.
        steps: length of the schedule.
        policy: conflict policy of the documents: ``merge``, ``last-write-wins``, ``local-wins``,
            ``remote-wins``, ``manual``.
        deletes: ``delete-wins`` or ``edit-wins``.
        store: ``memory`` or ``sqlite`` (real files in a temporary folder).
        server_backups: also put backups of the server back (R14).
        small_pages: cuts take several pages.
        schedule: these steps instead of drawn ones.
        leave_out: kinds of steps to skip, for example ``{"skew"}``.
    """

    def __init__(
        self,
        seed: int = 1,
        clients: int = 3,
        steps: int = 200,
        *,
        policy: str = "merge",
        deletes: str = "delete-wins",
        store: Store = "memory",
        server_backups: bool = False,
        small_pages: bool = True,
        schedule: Sequence[Step] | None = None,
        leave_out: frozenset[str] = frozenset(),
    ) -> None:
        self.seed = seed
        self.clients = clients
        self.policy = policy
        self.deletes = deletes
        self.store: Store = store
        self.server_backups = server_backups
        self.small_pages = small_pages
        weights = {**WEIGHTS, **(RARE if server_backups else {})}
        drawn = list(schedule) if schedule is not None else draw(seed, steps, clients, weights)
        self.schedule = [step for step in drawn if step.kind not in leave_out]

    def run(self) -> SimulationReport:
        """Play the schedule, heal everything, and check what must hold."""
        if self.store == "memory":
            return asyncio.run(self._run(None))
        with tempfile.TemporaryDirectory(prefix="homeport-simulation-") as folder:
            return asyncio.run(self._run(Path(folder)))

    async def _run(self, folder: Path | None) -> SimulationReport:
        world = World(self.clients, self.policy, self.deletes, folder, small_pages=self.small_pages)
        try:
            for number, step in enumerate(self.schedule):
                world.ledger.where = f"step {number}: {step}"
                await world.step(step)
            await settle(world)
            if not world.ledger.violations:
                await check(world, self.policy, self.deletes)
        except Exception as error:  # a crash of the product is a finding too
            world.ledger.violate(f"{type(error).__name__}: {error}")
        finally:
            world.close()
        found = world.ledger.violations
        return SimulationReport(
            self.seed,
            not found,
            found,
            list(self.schedule),
            {name: world.stored(name) for name in (DOCS, UNITS)},
            world.postgres.statements,
        )

    def shrink(self) -> SimulationReport:
        """The shortest schedule found that still fails, by leaving steps out (delta debugging,
        Zeller 1999); the report of the run itself when it does not fail."""
        report = self.run()
        if report.ok:
            return report
        steps, width = list(self.schedule), max(1, len(self.schedule) // 2)
        while width:
            start = 0
            while start < len(steps):
                shorter = steps[:start] + steps[start + width :]
                tried = self._with(shorter).run()
                if tried.ok:
                    start += width
                else:
                    steps, report = shorter, tried
            width //= 2
        return report

    def _with(self, steps: Sequence[Step]) -> Simulation:
        return Simulation(
            self.seed,
            self.clients,
            policy=self.policy,
            deletes=self.deletes,
            store=self.store,
            server_backups=self.server_backups,
            small_pages=self.small_pages,
            schedule=steps,
        )


STORES: tuple[Store, Store] = ("memory", "sqlite")
POLICIES = ("merge", "last-write-wins", "remote-wins", "local-wins", "manual")


def mixed(seed: int, steps: int = 60) -> Simulation:
    """A run whose every setting follows from its seed; what CI and ``make soak`` play."""
    return Simulation(
        seed,
        clients=2 + seed % 2,
        steps=steps,
        policy=POLICIES[seed % 5],
        deletes="edit-wins" if seed % 7 == 0 else "delete-wins",
        store=STORES[seed % 20 == 0],
        server_backups=seed % 3 == 0,
        small_pages=seed % 2 == 0,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m homeport.testing.simulation``: play seeds until one fails or the time is over."""
    parser = argparse.ArgumentParser(prog="python -m homeport.testing.simulation")
    parser.add_argument("--seed", type=int, default=1, help="first seed")
    parser.add_argument("--count", type=int, default=100, help="how many seeds")
    parser.add_argument("--steps", type=int, default=60, help="steps of each schedule")
    parser.add_argument("--minutes", type=float, help="play seeds for so long, whatever the count")
    options = parser.parse_args(arguments)
    until = None if options.minutes is None else time.monotonic() + options.minutes * 60
    seed, played = options.seed, 0
    while time.monotonic() < until if until is not None else played < options.count:
        simulation = mixed(seed, options.steps)
        report = simulation.run()
        if not report.ok:
            sys.stdout.write(f"{report.violations}\nshrinking …\n")
            sys.stdout.write(f"{simulation.shrink()}\n")
            return 1
        seed, played = seed + 1, played + 1
    sys.stdout.write(f"{played} schedules of {options.steps} steps, nothing wrong\n")
    return 0
