"""Names of lease owners, and whether the process behind one is still there."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from homeport.ids import new_id

if TYPE_CHECKING:
    from homeport.transport.tabs import News

HOST: Final = platform.node()


def owner_name() -> str:
    """A new name: host, process, and something unique."""
    return f"{HOST}/{os.getpid()}/{new_id()}"


def is_dead(owner: str) -> bool:
    """Is the process that took the lease known to be gone? (Another machine's is not known.)"""
    host, _, rest = owner.partition("/")
    process, _, _ = rest.partition("/")
    if (
        sys.platform == "emscripten"
        or os.name != "posix"
        or host != HOST
        or not process.isdecimal()
    ):
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False


async def show_life(owner: str) -> None:
    """Let other owners of this machine see that this one lives. A process is seen as it is."""
    if sys.platform == "emscripten":
        from homeport.transport import tabs  # noqa: PLC0415 - of a browser

        await tabs.hold(owner)


def end_life(owner: str) -> None:
    """The owner is done."""
    if sys.platform == "emscripten":
        from homeport.transport import tabs  # noqa: PLC0415 - of a browser

        tabs.release(owner)


async def known_dead() -> Callable[[str], bool]:
    """→ whether another owner is known to be gone, as things stand now."""
    if sys.platform == "emscripten":
        from homeport.transport import tabs  # noqa: PLC0415 - of a browser

        return await tabs.known_dead()
    return is_dead


def offline() -> bool:
    """Does the system say that there is no network? Only a browser does."""
    if sys.platform == "emscripten":
        from homeport.transport import tabs  # noqa: PLC0415 - of a browser

        return tabs.offline()
    return False


def follow(callback: Callable[[News], None]) -> Callable[[], None]:
    """Call ``callback`` when the system says that the network is gone or back → what ends that.
    Only a browser says so."""
    if sys.platform == "emscripten":
        from homeport.transport import tabs  # noqa: PLC0415 - of a browser

        return tabs.follow(callback)
    return lambda: None
