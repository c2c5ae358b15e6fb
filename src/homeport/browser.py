"""What only a browser has: ``from homeport import browser`` under Pyodide.

promised = await browser.persist()
await browser.delete_database("field")
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from homeport.core.arguments import check_seconds
from homeport.errors import CannotOpen, UsageError

if TYPE_CHECKING:
    from homeport.storage.secret import DeviceKey


def _in_a_browser(what: str) -> None:
    if sys.platform != "emscripten":
        raise UsageError(
            f"{what} is for a program that runs in a browser, under Pyodide.",
            action="Here databases are files.",
        )


async def persist(timeout_s: float = 5.0) -> bool | None:
    """Ask the browser not to drop this site's data when the disk gets full → whether it promises.

    Some browsers ask the user, so nobody may ever answer: after ``timeout_s`` seconds the result is
    None, and the question stands. None too where nobody can be asked (in a Web Worker: ask on the
    page). ``db.storage_info().persistent`` says what holds.
    """
    _in_a_browser("persist()")
    check_seconds(timeout_s, "timeout_s", least=0.001)
    from homeport.storage import web_storage  # noqa: PLC0415 - of a browser

    return await web_storage.persist(timeout_s)


async def device_key(name: str) -> DeviceKey:
    """The key of this browser with this name, for ``open_async(key=...)``; made when there is none.

    WebCrypto made it and keeps it; no program can read its bytes, so it opens what it has encrypted
    in this browser and on this site only. Raises ``CannotOpen`` on a page without WebCrypto (http).
    """
    _in_a_browser("device_key()")
    _check_name(name, "device_key()", "key")
    from homeport.storage import webcrypto  # noqa: PLC0415 - of a browser
    from homeport.storage.secret import DeviceKey  # noqa: PLC0415

    await webcrypto.make_device_key(name)
    return DeviceKey(name)


async def rekey(name: str, old: str | bytes | DeviceKey, new: str | bytes | DeviceKey) -> None:
    """Let another key open an encrypted database of this browser.

    Args:
        name: of the database.
        old: its key: a passphrase, 32 bytes, or a ``device_key``.
        new: the one that opens it from now on; ``old`` does not.

    The keys that the documents are encrypted with are wrapped anew, so it takes no longer for many
    documents. Tabs that have it open go on. Who has kept a copy of the database's files from before
    opens that copy with the old key.

    Raises:
        WrongKey: ``old`` is not the key, or the database is not encrypted; nothing was changed.
        CannotOpen: there is no such database.
        Busy: another tab has changed the key in this very moment.
        UsageError: what is given is no key.
    """
    _in_a_browser("rekey()")
    from homeport.storage.indexeddb import IndexedDBStore  # noqa: PLC0415 - of a browser
    from homeport.storage.secret import any_secret_of  # noqa: PLC0415

    _check_name(name, "rekey()", "database")
    before, after = any_secret_of(old), any_secret_of(new)
    if before is None or after is None:
        raise UsageError(
            "In a browser rekey() takes two keys: it changes one, and neither adds nor removes it.",
            action="Copy the documents to a new database, opened with or without key=.",
        )
    if not await IndexedDBStore.exists(name):
        raise CannotOpen(f"This site has no database {name}.", path=name)
    store = await IndexedDBStore.open(name, clock_ms=lambda: 0, key=before)
    try:
        await store.rekey(after)
    finally:
        await store.close()


async def forget_key(name: str) -> None:
    """Destroy a device key: nobody can ever read what it has encrypted. Silent when there is none.

    A database that is open goes on until it is closed.
    """
    _in_a_browser("forget_key()")
    _check_name(name, "forget_key()", "key")
    from homeport.storage import webcrypto  # noqa: PLC0415 - of a browser

    await webcrypto.forget_device_key(name)


def _check_name(name: object, what: str, of: str) -> None:
    if not isinstance(name, str) or not name:
        raise UsageError(f"{what} takes the name of a {of}, not {name!r:.80}.")


async def databases(timeout_s: float = 5.0) -> list[str]:
    """The names of this site's databases of Homeport's, sorted: in IndexedDB and in localStorage.

    Databases of other programs of the site are not among them. Raises ``StorageRefused`` in a
    browser that does not tell, and ``Busy`` when another tab changes the form of one and is not
    done within ``timeout_s`` seconds.
    """
    _in_a_browser("databases()")
    check_seconds(timeout_s, "timeout_s", least=0.001)
    from homeport.storage import indexeddb_names, localstorage  # noqa: PLC0415 - of a browser

    simple = localstorage.names()
    return sorted({*await indexeddb_names.names(timeout_s), *simple})


async def delete_database(name: str) -> None:
    """Delete a database of the browser with everything in it, in IndexedDB and in localStorage;
    silent when there is none.

    Other tabs that have it open let go of it; their next call finds an empty one and says so. What
    has not been synced is lost. Raises ``Busy`` when a tab does not let go within five seconds.
    """
    _in_a_browser("delete_database()")
    _check_name(name, "delete_database()", "database")
    from homeport.storage import localstorage  # noqa: PLC0415 - of a browser
    from homeport.storage.indexeddb import IndexedDBStore  # noqa: PLC0415 - of a browser

    for kind in ("simple", "fallback"):
        if localstorage.there_is(kind, name):
            place = await localstorage.LocalStorage.open(kind, name, timeout_s=5.0)
            try:
                localstorage.discard(kind, name)
            finally:
                place.close()
    await IndexedDBStore.delete(name)
