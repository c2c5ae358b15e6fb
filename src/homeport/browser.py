"""What only a browser has: ``from homeport import browser`` under Pyodide.

promised = await browser.persist()
await browser.delete_database("field")
"""

from __future__ import annotations

import sys

from homeport.core.arguments import check_seconds
from homeport.errors import UsageError


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


async def delete_database(name: str) -> None:
    """Delete a database of the browser with everything in it; silent when there is none.

    Other tabs that have it open let go of it; their next call finds an empty one and says so. What
    has not been synced is lost. Raises ``Busy`` when a tab does not let go within five seconds.
    """
    _in_a_browser("delete_database()")
    if not isinstance(name, str) or not name:
        raise UsageError(f"delete_database() takes the name of a database, not {name!r:.80}.")
    from homeport.storage.indexeddb import IndexedDBStore  # noqa: PLC0415 - of a browser

    await IndexedDBStore.delete(name)
