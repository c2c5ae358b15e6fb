"""The world of one run: a database, a node, devices, and everything that happens to them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from homeport.core.schema import Collection, Synced
from homeport.core.wire import RESOLUTIONS
from homeport.server.exchange import Exchange
from homeport.server.rules import Rules
from homeport.testing.simulation.database import SimulatedDatabase
from homeport.testing.simulation.device import Network, SimulatedDevice
from homeport.testing.simulation.faults import Faults
from homeport.testing.simulation.ledger import Ledger
from homeport.testing.simulation.postgres import Document, SimulatedPostgres, State
from homeport.testing.simulation.steps import Step

DOCS = "docs"
UNITS = "units"
UNIT_KEYS = ("1", "2", "3")
START_MS = 1_700_000_000_000
PAGE_BYTES = 700
"""Small pages: most cuts take several."""


class World:
    """Devices 0..n-1 with one user, one node, one database."""

    def __init__(
        self, clients: int, policy: str, deletes: str, folder: Path | None, *, small_pages: bool
    ) -> None:
        self.now_ms = START_MS
        self.postgres = SimulatedPostgres(lambda: self.now_ms / 1000)
        self.faults = Faults()
        self.ledger = Ledger(clients)
        self.page_bytes = PAGE_BYTES if small_pages else 8_000_000
        self._ids = itertools.count(1)
        self._folder = folder
        self.start_node()
        synced = Synced(policy, deletes=deletes)  # type: ignore[arg-type]
        self.collections = (
            Collection(DOCS, sync=synced),
            Collection(UNITS, sync=Synced("remote-wins")),
        )
        self.client_ids: dict[str, int] = {}
        """Every id under which a device has pushed."""
        self.devices = [self.device(f"d{n}") for n in range(clients)]
        self.foreign: list[Any] = []
        self.backup: State | None = None
        self.set_back = False
        self.lost_server_data = False
        self.restored_devices = False

    def start_node(self) -> None:
        database = SimulatedDatabase(self.postgres, self.faults)
        # Real time must not decide where a page ends.
        self.node = Exchange(database, Rules(None), page_bytes=self.page_bytes, page_s=float("inf"))

    def new_id(self) -> str:
        return f"id{next(self._ids):06d}"

    def clock_ms(self) -> int:
        self.now_ms += 1
        return self.now_ms

    def device(self, name: str) -> SimulatedDevice:
        def tell(client: str) -> None:
            self.faults.client = client

        network = Network(lambda: self.node, tell)
        path = None if self._folder is None else self._folder / f"{name}.db"
        return SimulatedDevice(name, self.collections, network, self.clock_ms, path, self.new_id)

    def close(self) -> None:
        for device in self.devices:
            device.close()

    def stored(self, collection: str) -> dict[str, Any]:
        return {
            key: json.loads(row.body)
            for (name, key), row in sorted(self.postgres.state.documents.items())
            if name == collection
        }

    # -- one step

    async def step(self, step: Step) -> None:
        self.now_ms += 1_000
        device = self.devices[step.client]
        self.client_ids[device.client] = step.client
        watch = step.kind in ("set", "put", "delete", "unit", "null")
        before = self._views(device) if watch else {}
        method = getattr(self, "_" + step.kind.replace("-", "_"))
        done = method(device, step)
        if done is not None:
            await done
        if watch:
            self.ledger.replaced_by(step.client, before, self._views(device))
        self.ledger.saw(step.client, self._views(device))
        self._check_units(device)

    def _views(self, device: SimulatedDevice) -> dict[str, Any]:
        return {**device.all(DOCS), **{f"unit {k}": d for k, d in device.all(UNITS).items()}}

    def _check_units(self, device: SimulatedDevice) -> None:
        found = [device.get(UNITS, key) for key in UNIT_KEYS]
        self._check_unit(device.name, found)

    def _check_unit(self, who: str, found: list[Any]) -> None:
        stamps = {None if doc is None else doc["stamp"] for doc in found}
        if len(stamps) > 1:
            self.ledger.violate(f"{who} sees half a unit: {sorted(map(str, stamps))}")

    # -- users

    def _set(self, device: SimulatedDevice, step: Step) -> None:
        if device.get(DOCS, step.key) is not None:
            value = self.ledger.new_value(step.client)
            device.patch(DOCS, step.key, {step.other: value})
            found = device.get(DOCS, step.key)
            if found is None or found[step.other] != value:
                self.ledger.violate(f"{device.name} does not read its own write")

    def _null(self, device: SimulatedDevice, step: Step) -> None:
        """Null is a value: whoever has the proof has the null that was written with it. Each null
        is a field of its own: to write one again is no change, and somebody may have removed it.
        """
        if device.get(DOCS, step.key) is not None:
            value = self.ledger.new_value(step.client)
            device.patch(DOCS, step.key, {f"none_{value}": None, "proof": value})

    def _put(self, device: SimulatedDevice, step: Step) -> None:
        self.ledger.creations[step.key] = self.ledger.creations.get(step.key, 0) + 1
        value = [self.ledger.new_value(step.client) for _ in range(2)]
        device.put(DOCS, {"id": step.key, "x": value[0], "y": value[1]})

    def _delete(self, device: SimulatedDevice, step: Step) -> None:
        device.delete(DOCS, step.key)

    def _unit(self, device: SimulatedDevice, step: Step) -> None:
        """Three documents get one stamp, in one transaction."""
        stamp = self.ledger.new_value(step.client)
        device.unit(
            *(lambda key=key: device.put(UNITS, {"id": key, "stamp": stamp}) for key in UNIT_KEYS)
        )

    def _resolve(self, device: SimulatedDevice, step: Step) -> None:
        for conflict in device.open_conflicts():
            device.resolve(conflict, "mine" if step.number % 2 else "theirs")

    # -- devices and networks

    async def _sync(self, device: SimulatedDevice, step: Step) -> None:
        del step
        await device.exchange()

    async def _lose(self, device: SimulatedDevice, step: Step) -> None:
        del step
        device.network.lose_reply = True
        await device.exchange()
        device.network.lose_reply = False

    async def _drop(self, device: SimulatedDevice, step: Step) -> None:
        del step
        device.network.lose_request = True
        await device.exchange()
        device.network.lose_request = False

    async def _duplicate(self, device: SimulatedDevice, step: Step) -> None:
        del step
        device.network.duplicate = True
        await device.exchange()
        device.network.duplicate = False

    async def _replay(self, device: SimulatedDevice, step: Step) -> None:
        if device.network.sent:
            await device.network.replay(device.network.sent[step.number % len(device.network.sent)])

    def _reopen(self, device: SimulatedDevice, step: Step) -> None:
        del step
        device.reopen()

    async def _killed(self, device: SimulatedDevice, step: Step) -> None:
        """The device dies between freezing a batch and sending it, or while it waits."""
        if step.number % 2:
            await self._drop(device, step)
        else:
            await self._lose(device, step)
        device.reopen()

    def _partition(self, device: SimulatedDevice, step: Step) -> None:
        del step
        device.network.partitioned = True

    def _heal(self, device: SimulatedDevice, step: Step) -> None:
        del step
        device.network.partitioned = False

    def _skew(self, device: SimulatedDevice, step: Step) -> None:
        device.skew_ms += 86_400_000 if step.number % 2 else -86_400_000

    def _save(self, device: SimulatedDevice, step: Step) -> None:
        device.save()
        self.ledger.saved(step.client)

    def _restore(self, device: SimulatedDevice, step: Step) -> None:
        if device.restore():
            self.restored_devices = True
            self.ledger.restored(step.client, self.postgres.history)

    # -- servers

    def _node(self, device: SimulatedDevice, step: Step) -> None:
        del device, step
        self.start_node()

    async def _cut(self, device: SimulatedDevice, step: Step) -> None:
        """The database connection of the node is lost at some statement of this exchange."""
        self.faults.cut_in = step.number
        await device.exchange()
        self.faults.cut_in = None

    async def _uncertain(self, device: SimulatedDevice, step: Step) -> None:
        """It is lost at the commit: done, and nobody told."""
        del step
        self.faults.cut_after_commit = True
        await device.exchange()
        self.faults.cut_after_commit = False

    def _row(self, step: Step) -> dict[tuple[str, str], Document | None]:
        """What another program writes: one field of a document that is there."""
        row = self.postgres.state.documents.get((DOCS, step.key))
        if row is None:
            return {}
        body = {**json.loads(row.body), step.other: self.ledger.new_value(None)}
        return {(DOCS, step.key): Document(0, "", json.dumps(body, separators=(",", ":")))}

    def _sql(self, device: SimulatedDevice, step: Step) -> None:
        del device
        if writes := self._row(step):
            self.postgres.sql(writes)

    def _sql_async(self, device: SimulatedDevice, step: Step) -> None:
        """With ``synchronous_commit = off``: seen at once, on disk later."""
        del device
        if writes := self._row(step):
            self.postgres.sql(writes, durable=False)

    def _open(self, device: SimulatedDevice, step: Step) -> None:
        """Another program writes and does not commit yet."""
        del device
        tx = self.postgres.begin()
        writes = self._row(step)
        if writes and not self.postgres.locked(writes, tx):
            self.postgres.xid_of(tx)
            tx.writes = writes
            self.foreign.append(tx)

    def _commit(self, device: SimulatedDevice, step: Step) -> None:
        del device, step
        if self.foreign:
            self.postgres.writer = None
            self.postgres.commit(self.foreign.pop(0))

    def _abort(self, device: SimulatedDevice, step: Step) -> None:
        del device, step
        if self.foreign:
            self.postgres.abort(self.foreign.pop())

    def _burn(self, device: SimulatedDevice, step: Step) -> None:
        del device, step
        self.postgres.roll_back_one()

    def _crash(self, device: SimulatedDevice, step: Step) -> None:
        del device, step
        self.postgres.crash()
        self.foreign.clear()
        self.start_node()
        self.lost_server_data = True

    def _prune(self, device: SimulatedDevice, step: Step) -> None:
        del device, step
        self.postgres.prune()

    def _backup(self, device: SimulatedDevice, step: Step) -> None:
        del device, step
        self.backup = self.postgres.backup()

    def _set_back(self, device: SimulatedDevice, step: Step) -> None:
        """The server's backup is put back."""
        del device, step
        if self.backup is not None:
            self.foreign.clear()
            self.postgres.restore(self.backup)
            self.start_node()
            self.lost_server_data = self.set_back = True

    # -- the end

    def quiet(self) -> None:
        """Faults are over."""
        for tx in self.foreign:
            self.postgres.abort(tx)
        self.foreign.clear()
        for device in self.devices:
            device.network.partitioned = False

    def found(self) -> str:
        """Everything that the server holds, records of settlements included, as text."""
        return json.dumps([self.stored(name) for name in (DOCS, UNITS, RESOLUTIONS)])
