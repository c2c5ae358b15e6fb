"""Packed bodies: what comes back is what was sent, and nothing becomes too large on the way."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.transport import encoding
from homeport.transport.encoding import (
    ENCODINGS,
    Damaged,
    TooMuch,
    UnknownEncoding,
    Unpacker,
    choose,
    pack,
)

LIMIT = 100_000
every = pytest.mark.parametrize("name", ENCODINGS)


def unpacked(name, data, limit=LIMIT, step=1_000):
    unpacker = Unpacker(name, limit)
    for start in range(0, len(data), step):
        unpacker.feed(data[start : start + step])
    return unpacker.finish()


def test_the_extra_is_tested_too():
    assert ENCODINGS == ("zstd", "gzip")


@given(st.sampled_from((*ENCODINGS, None)), st.binary(max_size=5_000), st.integers(1, 2_000))
def test_what_comes_back_is_what_was_sent(name, body, step):
    data = body if name is None else pack(body, name)
    assert unpacked(name, data, step=step) == body


@every
def test_the_limit_is_exact_and_a_bomb_is_never_unpacked_whole(name):
    assert len(unpacked(name, pack(bytes(LIMIT), name))) == LIMIT
    with pytest.raises(TooMuch):
        unpacked(name, pack(bytes(LIMIT + 1), name))
    bomb = pack(bytes(200_000_000), name)
    unpacker = Unpacker(name, LIMIT)
    with pytest.raises(TooMuch):
        for start in range(0, len(bomb), 10_000):
            unpacker.feed(bomb[start : start + 10_000])
    assert unpacker.size <= LIMIT + 1
    with pytest.raises(TooMuch):
        unpacked(None, bytes(LIMIT + 1))


@every
def test_damaged_cut_off_and_followed_by_more(name):
    good = pack(b"x" * 5_000 + bytes(range(256)), name)
    for bad in (good[:-3], b"nonsense", good + b"x", good[:10] + b"\xff" * 9 + good[19:], b""):
        with pytest.raises(Damaged):
            unpacked(name, bad)
    two = gzip.compress(b"a") + gzip.compress(b"b")
    with pytest.raises(Damaged):
        unpacked("gzip", two)
    with pytest.raises(Damaged):
        unpacked("gzip", zlib.compress(b"abc"))


@pytest.mark.parametrize("name", ["br", "deflate", "gzip, gzip", "x" * 500])
def test_what_is_not_spoken_here(name):
    with pytest.raises(UnknownEncoding) as caught:
        Unpacker(name, LIMIT)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("GZip ; q=0.5, br", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.0, *", "zstd"),
        ("gzip, zstd", "zstd"),
        ("*", "zstd"),
        ("*;q=0", None),
        ("br, deflate", None),
        (";;;,,,=", None),
    ],
)
def test_choice(accepted, chosen):
    assert choose(accepted) == chosen


def test_without_the_extra_there_is_gzip(monkeypatch):
    monkeypatch.setattr(encoding, "ENCODINGS", ("gzip",))
    assert choose("zstd, gzip") == "gzip"
    with pytest.raises(UnknownEncoding):
        Unpacker("zstd", LIMIT)


def test_a_window_of_zstd_is_bounded():
    """A few bytes must not make a node ask for gigabytes of memory (RFC 9659: 8 MB)."""
    parameter = encoding.zstd.CompressionParameter
    body = b"x" * 300_000
    for log, good in ((23, True), (24, False), (27, False)):
        packer = encoding.zstd.ZstdCompressor(options={parameter.window_log: log})
        packed = packer.compress(body[:9]) + packer.compress(body[9:]) + packer.flush()
        unpacker = encoding.Unpacker("zstd", 1_000_000)
        if good:
            unpacker.feed(packed)
            assert unpacker.finish() == body
        else:
            with pytest.raises(encoding.Damaged):
                unpacker.feed(packed)
                unpacker.finish()
