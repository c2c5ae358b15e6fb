"""Compressed documents in a file: what is kept as text, how it is packed, how it is read again.

A packed document is a BLOB: one byte that says how, then the stream, which carries a checksum. Text
and every way of packing may lie side by side in one table. Two SQL functions do all of it:
``homeport_pack(text, way)`` where a row is written, and ``homeport_text(packed, id)`` in the
computed column ``doc``, so no statement that reads has to know.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import apsw

from homeport.core.keys import decode
from homeport.errors import Corrupted, MissingDependency

if TYPE_CHECKING:
    from homeport.core.compression import Compression

PACK_FROM_CHARACTERS: Final = 512
"""Shorter texts stay as they are: they share a page with others anyway."""

REMEMBERED_CHARACTERS: Final = 4_000_000
"""Longer texts are not kept for the next statement that asks for them."""

GZIP: Final = b"\x01"
ZSTD: Final = b"\x02"

GZIP_LEVEL: Final = 6
GZIP_FORM: Final = 31
"""As ``zlib`` calls it. Its own form has Adler-32, which lets moved digits pass; this, CRC-32."""
ZSTD_LEVEL: Final = 3


@cache
def _zstd() -> Any:
    # Not at the top: most files need none, and it takes its time to load.
    from homeport.transport.encoding import zstd  # noqa: PLC0415

    return zstd


def require(way: Compression, collection: str) -> None:
    """Can this interpreter write so? Raises ``MissingDependency``."""
    if way == "zstd" and _zstd() is None:
        raise _missing(f"{collection} is declared with compression='zstd', which is not here.")


def _missing(message: str) -> MissingDependency:
    return MissingDependency(
        message,
        action='pip install "homeport[zstd]" (Python 3.14 has it), or declare '
        'compression="gzip" to write without it.',
    )


def pack(text: str, way: Compression) -> str | bytes:
    """The text as it is stored."""
    if way == "none" or len(text) < PACK_FROM_CHARACTERS:
        return text
    plain = text.encode()
    if way == "zstd":
        zstd = _zstd()
        if zstd is None:
            raise _missing("A document is to be packed with zstd, which is not here.")
        parameter = zstd.CompressionParameter
        options = {parameter.compression_level: ZSTD_LEVEL, parameter.checksum_flag: 1}
        packed: bytes = ZSTD + zstd.compress(plain, options=options)
    else:
        packed = GZIP + _gzip(plain)
    return packed if len(packed) < len(plain) else text


def _gzip(plain: bytes) -> bytes:
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_FORM)
    return packer.compress(plain) + packer.flush()


def unpack(packed: bytes) -> str:
    """Raises ``ValueError`` for what nobody packed, ``MissingDependency``."""
    way, stream = packed[:1], packed[1:]
    try:
        if way == GZIP:
            return zlib.decompress(stream, GZIP_FORM).decode()
        if way == ZSTD:
            return _unpack_zstd(stream).decode()
    except (zlib.error, EOFError, MemoryError) as error:  # a damaged length asks for too much
        raise ValueError(str(error)) from error
    raise ValueError(f"packed in a way that is not known: {way.hex() or 'nothing'}")


def _unpack_zstd(stream: bytes) -> bytes:
    zstd = _zstd()
    if zstd is None:
        raise _missing("A document of this file is packed with zstd, which is not here.")
    try:
        plain: bytes = zstd.decompress(stream)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    return plain


class Packing:
    """The two functions of one connection.

    It remembers the last document: a statement that looks at several fields of one asks for its
    text as often, and SQLite computes the column of a row that it has just written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._packed: bytes | None = None
        self._text = ""

    def pack(self, text: str, way: Compression) -> str | bytes:
        packed = pack(text, way)
        if type(packed) is bytes:
            self._remember(packed, text)
        return packed

    def text(self, packed: str | bytes | None, key: Any) -> str | None:
        if type(packed) is not bytes:
            return packed  # type: ignore[return-value]  # text, or no row in an outer join
        if packed == self._packed:
            return self._text
        try:
            text = unpack(packed)
        except ValueError as error:
            raise Corrupted(
                f"{self.path} is damaged: the document {decode(key)!r} cannot be unpacked "
                f"({error}).",
                path=self.path,
            ) from error
        self._remember(packed, text)
        return text

    def _remember(self, packed: bytes, text: str) -> None:
        if len(text) <= REMEMBERED_CHARACTERS:
            self._packed, self._text = packed, text


def register(connection: apsw.Connection, path: str) -> None:
    """Give a connection both functions; before anything reads a collection."""
    packing = Packing(path)
    functions: dict[str, Any] = {"homeport_pack": packing.pack, "homeport_text": packing.text}
    for name, function in functions.items():
        # Innocuous: else SQLite refuses it in a schema that is not trusted.
        connection.create_scalar_function(
            name, function, 2, deterministic=True, flags=apsw.SQLITE_INNOCUOUS
        )
