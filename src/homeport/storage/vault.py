"""The sealed format on CPython, by the package ``cryptography``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from homeport.core.sealing import (
    ID_BYTES,
    INFO_SEAL,
    KEY_BYTES,
    NONCE_BYTES,
    Box,
    Place,
    Ring,
    associated,
    broken,
)
from homeport.errors import MissingDependency, WrongKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from homeport.storage.secret import Secret


class Vault:
    """Seals and opens with the keys of one ring.

    keys: number → data key of 32 bytes.
    """

    def __init__(self, ring: Ring, keys: Mapping[int, bytes]) -> None:
        self.ring = ring
        self._id = ring.id_bytes
        self._ciphers = {n: _cipher(_derived(key, self._id, INFO_SEAL)) for n, key in keys.items()}

    @classmethod
    def made(cls, secret: Secret) -> Vault:
        """A new ring with one data key. Raises ``MissingDependency``."""
        kdf, name, key = secret.sealing_kdf(), os.urandom(ID_BYTES), os.urandom(KEY_BYTES)
        user = secret.sealing_key(kdf)
        assert user is not None
        box = sealed_by(user, 0, name, Place("key", key=1), key)
        return cls(Ring.made(name, kdf, {1: box}, 1), {1: key})

    @classmethod
    def opened(cls, ring: Ring, secret: Secret, path: str) -> Vault:
        """Raises ``WrongKey``, ``MissingDependency``."""
        user = secret.sealing_key(ring.kdf)
        if user is None:
            wanted = {"raw": "32 bytes", "device": "the key of a browser"}
            made = wanted.get(ring.kdf.name, "a passphrase")
            raise WrongKey(f"{path} is sealed with {made}.", path=path)
        keys = {}
        for number, data in ring.wrapped().items():
            box = Box.of(data)
            assert box is not None
            aad = associated(ring.id_bytes, Place("key", key=number))
            key = _opened(_cipher(user), box, aad)
            if key is None:
                raise WrongKey(f"The key does not open {path}.", path=path)
            keys[number] = key
        return cls(ring, keys)

    def seal(self, place: Place, data: bytes) -> bytes:
        """A box for one place."""
        number = self.ring.current
        nonce = os.urandom(NONCE_BYTES)
        found = self._ciphers[number].encrypt(nonce, data, associated(self._id, place))
        return Box(number, nonce, found).data

    def open(self, place: Place, data: bytes) -> bytes:
        """What a box of this place holds. Raises ``SealBroken``."""
        box = Box.of(data)
        cipher = None if box is None else self._ciphers.get(box.key)
        if box is None or cipher is None:
            raise broken(place)
        found = _opened(cipher, box, associated(self._id, place))
        if found is None:
            raise broken(place)
        return found


def sealed_by(
    key: bytes, number: int, ring: bytes, place: Place, data: bytes, nonce: bytes | None = None
) -> bytes:
    """A box under this very key. nonce: random, unless a test vector wants it."""
    nonce = os.urandom(NONCE_BYTES) if nonce is None else nonce
    return Box(number, nonce, _cipher(key).encrypt(nonce, data, associated(ring, place))).data


def _package() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers import aead  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingDependency(
            "Sealing needs the package 'cryptography', which is not installed.",
            action="Install it with: pip install 'homeport[crypto]'",
        ) from None
    return aead


def _cipher(key: bytes) -> Any:
    return _package().AESGCM(key)


def _opened(cipher: Any, box: Box, aad: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

    try:
        found: bytes = cipher.decrypt(box.nonce, box.sealed, aad)
    except InvalidTag:
        return None
    return found


def _derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    _package()
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    return HKDF(SHA256(), KEY_BYTES, salt, info).derive(key)
