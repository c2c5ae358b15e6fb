"""The localStorage of a page: texts by name, about five million characters for the whole site.

One tab at a time has a database open: a lock of the browser (Web Locks) says which. Tabs may live
in processes whose views of localStorage lag behind each other, and nothing tells when they are
level; so a tab that got the lock looks until two looks agree.
"""

from __future__ import annotations

from functools import cache
from itertools import count
from typing import Any, Final

import msgspec

from homeport.errors import Busy, QuotaExceeded, StorageError, StorageRefused
from homeport.storage.journaled_texts import ROOT, JournaledTexts, database_of, prefix_of

ENGINE: Final = "localStorage"
CHARACTERS: Final = 5 * 1024 * 1024
"""What browsers give a site, names included."""
LEVEL_S: Final = 0.05

# Every answer is a text or a number: what is thrown, or a promise that is rejected, is a trap.
_HELPER = """
(() => {
  "use strict";
  const words = (error) => `${error?.name ?? "Error"}: ${error?.message ?? error}`;
  const attempt = (work) => { try { work(); return ""; } catch (error) { return words(error); } };
  const area = () => globalThis.localStorage;
  const held = new Map();
  return {
    usable: () => attempt(() => { if (!area()) throw new Error("there is none"); area().length; }),
    get: (name) => area().getItem(name) ?? undefined,
    set: (name, text) => attempt(() => area().setItem(name, text)),
    remove: (name) => attempt(() => area().removeItem(name)),
    all(prefix) {
      const found = {};
      for (let n = 0; n < area().length; n++) {
        const name = area().key(n);
        if (name.startsWith(prefix)) found[name] = area().getItem(name);
      }
      return JSON.stringify(found);
    },
    characters() {
      let total = 0;
      for (let n = 0; n < area().length; n++) {
        const name = area().key(n);
        total += name.length + area().getItem(name).length;
      }
      return total;
    },
    // Resolves with "" (held until release), "busy", or why there is no lock. Never rejects.
    hold: (id, name, mode, limit_ms) => new Promise((answer) => {
      const end = new AbortController(), locks = globalThis.navigator?.locks;
      if (!locks) return answer("there are no Web Locks: the page is not served by HTTPS");
      const timer = setTimeout(() => end.abort(), limit_ms);
      held.set(id, () => end.abort());
      attempt(() => locks.request(name, { mode, signal: end.signal }, () => {
        clearTimeout(timer);
        answer("");
        return new Promise((release) => held.set(id, release));
      }).catch((error) => answer(error?.name === "AbortError" ? "busy" : words(error))))
        && answer("the lock was refused");
    }),
    release(id) { held.get(id)?.(); held.delete(id); },
  };
})()
"""

_numbers = count(1)


@cache
def _helper() -> Any:
    from pyodide.code import run_js  # type: ignore[import-not-found] # noqa: PLC0415

    return run_js(_HELPER)


class _Area:
    """``journaled_texts.Texts``."""

    def all(self, prefix: str) -> dict[str, str]:
        return msgspec.json.decode(_helper().all(prefix), type=dict[str, str])

    def get(self, name: str) -> str | None:
        found: str | None = _helper().get(name)
        return found

    def set(self, name: str, text: str) -> None:
        _refuse(_helper().set(name, text))

    def remove(self, name: str) -> None:
        _refuse(_helper().remove(name))

    def free_bytes(self) -> int | None:
        return max(0, CHARACTERS - int(_helper().characters()))


def _refuse(reason: str) -> None:
    if not reason:
        return
    if "quota" in reason.lower():
        raise QuotaExceeded(
            "localStorage is full: browsers give a site about five million characters.",
            action="Delete documents; everything acknowledged before is safe.",
        )
    raise StorageError(f"localStorage refused a write ({reason}).")


def there_is(kind: str, database: str) -> bool:
    """Does localStorage hold something of that database?"""
    return not _helper().usable() and bool(_Area().all(prefix_of(kind, database)))


def names() -> set[str]:
    """The databases of which it holds something, of whatever kind."""
    if _helper().usable():
        return set()
    found = (database_of(name) for name in _Area().all(ROOT))
    return {name for name in found if name is not None}


class LocalStorage(JournaledTexts):
    """``keeper.Keeper`` on localStorage, for the one tab that holds the lock."""

    def __init__(self, kind: str, database: str, lock: int) -> None:
        super().__init__(_Area(), prefix_of(kind, database), ENGINE)
        self._lock = lock

    @classmethod
    async def open(
        cls, kind: str, database: str, *, timeout_s: float, shared: bool = False
    ) -> LocalStorage:
        """Wait for the lock. Raises ``StorageRefused``, and ``Busy`` while another tab has it."""
        from asyncio import sleep  # noqa: PLC0415 - a loop runs

        refused = _helper().usable()
        if refused:
            raise StorageRefused(f"The browser gives no localStorage ({refused}).", path=database)
        lock, prefix = next(_numbers), prefix_of(kind, database)
        mode = "shared" if shared else "exclusive"
        try:
            reason = await _helper().hold(lock, prefix, mode, max(1, round(timeout_s * 1000)))
            if not reason:
                area, before = _Area(), None
                while (now := area.all(prefix)) != before:
                    before = now
                    await sleep(LEVEL_S)
                return cls(kind, database, lock)
        except BaseException:
            _helper().release(lock)
            raise
        if reason == "busy":
            raise Busy(
                f"Another tab has {database} open in localStorage, which is for one at a time.",
                action="Use that tab, or close it.",
                path=database,
            )
        raise StorageRefused(f"localStorage cannot be used safely ({reason}).", path=database)

    def close(self) -> None:
        _helper().release(self._lock)


def discard(kind: str, database: str) -> None:
    """Remove what is there of a database. The lock is held."""
    area = _Area()
    for name in area.all(prefix_of(kind, database)):
        area.remove(name)
