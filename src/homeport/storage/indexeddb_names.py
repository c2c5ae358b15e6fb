"""Which databases of a site are Homeport's.

The browser lists all databases of the site, of whatever program; ours are known by their object
stores. Looking opens each for a moment, which changes nothing: what is deleted in between is not
made again.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec

from homeport.errors import Busy, StorageRefused
from homeport.storage.indexeddb_schema import CHANGES, NAMED

# Resolves with a JSON text and never rejects: a promise that does is a trap.
_HELPER: Final = """
(() => {
  "use strict";
  const words = (error) => `${error?.name ?? "Error"}: ${error?.message ?? error}`;
  const looked = (name, stores, limit_ms) => new Promise((answer) => {
    const request = indexedDB.open(name);
    const timer = setTimeout(() => answer({ busy: name }), limit_ms);
    const end = (found) => { clearTimeout(timer); answer(found); };
    request.onupgradeneeded = () => request.transaction.abort(); // it was deleted meanwhile
    request.onerror = (event) => { event.preventDefault(); end({}); };
    request.onsuccess = () => {
      const database = request.result, there = database.objectStoreNames;
      const ours = stores.every((store) => there.contains(store));
      database.close();
      end(ours ? { name } : {});
    };
  });
  return async (stores, limit_ms) => {
    try {
      if (!globalThis.indexedDB) return JSON.stringify({});
      if (!indexedDB.databases) return JSON.stringify({ refused: "it cannot be asked" });
      const wanted = JSON.parse(stores), found = [];
      for (const { name } of await indexedDB.databases())
        found.push(await looked(name, wanted, limit_ms));
      return JSON.stringify({ found });
    } catch (error) {
      const closed = error?.name === "SecurityError" || error?.name === "InvalidStateError";
      return JSON.stringify(closed ? {} : { refused: words(error) }); // nothing can be in there
    }
  };
})()
"""


class _Look(msgspec.Struct):
    name: str | None = None
    busy: str | None = None


class _Answer(msgspec.Struct):
    found: list[_Look] = []
    refused: str | None = None


_answer = msgspec.json.Decoder(_Answer).decode


@cache
def _helper() -> Any:
    from pyodide.code import run_js  # type: ignore[import-not-found] # noqa: PLC0415

    return run_js(_HELPER)


async def names(limit_s: float) -> list[str]:
    """None where the page may not use IndexedDB. Raises ``StorageRefused`` in a browser that has no
    list, and ``Busy`` when one of the databases cannot be looked at within ``limit_s`` seconds."""
    stores = msgspec.json.encode([NAMED, CHANGES]).decode()
    text: str = await _helper()(stores, max(1, round(limit_s * 1000)))
    answer = _answer(text)
    if answer.refused is not None:
        raise StorageRefused(f"The browser does not list its databases ({answer.refused}).")
    for look in answer.found:
        if look.busy is not None:
            raise Busy(f"A tab is changing the database {look.busy}, so it cannot be looked at.")
    return [look.name for look in answer.found if look.name is not None]
