"""Fetch real well logs: the LAS files that the source distribution of ``lasio`` (MIT) is tested on.

pip fetches it from whatever registry this machine is set up for; the checksum is pinned here.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from homeport.errors import LaunchFailed

# The last release of lasio that was published as a source distribution.
VERSION = "0.31"
ARCHIVE = f"lasio-{VERSION}.tar.gz"
SHA256 = "5dd3c4baa3f2c89bc95ca8e052dc37fe86363c687199c93fd0fae80c597e63e5"
EXAMPLES = f"lasio-{VERSION}/tests/examples/"


def well_log_files(folder: Path) -> list[Path]:
    """The LAS files, in a fixed order; fetched on the first call and verified on every call.

    Raises:
        LaunchFailed: pip could not fetch the archive, or it is not the one we know.
    """
    archive = folder / ARCHIVE
    if not archive.exists():
        _fetch(folder)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SHA256:
        raise LaunchFailed(
            f"{archive} is not the archive that was expected (SHA-256 {digest[:16]}…).",
            action="Delete it and run the same command again.",
        )
    logs = folder / "las"
    if not logs.exists():
        _extract(archive, logs)
    return sorted(path for path in logs.rglob("*") if path.suffix.lower() == ".las")


def _fetch(folder: Path) -> None:
    """Let pip download it: registries, proxies and certificates are its business."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        unfinished = Path(name)
        _download(unfinished, folder)
        (unfinished / ARCHIVE).replace(folder / ARCHIVE)


def _download(target: Path, folder: Path) -> None:
    pinned = target / "requirements.txt"
    pinned.write_text(f"lasio=={VERSION} --hash=sha256:{SHA256}\n")
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"),
        # Only lasio itself as source: pip may need its build tools, and those come as wheels.
        *("--quiet", "--no-deps", "--no-binary", "lasio"),
        *("--require-hashes", "--requirement", str(pinned), "--dest", str(target)),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0 or not (target / ARCHIVE).exists():
        lines = [line for line in ran.stderr.splitlines() if not line.startswith("WARNING")]
        raise LaunchFailed(
            f"pip could not fetch the well logs (lasio {VERSION} as source): "
            + (" ".join(lines[-2:]) or f"it ended with status {ran.returncode}."),
            action=f"Check the network, or put {ARCHIVE} into {folder} yourself.",
        )


def _extract(archive: Path, logs: Path) -> None:
    """The examples alone, as plain files: no names outside the folder, no links, no modes."""
    with tempfile.TemporaryDirectory(dir=logs.parent) as unfinished, tarfile.open(archive) as tar:
        root = Path(unfinished) / "las"
        for member in tar:
            name = member.name.removeprefix(EXAMPLES)
            source = tar.extractfile(member) if member.isfile() else None
            if source is None or name == member.name or ".." in Path(name).parts:
                continue
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read())
        # Whole or not at all; another process may have been faster with the same files.
        with contextlib.suppress(OSError):
            root.rename(logs)
