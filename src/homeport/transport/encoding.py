"""How bodies are packed on the way, alike on both sides: gzip always, zstd where there is one.

What comes in is unpacked piece by piece up to a limit, so that a few kilobytes cannot become
gigabytes.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import zlib
from typing import Any, Final


def _zstd_module() -> Any:
    for name in ("compression.zstd", "backports.zstd"):  # Python 3.14; the extra for older ones
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


zstd = _zstd_module()

PACK_FROM_BYTES: Final = 1_024
"""Smaller bodies fit into one packet anyway."""
THREAD_FROM_BYTES: Final = 65_536
"""Larger ones are packed beside the event loop."""
GZIP_LEVEL: Final = 4
ZSTD_LEVEL: Final = 3

ENCODINGS: Final[tuple[str, ...]] = ("gzip",) if zstd is None else ("zstd", "gzip")
"""What this interpreter reads and writes, the best first."""
ACCEPTED: Final = ", ".join(ENCODINGS)
"""The same as a header."""


class TooMuch(Exception):
    """Unpacked, a body would be larger than the limit."""


class Damaged(Exception):
    """A body is not what its encoding says, or ends too early."""


class UnknownEncoding(Exception):
    """A ``Content-Encoding`` that is not spoken here."""


def choose(accepted: str | None) -> str | None:
    """The best encoding that ``Accept-Encoding`` allows; None = send it as it is."""
    allowed: dict[str, bool] = {}
    for part in (accepted or "").lower().split(","):
        name, _, parameters = part.partition(";")
        weight = parameters.replace(" ", "")
        allowed[name.strip()] = not weight.startswith("q=0") or weight.strip("q=0.") != ""
    return next((one for one in ENCODINGS if allowed.get(one, allowed.get("*", False))), None)


async def packed(body: bytes, encoding: str) -> bytes:
    """``pack``, and a large one does not hold up the event loop."""
    if len(body) < THREAD_FROM_BYTES or sys.platform == "emscripten":
        return pack(body, encoding)
    return await asyncio.to_thread(pack, body, encoding)


def pack(body: bytes, encoding: str) -> bytes:
    """The packed body."""
    if encoding == "zstd":
        packed: bytes = zstd.compress(body, ZSTD_LEVEL)
        return packed
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


class Unpacker:
    """Unpacks one body as it comes in.

    Raises from ``feed`` and ``finish``: ``TooMuch``, ``Damaged``.
    """

    def __init__(self, encoding: str | None, limit: int) -> None:
        """Raises ``UnknownEncoding``."""
        name = (encoding or "identity").strip().lower()
        self._limit = limit
        self._parts: list[bytes] = []
        self._gzip: Any = None
        self._zstd: Any = None
        self.packed = self.size = 0
        """Bytes that came, and what they became so far."""
        if name == "gzip":
            self._gzip = zlib.decompressobj(31)
        elif name in ENCODINGS:
            # RFC 9659: a window of 8 MB at most, so that a header alone cannot ask for gigabytes.
            options = {zstd.DecompressionParameter.window_log_max: 23}
            self._zstd = zstd.ZstdDecompressor(options=options)
        elif name != "identity":
            raise UnknownEncoding(name[:40])

    def feed(self, data: bytes) -> None:
        """The next piece."""
        if not data:
            return
        self.packed += len(data)
        if self.packed > self._limit:
            raise TooMuch
        try:
            if self._gzip is not None:
                self._inflate(data)
            elif self._zstd is not None:
                self._unpack_zstd(data)
            else:
                self._keep(data)
        except (zlib.error, EOFError) as error:
            raise Damaged(f"The body is not what its encoding says: {error}") from error
        except Exception as error:
            if zstd is not None and isinstance(error, zstd.ZstdError):
                raise Damaged("The body is not what its encoding says.") from error
            raise

    def finish(self) -> bytes:
        """The whole body."""
        packed = self._gzip or self._zstd
        if packed is not None and not packed.eof:
            raise Damaged("The packed body ends too early.")
        return b"".join(self._parts)

    def _keep(self, part: bytes) -> None:
        self.size += len(part)
        if self.size > self._limit:
            raise TooMuch
        self._parts.append(part)

    def _inflate(self, data: bytes) -> None:
        while data:
            # One byte more than allowed, so that reaching the limit and passing it differ.
            self._keep(self._gzip.decompress(data, self._limit - self.size + 1))
            if self._gzip.eof:
                if self._gzip.unused_data:
                    raise Damaged("Something follows the packed body.")
                return
            data = self._gzip.unconsumed_tail

    def _unpack_zstd(self, data: bytes) -> None:
        unpacker = self._zstd
        if unpacker.eof:
            raise Damaged("Something follows the packed body.")
        self._keep(unpacker.decompress(data, self._limit - self.size + 1))
        while not unpacker.needs_input and not unpacker.eof:
            self._keep(unpacker.decompress(b"", self._limit - self.size + 1))
        if unpacker.eof and unpacker.unused_data:
            raise Damaged("Something follows the packed body.")
