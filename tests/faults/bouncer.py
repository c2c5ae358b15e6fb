"""PgBouncer in transaction mode between the nodes and PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.world import free_port, until
from tests.faults.world import Run, World

_CONFIG = """
[databases]
* = host=127.0.0.1 port={postgres}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
logfile = {folder}/pgbouncer.log
"""


class Bouncer(World):
    """The same world; nodes reach PostgreSQL through a PgBouncer with four sessions."""

    process: subprocess.Popen[bytes] | None = None

    def start_gate(self) -> tuple[int, str]:
        self.port = free_port()
        folder = self.folder / "pgbouncer"
        folder.mkdir()
        parts = urlsplit(self.postgres.dsn)
        (folder / "users.txt").write_text(f'"{parts.username}" "{parts.password}"\n')
        (folder / "pgbouncer.ini").write_text(
            _CONFIG.format(postgres=self.postgres.port, port=self.port, folder=folder)
        )
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for path in (folder, *folder.iterdir()):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        self.start_bouncer()
        return self.port, "?pooler=transaction"

    def start_bouncer(self) -> None:
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        if not Path(program).exists():
            raise FileNotFoundError("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
        user: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses to be root
            nobody = pwd.getpwnam("nobody")
            user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self.process = subprocess.Popen(
            [program, "-q", str(self.folder / "pgbouncer" / "pgbouncer.ini")], cwd="/", **user
        )
        until("pgbouncer listens", self._listens, 10)

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def close(self) -> None:
        super().close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def disturb(run: Run) -> None:
    assert isinstance(run.world, Bouncer) and run.world.process is not None
    process = run.world.process
    match run.random.choice(("kill", "stop", "cut", "nothing")):
        case "kill":
            process.kill()
            process.wait()
            run.did("PgBouncer killed")
            run.later(0, 0.5)
            run.world.start_bouncer()
        case "stop":
            process.send_signal(signal.SIGSTOP)
            run.did("PgBouncer stopped")
            run.later(0.1, 1.0)
            process.send_signal(signal.SIGCONT)
        case "cut":
            for gate in run.world.gates:
                gate.cut()
            run.did("connections to it reset")
        case _:
            pass
    run.later(0.1, 0.6)


def heal(run: Run) -> None:
    assert isinstance(run.world, Bouncer) and run.world.process is not None
    if run.world.process.poll() is not None:
        run.world.start_bouncer()
    run.world.process.send_signal(signal.SIGCONT)
