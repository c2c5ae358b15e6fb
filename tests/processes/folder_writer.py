"""A device that adds 1 to a counter and syncs through a shared folder, and is killed at its nth
operation that changes the folder: ``python folder_writer.py DATABASE FOLDER N``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import homeport as hp
from homeport.backends import SharedFolder

WELLS = hp.Collection("wells", sync=hp.Synced(fields={"n": hp.Counter()}))
MINE = hp.Collection("mine", sync=False)
OPERATIONS = ("os.mkdir", "os.link", "os.remove", "os.rename")


def work(file: str | Path, folder: str | Path, kill_at: int = 0) -> int:
    """→ how many operations the folder has seen; ``kill_at`` 0 = live on."""
    seen = 0
    on = kill_at > 0

    def watch(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        reads = event != "open" or args[1] == "rb" or args[1] == "r"
        if on and (event in OPERATIONS or not reads):
            paths = [os.fspath(a) for a in args[:2] if isinstance(a, str | os.PathLike)]
            if any(str(folder) in path for path in paths):
                seen += 1
                if seen == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

    with hp.open(file, collections=[WELLS, MINE]) as db:
        sync = db.sync(SharedFolder(folder))
        if db["mine"].get("done") is None:
            sync.now()
            with db.transaction():
                db["wells"].patch("w1", {"n": db["wells"].get("w1")["n"] + 1})
                db["mine"].put({"id": "done"})
        if on:
            sys.addaudithook(watch)
        sync.now()
    return seen


if __name__ == "__main__":
    print(work(sys.argv[1], sys.argv[2], int(sys.argv[3])), flush=True)
