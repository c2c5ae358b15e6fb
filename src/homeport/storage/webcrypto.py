"""The sealed format in a browser: rings and keys of WebCrypto, through one helper in JavaScript."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from homeport.core.sealing import Ring
from homeport.errors import CannotOpen, HomeportError, WrongKey

if TYPE_CHECKING:
    from homeport.storage.secret import DeviceKey, Secret


@cache
def _helper() -> Any:
    from pyodide.code import run_js  # type: ignore[import-not-found] # noqa: PLC0415

    return run_js(files("homeport.storage").joinpath("webcrypto.js").read_text("utf-8"))()


async def made(secret: Secret | DeviceKey, path: str) -> tuple[str, Any]:
    """A new ring as JSON, and what seals with it."""
    try:
        ring, vault = await _helper().make(_words(secret))
    except Exception as error:
        raise _typed(error, path) from error
    return ring, vault


async def unlocked(ring: str, secret: Secret | DeviceKey, path: str) -> Any:
    """What opens the boxes of a ring. Raises ``WrongKey``, ``Corrupted``, ``FileTooNew``."""
    Ring.read(ring, path)
    try:
        return await _helper().unlock(ring, _words(secret))
    except Exception as error:
        raise _typed(error, path) from error


async def rewrapped(ring: str, old: Secret | DeviceKey, new: Secret | DeviceKey, path: str) -> str:
    """The same data keys under another key of the user. Raises ``WrongKey``."""
    try:
        found: str = await _helper().rewrap(ring, _words(old), _words(new))
    except Exception as error:
        raise _typed(error, path) from error
    return found


async def make_device_key(name: str) -> None:
    """Keep a key of this browser under a name, unless there is one."""
    try:
        await _helper().device(name)
    except Exception as error:
        raise _typed(error, name) from error


async def forget_device_key(name: str) -> None:
    """Drop it: what was sealed with it is lost."""
    try:
        await _helper().forget(name)
    except Exception as error:
        raise _typed(error, name) from error


def _words(secret: Secret | DeviceKey) -> str:
    return msgspec.json.encode(secret.for_browser()).decode()


def _typed(error: Exception, path: str) -> HomeportError:
    name = getattr(error, "name", type(error).__name__)
    if name == "WrongKey":
        return WrongKey(f"The key does not open {path}.", path=path)
    return CannotOpen(
        f"The keys of {path} are out of reach ({name}: {error}).",
        action="WebCrypto works on pages of https or localhost that may store data.",
        path=path,
    )
