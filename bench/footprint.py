"""Memory and start of one peer: ``python -m bench.footprint``, in a process of its own.

Reads a job from the standard input: which peer, which folder, keys and ranges to read. The work is
that of a small program: open, a thousand documents by key, ten ranges, then all documents once.
What the peer imports is counted as its own, so this module imports little.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from bench import peers
from bench.peers.base import level_of

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Of this process, now (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE_BYTES


def peak_bytes() -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def work(job: dict[str, Any]) -> dict[str, float]:
    before = resident_bytes()
    start = perf_counter()
    peer_class = peers.load(job["peer"])
    run = _runner() if peer_class.is_async else lambda answer: answer
    peer = peer_class(Path(job["folder"]), level_of(peer_class))
    if peer.is_async:
        run(peer.start())  # type: ignore[attr-defined]
    run(peer.get(job["keys"][0]))
    start_ms = (perf_counter() - start) * 1000
    opened = resident_bytes()
    if job["small"]:
        run(peer.close())
        return {"start_ms": start_ms}
    for key in job["keys"]:
        run(peer.get(key))
    if "range_1000" not in peer.unable:
        for bounds in job["ranges"]:
            run(peer.between(tuple(bounds)))
    run(peer.iterate(None))
    after = resident_bytes()
    found = {
        "start_ms": start_ms,
        "open_bytes": opened - before,
        "work_bytes": after - before,
        "peak_bytes": peak_bytes() - before,
    }
    run(peer.close())
    return found


def _runner() -> Any:
    import asyncio

    loop = asyncio.new_event_loop()

    async def awaited(answer: Any) -> Any:
        return await answer

    return lambda answer: loop.run_until_complete(awaited(answer))


if __name__ == "__main__":
    print(json.dumps(work(json.load(sys.stdin))))
