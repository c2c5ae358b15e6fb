"""With the two packages of ``pip install homeport`` alone: what is public can be imported, and what
needs an extra says which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BARE = """
import sys
from importlib.abc import MetaPathFinder

class OnlyTheCore(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top in {"apsw", "msgspec", "homeport", *sys.stdlib_module_names}:
            return None
        raise ModuleNotFoundError(f"No module named {top!r}", name=top)

sys.meta_path.insert(0, OnlyTheCore())
"""

EVERY_MODULE = """
import importlib, pkgutil
import homeport
from homeport.errors import MissingDependency

PROGRAMS = ("homeport.__main__", "homeport.cli.")
whole, named = [], []
for found in pkgutil.walk_packages(homeport.__path__, "homeport.", onerror=lambda name: None):
    if found.name.startswith(PROGRAMS):
        continue
    try:
        importlib.import_module(found.name)
        whole.append(found.name)
    except MissingDependency as error:
        assert "homeport[" in error.action, found.name
        named.append(found.name)
assert {"homeport.replication", "homeport._blocking.replication", "homeport.backends"} <= {*whole}
extra = ("homeport.server", "homeport.transport.client", "homeport.transport.http",
         "homeport.transport.live", "homeport.testing.simulation")
assert all(name.startswith(extra) for name in named), named
"""

A_SHARED_FOLDER = """
import homeport as hp
from homeport.backends import SharedFolder

wells = hp.Collection("wells")
for name in ("a", "b"):
    with hp.open(f"{FOLDER}/{name}.db", collections=[wells]) as db:
        sync = db.sync(SharedFolder(f"{FOLDER}/share", create=True))
        if name == "a":
            db[wells].put({"id": "w1"})
        sync.now(timeout_s=20)
        assert db[wells].keys() == ["w1"]
"""

A_SERVER = """
import homeport as hp

wells = hp.Collection("wells")
with hp.open(f"{FOLDER}/a.db", collections=[wells]) as db:
    try:
        db.sync("https://example.com", token="t")
    except hp.errors.MissingDependency as error:
        assert "homeport[sync]" in str(error)
    else:
        raise AssertionError("aiohttp is there")
    db[wells].put({"id": "w1"})
"""


@pytest.mark.parametrize("program", [EVERY_MODULE, A_SHARED_FOLDER, A_SERVER])
def test_the_core_needs_its_two_packages_only(program: str, tmp_path: Path) -> None:
    text = f"{BARE}\nFOLDER = {str(tmp_path)!r}\n{program}"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
