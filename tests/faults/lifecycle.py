"""Faults of a life rather than of a moment: files copied and put back, two programs on one file, a
server put back to a backup, a standby that takes over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from homeport.server.postgres import Postgres
from tests.e2e.world import until
from tests.faults.world import DeviceProcess, Run, World

# -- the file of a device


def copy_or_restore(run: Run) -> None:
    """A device is copied to a second machine, or its file is put back to an older copy. Its queue is
    empty at that moment: counters that wait in two files count twice, as the guide says."""
    device = run.random.choice(run.devices[:3])
    device.do("rest")
    while device.do("status")["queued"]:
        device.do("now")
    device.close()
    copy = run.folder / f"{device.name}.copy"
    if copy.exists() and run.random.random() < 0.6:
        shutil.rmtree(device.file.parent)
        shutil.copytree(copy, device.file.parent)
        with device.history.open("a") as history:
            history.write(json.dumps({"p": "restored"}) + "\n")
        run.did("file put back")
    elif len(run.devices) < 5:
        twin = run.folder / f"{device.name}{len(run.devices)}" / "device.db"
        shutil.copytree(device.file.parent, twin.parent)
        run.devices.append(DeviceProcess(run, twin.parent.name, device.node, file=twin))
        run.devices[-1].up()
        run.devices[-1].do("work")
        run.did("device copied")
    else:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(device.file.parent, copy)
    if not copy.exists():
        shutil.copytree(device.file.parent, copy)
    device.up()
    device.do("work")
    run.later(0.1, 0.5)


# -- two programs, one file


def begin_twins(run: Run) -> None:
    for device in run.devices[:2]:
        twin = DeviceProcess(run, f"{device.name}2", device.node, file=device.file)
        run.devices.append(twin)
        twin.up()
        twin.do("work")


def disturb_twins(run: Run) -> None:
    """One of the two is stopped or killed; the other goes on, and takes the replication over."""
    device = run.random.choice([*run.devices[:2], *run.devices[3:]])
    if run.random.random() < 0.5:
        device.signal(signal.SIGSTOP)
        run.did("program stopped")
        run.later(0.1, 1.0)
        device.signal(signal.SIGCONT)
    else:
        device.kill()
        run.did("program killed")
        run.later(0, 0.3)
        device.up()
        device.do("work")
    run.later(0.1, 0.5)


def freeze_leader(run: Run) -> None:
    """The one that replicates is stopped for longer than its lease; the other takes over, and for a
    moment, when the first one wakes, both believe that they lead."""
    if run.faults:
        run.later(0.2, 0.2)
        return
    first, second = run.devices[0], run.devices[3]
    until("one of them leads", lambda: _standby(first) != _standby(second), 20)
    leader, other = (second, first) if _standby(first) else (first, second)
    leader.do("rest")
    leader.signal(signal.SIGSTOP)
    try:
        until("the other takes over", lambda: not _standby(other) or _waits(other), 40)
        # Stopped inside a write, it holds SQLite's lock: nobody can, until it wakes.
        run.did("stopped inside a write" if _standby(other) else "lease taken over")
        run.later(0.5, 0.5)
    finally:
        leader.signal(signal.SIGCONT)
    leader.do("work")


def _waits(device: DeviceProcess) -> bool:
    return '"busy"' in device.history.read_text()


def _standby(device: DeviceProcess) -> bool:
    return bool(device.do("status")["state"] == "standby")


# -- the server


def take_backup(run: Run) -> None:
    """From here on only devices write: what SQL programs wrote, nobody could bring back."""
    for writer in run.sql:
        writer.end()
    postgres = run.world.postgres
    backup = run.world.folder / "backup"
    shutil.rmtree(backup, ignore_errors=True)
    postgres.stop()
    _copy(postgres.data_dir / "postgres", backup)
    postgres.restart()


def put_backup_back(run: Run) -> None:
    run.later(0.5, 1.2)
    if run.faults:
        return
    postgres = run.world.postgres
    postgres.stop()
    shutil.rmtree(postgres.data_dir / "postgres")
    _copy(run.world.folder / "backup", postgres.data_dir / "postgres")
    postgres.restart()
    run.did("server put back to a backup")


def _copy(source: Path, target: Path) -> None:
    """With owners, as PostgreSQL wants them."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


class Pair(World):
    """A primary and, for each run anew, a standby to which every commit goes before it is answered."""

    standby: Postgres | None = None

    def follow(self) -> None:
        """Make the standby of the primary of today."""
        folder = self.folder / f"postgres{len(list(self.folder.iterdir()))}"
        folder.mkdir(mode=0o711)
        parts = urlsplit(self.postgres.dsn)
        subprocess.run(
            [
                str(self.postgres._runner.bin_dir / "pg_basebackup"), "-D", str(folder / "postgres"),
                "-h", "127.0.0.1", "-p", str(parts.port), "-U", str(parts.username), "-R",
                "-X", "stream", "-c", "fast", "--no-sync",
            ],
            env={**os.environ, "PGPASSWORD": str(parts.password)},
            check=True,
            capture_output=True,
        )  # fmt: skip
        # The new server has the old one's password.
        (folder / "postgres.json").write_text(json.dumps({"password": parts.password}))
        self.standby = Postgres.start(folder, settings={"fsync": "off", "hot_standby": "on"})
        self.read("alter system set synchronous_standby_names = '*'")
        self.read("select pg_reload_conf()")
        until("the standby follows", self._followed, 30)

    def _followed(self) -> bool:
        return bool(self.read("select 1 from pg_stat_replication where sync_state = 'sync'"))

    def promote(self) -> None:
        """The primary dies; the standby is the primary now, on a timeline of its own."""
        assert self.standby is not None
        self.postgres.kill()
        dead, self.postgres, self.standby = self.postgres, self.standby, None
        dead.stop()
        self.read("select pg_promote()")
        self.read("alter system reset synchronous_standby_names")
        self.read("select pg_reload_conf()")
        for gate in self.gates:
            gate.retarget(f"127.0.0.1:{self.postgres.port}")

    def close(self) -> None:
        super().close()
        if self.standby is not None:
            self.standby.stop()


def prepare_standby(run: Run) -> None:
    assert isinstance(run.world, Pair)
    run.world.follow()


def fail_over(run: Run) -> None:
    run.later(0.3, 1.5)
    if run.faults:
        return
    assert isinstance(run.world, Pair)
    with suppress(ProcessLookupError):
        run.world.promote()
    run.did("primary killed, standby promoted")
    for writer in run.sql:
        writer.dsn = run.world.postgres.dsn
