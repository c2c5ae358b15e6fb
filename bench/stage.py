"""A PostgreSQL and a node, in processes of their own, for the benchmarks of replication."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from homeport.server.serve import mint

from bench.cities import ROOT


@dataclass(frozen=True)
class Node:
    """A running node."""

    url: str
    token: str
    pid: int
    data: Path

    def resident_bytes(self) -> int:
        """Of its process (Linux)."""
        text = Path(f"/proc/{self.pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def token_of(self, subject: str) -> str:
        """A token for one more user of the same tenant: each may have so many streams."""
        return mint(subject, "dev", data_dir=self.data)

    def cpu_s(self) -> float:
        """Processor time that it has spent so far (Linux)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def node(dsn: str, folder: Path) -> Iterator[Node]:
    """A development node, its key and its log in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "homeport", "serve", "--dev", "--json"]
    command += ["--port", "0", "--postgres", dsn]
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    log = folder / "node.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"The node did not start:\n{log.read_text()}")
        ready = json.loads(line)
        yield Node(ready["url"], ready["token"], process.pid, folder / ".homeport")
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()
