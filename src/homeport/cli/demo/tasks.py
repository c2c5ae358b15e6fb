"""What a device of the demo does with the library. Each public function is one task.

Results are plain JSON values, because they travel to the process that tells the story.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

import homeport as hp
from homeport.cli.demo.data import well_log_files
from homeport.cli.demo.logs import Unreadable, read_logs
from homeport.cli.demo.models import COLLECTIONS, CURVES, INTERPRETATIONS, WELLS, Interpretation
from homeport.cli.demo.verify import Digest, digest


@dataclass
class Device:
    """One device: its open database, its sync handle, and how it speaks."""

    name: str
    db: hp.Database
    emit: Callable[..., None]
    sync: Any = None
    watcher: threading.Thread | None = None
    leaving: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        """Stop what runs in the background."""
        self.leaving.set()
        if self.sync is not None:
            self.sync.stop()


# --- getting the data in ------------------------------------------------------------------------


def import_logs(device: Device, folder: str) -> dict[str, Any]:
    """Read the LAS files; one document per header and one or more per curve."""
    wells, curves = device.db[WELLS], device.db[CURVES]
    files = well_log_files(Path(folder))
    unreadable: list[str] = []
    counts = {"wells": 0, "curves": 0, "samples": 0}
    started = time.perf_counter()
    for done, log in enumerate(read_logs(files, Path(folder) / "las"), start=1):
        if isinstance(log, Unreadable):
            unreadable.append(f"{log.name}: {log.reason}")
        else:
            wells.put(log.well)
            curves.put_many(log.curves)
            counts["wells"] += 1
            counts["curves"] += len(log.curves)
            counts["samples"] += sum(len(curve.samples) for curve in log.curves)
        device.emit("progress", done=done, total=len(files))
    return {
        **counts,
        "files": len(files),
        "unreadable": unreadable,
        "seconds": time.perf_counter() - started,
    }


# --- replication --------------------------------------------------------------------------------


def connect(device: Device, url: str, token: str) -> None:
    """From here on the device syncs by itself, whenever it can."""
    device.sync = device.db.sync(url, token=token)
    device.sync.start()


def settle(device: Device, timeout_s: float) -> dict[str, Any]:
    """Wait until nothing is queued and nothing is new, reporting progress on the way."""
    started = time.perf_counter()
    with Progress(device):
        device.sync.now(timeout_s=timeout_s)
    return {"seconds": time.perf_counter() - started, **status(device)}


def status(device: Device) -> dict[str, Any]:
    """What the device says about its replication."""
    result: dict[str, Any] = msgspec.to_builtins(device.sync.status())
    return result


def notice_offline(device: Device, timeout_s: float) -> dict[str, Any]:
    """The status once it says offline; while an attempt runs it says syncing."""
    deadline = time.monotonic() + timeout_s
    while device.sync.status().state != "offline" and time.monotonic() < deadline:
        time.sleep(0.02)
    return status(device)


class Progress:
    """Tells how far a transfer is, every 50 ms, while something else waits for it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._most = 0

    def _run(self) -> None:
        while not self._done.wait(0.05):
            now = self._device.sync.status()
            self._most = max(self._most, now.queued)
            if now.total:
                self._device.emit("progress", done=now.rows or 0, total=now.total)
            elif self._most:
                self._device.emit("progress", done=self._most - now.queued, total=self._most)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


# --- life without a network ---------------------------------------------------------------------


def patch(device: Device, collection: str, key: str, fields: dict[str, Any]) -> None:
    """Change some fields of one document."""
    device.db[collection].patch(key, fields)


def delete(device: Device, collection: str, key: str) -> None:
    """Delete one document."""
    device.db[collection].delete(key)


def note(device: Device, well_id: str, zone: str, text: str) -> str:
    """Write an interpretation; its key is made on the device, so no server is needed."""
    written = Interpretation(well_id=well_id, author=device.name, zone=zone, note=text)
    device.db[INTERPRETATIONS].put(written)
    return written.id


def read(device: Device, collection: str, key: str) -> dict[str, Any] | None:
    """One document as plain JSON."""
    document: dict[str, Any] | None = msgspec.to_builtins(device.db[collection].get(key))
    return document


def shifted(device: Device, well_id: str) -> list[float]:
    """The different depth shifts of the curves of a well; a unit that was torn would show two."""
    curves = device.db[CURVES].where(hp.F.well_id == well_id)
    return sorted({curve.shift_m for curve in curves})


def search(device: Device, words: str) -> list[str]:
    """Full-text search in the notes."""
    found = device.db[INTERPRETATIONS].where(hp.F.note.matches(words)).all()
    return [f"{item.author}: {item.note}" for item in found]


def shift_datum(device: Device, well_id: str, shift_m: float) -> int:
    """A new depth reference moves the well and all its curves: one unit, whole or not at all."""

    async def unit(tx: Any) -> int:
        curves = await tx[CURVES].where(hp.F.well_id == well_id).keys()
        await tx[WELLS].patch(well_id, {"remark": f"Depth reference moved by {shift_m} m"})
        await tx[CURVES].patch_many({key: {"shift_m": shift_m} for key in curves})
        return len(curves) + 1

    return device.db.run(unit)


def write_until_killed(device: Device, well_id: str) -> None:
    """Write notes one by one and say so after each; then stop in the middle of a transaction."""
    notes = device.db[INTERPRETATIONS]
    for number in range(1, 61):
        key = f"pick-{device.name}-{number:03}"
        notes.put(
            Interpretation(
                id=key, well_id=well_id, author=device.name, zone="pick", note=f"Pick {number}"
            )
        )
        device.emit("acknowledged", key=key)
    with device.db.transaction():
        for number in range(1, 4):
            notes.put(
                Interpretation(
                    id=f"half-{number}",
                    well_id=well_id,
                    author=device.name,
                    zone="half",
                    note="Half",
                )
            )
        device.emit("half")
        time.sleep(3600)


def present(device: Device, keys: list[str]) -> list[str]:
    """Which of these interpretations are there?"""
    return [key for key in keys if device.db[INTERPRETATIONS].get(key) is not None]


def time_local(device: Device, rounds: int) -> dict[str, float]:
    """Median time of a read, an indexed query and a durable write, in microseconds."""
    wells, notes = device.db[WELLS], device.db[INTERPRETATIONS]
    keys = [str(key) for key in wells.keys()]  # noqa: SIM118 - a query, not a dict

    def timed(action: Callable[[int], object]) -> float:
        times = []
        for number in range(rounds):
            before = time.perf_counter()
            action(number)
            times.append(time.perf_counter() - before)
        return median(times) * 1e6

    scratch = Interpretation(
        id=f"timing-{device.name}", well_id=keys[0], author=device.name, zone="-", note="Timing"
    )
    return {
        "get_us": timed(lambda number: wells.get(keys[number % len(keys)])),
        "query_us": timed(
            lambda _: wells.where(hp.F.base_m > 1000).order_by("base_m").limit(10).all()
        ),
        "put_us": timed(lambda _: notes.put(scratch)),
    }


# --- and back -----------------------------------------------------------------------------------


def watch(device: Device) -> None:
    """Two live queries, each on a thread of its own; they speak whenever something arrives."""
    for collection in (WELLS, INTERPRETATIONS):
        threading.Thread(target=_follow, args=(device, collection), daemon=True).start()


def _follow(device: Device, collection: hp.Collection[Any]) -> None:
    with device.db[collection].live() as live:
        next(live)  # what is there already
        for change in live:
            for document in (*change.added, *change.changed):
                device.emit("live", text=_headline(document))
            for key in change.removed:
                device.emit("live", text=f"{collection.name}: {key} is gone")


def _headline(document: Any) -> str:
    if isinstance(document, Interpretation):
        return f"note of {document.author}: {document.note}"
    return f"well {document.name}: {document.status}" + (
        f", {document.remark}" if document.remark else ""
    )


def drained(device: Device, timeout_s: float) -> None:
    """Only look on until the queue is empty, less what waits for a person; ask for nothing."""
    deadline = time.monotonic() + timeout_s
    total = 0
    while waiting := device.sync.status().queued - len(device.sync.conflicts()):
        total = max(total, waiting)
        device.emit("progress", done=total - waiting, total=total)
        if time.monotonic() > deadline:
            raise hp.errors.Unreachable(
                f"{waiting} changes are still queued after {timeout_s:.0f} s: {status(device)}"
            )
        time.sleep(0.05)


def conflicts(device: Device) -> list[dict[str, Any]]:
    """What waits for a person."""
    return [msgspec.to_builtins(item) for item in device.sync.conflicts()]


def resolve(device: Device, conflict: str, document: dict[str, Any]) -> None:
    """A person has decided; the decision is an ordinary write."""
    device.sync.resolve(conflict, document)


def settled(device: Device) -> list[dict[str, Any]]:
    """What the policies decided by themselves; each record also holds both versions."""
    return [
        {
            "document": f"{record.collection}/{record.key}",
            "policy": record.policy,
            "outcome": _outcome(record),
        }
        for record in reversed(device.sync.resolutions())
        if record.policy != "manual"  # those were asked about, and are in the list of the held
    ]


def _outcome(record: Any) -> str:
    if record.result is None:
        return "the delete won, the edit is logged"
    fields = f" in {', '.join(record.fields)}" if record.fields else ""
    if record.winner == "function":
        return "combined by the function"
    return f"the {'later' if record.winner == 'local' else 'earlier'} value{fields} won"


def digests(device: Device) -> dict[str, Any]:
    """What this device holds, collection by collection."""
    held: dict[str, Digest] = {}
    for collection in COLLECTIONS:
        documents = {item.id: msgspec.to_builtins(item) for item in device.db[collection].all()}
        held[collection.name] = digest(documents)
    plain: dict[str, Any] = msgspec.to_builtins(held)
    return plain


TASKS: dict[str, Callable[..., Any]] = {
    task.__name__: task
    for task in (
        *(import_logs, connect, settle, status, notice_offline),
        *(
            patch,
            delete,
            note,
            read,
            shifted,
            search,
            shift_datum,
            write_until_killed,
            present,
            time_local,
        ),
        *(watch, drained, conflicts, resolve, settled, digests),
    )
}
