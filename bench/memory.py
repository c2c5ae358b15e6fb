"""What one peer takes, asked of a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def ask(
    root: Path, peer: str, folder: Path, keys: Sequence[str], ranges: Sequence[Any], limit_s: float
) -> dict[str, float] | None:
    """→ what ``bench.footprint`` found; None when it took longer than ``limit_s``."""
    job = {"peer": peer, "folder": str(folder), "keys": keys, "ranges": ranges}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bench.footprint"],
            input=json.dumps(job),
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            timeout=limit_s,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return None
    found: dict[str, float] = json.loads(done.stdout)
    return found
