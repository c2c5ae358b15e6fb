"""Real processes for the end-to-end tests: node, devices, proxy."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Node:
    """``homeport serve --dev`` in its own process, on a database that outlives it."""

    def __init__(
        self,
        dsn: str,
        folder: Path,
        *,
        extra: tuple[str, ...] = (),
        program: tuple[str, ...] = ("homeport",),
    ) -> None:
        self.program = program
        self.dsn = dsn
        self.folder = folder
        self.port = free_port()
        self.extra = extra
        self.url = ""
        self.token = ""
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        log = open(self.folder / "node.log", "a")
        command = [sys.executable, "-m", *self.program, "serve", "--port", str(self.port), "--json"]
        command += ["--dev", "--postgres", self.dsn, "--data", str(self.folder), *self.extra]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=ENV, cwd=self.folder
        )
        log.close()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("{"), (self.folder / "node.log").read_text()
        ready = json.loads(line)
        self.url, self.token = ready["url"], ready["token"]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def stop(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


class Device:
    """A device process; every command is answered by one line."""

    def __init__(
        self, path: Path, url: str, token: str, *, program: str = "tests.e2e.device"
    ) -> None:
        self.path, self.url, self.token, self.program = path, url, token, program
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.program, str(self.path), self.url, self.token],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENV,
            cwd=ROOT,
        )
        assert self._read() == {"ready": True}

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the device process ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, do: str, **command: Any) -> dict[str, Any]:
        self.send(do, **command)
        return self._read()

    def send(self, do: str, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **command}) + "\n")
        self.process.stdin.flush()

    def do(self, do: str, **command: Any) -> Any:
        answer = self.ask(do, **command)
        assert "ok" in answer, answer
        return answer["ok"]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._close()

    def quit(self) -> None:
        if self.process.poll() is None:
            try:
                self.ask("quit")
                self.process.wait(10)
            except (AssertionError, BrokenPipeError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait()
        self._close()

    def _close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass


def until(what: str, check: Any, timeout_s: float = 30.0) -> Any:
    """Poll until ``check()`` is true; fail with ``what`` after the time limit."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if result := check():
            return result
        time.sleep(0.05)
    raise AssertionError(f"still not after {timeout_s} s: {what}")
