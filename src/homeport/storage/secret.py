"""The key of an encrypted file, which shows itself to nobody.

A passphrase is stretched by scrypt, once for each file that is opened and not once for each of its
connections.
"""

from __future__ import annotations

import hashlib
import os
import threading
from base64 import b64decode, b64encode
from typing import Final

from homeport.core.sealing import ITERATIONS, SALT_BYTES, Kdf, passphrase_bytes
from homeport.errors import UsageError

KEY_BYTES: Final = 32

# OWASP's parameters for scrypt with 32 MiB of memory: about 0.3 s of one core.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 3
SCRYPT_MEMORY = 64 * 1024 * 1024


class Secret:
    """A passphrase or a key; shows itself to nobody."""

    __slots__ = ("_derived", "_lock", "_passphrase", "_raw")

    def __init__(self, key: str | bytes) -> None:
        """Raises ``UsageError`` for what is no key, without saying it."""
        self._lock = threading.Lock()
        self._derived: dict[bytes, bytes] = {}
        self._raw: bytes | None = None
        self._passphrase = b""
        if isinstance(key, bytes):
            if len(key) != KEY_BYTES:
                raise UsageError(
                    f"key= as bytes is a key of {KEY_BYTES} bytes, and this has {len(key)}.",
                    action="Give os.urandom(32) that you keep, or a passphrase as text.",
                )
            self._raw = key
            return
        if not isinstance(key, str) or not key:
            raise UsageError(
                f"key= is a passphrase (text) or {KEY_BYTES} bytes, not {type(key).__name__}.",
                action="Leave it out for a file that is not encrypted.",
            )
        try:
            self._passphrase = passphrase_bytes(key)
        except UnicodeEncodeError:
            raise UsageError("key= is no Unicode text.") from None

    def pragma(self, salt: bytes) -> str:
        """The key for a file with this salt, as SQLite3 Multiple Ciphers takes it."""
        return f"raw:{self._key(salt).hex()}{salt.hex()}"

    def _key(self, salt: bytes) -> bytes:
        if self._raw is not None:
            return self._raw
        with self._lock:
            found = self._derived.get(salt)
            if found is None:
                found = self._derived[salt] = hashlib.scrypt(
                    self._passphrase, salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P,
                    maxmem=SCRYPT_MEMORY, dklen=KEY_BYTES,
                )  # fmt: skip
            return found

    def sealing_kdf(self) -> Kdf:
        """How a new ring makes its user key from this."""
        if self._raw is not None:
            return Kdf("raw")
        salt = b64encode(os.urandom(SALT_BYTES)).decode()
        return Kdf("pbkdf2-sha256", salt, ITERATIONS)

    def sealing_key(self, kdf: Kdf) -> bytes | None:
        """The user key of a ring (``core.sealing``); None when it is made in another way."""
        if kdf.name == "raw":
            return self._raw
        if kdf.name != "pbkdf2-sha256" or self._raw is not None:
            return None
        from hashlib import pbkdf2_hmac  # noqa: PLC0415 - Pyodide has none

        return pbkdf2_hmac("sha256", self._passphrase, b64decode(kdf.salt), kdf.iterations)

    def for_browser(self) -> dict[str, str]:
        """As ``webcrypto.js`` takes it."""
        given = self._passphrase if self._raw is None else self._raw
        kind = "pbkdf2-sha256" if self._raw is None else "raw"
        return {"name": kind, "secret": b64encode(given).decode()}

    def __repr__(self) -> str:
        return "<key>"

    def __reduce__(self) -> str:
        raise UsageError("A key is neither copied nor pickled.")


class DeviceKey:
    """A key that a browser keeps and gives to nobody, by its name: see ``browser.device_key``."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def for_browser(self) -> dict[str, str]:
        """As ``webcrypto.js`` takes it."""
        return {"name": "device", "secret": self.name}

    def __repr__(self) -> str:
        return f"<device key {self.name!r}>"


def secret_of(key: str | bytes | Secret | None) -> Secret | None:
    """Raises ``UsageError`` for what is no key of a file."""
    return key if key is None or isinstance(key, Secret) else Secret(key)


def any_secret_of(key: str | bytes | DeviceKey | None) -> Secret | DeviceKey | None:
    """As ``secret_of``, for what may be a database of a browser."""
    return key if isinstance(key, DeviceKey) else secret_of(key)
