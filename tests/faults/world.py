"""The parts of a run: PostgreSQL, two nodes, devices with their proxies, a program that writes SQL."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from homeport.server.postgres import Postgres
from homeport.server.serve import mint
from homeport.testing import FaultProxy
from tests.e2e.world import ENV, ROOT, Node
from tests.faults.workload import ACCOUNTS, COUNTERS, NAMES, first_documents

DEVICES = "abc"
ANSWER_S = 90.0


def at_port(dsn: str, port: int) -> str:
    """The same database through another port of this machine."""
    parts = urlsplit(dsn)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}"))


class Mother:
    """Forks device processes (importing everything for each of them would be most of a run)."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.device"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENV,
            cwd=ROOT,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def fork(self, order: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


class DeviceProcess:
    """One device: its file, its proxy, and the process while there is one."""

    def __init__(self, run: Run, name: str, node: Node, *, file: Path | None = None) -> None:
        self.run = run
        self.name = name
        self.node = node
        self.file = file or run.folder / name / "device.db"
        self.file.parent.mkdir(exist_ok=True)
        self.history = run.folder / f"{name}.history"
        self.proxy = FaultProxy(node.url)
        self.lives = 0
        self.pid = 0
        self.clock_s = 0.0
        self.sync: dict[str, Any] = {}
        self._channel: Any = None
        self._pidfd = -1
        self._threads = threading.Lock()

    @property
    def alive(self) -> bool:
        return self.pid != 0

    def up(self, *, start: bool = True) -> None:
        """Begin (again) on the same file."""
        self.lives += 1
        with socket.socket(socket.AF_UNIX) as listener:
            # Linux names it: a path could grow past the 107 bytes that such a socket takes.
            listener.bind("")
            address: bytes = listener.getsockname()
            listener.listen(1)
            listener.settimeout(30)
            self.run.world.mother.fork(
                {
                    "name": self.name,
                    "path": str(self.file),
                    "url": self.proxy.url,
                    "token": self.run.token,
                    "history": str(self.history),
                    "socket": address.decode("latin-1"),
                    "seed": f"{self.run.seed}/{self.name}/{self.lives}",
                    "pause_s": self.run.pause_s,
                    "clock_s": self.clock_s,
                    "sync": self.sync,
                }
            )
            connection, _ = listener.accept()
        connection.settimeout(ANSWER_S)
        self._channel = connection.makefile("rw")
        connection.close()
        first = self._read()
        assert "pid" in first, f"device {self.name} did not open: {first['error']}"
        self.pid = first["pid"]
        self._pidfd = os.pidfd_open(self.pid)
        if start:
            self.do("start")

    def _read(self) -> dict[str, Any]:
        line = self._channel.readline()
        assert line, f"device {self.name} ended by itself"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def do(self, do: str, **arguments: Any) -> Any:
        with self._threads:
            print(json.dumps({"do": do, **arguments}), file=self._channel, flush=True)
            answer = self._read()
        assert "ok" in answer, f"device {self.name}: {do}: {answer['error']}"
        return answer["ok"]

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._gone()

    def close(self) -> None:
        """End in good order."""
        self.do("close")
        self._gone()

    def _gone(self) -> None:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        assert poll.poll(30_000), f"device {self.name} did not end"
        os.close(self._pidfd)
        self._channel.close()
        self.pid = 0

    def signal(self, sign: signal.Signals) -> None:
        os.kill(self.pid, sign)

    def end(self) -> None:
        if self.alive:
            self.kill()
        self.proxy.close()


class PlainSql(threading.Thread):
    """Another program: it changes the same documents by SQL, and knows nothing of Homeport."""

    def __init__(self, run: Run, name: str, *, hold_s: float = 0.0, pause_s: float = 0.06) -> None:
        super().__init__(daemon=True)
        self.run_ = run
        self.name_ = name
        self.random = random.Random(f"{run.seed}/{name}")
        self.hold_s = hold_s
        self.pause_s = pause_s
        self.history: list[dict[str, Any]] = []
        self.dsn = run.world.postgres.dsn
        self._ended = threading.Event()

    def end(self) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        asyncio.run(self._work())

    async def _work(self) -> None:
        number = 0
        connection: Any = None
        while not self._ended.is_set():
            number += 1
            try:
                async with asyncio.timeout(4):
                    if connection is None or connection.is_closed():
                        connection = await asyncpg.connect(self.dsn)
                    await self._change(connection, number)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError,
                    asyncpg.InternalClientError):  # fmt: skip
                if connection is not None:
                    connection.terminate()
                connection = None
            await asyncio.sleep(self.random.uniform(0, 2 * self.pause_s))
        if connection is not None:
            connection.terminate()

    async def _change(self, connection: Any, number: int) -> None:
        r, tenant = self.random, self.run_.tenant
        op = r.choice(("add", "move", "open", "close"))
        doc: dict[str, Any] = {"id": f"{self.name_}-{number}", "w": self.name_, "i": number, "op": op}
        if op == "add":
            doc |= {"k": r.choice(COUNTERS), "x": r.randint(1, 9)}
            changes = [("counters", doc["k"], doc["x"])]
        elif op == "move":
            a, b = r.sample(ACCOUNTS, 2)
            doc |= {"a": a, "b": b, "x": r.randint(1, 5)}
            changes = [("accounts", a, -doc["x"]), ("accounts", b, doc["x"])]
        else:
            changes = []
        self.history.append({"p": "begin", **doc})
        insert = (
            "insert into homeport.documents (tenant, collection, key, body)"
            " values ($1, $2, $3, $4::text::json)"
        )
        transaction = connection.transaction()
        await transaction.start()
        if op == "close":
            job = await connection.fetchval(
                "delete from homeport.documents where ctid = (select ctid from homeport.documents"
                " where tenant = $1 and collection = 'jobs' limit 1 for update skip locked)"
                " returning key",
                tenant,
            )
            if job is None:
                await transaction.rollback()
                self.history[-1]["p"] = "nothing"
                return
            doc["job"] = self.history[-1]["job"] = job
        await connection.execute(insert, tenant, "ledger", doc["id"], json.dumps(doc))
        if op == "open":
            job = {"id": doc["id"], "by": self.name_}
            await connection.execute(insert, tenant, "jobs", doc["id"], json.dumps(job))
        for collection, key, x in sorted(changes):
            await connection.execute(
                "update homeport.documents set body ="
                " (body::jsonb || jsonb_build_object('n', (body->>'n')::bigint + $4))::json"
                " where tenant = $1 and collection = $2 and key = $3",
                tenant, collection, key, x,
            )  # fmt: skip
        if self.hold_s and r.random() < 0.3:
            await asyncio.sleep(r.uniform(0, self.hold_s))  # idle in transaction, holding locks
        await transaction.commit()
        self.history.append({"p": "done", "i": number})


class World:
    """PostgreSQL and two nodes behind proxies. It outlives runs: each has a tenant of its own."""

    def __init__(
        self, folder: Path, *, settings: dict[str, str] | None = None, plant: str = ""
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self.mother = Mother()
        self.postgres = Postgres.start(
            folder / "postgres", settings={"fsync": "off", **(settings or {})}
        )
        port, more = self.start_gate()
        self.gates = [FaultProxy(f"127.0.0.1:{port}") for _ in range(2)]
        self.shared = folder / "nodes"  # with the key of both
        self.shared.mkdir()
        program = ("tests.faults.planted", plant) if plant else ("homeport",)
        self.nodes = [
            Node(at_port(self.postgres.dsn, gate.port) + more, self.shared, program=program)
            for gate in self.gates
        ]

    def start_gate(self) -> tuple[int, str]:
        """Where nodes find the database: a port, and what is added to the connection string."""
        return self.postgres.port, ""

    def read(self, query: str, *arguments: Any) -> list[Any]:
        async def work() -> list[Any]:
            connection = await asyncpg.connect(self.postgres.dsn, timeout=10)
            try:
                return list(await connection.fetch(query, *arguments))
            finally:
                connection.terminate()

        return asyncio.run(work())

    def token(self, tenant: str) -> str:
        return mint("dev", tenant, 36_000.0, data_dir=self.shared)

    def close(self) -> None:
        for node in self.nodes:
            if node.process is not None:
                node.process.kill()
            node.stop()
        for gate in self.gates:
            gate.close()
        self.mother.close()
        self.postgres.stop()


class Run:
    """One run: three devices of a new tenant in a world that is healthy."""

    def __init__(self, world: World, seed: str, *, pause_s: float = 0.025) -> None:
        self.world = world
        self.seed = seed
        self.random = random.Random(seed)
        self.pause_s = pause_s
        self.tenant = f"t{seed}".replace("/", "-")
        self.token = world.token(self.tenant)
        self.folder = world.folder / self.tenant
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.faults: dict[str, int] = {}
        self.devices: list[DeviceProcess] = []
        self.sql: list[PlainSql] = []
        self.violations: list[str] = []

    def begin(self, *, hold_s: float = 0.0) -> None:
        """Documents of the start, devices, and the program with SQL."""
        self.world.read(
            "insert into homeport.documents (tenant, collection, key, body)"
            " select $1, c, k, b::json from unnest($2::text[], $3::text[], $4::text[]) as u(c, k, b)",
            self.tenant,
            *zip(*((c, k, json.dumps(d)) for c, k, d in first_documents()), strict=True),
        )
        for n, name in enumerate(DEVICES):
            device = DeviceProcess(self, name, self.world.nodes[n % 2])
            self.devices.append(device)
            device.up()
        self.sql = [PlainSql(self, "sql", hold_s=hold_s)]
        for writer in self.sql:
            writer.start()
        for device in self.devices:
            device.do("work")

    def did(self, what: str) -> None:
        self.faults[what] = self.faults.get(what, 0) + 1

    def stored(self) -> dict[str, dict[str, Any]]:
        """What PostgreSQL holds."""
        out: dict[str, dict[str, Any]] = {name: {} for name in NAMES}
        for row in self.world.read(
            "select collection, key, body from homeport.documents"
            " where tenant = $1 and collection = any ($2)",
            self.tenant,
            NAMES,
        ):
            out[row["collection"]][row["key"]] = json.loads(row["body"])
        return out

    def end(self) -> None:
        for writer in self.sql:
            writer.end()
        for device in self.devices:
            device.end()

    def later(self, least_s: float, most_s: float) -> None:
        time.sleep(self.random.uniform(least_s, most_s))
