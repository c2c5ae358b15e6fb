"""Processes of the demo: devices that are told what to do, and a node that can really be killed."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from homeport.errors import LaunchFailed

Event = dict[str, Any]
TASK_TIMEOUT_S = 60.0
START_TIMEOUT_S = 30.0


class TaskFailed(LaunchFailed):
    """A device answered a task with an error, or not at all."""


class RemoteDevice:
    """A device in a process of its own; one JSON line in starts a task, JSON lines come back."""

    def __init__(self, name: str, folder: Path, on_event: Callable[[str, Event], None]) -> None:
        self.name = name
        self.file = folder / f"{name.lower()}.db"
        self.log = folder / f"{name.lower()}.log"
        self._on_event = on_event
        self._start()

    def _start(self) -> None:
        self._answers: queue.Queue[Event] = queue.Queue()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "homeport.cli.demo.device", self.name, str(self.file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            event: Event = json.loads(line)
            if event["event"] in {"done", "failed"}:
                self._answers.put(event)
            else:
                self._on_event(self.name, event)
        self._answers.put({"event": "gone"})

    def begin(self, task: str, **arguments: object) -> None:
        """Start a task and do not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"task": task, **arguments}) + "\n")
        self._process.stdin.flush()

    def finish(self) -> Any:
        """The result of the task that was begun.

        Raises:
            TaskFailed: the device said so, ended, or did not answer in time.
        """
        try:
            answer = self._answers.get(timeout=TASK_TIMEOUT_S)
        except queue.Empty:
            raise TaskFailed(
                f"Device {self.name} did not answer within {TASK_TIMEOUT_S:.0f} s; see {self.log}."
            ) from None
        if answer["event"] == "done":
            return answer["result"]
        reason = answer.get("message", f"the process ended; see {self.log}.")
        raise TaskFailed(f"Device {self.name}: {reason}")

    def run(self, task: str, **arguments: object) -> Any:
        """Start a task and wait for its result."""
        self.begin(task, **arguments)
        return self.finish()

    def kill(self) -> None:
        """SIGKILL: no goodbye, no clean-up."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def restart(self) -> None:
        """A new process on the same file."""
        self._start()

    def close(self) -> None:
        """Let the process end by itself; kill it when it does not."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Node:
    """``homeport serve`` in a process of its own, always on the same port."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.port = _free_port()
        self.log = folder / "node.log"
        self.url = ""
        self.token = ""
        self._dsn = dsn
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it serves.

        Raises:
            LaunchFailed: it ended, or was silent for too long.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "homeport", "serve", "--dev", "--json"),
                    *("--port", str(self.port), "--postgres", self._dsn),
                    *("--data", str(self._folder)),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._process = process
        timer = threading.Timer(START_TIMEOUT_S, process.kill)
        timer.start()
        assert process.stdout is not None
        line = process.stdout.readline()
        timer.cancel()
        if not line:
            process.wait()
            raise LaunchFailed(f"The node did not start; its log is {self.log}.")
        ready = json.loads(line)
        self.url, self.token = ready["url"], ready["token"]

    def kill(self) -> None:
        """SIGKILL: connections break, the port is closed, nobody is told."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM, as an operator would."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    @property
    def reachable(self) -> bool:
        """Asked of the network, not of a flag."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.5):
                return True
        except OSError:
            return False

    def __enter__(self) -> Node:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
