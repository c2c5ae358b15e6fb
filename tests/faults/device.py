"""A device: a process of its own with a file, which works by itself until it is told to stop.

What it does is written to a history file as it happens, begun and done, so that a kill at any
instant leaves a true record. ``python -m tests.faults.device`` is the mother of all devices: it has
everything imported and forks one for every line of its standard input. It takes them with it when
it ends.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import aiohttp  # noqa: F401 - imported once, by the mother
import msgspec

import homeport as hp
import homeport.transport.pump  # noqa: F401
from tests.faults.workload import (
    ACCOUNTS,
    COLLECTIONS,
    COUNTERS,
    FIELDS,
    NAMES,
    NOTES,
    torn,
    vector,
)


class Device:
    def __init__(self, order: dict[str, Any]) -> None:
        self.name: str = order["name"]
        self.random = random.Random(order["seed"])
        self.pause_s: float = order["pause_s"]
        history = Path(order["history"])
        self.number = last_number(history, self.name)
        self.history = os.open(history, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if order.get("clock_s"):
            set_clock(order["clock_s"])
        self.db = hp.open(order["path"], collections=COLLECTIONS)
        more = {"verify_s": None, **order.get("sync", {})}
        self.sync = self.db.sync(order["url"], token=order["token"], poll_s=0.5, **more)
        self.seen: set[str] = set()
        self.note("opened")
        self.working = threading.Event()
        self.busy = threading.Lock()
        threading.Thread(target=self.work, daemon=True).start()

    def note(self, kind: str, **what: Any) -> None:
        os.write(self.history, (json.dumps({"p": kind, **what}) + "\n").encode())

    # -- work

    def work(self) -> None:
        while True:
            self.working.wait()
            with self.busy:
                if not self.working.is_set():
                    continue  # told to rest in between
                try:
                    self.step()
                except hp.HomeportError as error:
                    self.note("error", code=error.code, message=str(error)[:300])
                except Exception:
                    self.note("fault", message=traceback.format_exc()[-1500:])
            time.sleep(self.random.uniform(0, 2 * self.pause_s))

    def step(self) -> None:
        kind = self.random.choices(
            ("add", "move", "open", "close", "note", "look"), (5, 4, 3, 2, 2, 4)
        )[0]
        if kind == "look":
            self.look()
        elif kind == "note":
            self.write_note()
        else:
            self.change(kind)

    def look(self) -> None:
        """A whole view, in one snapshot: does it hold together, and how far is it?"""
        with self.db.snapshot() as then:
            view = {name: {d["id"]: d for d in then[name].all()} for name in NAMES}
        ids = set(view["ledger"])
        self.note("look", new=sorted(ids - self.seen), gone=sorted(self.seen - ids), torn=torn(view))
        self.seen = ids

    def change(self, op: str) -> None:
        r = self.random
        self.number += 1
        key = f"{self.name}-{self.number}"
        doc: dict[str, Any] = {"id": key, "w": self.name, "i": self.number, "op": op}
        if op == "add":
            doc |= {"k": r.choice(COUNTERS), "x": r.randint(1, 9)}
        elif op == "move":
            a, b = r.sample(ACCOUNTS, 2)
            doc |= {"a": a, "b": b, "x": r.randint(1, 5)}
        db = self.db
        if op == "close":
            jobs = db["jobs"].keys()
            if not jobs:
                self.number -= 1
                return
            doc["job"] = r.choice(jobs)
        self.note("begin", **doc)
        try:
            with db.transaction():
                if not db["counters"].count():
                    raise LookupError  # the first cut is not here yet
                db["ledger"].add(doc)
                if op == "add":
                    self.add(db["counters"], doc["k"], doc["x"])
                elif op == "move":
                    self.add(db["accounts"], doc["a"], -doc["x"])
                    self.add(db["accounts"], doc["b"], doc["x"])
                elif op == "open":
                    db["jobs"].add({"id": key, "by": self.name})
                elif not db["jobs"].delete(doc["job"]):
                    raise LookupError
        except (LookupError, hp.HomeportError) as error:
            self.note("failed", i=self.number, code=getattr(error, "code", "nothing to do"))
            return
        self.note("done", i=self.number)

    @staticmethod
    def add(documents: Any, key: str, x: int) -> None:
        documents.update(key, lambda doc: {**doc, "n": doc["n"] + x})

    def write_note(self) -> None:
        """A field that everybody writes: every value once, so its fate can be asked for."""
        self.number += 1
        value = f"{self.name}/{self.number}"
        c, key, field = (self.random.choice(one) for one in (("notes", "last"), NOTES, FIELDS))
        old: list[Any] = []

        def make(doc: dict[str, Any]) -> dict[str, Any]:
            old[:] = [doc.get(field)]
            return {**doc, field: value}

        self.note("writes", value=value, c=c, key=key, f=field, i=self.number)
        self.db[c].update(key, make, default={"id": key})
        self.note("wrote", value=value, old=old[0])

    # -- commands

    def do(self, do: str, **arguments: Any) -> Any:
        return getattr(self, f"do_{do}")(**arguments)

    def do_start(self) -> None:
        self.sync.start()

    def do_work(self) -> None:
        self.working.set()

    def do_rest(self) -> None:
        self.working.clear()
        with self.busy:
            pass

    def do_now(self, timeout_s: float = 60.0) -> None:
        self.sync.now(timeout_s=timeout_s)

    def do_clock(self, jump_s: float) -> None:
        set_clock(jump_s)

    def do_settle(self) -> int:
        found = self.sync.conflicts()
        for one in found:
            self.sync.resolve(one.id, "mine")
        return len(found)

    def do_status(self) -> Any:
        return msgspec.to_builtins(self.sync.status())

    def do_mark(self) -> Any:
        """How far this replica is, cheaply: (queue, vector)."""
        with self.db.snapshot() as then:
            found = vector(then["ledger"].all())
        return [self.sync.status().queued, found]

    def do_view(self) -> Any:
        with self.db.snapshot() as then:
            return {name: {d["id"]: d for d in then[name].all()} for name in NAMES}

    def do_records(self) -> Any:
        return [
            msgspec.to_builtins(list(found))
            for found in (
                self.sync.resolutions(100_000),
                self.sync.dead_letters(),
                self.sync.conflicts(),
            )
        ]

    def do_close(self) -> None:
        self.do_rest()
        self.sync.stop()
        self.db.close()


_real = (time.time, time.time_ns)


def set_clock(jump_s: float) -> None:
    """From now on the wall clock of this process is wrong by so much (not the monotonic one)."""
    time.time = lambda: _real[0]() + jump_s
    time.time_ns = lambda: _real[1]() + int(jump_s * 1e9)


def last_number(history: Path, name: str) -> int:
    """A device that begins again goes on behind what it began last."""
    if not history.exists():
        return 0
    found = 0
    for line in history.read_bytes().splitlines():
        entry = json.loads(line)
        if entry["p"] in ("begin", "writes"):
            found = max(found, entry["i"])
    return found


def serve(order: dict[str, Any]) -> None:
    """Be a device until the connection to the test ends."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(order["socket"].encode("latin-1"))
        channel = s.makefile("rw")
        try:
            device = Device(order)
            answer: dict[str, Any] = {"pid": os.getpid()}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=channel, flush=True)
        for line in channel:
            command = json.loads(line)
            try:
                answer = {"ok": device.do(**command)}
            except hp.HomeportError as error:
                answer = {"error": f"{error.code}: {error}"}
            except Exception:
                answer = {"error": traceback.format_exc()}
            print(json.dumps(answer), file=channel, flush=True)
            if command["do"] == "close":
                return


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(0)
            try:
                serve(json.loads(line))
            except (BrokenPipeError, ConnectionError):
                pass
            finally:
                sys.stderr.flush()
                os._exit(0)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
