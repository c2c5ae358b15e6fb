"""The key of an encrypted file on the command line: from the environment or a prompt, never from an
argument, which everybody on the machine can read in the list of processes."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from homeport.errors import CannotOpen, UsageError
from homeport.storage.sqlite_key import looks_encrypted

VARIABLE = "HOMEPORT_KEY"
NEW_VARIABLE = "HOMEPORT_NEW_KEY"
HEX = "hex:"


def key_for(file: Path) -> str | bytes | None:
    """The key for a file; None when it is not encrypted. A new file is encrypted when the variable
    is set."""
    if file.exists() and not looks_encrypted(str(file)):
        return None
    given = os.environ.get(VARIABLE)
    if given:
        return parsed(given)
    if file.exists() and sys.stdin.isatty():
        return parsed(getpass.getpass(f"Key of {file.name}: "))
    return None


def new_key() -> str | bytes:
    """The key that a file is to get."""
    given = os.environ.get(NEW_VARIABLE)
    if given:
        return parsed(given)
    if not sys.stdin.isatty():
        raise UsageError(
            f"There is no new key: {NEW_VARIABLE} is not set, and nobody can be asked.",
            action=f"Set {NEW_VARIABLE}, or call it on a terminal.",
        )
    first = getpass.getpass("New key: ")
    if getpass.getpass("Once more: ") != first:
        raise UsageError("The two keys differ; nothing was changed.", action="Call it again.")
    return parsed(first)


def key_in(file: Path | None) -> str | bytes | None:
    """The key that a file holds, for a sealed file; None when there is none to be read."""
    if file is None:
        return None
    try:
        text = file.read_text("utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise CannotOpen(
            f"The key file {file} cannot be read: {reason}.", action="Check --key-file."
        ) from error
    if not text:
        raise UsageError(f"The key file {file} is empty.")
    return parsed(text)


def parsed(text: str) -> str | bytes:
    """A passphrase, or ``hex:`` and 64 digits for a key of 32 bytes."""
    if not text.startswith(HEX):
        return text
    try:
        return bytes.fromhex(text.removeprefix(HEX))
    except ValueError:
        raise UsageError("The key after hex: is not hexadecimal.") from None
