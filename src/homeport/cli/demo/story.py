"""The acts of the demo, in order. Each ends with something that is checked, not claimed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from homeport.cli.demo.models import COLLECTIONS
from homeport.cli.demo.screen import Advance, Screen
from homeport.cli.demo.stage import Event, Node, RemoteDevice
from homeport.cli.demo.verify import Holding, differences, held_by_postgres

# The wells of the story, by their files.
SCORPIO = "6038187_v1.2"  # both change it, but different fields
TOTEM = "logging_levels"  # both change the same field; A moves its depth reference
REVIEWED = "1.2/sample_big"  # reviewed: nothing may merge silently
DELETED = "autodepthindex_F"  # A deletes it while B writes a remark

NOTES = {"A": "Base confirmed at 131 m", "B": "Base confirmed at 133 m"}
DECISION = "Cased to 1,490 m (agreed by phone)"
SHIFT_M = 3.2

ACKNOWLEDGED = 40
"""B is killed only after it acknowledged at least this many writes."""

LIVE_LINES = 6
"""How many arrivals of the live query are shown; the rest is counted."""

DRAIN_TIMEOUT_S = 40.0


@dataclass
class Facts:
    """What the report tells."""

    imported: dict[str, Any] = field(default_factory=dict)
    first_sync_s: float = 0.0
    online: dict[str, Any] = field(default_factory=dict)
    offline: dict[str, Any] = field(default_factory=dict)
    queued: dict[str, int] = field(default_factory=dict)
    killed: dict[str, Any] = field(default_factory=dict)
    drain_s: float = 0.0
    arrived: int = 0
    held: list[dict[str, Any]] = field(default_factory=list)
    settled: list[dict[str, Any]] = field(default_factory=list)
    traffic: dict[str, Any] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Story:
    """Tells it; ``facts`` is filled on the way."""

    def __init__(self, screen: Screen, folder: Path, data: Path, node: Node, dsn: str) -> None:
        self.facts = Facts()
        self._screen = screen
        self._folder = folder
        self._data = data
        self._node = node
        self._dsn = dsn
        self._devices: dict[str, RemoteDevice] = {}
        self._advance: Advance | None = None
        self._acknowledged: list[str] = []
        self._half = threading.Event()
        self._shared = ""

    def tell(self) -> None:
        """All acts. Whatever happens, no process is left behind."""
        started = time.perf_counter()
        try:
            self._import_and_share()
            self._cut_the_network()
            self._kill_in_the_middle()
            self._come_back()
            self._let_a_person_decide()
            self._compare_everybody()
        finally:
            for device in self._devices.values():
                device.close()
            self.facts.seconds = time.perf_counter() - started

    # --- 1, 2: data in, and everything on B -----------------------------------------------------

    def _import_and_share(self) -> None:
        screen, facts = self._screen, self.facts
        screen.act(1, "Device A imports real well logs and syncs")
        a = self._start("A")
        with self._bar("reading LAS files"):
            facts.imported = a.run("import_logs", folder=str(self._data))
        counts = facts.imported
        screen.done(
            f"{counts['wells']} wells, {counts['curves']} curve documents, "
            f"{counts['samples']:,} samples in {counts['seconds']:.1f} s"
        )
        screen.aside(
            f"{len(counts['unreadable'])} of the {counts['files']} files are not readable: "
            + ", ".join(name.partition(":")[0] for name in counts["unreadable"])
        )
        a.run("patch", collection="wells", key=REVIEWED, fields={"reviewed": True})
        self._shared = a.run("note", well_id=SCORPIO, zone="Base", text="To be confirmed")
        self._connect(a)
        with self._bar("sending"):
            sent = a.run("settle", timeout_s=DRAIN_TIMEOUT_S)
        screen.done(f"A has sent everything, {sent['seconds']:.1f} s")

        screen.act(2, "Device B starts empty")
        b = self._start("B")
        self._connect(b)
        with self._bar("first sync"):
            got = b.run("settle", timeout_s=DRAIN_TIMEOUT_S)
        facts.first_sync_s = got["seconds"]
        held = {device.name: self._holding(device) for device in (a, b)}
        total = sum(digest.count for digest in held["B"].values())
        self._check(
            not differences(held),
            f"B holds the same {total:,} documents as A, {facts.first_sync_s:.1f} s",
            "B does not hold what A holds",
        )
        facts.online = {d.name: d.run("time_local", rounds=200) for d in (a, b)}

    # --- 3: no network --------------------------------------------------------------------------

    def _cut_the_network(self) -> None:
        screen, facts = self._screen, self.facts
        a, b = self._devices["A"], self._devices["B"]
        screen.act(3, "The network goes away; both go on working")
        self._node.kill()
        screen.warn("The node is killed (SIGKILL); its port is closed")
        self._check(not self._node.reachable, "", "The node still answers")

        a.run("patch", collection="wells", key=SCORPIO, fields={"status": "producing"})
        b.run("patch", collection="wells", key=SCORPIO, fields={"remark": "Casing checked in May"})
        screen.done("Different fields of one well: A its status, B its remark")
        a.run("patch", collection="wells", key=TOTEM, fields={"status": "shut in"})
        b.run("patch", collection="wells", key=TOTEM, fields={"status": "abandoned"})
        screen.done("The same field of another well: A says shut in, B says abandoned")
        for device in (a, b):
            words = {"note": NOTES[device.name]}
            device.run("patch", collection="interpretations", key=self._shared, fields=words)
        screen.done("Both rewrite the same note")
        a.run("delete", collection="wells", key=DELETED)
        b.run("patch", collection="wells", key=DELETED, fields={"remark": "Depth in feet?"})
        screen.done("A deletes a well while B writes a remark on it")
        a.run("patch", collection="wells", key=REVIEWED, fields={"remark": "Cased to 1,500 m"})
        b.run("patch", collection="wells", key=REVIEWED, fields={"remark": "Cased to 1,480 m"})
        screen.done("Both change a reviewed well; its policy leaves that to a person")
        a.run("note", well_id=TOTEM, zone="Upper", text="Tight limestone, fluorescence in cuttings")
        a.run("note", well_id=SCORPIO, zone="Coal", text="Coal seam at the base, low density")
        b.run("note", well_id=TOTEM, zone="Lower", text="Porous dolomite, good gas storage")
        b.run("note", well_id=SCORPIO, zone="Coal", text="Two seams, the lower one is thicker")
        found = {d.name: len(d.run("search", words="seam*")) for d in (a, b)}
        self._check(
            found == {"A": 1, "B": 1},
            "New notes on both sides, found by full text at once",
            f"Full-text search found {found}",
        )
        size = a.run("shift_datum", well_id=TOTEM, shift_m=SHIFT_M)
        screen.done(f"A moves the depth reference of a well: one unit of {size} documents")
        facts.offline = {d.name: d.run("time_local", rounds=200) for d in (a, b)}

    def _kill_in_the_middle(self) -> None:
        screen, facts = self._screen, self.facts
        b = self._devices["B"]
        b.begin("write_until_killed", well_id=SCORPIO)
        if not self._half.wait(DRAIN_TIMEOUT_S):
            self._check(False, "", "B did not reach the middle of its transaction")
        b.kill()
        screen.warn(
            f"B is killed (SIGKILL) in a transaction, after {len(self._acknowledged)} writes"
        )
        b.restart()
        kept = b.run("present", keys=self._acknowledged)
        half = b.run("present", keys=["half-1", "half-2", "half-3"])
        facts.killed = {
            "acknowledged": len(self._acknowledged),
            "kept": len(kept),
            "half": len(half),
        }
        self._check(
            kept == self._acknowledged and not half and len(kept) >= ACKNOWLEDGED,
            f"B starts again: all {len(kept)} acknowledged writes are there, no half unit",
            f"B lost acknowledged writes or kept half a unit: {facts.killed}",
        )
        self._connect(b)
        for device in self._devices.values():
            state = device.run("status")
            facts.queued[device.name] = state["queued"]
        screen.done(f"Waiting on disk: {facts.queued['A']} changes on A, {facts.queued['B']} on B")
        state = self._devices["A"].run("notice_offline", timeout_s=10)
        self._check(
            state["state"] == "offline",
            f"A knows that it is offline; next attempt in {state['next_attempt_s'] or 0:.1f} s",
            f"A believes to be {state['state']} without a network",
        )

    # --- 4: back again --------------------------------------------------------------------------

    def _come_back(self) -> None:
        screen, facts = self._screen, self.facts
        a, b = self._devices["A"], self._devices["B"]
        screen.act(4, "The network returns")
        a.run("watch")
        started = time.perf_counter()
        self._node.start()
        screen.done("The node is back on its port; nobody presses a button")
        with self._bar("draining"):
            b.begin("drained", timeout_s=DRAIN_TIMEOUT_S)
            a.run("drained", timeout_s=DRAIN_TIMEOUT_S)
            b.finish()
        for device in (a, b, a):  # so that each has seen what the other sent last
            device.run("settle", timeout_s=DRAIN_TIMEOUT_S)
        facts.drain_s = time.perf_counter() - started
        if facts.arrived > LIVE_LINES:
            screen.live(f"… and {facts.arrived - LIVE_LINES} more, in A's live query")
        screen.done(f"Both queues are empty after {facts.drain_s:.1f} s")

    def _let_a_person_decide(self) -> None:
        screen, facts = self._screen, self.facts
        for device in (self._devices["A"], self._devices["B"]):
            for conflict in device.run("conflicts"):
                facts.held.append({"device": device.name, **conflict})
                decided = {**conflict["remote"], "remark": DECISION}
                device.run("resolve", conflict=conflict["id"], document=decided)
                screen.done(f"Held for a person on {device.name}: {conflict['key']}")
                screen.aside(f"decided: {DECISION}")
        self._check(
            [conflict["key"] for conflict in facts.held] == [REVIEWED],
            "",
            f"Expected one held conflict on {REVIEWED}, found {facts.held}",
        )

    # --- 5: the same everywhere -----------------------------------------------------------------

    def _compare_everybody(self) -> None:
        screen, facts = self._screen, self.facts
        screen.act(5, "Does everybody hold the same?")
        for device in (*self._devices.values(), *self._devices.values()):
            device.run("settle", timeout_s=DRAIN_TIMEOUT_S)
        c = self._start("C")
        self._connect(c)
        with self._bar("a third device, fresh"):
            c.run("settle", timeout_s=DRAIN_TIMEOUT_S)
        for device in self._devices.values():
            facts.holdings[device.name] = self._holding(device)
            facts.traffic[device.name] = device.run("status")
        self._check_outcomes(c)
        names = [collection.name for collection in COLLECTIONS]
        facts.holdings["PostgreSQL"] = asyncio.run(held_by_postgres(self._dsn, names))
        facts.settled = self._devices["A"].run("settled")
        facts.wrong += differences(facts.holdings)
        for sentence in facts.wrong:
            screen.failed(sentence)
        if not facts.wrong:
            total = sum(digest.count for digest in facts.holdings["A"].values())
            screen.done(f"A, B, C and PostgreSQL hold the same {total:,} documents")

    def _check_outcomes(self, device: RemoteDevice) -> None:
        """The same everywhere is not enough: it must also be what the policies promise."""
        scorpio = device.run("read", collection="wells", key=SCORPIO)
        note = device.run("read", collection="interpretations", key=self._shared)
        outcomes = {
            "edits of different fields": (scorpio["status"], scorpio["remark"])
            == ("producing", "Casing checked in May"),
            "a delete against an edit": device.run("read", collection="wells", key=DELETED) is None,
            "the same field twice": note["note"] in NOTES.values(),
            "a person's decision": device.run("read", collection="wells", key=REVIEWED)["remark"]
            == DECISION,
            "a unit of many documents": device.run("shifted", well_id=TOTEM) == [SHIFT_M],
        }
        bad = [name for name, holds in outcomes.items() if not holds]
        self._check(
            not bad, "Every policy and the unit did what they promise", f"Wrong: {', '.join(bad)}"
        )

    # --- helpers --------------------------------------------------------------------------------

    def _start(self, name: str) -> RemoteDevice:
        device = self._devices[name] = RemoteDevice(name, self._folder, self._hear)
        return device

    def _connect(self, device: RemoteDevice) -> None:
        device.run("connect", url=self._node.url, token=self._node.token)

    def _holding(self, device: RemoteDevice) -> Holding:
        return msgspec.convert(device.run("digests"), Holding)

    def _check(self, holds: bool, good: str, bad: str) -> None:
        """Say what holds; remember what does not, and go on."""
        if not holds:
            self.facts.wrong.append(bad)
            self._screen.failed(bad)
        elif good:
            self._screen.done(good)

    @contextmanager
    def _bar(self, title: str) -> Iterator[None]:
        """While it is shown, the progress of the devices moves it."""
        with self._screen.progress(title) as self._advance:
            yield
        self._advance = None

    def _hear(self, name: str, event: Event) -> None:
        """News of a device, on the thread that reads it."""
        kind = event["event"]
        if kind == "progress" and self._advance is not None:
            self._advance(event["done"], event["total"])
        elif kind == "acknowledged":
            self._acknowledged.append(event["key"])
        elif kind == "half":
            self._half.set()
        elif kind == "live":
            self.facts.arrived += 1
            if self.facts.arrived <= LIVE_LINES:
                self._screen.live(f"live on {name}: {event['text']}")
