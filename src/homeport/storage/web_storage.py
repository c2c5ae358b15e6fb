"""What the browser says about the room that a site has, and whether it will keep what is there."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

ESTIMATE_S = 2.0
"""How long to wait for the browser's estimate: a figure is not worth more."""

# Every answer is a list of numbers: a promise that is rejected, or resolved with null, is a trap.
_HELPER = """
(() => {
  "use strict";
  const manager = globalThis.navigator?.storage;
  const within = (limit_ms, work) =>
    Promise.race([
      Promise.resolve().then(work).catch(() => []),
      new Promise((resolve) => setTimeout(() => resolve([]), limit_ms)),
    ]);
  const flag = (value) => (typeof value === "boolean" ? [value ? 1 : 0] : []);
  return {
    estimate: (limit_ms) => within(limit_ms, async () => {
      const { usage, quota } = await manager.estimate();
      return [usage ?? 0, quota ?? 0];
    }),
    persisted: (limit_ms) => within(limit_ms, async () => flag(await manager.persisted())),
    turn: (name, held_ms) => new Promise((resolve) => {
      const locks = globalThis.navigator?.locks;
      if (locks === undefined) { resolve([1]); return; }
      locks.request(name, { ifAvailable: true }, (lock) => {
        resolve([lock === null ? 0 : 1]);
        return lock === null ? null : new Promise((done) => setTimeout(done, held_ms));
      }).catch(() => resolve([1]));
    }),
    persist: (limit_ms) => within(limit_ms, async () => flag(await manager.persist())),
  };
})()
"""


class Room(NamedTuple):
    """usage, quota: bytes of the whole site; 0, 0 when the browser does not say. persisted: does it
    promise to keep them? None when it does not say."""

    usage: int
    quota: int
    persisted: bool | None


@cache
def _helper() -> Any:
    from pyodide.code import run_js  # type: ignore[import-not-found] # noqa: PLC0415

    return run_js(_HELPER)


async def _asked(name: str, limit_s: float) -> list[Any]:
    found = await getattr(_helper(), name)(limit_s * 1000)
    numbers: list[Any] = found.to_py()
    return numbers


async def room() -> Room:
    """What the browser says now; never waits long."""
    sizes = await _asked("estimate", ESTIMATE_S)
    kept = await _asked("persisted", ESTIMATE_S)
    usage, quota = sizes or (0, 0)
    return Room(int(usage), int(quota), bool(kept[0]) if kept else None)


async def persist(limit_s: float) -> bool | None:
    """Ask for the promise → its answer, None when there is none within the limit."""
    answer = await _asked("persist", limit_s)
    return bool(answer[0]) if answer else None


async def turn(name: str, held_s: float) -> bool:
    """Is this the one tab of the site that does something of this name, once in so many seconds?"""
    answer = await _helper().turn(f"homeport/turn/{name}", held_s * 1000)
    return bool(answer.to_py()[0])
