"""The sealed format: how a text is encrypted so that it opens in one place only, and the ring of
keys that belongs to it. Pure layout: ``storage.vault`` (CPython) and ``webcrypto.js`` do the
cryptography. ``docs/sealed.md`` is the specification, ``tests/vectors/sealed.json`` the examples.

A box is ``version, key number, nonce, ciphertext, tag``. Its associated data name the ring and the
place (kind, collection, key), so a box that was moved or exchanged does not open. Data keys are
random; each is itself a box under the user's key, in the ring beside the data. AES-256-GCM with
random nonces (NIST SP 800-38D), HKDF-SHA256 (RFC 5869), PBKDF2-HMAC-SHA256 (RFC 8018).
"""

from __future__ import annotations

import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Mapping
from struct import Struct
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from homeport.core.keys import Key, decode, encode_key
from homeport.errors import Corrupted, FileTooNew, SealBroken

VERSION: Final = 1
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
ID_BYTES: Final = 16
SALT_BYTES: Final = 16
HEAD_BYTES: Final = 1 + 4 + NONCE_BYTES
OVERHEAD_BYTES: Final = HEAD_BYTES + TAG_BYTES

ITERATIONS: Final = 600_000
"""Of PBKDF2 for a new ring: OWASP's figure for HMAC-SHA256."""

MOST_ITERATIONS: Final = 10_000_000
"""A ring that asks for more is no ring: it would keep the program busy for minutes."""

INFO_SEAL: Final = b"homeport seal"
"""What HKDF makes the key of the boxes for, from a data key."""

Kind: TypeAlias = Literal["document", "log", "named", "key", "part", "end"]
"""What a box holds: a document, a row of the change log, a named value, a data key, a part of a
sealed file, its last part."""

_MAGIC: Final = b"homeport sealed 1"
_NUMBER: Final = Struct(">I")
_DOUBLE: Final = Struct(">d")


class Box(NamedTuple):
    """The parts of a sealed text. sealed: ciphertext and tag."""

    key: int
    nonce: bytes
    sealed: bytes

    @property
    def data(self) -> bytes:
        return bytes((VERSION,)) + _NUMBER.pack(self.key) + self.nonce + self.sealed

    @classmethod
    def of(cls, data: bytes) -> Box | None:
        """The parts, None when it is no box of this version."""
        if len(data) < OVERHEAD_BYTES or data[0] != VERSION:
            return None
        (number,) = _NUMBER.unpack_from(data, 1)
        return cls(number, data[5:HEAD_BYTES], data[HEAD_BYTES:])


class Place(NamedTuple):
    """Where a box belongs. collection: empty where there is none. key: of the document, the name of
    the value, or the number of the row, data key or part."""

    kind: Kind
    collection: str = ""
    key: Key = 0

    def __str__(self) -> str:
        if self.kind == "document":
            return f"document {self.key!r:.80} of {self.collection}"
        return f"{self.kind} {self.key!r:.80}"


def key_form(key: Key) -> bytes:
    """A key as bytes: ``n`` and a big-endian double, ``s`` and UTF-8, or ``b`` and the storable
    form of a list (``core.keys``)."""
    stored = encode_key(key)
    if isinstance(stored, bytes):
        return b"b" + stored
    if isinstance(stored, str):
        return b"s" + str(decode(stored)).encode()
    return b"n" + _DOUBLE.pack(float(stored) + 0.0)


def associated(ring: bytes, place: Place) -> bytes:
    """What is authenticated beside a text: each part behind its length. ring: the ring's id."""
    parts = (_MAGIC, ring, place.kind.encode(), place.collection.encode(), key_form(place.key))
    return b"".join(_NUMBER.pack(len(part)) + part for part in parts)


def broken(place: Place) -> SealBroken:
    """The error of a box that does not open."""
    return SealBroken(
        f"The {place} does not open: it was changed, or belongs to another place.",
        collection=place.collection or None,
        key=place.key,
    )


def passphrase_bytes(passphrase: str) -> bytes:
    """The same letters, however a keyboard puts them together."""
    return unicodedata.normalize("NFKC", passphrase).encode()


class Kdf(msgspec.Struct, frozen=True):
    """How the user's key is made. name: ``pbkdf2-sha256`` from a passphrase with this salt (base64)
    and so many iterations, ``raw`` = it is given, ``device`` = a browser keeps it."""

    name: Literal["pbkdf2-sha256", "raw", "device"]
    salt: str = ""
    iterations: int = 0


class Ring(msgspec.Struct, frozen=True):
    """The keys of a file or a browser's database, as JSON in it.

    id: 16 random bytes, base64. keys: number → the data key as a box under the user's key, base64.
    current: the one that boxes are sealed with.
    """

    id: str
    kdf: Kdf
    keys: Mapping[str, str]
    current: int
    v: int = VERSION

    @property
    def id_bytes(self) -> bytes:
        return b64decode(self.id)

    @property
    def salt_bytes(self) -> bytes:
        return b64decode(self.kdf.salt)

    def wrapped(self) -> dict[int, bytes]:
        """number → box of the data key."""
        return {int(number): b64decode(box) for number, box in self.keys.items()}

    @property
    def text(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def made(cls, ring: bytes, kdf: Kdf, keys: Mapping[int, bytes], current: int) -> Ring:
        boxes = {str(number): b64encode(box).decode() for number, box in keys.items()}
        return cls(b64encode(ring).decode(), kdf, boxes, current)

    @classmethod
    def read(cls, text: str | bytes, path: str) -> Ring:
        """Raises ``FileTooNew``, ``Corrupted``."""
        try:
            found: Any = msgspec.json.decode(text)
            if isinstance(found, dict) and found.get("v", VERSION) != VERSION:
                raise FileTooNew(f"{path} is sealed by version {found['v']!r:.20}.", path=path)
            ring = msgspec.convert(found, cls)
            sound = (
                len(ring.id_bytes) == ID_BYTES
                and ring.kdf.iterations <= MOST_ITERATIONS
                and all(Box.of(box) is not None for box in ring.wrapped().values())
                and ring.current in ring.wrapped()
                and (ring.kdf.name != "pbkdf2-sha256" or ring.kdf.iterations > 0)
                and len(ring.salt_bytes) in (0, SALT_BYTES)
            )
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            # No JSON, no base64, no number.
            raise Corrupted(f"The keys of {path} are damaged.", path=path) from error
        if not sound:
            raise Corrupted(f"The keys of {path} are damaged.", path=path)
        return ring
