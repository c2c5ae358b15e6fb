"""Is a place usable for a database file? The reasons that SQLite sums up as "unable to open", one
by one, and those that it does not see."""

from __future__ import annotations

import os
import stat
import sys
import warnings
from pathlib import Path
from types import FrameType

from homeport.errors import CannotOpen, ReadOnly, RiskyPlaceWarning

# fmt: off
NETWORK = frozenset((
    "9p", "afs", "ceph", "cifs", "davfs", "drvfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4",
    "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "fuse.ceph", "fuse.davfs2", "fuse.glusterfs",
    "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
))
# fmt: on
"""File systems of other computers, by the names that Linux gives them."""

MOUNTS = "/proc/self/mountinfo"
_kinds: dict[int, str] = {}


def usable_path(path: str, *, readonly: bool) -> str:
    """→ the path of the file itself, when ``path`` is a link to it, from the root: a program that
    changes its folder later still means this file. Raises ``CannotOpen``, ``ReadOnly``; warns of
    places where a database is in danger."""
    try:
        # Joined, not normalised: behind a link "x/.." is not where the text says.
        path = os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118 - texts
        # The log lies beside the file itself, whatever link leads there.
        path = os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114
        _check(path, readonly=readonly)
    except (
        OSError,
        ValueError,
    ) as error:  # a folder that may not be entered, a NUL, a name too long
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CannotOpen(f"{path} cannot be opened: {reason}.", path=path) from error
    return path


def _check(path: str, *, readonly: bool) -> None:
    folder = os.path.dirname(path) or "."  # noqa: PTH120 - a Path costs more than all checks
    try:
        found = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        _check_new(path, folder, readonly=readonly)
        return
    if stat.S_ISDIR(found.st_mode):
        raise CannotOpen(f"{path} is a folder.", action="Name a file in it.", path=path)
    if not stat.S_ISREG(found.st_mode):
        raise CannotOpen(
            f"{path} is a device or a pipe, not a file.", action="Name a file.", path=path
        )
    if not os.access(path, os.R_OK):
        raise CannotOpen(
            f"{path} cannot be read by this user.",
            action="Give this user permission to read it.",
            path=path,
        )
    if not readonly:
        if not os.access(path, os.W_OK):
            raise ReadOnly(f"{path} cannot be written by this user.", path=path)
        if not os.access(folder, os.W_OK):
            raise ReadOnly(
                f"The folder of {path}, where its log lives, cannot be written by this user.",
                path=path,
            )
        if found.st_nlink > 1:
            _warn(
                f"{path} has {found.st_nlink} names (hard links). The log lies beside the name by "
                "which it is opened: opened by two names at once, the file is damaged."
            )
    _check_network(path, found.st_dev)


def _check_new(path: str, folder: str, *, readonly: bool) -> None:
    if not Path(folder).is_dir():
        raise CannotOpen(
            f"The folder {Path(folder).absolute()} does not exist.",
            action="Create it first.",
            path=path,
        )
    if readonly:
        raise CannotOpen(
            f"{path} does not exist, and readonly=True creates nothing.",
            action="Check the name.",
            path=path,
        )
    if not os.access(folder, os.W_OK):
        raise ReadOnly(
            f"{path} cannot be created: its folder cannot be written by this user.", path=path
        )
    _check_network(path, Path(folder).stat().st_dev)


def _check_network(path: str, device: int) -> None:
    kind = network_kind(path, device)
    if kind:
        _warn(
            f"{path} is on a network file system ({kind}), where locks between computers cannot be "
            "relied on: two computers that use it at once may damage it. Keep it on a local disk "
            "and let db.sync() carry the data."
        )


def network_kind(path: str, device: int) -> str:
    """The kind of network file system that holds a path; empty for a local disk, or if unknown."""
    if sys.platform == "win32":
        return "share" if os.path.abspath(path).startswith("\\\\") else ""  # noqa: PTH100
    if os.major(device) != 0 or not sys.platform.startswith("linux"):
        return ""  # a disk of its own has a number of its own
    kind = _kinds.get(device)
    if kind is None:
        try:
            kind = mounted_kind(Path(MOUNTS).read_text(errors="replace"), device)
        except OSError:
            kind = ""
        _kinds[device] = kind
    return kind if kind in NETWORK else ""


def mounted_kind(mounts: str, device: int) -> str:
    """The file system of a device by the text of ``mountinfo``."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        words = line.split()
        if len(words) > 3 and words[2] == wanted and "-" in words:
            return words[words.index("-") + 1]
    return ""


def _warn(message: str) -> None:
    """Warn at the line of the caller outside this library."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("homeport."):
        frame = frame.f_back
    if frame is None:
        warnings.warn(message, RiskyPlaceWarning, stacklevel=2)
    else:
        warnings.warn_explicit(message, RiskyPlaceWarning, frame.f_code.co_filename, frame.f_lineno)
