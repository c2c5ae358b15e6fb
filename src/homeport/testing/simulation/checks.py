"""What must hold at the end of any run."""

from __future__ import annotations

import json
from typing import Any

from homeport.testing.simulation.device import SimulatedDevice
from homeport.testing.simulation.ledger import quoted
from homeport.testing.simulation.postgres import Document
from homeport.testing.simulation.world import DOCS, UNIT_KEYS, UNITS, World

ROUNDS = 6


async def settle(world: World) -> None:
    """Heal everything, and exchange until nothing moves."""
    world.quiet()
    for turn in range(ROUNDS):
        for device in world.devices:
            if not await device.settle():
                world.ledger.violate(f"{device.name} does not come to rest")
                return
        for device in world.devices:
            for conflict in device.open_conflicts():
                device.resolve(conflict, "mine" if turn % 2 else "theirs")


async def check(world: World, policy: str, deletes: str) -> None:
    """Compare everybody with everybody; violations go to the ledger."""
    ledger = world.ledger
    ledger.where = "at the end"
    fresh = world.device("fresh")
    await fresh.settle()
    _convergence(world, fresh)
    _units(world, [*world.devices, fresh])
    _nothing_lost(world)
    _nothing_invented(world)
    strict = policy in ("merge", "remote-wins") and deletes == "delete-wins"
    if strict and not world.lost_server_data:
        _no_resurrection(world)
    if not world.restored_devices:  # what a file forgot may still be on its way
        await _old_requests_change_nothing(world)
    await _cursors_work(world)
    fresh.close()


def _convergence(world: World, fresh: SimulatedDevice) -> None:
    for name in (DOCS, UNITS):
        truth = world.stored(name)
        for device in (*world.devices, fresh):
            found = device.all(name)
            if found != truth:
                world.ledger.violate(
                    f"{device.name} and the server differ in {name}: {found} / {truth}"
                )
    for device in world.devices:
        try:
            left = device.waiting()
        except AssertionError as error:
            world.ledger.violate(str(error))
            continue
        if left:
            world.ledger.violate(f"{device.name} still has {left} queued changes")


def _units(world: World, devices: list[SimulatedDevice]) -> None:
    views = [(device.name, device.all(UNITS)) for device in devices]
    for who, view in [*views, ("the server", world.stored(UNITS))]:
        stamps = {None if key not in view else view[key]["stamp"] for key in UNIT_KEYS}
        if len(stamps) > 1:
            world.ledger.violate(f"{who} ends with half a unit: {sorted(map(str, stamps))}")


def _nothing_lost(world: World) -> None:
    """Every value is in the final state, in a record, listed for a person, or was overwritten by
    somebody who had seen it."""
    ledger = world.ledger
    told = ledger.in_text(world.found() + "".join(device.told() for device in world.devices))
    left = set(ledger.values) - told - ledger.replaced - ledger.forgiven
    if world.lost_server_data:
        # What another program wrote and the server's disk never had is nobody's to bring back.
        left -= {value for value, writer in ledger.values.items() if writer is None}
        if world.restored_devices:
            return
    history = json.dumps([text for texts in world.postgres.history.values() for text in texts])
    for value in sorted(left):
        if f'\\"{value}\\"' not in history:
            if ledger.values[value] is None:
                continue  # its transaction never committed
            ledger.violate(f"the write {value} was lost before it reached the server")
            continue
        removals = [
            writer
            for writer, before, after in world.postgres.drops
            if quoted(value) in (before or "") and quoted(value) not in (after or "")
        ]
        if not removals:
            ledger.violate(f"the acknowledged write {value} is gone")
        for writer in removals:
            who = world.client_ids.get(writer or "")
            if who is not None and value not in ledger.seen[who]:
                ledger.violate(
                    f"the write {value} was overwritten by d{who}, who never saw it, and there is "
                    "no record"
                )


def _nothing_invented(world: World) -> None:
    for document in world.stored(DOCS).values():
        proof = document.get("proof")
        if proof is not None and document.get(f"none_{proof}", "missing") is not None:
            world.ledger.violate(f"a null was dropped from {document}")
        for name, value in document.items():
            if name in ("x", "y") and value is not None and value not in world.ledger.values:
                world.ledger.violate(f"nobody wrote {value!r}")


def _no_resurrection(world: World) -> None:
    for (collection, key), texts in world.postgres.history.items():
        if collection != DOCS:
            continue
        births = sum(
            text is not None and (number == 0 or texts[number - 1] is None)
            for number, text in enumerate(texts)
        )
        if births > world.ledger.creations.get(key, 0):
            world.ledger.violate(f"{key} came back {births} times and was created fewer times")


async def _old_requests_change_nothing(world: World) -> None:
    def body() -> Any:
        return {place: row.body for place, row in world.postgres.state.documents.items()}

    before = body()
    for device in world.devices:
        for request in device.network.sent:
            await device.network.replay(request)
    if body() != before:
        world.ledger.violate("an old request that came again changed the server")


async def _cursors_work(world: World) -> None:
    """One more change costs one row, not everything again."""
    for device in world.devices:
        # A file that was copied begins anew with its first push; that is over after this.
        device.put(DOCS, {"id": f"of {device.name}"})
        await device.settle()
    for device in world.devices:
        await device.settle()
    text = '{"id":"last"}'
    world.postgres.sql({(DOCS, "last"): Document(0, "", text)})
    for device in world.devices:
        pulled = device.rounds.pulled
        await device.settle()
        if not 1 <= device.rounds.pulled - pulled <= 2:
            world.ledger.violate(
                f"{device.name} fetched {device.rounds.pulled - pulled} rows for one change"
            )
        if device.get(DOCS, "last") is None:
            world.ledger.violate(f"{device.name} did not get the last change")
