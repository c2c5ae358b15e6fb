"""Which tabs live, by Web Locks, and when the network comes back: for replication in a browser.

A lock is held for as long as a tab lives and replicates; the browser lets go of it when the tab is
closed or crashes, so another one need not wait for the end of the lease. A tab that is frozen keeps
its locks and does not renew its lease.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

PREFIX = "homeport/owner/"

_HELPER = """
(() => {
  "use strict";
  const locks = globalThis.navigator?.locks, free = new Map();
  return {
    // Resolves once the lock is held, or cannot be.
    hold: (name) => new Promise((resolve) => {
      if (locks === undefined) { resolve(0); return; }
      locks.request(name, () => {
        resolve(1);
        return new Promise((done) => free.set(name, done));
      }).catch(() => resolve(0));
    }),
    release(name) { free.get(name)?.(); free.delete(name); },
    // Names of all locks that are held, a line each; "?" when nobody knows.
    held: async () => {
      try {
        const { held } = await locks.query();
        return held.map((lock) => lock.name).join("\\n");
      } catch { return "?"; }
    },
    online(callback) {
      globalThis.addEventListener("online", callback);
      return { end() { globalThis.removeEventListener("online", callback); } };
    },
  };
})()
"""


@cache
def _helper() -> Any:
    from pyodide.code import run_js  # type: ignore[import-not-found] # noqa: PLC0415

    return run_js(_HELPER)


async def hold(owner: str) -> None:
    """Show that this owner lives."""
    await _helper().hold(PREFIX + owner)


def release(owner: str) -> None:
    """It lives no longer."""
    _helper().release(PREFIX + owner)


async def known_dead() -> Callable[[str], bool]:
    """→ whether the tab of an owner is known to be gone."""
    text = str(await _helper().held())
    names = frozenset(text.split("\n"))

    def is_dead(owner: str) -> bool:
        return text != "?" and PREFIX + owner not in names

    return is_dead


def on_online(callback: Callable[[], None]) -> Callable[[], None]:
    """Call ``callback`` when the network is back → what ends that."""
    from pyodide.ffi import create_proxy  # type: ignore[import-not-found] # noqa: PLC0415

    proxy = create_proxy(lambda _event: callback())
    listening = _helper().online(proxy)

    def end() -> None:
        listening.end()
        proxy.destroy()

    return end
