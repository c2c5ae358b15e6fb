"""What one peer takes, asked of a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def ask(
    root: Path, peer: str, folder: Path, keys: Sequence[str], ranges: Sequence[Any], limit_s: float
) -> dict[str, float] | None:
    """→ what ``bench.footprint`` found; None when it took longer than ``limit_s``.

    Asked twice, since a package is compiled when it is first imported: the second answer counts.
    """
    job = {"peer": peer, "folder": str(folder), "keys": keys, "ranges": ranges}
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder.parent.parent / "compiled")}
    # With it, ours would be compiled anew at each start, and packages that pip compiled would not.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        for small in (True, False):
            done = subprocess.run(
                [sys.executable, "-m", "bench.footprint"],
                input=json.dumps({**job, "small": small}),
                stdout=subprocess.PIPE,
                text=True,
                cwd=root,
                timeout=limit_s,
                check=True,
                env=environment,
            )
    except subprocess.TimeoutExpired:
        return None
    found: dict[str, float] = json.loads(done.stdout)
    return found
