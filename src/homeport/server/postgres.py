"""Starts and stops a PostgreSQL of our own: for development, the demo and tests.

Layout of the data folder: ``postgres/`` is PostgreSQL's cluster, ``postgres.log`` its log,
``postgres.json`` its password and who started it. The server listens on loopback only and asks
for the password. It ends with the process that started it, even by SIGKILL: a small shell waits
for that process's end. A server left by a dead owner all the same is ended at the next start.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from homeport.errors import LaunchFailed

from .binaries import Runner, choose_runner, find_binaries
from .processes import descendants, is_running, started_at

# Not "homeport": a role finds the schema of its own name first, so that an unqualified
# CREATE TABLE of this user would land among our tables.
USER = "postgres"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0

# EOF on stdin = the owner is gone. Bounded, since a zombie answers `kill -0` for ever where
# process 1 does not collect its children. The folder is removed only when it was temporary.
_WATCH = """
read -r line
kill -INT "$1" 2>/dev/null
n=0
while kill -0 "$1" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
[ -n "$2" ] && rm -rf "$2"
"""


class Postgres:
    """A running PostgreSQL server; ``with Postgres.start() as server: server.dsn``.

    Attributes:
        dsn: connection string of its superuser.
        port: TCP port on 127.0.0.1; kept over ``restart``.
        data_dir: the data folder.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        temporary: bool,
        port: int,
        settings: Mapping[str, str],
        runner: Runner,
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self.log_path = data_dir / "postgres.log"
        self._cluster = data_dir / "postgres"
        self._facts = data_dir / "postgres.json"
        self._temporary = temporary
        self._settings = dict(settings)
        self._runner = runner
        self._password = ""
        self._process: subprocess.Popen[Any] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        data_dir: Path | str | None = None,
        port: int = 0,
        *,
        settings: Mapping[str, str] | None = None,
        bin_dir: Path | str | None = None,
    ) -> Postgres:
        """Start a server and return when it accepts connections.

        Args:
            data_dir: kept over restarts; None = a temporary folder, removed by ``stop``.
            port: 0 = a free one.
            settings: further PostgreSQL settings, ``{"fsync": "off"}``.
            bin_dir: folder with ``initdb`` and ``postgres``; None = found by ``find_binaries``.

        Raises:
            LaunchFailed: no programs, another live process owns the folder, or it did not start.
        """
        temporary = data_dir is None
        if data_dir is None:
            folder = Path(tempfile.mkdtemp(prefix="homeport-pg-"))
            folder.chmod(0o711)
        else:
            folder = Path(data_dir).absolute()
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o711, parents=True)
        binaries = Path(bin_dir).absolute() if bin_dir is not None else find_binaries()
        server = cls(
            folder,
            temporary=temporary,
            port=port,
            settings=settings or {},
            runner=choose_runner(binaries, folder),
        )
        try:
            server._claim()
            server._initialise()
            server._launch()
        except BaseException:
            server.stop()
            raise
        atexit.register(server.stop)
        return server

    @property
    def dsn(self) -> str:
        """Connection string of the superuser, with its password."""
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        if self._process is None:
            raise LaunchFailed("This PostgreSQL is stopped.")
        return self._process.pid

    def stop(self) -> None:
        """Stop the server (fast shutdown) and wait for its end; harmless when it is stopped."""
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            _end(process.pid, lambda: process.poll() is None)
            process.wait()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            # Killed before its stdin closes: it must not act on an id that may be reused.
            watcher.kill()
            watcher.wait()
            if watcher.stdin is not None:
                watcher.stdin.close()
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)
        else:
            self._release()

    def kill(self) -> None:
        """SIGKILL to the postmaster and all its backends: a crash. ``restart`` recovers."""
        victims = [self.pid, *descendants(self.pid)]
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while any(is_running(victim) for victim in victims) and time.monotonic() < deadline:
            time.sleep(0.01)

    def freeze(self) -> None:
        """SIGSTOP to all its processes: connected, and silent."""
        for process in (self.pid, *descendants(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo ``freeze``."""
        for process in (*descendants(self.pid), self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

    def restart(self) -> None:
        """Start again on the same port and data, after ``kill`` or while running."""
        process = self._process
        if process is not None and process.poll() is None:
            _end(process.pid, lambda: process.poll() is None)
            process.wait()
        self._launch()

    def __enter__(self) -> Postgres:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- starting

    def _claim(self) -> None:
        """Make the folder ours; end a server whose owner is dead."""
        try:
            facts = json.loads(self._facts.read_text())
        except FileNotFoundError:
            facts = {}
        except ValueError as error:
            raise LaunchFailed(
                f"{self._facts} is damaged: {error}.",
                action="Restore the file, or move the data folder away to begin with an empty one.",
            ) from error
        owner = facts.get("owner")
        if owner and started_at(owner) == facts.get("owner_started"):
            raise LaunchFailed(
                f"The data folder {self.data_dir} is in use by process {owner}.",
                action="Stop that process, or choose another data folder.",
            )
        self._password = facts.get("password") or secrets.token_urlsafe(24)
        self._reap()
        self._write_facts(os.getpid())

    def _write_facts(self, owner: int | None) -> None:
        facts = {
            "password": self._password,
            "owner": owner,
            "owner_started": started_at(owner) if owner else None,
        }
        half = self._facts.with_suffix(".part")
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(json.dumps(facts))
        half.replace(self._facts)

    def _release(self) -> None:
        if self._password and self._facts.exists():
            self._write_facts(None)

    def _reap(self) -> None:
        lines = self._pid_file()
        if not lines or not lines[0].strip().lstrip("-").isdigit():
            return
        pid = abs(int(lines[0]))
        if not is_running(pid, inside=self._cluster):
            return
        family = descendants(pid)
        _end(pid, lambda: is_running(pid, inside=self._cluster))
        for child in family:
            if is_running(child, inside=self._cluster):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    def _initialise(self) -> None:
        if (self._cluster / "PG_VERSION").exists():
            self._own(recursive=True)
            return
        # Without PG_VERSION an earlier initdb did not finish; nothing was ever stored here.
        shutil.rmtree(self._cluster, ignore_errors=True)
        self._cluster.mkdir(mode=0o700)
        self._own(recursive=False)
        secret = self._cluster.with_name("postgres.pw")
        secret.write_text(self._password)
        secret.chmod(0o600)
        if self._runner.owner is not None:
            os.chown(secret, *self._runner.owner)
        words = self._runner.command(
            "initdb", "-D", str(self._cluster), "-U", USER, "-A", "scram-sha-256",
            f"--pwfile={secret}", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        try:
            made = subprocess.run(  # noqa: S603 - a program found by find_binaries
                words, capture_output=True, text=True, check=False, cwd="/", **self._runner.popen
            )
        finally:
            secret.unlink()
        if made.returncode != 0:
            shutil.rmtree(self._cluster, ignore_errors=True)
            raise LaunchFailed(f"PostgreSQL's initdb failed: {made.stderr.strip()}")

    def _own(self, *, recursive: bool) -> None:
        owner = self._runner.owner
        if owner is None or self._cluster.stat().st_uid == owner[0]:
            return
        for path in (self._cluster, *(self._cluster.rglob("*") if recursive else ())):
            os.chown(path, *owner, follow_symlinks=False)

    def _launch(self) -> None:
        chosen = self.port
        for attempt in range(5):
            self.port = chosen or _free_port()
            try:
                self._launch_once()
            except LaunchFailed as error:
                # A free port may be taken between the choice and the start.
                if chosen or attempt == 4 or "address already in use" not in error.message.lower():
                    raise
            else:
                return

    def _launch_once(self) -> None:
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "100",
            **self._settings,
        }
        words = self._runner.command("postgres", "-D", str(self._cluster))
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        begin = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - a program found by find_binaries
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **self._runner.popen,
            )
        self._process = process
        self._watch(process.pid)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready(process.pid):
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                with self.log_path.open("rb") as log:
                    log.seek(begin)
                    tail = log.read().decode(errors="replace").strip()[-1500:]
                why = "ended at once" if ended else f"was not ready after {START_TIMEOUT_S:.0f} s"
                raise LaunchFailed(f"PostgreSQL {why} (log {self.log_path}): {tail}")
            time.sleep(0.01)

    def _watch(self, pid: int) -> None:
        old = self._watcher
        folder = str(self.data_dir) if self._temporary else ""
        self._watcher = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _WATCH, "sh", str(pid), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        if old is not None:
            old.kill()
            old.wait()
            if old.stdin is not None:
                old.stdin.close()

    def _pid_file(self) -> list[str]:
        try:
            return (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _ready(self, pid: int) -> bool:
        lines = self._pid_file()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() in ("ready", "standby")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end(pid: int, running: Callable[[], bool]) -> None:
    """Fast, then immediate shutdown, then SIGKILL to it and its backends."""
    for sign, patience_s in ((signal.SIGINT, STOP_TIMEOUT_S), (signal.SIGQUIT, 5.0)):
        family = descendants(pid)
        for process in (*family, pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
        deadline = time.monotonic() + patience_s
        while running():
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        else:
            return
    for process in (pid, *descendants(pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + 5.0
    while running() and time.monotonic() < deadline:
        time.sleep(0.01)
