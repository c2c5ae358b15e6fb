"""Files that are read to their end or written as a whole: compression, encodings, renaming."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any

from homeport.errors import CannotOpen, FormatError, QuotaExceeded, UsageError
from homeport.interchange.kinds import Place
from homeport.interchange.sealed import (
    START,
    SealedReader,
    SealedWriter,
    is_sealed,
    key_required,
    read_head,
)
from homeport.storage.vault import Vault

if TYPE_CHECKING:
    from homeport.storage.secret import Secret

MAX_LINE_BYTES = 128 * 1024 * 1024
"""One line, or one document of an array, may take so much; it has to be in memory at once."""

SPOOL_BYTES = 16 * 1024 * 1024

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class _Counted(io.RawIOBase):
    """Counts the bytes that were read of a file."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self.file = file
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.file.read(len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        return len(data)


class Input:
    """A file that is being read.

    name: for messages. size: bytes of the file as it is, None when unknown. position: how many of
    them have been read.
    """

    def __init__(
        self,
        place: Place,
        *,
        again: bool = False,
        encoding: str | None = None,
        secret: Secret | None = None,
    ) -> None:
        """again: the file will be read twice; what can be read once only is copied first. secret:
        the key of a sealed file."""
        self._encoding = _checked(encoding)
        self._secret = secret
        self._vault: Vault | None = None
        self._own = False
        self.size: int | None = None
        if isinstance(place, (str, os.PathLike)):
            self.name = os.fspath(place)
            self._file: IO[bytes] = _open(self.name)
            self._own = True
            self.size = os.fstat(self._file.fileno()).st_size
        else:
            self.name = str(getattr(place, "name", "the file"))
            check_binary(place, "read")
            self._file = place
            if again and not (hasattr(place, "seekable") and place.seekable()):
                self._file = _spooled(place)
                self._own = True
        self._start = self._file.tell() if again else 0
        self._zipped = self.name.lower().endswith(".gz")
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        self._counted = _Counted(self._file)
        stream: Any = io.BufferedReader(self._counted, 1 << 18)
        if self._secret is not None:
            ring = read_head(stream, self.name)
            if self._vault is None:
                self._vault = Vault.opened(ring, self._secret, self.name)
            stream = io.BufferedReader(SealedReader(stream, self._vault, self.name), 1 << 18)
        elif is_sealed(self.guard(lambda: stream.peek(len(START)), 1)):
            raise key_required(self.name)
        if self._zipped:
            stream = io.BufferedReader(gzip.GzipFile(fileobj=stream, mode="rb"), 1 << 18)
        self.stream: io.BufferedReader = stream

    def again(self) -> None:
        """Back to the beginning."""
        self._file.seek(self._start)
        self._begin()

    @property
    def position(self) -> int:
        return self._counted.count

    def fingerprint(self) -> str:
        """A name under which an interrupted import of this very file is known again."""
        if self.size is None:
            raise UsageError(
                "An open file cannot be known again.",
                action="resume=True needs the path of a file.",
            )
        changed = os.fstat(self._file.fileno()).st_mtime_ns
        return f"{os.path.basename(self.name)[-100:]}:{self.size}:{changed}"  # noqa: PTH119

    def binary(self) -> IO[bytes]:
        """The file itself, for formats that read it in their own way; a sealed one is opened in
        memory, so that nothing of it comes to the disk."""
        if self._vault is not None:
            return io.BytesIO(self.guard(self.stream.read, 1))
        self._file.seek(self._start)
        return self._file

    def encoding(self) -> str:
        """What was asked for, or what the first bytes say, or UTF-8."""
        first = self.guard(lambda: self.stream.peek(4)[:4], 1)
        marked = next((name for mark, name in _MARKS if first.startswith(mark)), None)
        if self._encoding is None or (marked == "utf-8-sig" and self._encoding == "utf-8"):
            return marked or "utf-8"
        return self._encoding

    def lines(self) -> Iterator[tuple[int, str | FormatError]]:
        """(number from 1, text without its end, or why it is no text). Lines end at a line feed."""
        encoding = self.encoding()
        if encoding.startswith(("utf-16", "utf-32")):
            yield from self._wide_lines(encoding)
            return
        number = 0
        plain = encoding if encoding != "utf-8-sig" else "utf-8"
        while raw := self.guard(lambda: self.stream.readline(MAX_LINE_BYTES), number + 1):
            number += 1
            if len(raw) == MAX_LINE_BYTES:
                raise self.error(number, f"is longer than {MAX_LINE_BYTES:,} bytes")
            if number == 1 and encoding == "utf-8-sig":
                raw = raw.removeprefix(codecs.BOM_UTF8)
            try:
                yield number, raw.decode(plain)
            except UnicodeDecodeError as error:
                yield number, self._unreadable(number, plain, error)

    def _wide_lines(self, encoding: str) -> Iterator[tuple[int, str | FormatError]]:
        text = io.TextIOWrapper(self.stream, encoding, newline="\n")
        number = 0
        try:
            while line := self.guard(lambda: text.readline(MAX_LINE_BYTES), number + 1):
                number += 1
                yield number, line
        except UnicodeDecodeError as error:
            raise self._unreadable(number + 1, encoding, error) from error
        finally:
            text.detach()

    def text(self) -> Iterator[str]:
        """The text in pieces of about a megabyte."""
        encoding = self.encoding()
        decoder = codecs.getincrementaldecoder(encoding)()
        line = 1
        while True:
            raw = self.guard(lambda: self.stream.read(1 << 20), line)
            try:
                piece = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                raise self._unreadable(line, encoding, error) from error
            if piece:
                yield piece
            if not raw:
                return
            line += piece.count("\n")

    def guard(self, read: Any, line: int) -> Any:
        """Call ``read``; errors of the file and its compression become typed ones."""
        try:
            return read()
        except EOFError as error:
            raise self.error(line, "is cut off: the compressed file ends too early") from error
        except gzip.BadGzipFile as error:
            raise self.error(line, f"cannot be unpacked: {error}") from error
        except OSError as error:
            raise CannotOpen(f"{self.name} cannot be read: {error.strerror or error}.") from error
        except Exception as error:
            if type(error).__module__ == "zlib":
                raise self.error(line, f"cannot be unpacked: {error}") from error
            raise

    def error(self, line: int, what: str, *, action: str | None = None) -> FormatError:
        """The error of one line; ``what`` ends the sentence that begins with its place."""
        return FormatError(
            f"{self.name}, line {line} {what}.", action=action, path=self.name, line=line
        )

    def _unreadable(self, line: int, encoding: str, error: UnicodeDecodeError) -> FormatError:
        return self.error(
            line,
            f"is not {encoding}: {error.reason}",
            action="Pass the encoding of the file, for example encoding='cp1252'.",
        )

    def close(self) -> None:
        if self._own:
            self._file.close()


def _checked(encoding: str | None) -> str | None:
    if encoding is None:
        return None
    try:
        return codecs.lookup(encoding).name
    except (LookupError, TypeError):
        raise UsageError(
            f"There is no text encoding {encoding!r}.", action="For example 'utf-8' or 'cp1252'."
        ) from None


def check_binary(place: object, method: str) -> None:
    """Refuse what is no file that is open for bytes."""
    if isinstance(place, io.TextIOBase) or not callable(getattr(place, method, None)):
        raise UsageError(
            f"{place!r:.60} is no file that is open for bytes.",
            action=f"Give a path, or open it with mode={'rb' if method == 'read' else 'wb'!r}.",
        )


def _open(name: str) -> IO[bytes]:
    try:
        return open(name, "rb", buffering=0)  # noqa: PTH123 - closed by its owner
    except OSError as error:
        raise CannotOpen(
            f"{name} cannot be read: {error.strerror}.", action="Check the path.", path=name
        ) from error


def _spooled(place: IO[bytes]) -> IO[bytes]:
    copy = SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 - closed by its owner
    while piece := place.read(1 << 20):
        copy.write(piece)
    copy.seek(0)
    return copy


class Output:
    """A file that is being written: it appears under its name when it is complete, or not at all.

    Written into an open file, it is that file, and nothing can be taken back.
    """

    def __init__(
        self, place: Place, *, zipped: bool | None = None, secret: Secret | None = None
    ) -> None:
        vault = None if secret is None else Vault.made(secret)
        self.path: str | None = None
        self._temporary = ""
        if isinstance(place, (str, os.PathLike)):
            self.path = os.fspath(place)
            self._temporary = f"{self.path}.{secrets.token_hex(4)}.part"
            try:
                self._file: IO[bytes] = open(self._temporary, "xb")  # noqa: PTH123, SIM115
            except OSError as error:
                raise CannotOpen(
                    f"{self.path} cannot be written: {error.strerror}.",
                    action="Check the folder and its permissions.",
                    path=self.path,
                ) from error
        else:
            check_binary(place, "write")
            self._file = place
        if zipped is None:
            zipped = self.path is not None and self.path.lower().endswith(".gz")
        base: Any = self._file
        self._sealed: SealedWriter | None = None
        if vault is not None:
            base = self._sealed = SealedWriter(self._file, vault)
        self._zip: gzip.GzipFile | None = None
        if zipped:
            # No name and no time in it: equal documents make equal files.
            self._zip = gzip.GzipFile(filename="", fileobj=base, mode="wb", mtime=0)
        self.stream: IO[bytes] = self._zip or base  # type: ignore[assignment]
        self.bytes = 0

    def write(self, data: bytes) -> None:
        try:
            self.stream.write(data)
        except OSError as error:
            raise self._no_room(error) from error
        self.bytes += len(data)

    def commit(self) -> int:
        """Everything is written → bytes of the file."""
        try:
            if self._zip is not None:
                self._zip.close()
            if self._sealed is not None:
                self._sealed.finish()
            self._file.flush()
            if self.path is None:
                return self.bytes
            os.fsync(self._file.fileno())
            size = self._file.tell()
            self._file.close()
            Path(self._temporary).replace(self.path)
        except OSError as error:
            raise self._no_room(error) from error
        return size

    def abort(self) -> None:
        """It will not be complete: leave nothing."""
        if self.path is None:
            return
        with suppress(OSError):
            self._file.close()
        Path(self._temporary).unlink(missing_ok=True)

    def _no_room(self, error: OSError) -> QuotaExceeded:
        return QuotaExceeded(
            f"{self.path or 'The file'} cannot be written to its end: {error.strerror or error}.",
            action="Free space and export again; the database was only read.",
        )
