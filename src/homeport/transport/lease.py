"""Names of lease owners, and whether the process behind one is still there."""

from __future__ import annotations

import os
import platform
import sys
from typing import Final

from homeport.ids import new_id

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
