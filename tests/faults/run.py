"""One run of one kind: work under faults, healing, and the oracle's word on it."""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple

from tests.faults.kinds import KINDS
from tests.faults.oracle import check
from tests.faults.workload import canonical
from tests.faults.world import DeviceProcess, Run, World

SETTLE_S = 90.0
"""After healing, everybody must agree within this time, by itself. A read that never ends is given
up after 60 s, a retry comes after 30 s at most."""


class Result(NamedTuple):
    kind: str
    seed: str
    violations: list[str]
    operations: int
    acknowledged: int
    looks: int
    faults: dict[str, int]
    seconds: float
    settled_s: float
    """From healing until all replicas were equal and every queue empty."""


def play(
    world: World, kind: str, seed: str, seconds: float, *, settle_s: float = SETTLE_S
) -> Result:
    """One run; what does not hold is in ``violations``."""
    begun = time.monotonic()
    how = KINDS[kind]
    run = Run(world, f"{kind}/{seed}")
    settled_s = 0.0
    stage = "starting"
    operations = acknowledged = looks = 0
    try:
        run.begin(hold_s=how.hold_s)
        how.prepare(run)
        stage = "under faults"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            how.fault(run)
        stage = "healing"
        how.heal(run)
        for device in run.devices:
            device.do("rest")
        for writer in run.sql:
            writer.end()
        healed = time.monotonic()
        stage = "settling"
        _settle(run, settle_s)
        settled_s = time.monotonic() - healed
        stage = "checking"
        views = {device.name: device.do("view") for device in run.devices}
        records = [device.do("records") for device in run.devices]
        histories: dict[str, list[dict[str, Any]]] = {}
        for device in run.devices:
            lines = device.history.read_text().splitlines() if device.history.exists() else []
            histories[device.name] = [json.loads(line) for line in lines]
        for writer in run.sql:
            histories[writer.name_] = writer.history
        outcome = check(histories, run.stored(), views, records, how.promises)
        operations, acknowledged, looks = outcome[:3]
        run.violations += outcome.violations
        run.violations += [text for one in run.devices for text in _status(one, run)]
    except Exception as error:
        run.violations.append(f"{stage}: {type(error).__name__}: {error}")
    finally:
        how.heal(run)
        run.end()
    return Result(
        kind, seed, run.violations, operations, acknowledged, looks, run.faults,
        time.monotonic() - begun, settled_s,
    )  # fmt: skip


def _settle(run: Run, within_s: float) -> None:
    """Wait; nobody is told anything. Open conflicts are for people, so one decides."""
    end = time.monotonic() + within_s
    while True:
        marks = [device.do("mark") for device in run.devices]
        quiet = not any(queued for queued, _ in marks)
        if quiet and all(mark[1] == marks[0][1] for mark in marks):
            settled = sum(device.do("settle") for device in run.devices)
            if not settled:
                stored = canonical(run.stored())
                if all(canonical(device.do("view")) == stored for device in run.devices):
                    return
        if time.monotonic() > end:
            states = {
                device.name: {
                    key: value
                    for key, value in device.do("status").items()
                    if key in ("state", "queued", "last_error", "conflicts", "dead", "next_attempt_s")
                }
                for device in run.devices
            }
            raise AssertionError(f"STUCK for {within_s:g} s: {states}")
        time.sleep(0.03)


def _status(device: DeviceProcess, run: Run) -> list[str]:
    status = device.do("status")
    wrong = [f"{name} {status[name]}" for name in ("queued", "dead", "conflicts") if status[name]]
    good = {"idle", "syncing"}
    if any(other is not device and other.file == device.file for other in run.devices):
        good.add("standby")
    if status["state"] not in good:
        wrong.append(f"state {status['state']} ({status['last_error']})")
    return [f"{device.name} says: {', '.join(wrong)}"] if wrong else []
