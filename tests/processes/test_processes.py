"""Several processes and threads on one file: nothing lost, nobody starved, and a process that dies
leaves the file to the others."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import homeport as hp
from homeport.errors import Busy, SchemaMismatch
from homeport.storage.sqlite_busy import Turn, Waiting, patiently

from . import work

# Imports what they need once, and forks from there: a process costs 20 ms instead of 300.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["homeport", "homeport.storage.sqlite", "tests.processes.work"])


class Crew:
    """Processes that begin together."""

    def __init__(self) -> None:
        self.results: Any = processes.Queue()
        self.go = processes.Event()
        self.all: list[Any] = []

    def add(self, fn: Callable[..., None], *arguments: Any) -> None:
        process = processes.Process(target=fn, args=(*arguments, self.results))
        process.start()
        self.all.append(process)

    def begin(self) -> None:
        for _ in self.all:
            assert self.results.get(timeout=60) == "ready"
        self.go.set()

    def take(self, count: int) -> list[Any]:
        return [self.results.get(timeout=120) for _ in range(count)]

    def end(self) -> None:
        for process in self.all:
            process.join(60)
            assert process.exitcode == 0


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "a.db")
    work.fill(path)
    return path


@pytest.fixture
def crew() -> Iterator[Crew]:
    crew = Crew()
    yield crew
    for process in crew.all:
        if process.is_alive():
            process.kill()


def test_two_times_two_hundred_increments(path: str) -> None:
    """The schedule at which a read-modify-write without a transaction loses half."""
    both = [processes.Process(target=work.increment, args=(path, 200)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    with hp.open(path, collections=work.BOTH) as db:
        assert db[work.PAIRS].get("counter")["n"] == 400


def test_eight_writers_beside_eight_readers(path: str, crew: Crew) -> None:
    """Default settings: no Busy, no lost update, no half of a transaction, indexes that agree."""
    stop = processes.Event()
    for n in range(8):
        crew.add(work.write, path, f"w{n}", 64, crew.go)
    for n in range(8):
        crew.add(work.read, path, f"r{n}", crew.go, stop)
    crew.begin()
    written = crew.take(8)
    stop.set()
    reads = crew.take(8)
    crew.end()
    assert [errors for _, _, errors, _ in written if errors] == []
    assert [wrong for _, _, wrong in reads if wrong] == []
    assert all(count > 0 for _, count, _ in reads)
    with hp.open(path, collections=work.BOTH) as db:
        assert db[work.DOCS].get("counter")["n"] == sum(counted for _, counted, _, _ in written)
    assert work.faults(path) == []
    print("longest wait of each writer:", sorted(round(longest, 2) for *_, longest in written))


def test_no_writer_starves(path: str, crew: Crew) -> None:
    """Eight processes that write without a pause come to it about equally often."""
    for n in range(8):
        crew.add(work.write_for, path, f"w{n}", 2.5, crew.go)
    crew.begin()
    counts = sorted(count for _, count in crew.take(8))
    crew.end()
    assert counts[0] > counts[-1] / 8, counts


def test_a_killed_writer_leaves_the_file_to_the_others(path: str) -> None:
    """kill -9 in the middle, thirty times, while another process and a thread here go on."""
    rng = random.Random(3)
    survivor_started = processes.Event()
    survivor = processes.Process(
        target=work.write_until_killed, args=(path, "survivor", survivor_started)
    )
    survivor.start()
    assert survivor_started.wait(30)
    with hp.open(path, collections=work.BOTH) as db:
        for n in range(30):
            started = processes.Event()
            victim = processes.Process(
                target=work.write_until_killed, args=(path, f"v{n % 3}", started)
            )
            victim.start()
            assert started.wait(30)
            time.sleep(rng.random() * 0.03)
            victim.kill()
            victim.join(30)
            db[work.PAIRS].put({"id": "still here", "n": n})
            if n % 10 == 9:
                assert db._driver.engine.store.check() == []  # type: ignore[attr-defined]
        assert survivor.is_alive()
        survivor.kill()
        survivor.join(30)
    assert work.faults(path) == []
    with hp.open(path, collections=work.BOTH) as db:
        assert db[work.PAIRS].get("still here")["n"] == 29


def test_nothing_acknowledged_is_lost_among_eight_that_are_killed(path: str, tmp_path: Path) -> None:
    """kill -9 of one of eight writers at any moment, twenty times."""
    rng = random.Random(8)
    kills = 20

    def begin(n: int) -> Any:
        noted = tmp_path / f"notes{n}"
        before = noted.stat().st_size if noted.exists() else 0
        process = processes.Process(
            target=work.acknowledge_until_killed, args=(path, f"w{n}", str(noted))
        )
        process.start()
        until = time.monotonic() + 60
        while not (noted.exists() and noted.stat().st_size > before):
            assert time.monotonic() < until
            time.sleep(0.002)
        return process

    crew = [begin(n) for n in range(8)]
    try:
        for _ in range(kills):
            time.sleep(rng.random() * 0.03)
            n = rng.randrange(8)
            assert crew[n].exitcode is None, "no writer fails because another one died"
            crew[n].kill()
            crew[n].join(30)
            crew[n] = begin(n)
    finally:
        for process in crew:
            process.kill()
            process.join(30)
    notes = [line for file in tmp_path.glob("notes*") for line in file.read_text().split()]
    keys = [line for line in notes if line[0] != "+"]
    assert keys, "somebody came to write"
    late = kills + 8  # kills between a commit and its note
    with hp.open(path, collections=work.BOTH) as db:
        docs = db[work.DOCS]
        assert notes.count("+1") <= docs.get("alone")["n"] <= notes.count("+1") + late
        assert notes.count("+2") <= docs.get("counter")["n"] <= notes.count("+2") + late
        assert [key for key, doc in zip(keys, docs.get_many(keys), strict=True) if doc is None] == []
    assert work.faults(path) == [], "both counters are equal, too"


def test_two_processes_with_different_declarations(path: str) -> None:
    """The newer declaration wins; the older process is told at its next write, and loses nothing."""
    program = f"""
import homeport as hp
docs = hp.Collection("docs", indexes=["n", "kind", hp.Multi("tags")])
with hp.open({path!r}, collections=[docs, hp.Collection("pairs", indexes=["n"])]) as db:
    db[docs].put({{"id": "new", "n": 2, "kind": "a", "tags": ["oil"]}})
"""
    with hp.open(path, collections=work.BOTH) as db:
        db[work.DOCS].put({"id": "old", "n": 1, "kind": "a", "name": "old", "tags": [], "text": ""})
        subprocess.run([sys.executable, "-c", program], check=True)
        with pytest.raises(SchemaMismatch, match="one declaration"):
            db[work.DOCS].put({"id": "x", "n": 3, "name": "x"})
        assert db[work.PAIRS].get("counter")["n"] == 0, "what did not change can be read"
    with hp.open(path, collections=work.BOTH) as db:  # and back
        assert db[work.DOCS].where(hp.F.kind == "a", hp.F.n > 0).keys() == ["old", "new"]
        assert db[work.DOCS].where(hp.F.tags.contains("oil")).keys() == ["new"]
        assert db[work.DOCS].get("x") is None


def test_threads_of_one_process(path: str) -> None:
    with hp.open(path, collections=work.BOTH) as db:
        outcomes: list[Any] = []

        def one(me: str) -> None:
            rng = random.Random(me)
            try:
                outcomes.append(sum(work.one_step(db, rng, me, n) for n in range(32)))
            except BaseException as error:  # noqa: BLE001 - seen below
                outcomes.append(error)

        threads = [threading.Thread(target=one, args=(f"t{n}",)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert db[work.DOCS].get("counter")["n"] == sum(outcomes)
    assert work.faults(path) == []


# -- waiting


def test_waiting_is_bounded_and_typed(path: str) -> None:
    with hp.open(path, collections=work.BOTH) as holder, hp.open(
        path, collections=work.BOTH, busy_timeout_s=0.2
    ) as waiter:
        with holder.transaction():
            holder[work.PAIRS].put({"id": "x"})
            began = time.monotonic()
            with pytest.raises(Busy) as caught:
                waiter[work.PAIRS].put({"id": "y"})
            assert time.monotonic() - began >= 0.2
            assert caught.value.code == "busy"
            assert waiter[work.PAIRS].get("x") is None, "reads do not wait"
        waiter[work.PAIRS].put({"id": "y"})


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer signal")
def test_ctrl_c_ends_a_wait(path: str) -> None:
    def ring(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with hp.open(path, collections=work.BOTH) as holder, hp.open(
            path, collections=work.BOTH, busy_timeout_s=60
        ) as waiter:
            with holder.transaction():
                holder[work.PAIRS].put({"id": "x"})
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                with pytest.raises(KeyboardInterrupt):
                    waiter[work.PAIRS].put({"id": "y"})
            waiter[work.PAIRS].put({"id": "y"})
            assert not waiter._driver.engine.taken  # type: ignore[attr-defined]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_who_finds_the_lock_taken_stands_in_line(tmp_path: Path) -> None:
    """The line is seen by other processes only, so one of them holds it here."""
    path = str(tmp_path / "a.db")
    mine = Turn(path)
    assert not mine.wanted()
    program = (
        "import sys\n"
        "from homeport.storage.sqlite_busy import Turn\n"
        f"turn = Turn({path!r})\n"
        "assert turn.take()\n"
        "print('taken', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "taken\n"
    assert mine.wanted()
    assert not mine.take()
    begun = []
    waiting = Waiting(0.1, mine)
    for _ in range(20):
        waiting.begin(begun.append)
    assert len(begun) == 20, "a line that does not move delays, and stops nobody"
    other.kill()  # the system takes the lock away
    other.communicate()
    assert mine.take()
    mine.give_back()
    mine.close()
    assert not os.path.exists(path + "-turn")


def test_without_a_line_everybody_asks(tmp_path: Path) -> None:
    turn = Turn(str(tmp_path / "no such folder" / "a.db"))
    assert turn.take()
    assert not turn.wanted()
    turn.give_back()
    turn.close()


def test_the_line_goes_with_the_last_who_closes(path: str) -> None:
    beside = Path(path + "-turn")
    with hp.open(path, collections=work.BOTH) as one:
        for n in range(20):
            one[work.PAIRS].put({"id": "x", "n": n})
        with hp.open(path, collections=work.BOTH) as two:
            for n in range(20):
                two[work.PAIRS].put({"id": "y", "n": n})
        assert beside.exists()
    assert not beside.exists()
    assert [p.name for p in Path(path).parent.iterdir()] == ["a.db"]


def test_what_sqlite_refuses_without_waiting_is_tried_again() -> None:
    import apsw

    attempts = []

    def attempt() -> str:
        attempts.append(1)
        if len(attempts) < 5:
            raise apsw.ProtocolError("locking protocol")
        return "done"

    assert patiently(attempt, 5.0) == "done"
    with pytest.raises(apsw.BusyError):
        patiently(lambda: (_ for _ in ()).throw(apsw.BusyError("busy")), 0.05)
