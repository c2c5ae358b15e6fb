"""Which tabs live, by Web Locks and by asking them, and what the browser says of the network.

A lock is held for as long as a tab lives and replicates; the browser lets go of it when the tab is
closed or crashes. One that is frozen or hangs keeps its locks, so holders are also asked over a
BroadcastChannel, whose messages wake background tabs, too: who does not answer is no longer waited
for. A frozen page of Chromium still hears messages, so none answers whose own timers have stopped.
All this may be wrong about a tab which computes for seconds; it costs a change of hands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypeAlias

PREFIX = "homeport/owner/"

News: TypeAlias = Literal["online", "offline"]
"""What a browser says of the network."""

ASK_MS = 900
"""Least time between two questions that count; replication asks every second."""
UNANSWERED = 4
"""After so many questions in a row without an answer a tab counts as gone."""
BEAT_MS = 500
STOPPED_MS = 2_500
"""A tab whose timers are late by more than that does not answer. In the background they may run
once a second, and after minutes once a minute: then a tab in the foreground leads better."""

_HELPER = """
((prefix, askEvery_ms, unanswered, beat_ms, stopped_ms) => {
  "use strict";
  const locks = globalThis.navigator?.locks, free = new Map(), silent = new Map();
  let channel = null, timer = null, asked_ms = -Infinity, beaten_ms = -Infinity;
  const beat = () => { beaten_ms = performance.now(); };
  globalThis.document?.addEventListener("freeze", () => { beaten_ms = -Infinity; });
  const listen = () => {
    if (channel !== null || globalThis.BroadcastChannel === undefined) return;
    channel = new BroadcastChannel(prefix);
    channel.onmessage = ({ data }) => {
      if (data !== "") silent.delete(data);
      else if (performance.now() - beaten_ms < stopped_ms)
        for (const name of free.keys()) channel.postMessage(name);
    };
    beat();
    timer = setInterval(beat, beat_ms);
    timer.unref?.(); // in Node
  };
  return {
    // Resolves once the lock is held, or cannot be.
    hold: (name) => new Promise((resolve) => {
      if (locks === undefined) { resolve(0); return; }
      listen();
      locks.request(name, () => {
        resolve(1);
        return new Promise((done) => free.set(name, done));
      }).catch(() => resolve(0));
    }),
    release(name) {
      free.get(name)?.();
      free.delete(name);
      if (free.size > 0) return;
      clearInterval(timer);
      channel?.close();
      channel = null;
      silent.clear();
    },
    // Names of all locks whose tab lives, a line each; "?" when nobody knows.
    living: async () => {
      let held;
      try { ({ held } = await locks.query()); } catch { return "?"; }
      const others = held.map(({ name }) => name)
        .filter((name) => name.startsWith(prefix) && !free.has(name));
      const gone = new Set(others.filter((name) => (silent.get(name) ?? 0) >= unanswered));
      if (channel !== null && performance.now() - asked_ms >= askEvery_ms) {
        asked_ms = performance.now();
        const before = new Map(silent);
        silent.clear(); // of tabs that are closed
        for (const name of others) silent.set(name, (before.get(name) ?? 0) + 1);
        channel.postMessage("");
      }
      return [...free.keys(), ...others.filter((name) => !gone.has(name))].join("\\n");
    },
    offline: () => globalThis.navigator?.onLine === false,
    follow(callback) {
      const online = () => callback("online"), offline = () => callback("offline");
      globalThis.addEventListener("online", online);
      globalThis.addEventListener("offline", offline);
      return {
        end() {
          globalThis.removeEventListener("online", online);
          globalThis.removeEventListener("offline", offline);
        },
      };
    },
    // Pyodide waits for ever for a promise that is rejected with something else than an Error.
    plain: (ask) => async () => {
      try {
        return (await ask()) ?? undefined;
      } catch (error) {
        const plain = new Error(String(error?.message ?? error));
        throw Object.assign(plain, { name: String(error?.name ?? "Error") });
      }
    },
  };
})
"""


@cache
def _helper() -> Any:
    from pyodide.code import run_js  # type: ignore[import-not-found] # noqa: PLC0415

    return run_js(_HELPER)(PREFIX, ASK_MS, UNANSWERED, BEAT_MS, STOPPED_MS)


async def hold(owner: str) -> None:
    """Show that this owner lives."""
    await _helper().hold(PREFIX + owner)


def release(owner: str) -> None:
    """It lives no longer."""
    _helper().release(PREFIX + owner)


async def known_dead() -> Callable[[str], bool]:
    """→ whether the tab of an owner is known to be gone, or has long not answered."""
    text = str(await _helper().living())
    names = frozenset(text.split("\n"))

    def is_dead(owner: str) -> bool:
        return text != "?" and PREFIX + owner not in names

    return is_dead


def offline() -> bool:
    """Does the browser say that there is no network?"""
    return bool(_helper().offline())


def follow(callback: Callable[[News], None]) -> Callable[[], None]:
    """Call ``callback`` with what the browser says of the network → what ends that."""
    from pyodide.ffi import create_proxy  # type: ignore[import-not-found] # noqa: PLC0415

    proxy = create_proxy(callback)
    following = _helper().follow(proxy)

    def end() -> None:
        following.end()
        proxy.destroy()

    return end


def plain(function: Callable[[], Any]) -> Callable[[], Any]:
    """A function of JavaScript, made so that whatever it is rejected with arrives as an error."""
    if type(function).__name__ != "JsProxy":
        return function
    wrapped: Callable[[], Any] = _helper().plain(function)
    return wrapped
