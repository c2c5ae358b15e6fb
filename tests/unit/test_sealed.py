"""Sealed files: they come back whole with their key, and show nothing and yield nothing without it."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import homeport as hp
from homeport.cli.commands import cli
from homeport.core.sealing import Box, Kdf, Place, Ring, associated
from homeport.errors import CannotOpen, Corrupted, FileTooNew, KeyRequired, SealBroken, UsageError, WrongKey
from homeport.interchange.sealed import PART_BYTES, SealedWriter, read_head, read_parts
from homeport.storage.secret import Secret
from homeport.storage.vault import Vault, sealed_by

NOTES = hp.Collection("notes")
RAW = bytes(range(32))
VECTORS = Path(__file__).parent.parent / "vectors" / "sealed.json"
DOCUMENTS = [{"id": f"n{n}", "text": f"marzipan {n} " * 20, "n": n} for n in range(600)]


def filled() -> hp.Database:
    db = hp.open(":memory:", collections=[NOTES])
    db[NOTES].put_many(DOCUMENTS)
    return db


@pytest.mark.parametrize("name", ["n.ndjson", "n.json", "n.csv", "n.parquet", "n.ndjson.gz"])
@pytest.mark.parametrize("key", ["correct horse", RAW], ids=["passphrase", "bytes"])
def test_a_sealed_export_comes_back_with_its_key_only(tmp_path: Path, name: str, key: Any) -> None:
    path = tmp_path / name
    with filled() as db:
        assert db[NOTES].export_to(path, key=key).rows == 600
    data = path.read_bytes()
    assert data.startswith(b'{"homeport":"sealed"')
    assert b"marzipan" not in data and RAW not in data
    with hp.open(":memory:", collections=[NOTES]) as db:
        for wrong, error in ((None, KeyRequired), ("another", WrongKey), (bytes(32), WrongKey)):
            with pytest.raises(error):
                db[NOTES].import_from(path, key=wrong)
        assert db[NOTES].count() == 0
        assert db[NOTES].import_from(path, key=key).rows == 600
        assert sorted(db[NOTES].all(), key=lambda d: d["n"]) == DOCUMENTS
    assert list(tmp_path.iterdir()) == [path], "nothing was left beside it"


def test_a_plain_file_with_a_key_is_told(tmp_path: Path) -> None:
    path = tmp_path / "n.ndjson"
    with filled() as db:
        db[NOTES].export_to(path)
        with pytest.raises(WrongKey, match="not sealed"):
            db[NOTES].import_from(path, key="k")
        with pytest.raises(UsageError):
            db[NOTES].export_to(tmp_path / "x.ndjson", key=b"short")
        with pytest.raises(CannotOpen):
            db[NOTES].import_from(tmp_path / "none.ndjson", key="k")
    assert list(tmp_path.iterdir()) == [path]


def sealed(size: int) -> tuple[bytes, Vault]:
    vault, file = Vault.made(Secret(RAW)), io.BytesIO()
    writer = SealedWriter(file, vault)
    writer.write(bytes(n % 251 for n in range(size)))
    writer.finish()
    return file.getvalue(), vault


def opened(data: bytes) -> bytes:
    file = io.BytesIO(data)
    vault = Vault.opened(read_head(file, "f"), Secret(RAW), "f")
    return b"".join(read_parts(file, vault, "f"))


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES])
def test_a_file_that_was_cut_turned_or_changed_does_not_open(size: int) -> None:
    data, _ = sealed(size)
    assert opened(data) == bytes(n % 251 for n in range(size))
    head = data.index(b"\n") + 1
    part = 4 + PART_BYTES + 33
    broken = [data[:-1], data[:head], data + b"x", data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]]
    if size > PART_BYTES:
        broken += [data[: head + part], data[:head] + data[head + part :]]
    if size > 2 * PART_BYTES:
        broken += [data[:head] + data[head + part : head + 2 * part] + data[head : head + part] + data[head + 2 * part :]]
    for one in broken:
        with pytest.raises(SealBroken):
            opened(one)


def test_a_box_opens_in_its_place_only() -> None:
    vault, other = Vault.made(Secret(RAW)), Vault.made(Secret(RAW))
    place = Place("document", "wells", "w1")
    box = vault.seal(place, b"{}")
    assert vault.open(place, box) == b"{}" and len(box) == 2 + 33
    assert vault.seal(place, b"{}") != box, "a nonce of its own"
    for wrong in (Place("document", "wells", "w2"), Place("document", "well", "sw1"), Place("part", "wells", "w1")):
        with pytest.raises(SealBroken):
            vault.open(wrong, box)
    with pytest.raises(SealBroken) as caught:
        other.open(place, box)
    assert caught.value.context == {"collection": "wells", "key": "w1"}
    for n in range(len(box)):
        with pytest.raises(SealBroken):
            vault.open(place, box[:n] + bytes([box[n] ^ 0x80]) + box[n + 1 :])
    with pytest.raises(SealBroken):
        vault.open(place, b"")


@pytest.mark.parametrize("key", [1, 1.5, -0.0, "é\U0001f600\ue000", ["a", 1]])
def test_every_kind_of_key_is_a_place(key: Any) -> None:
    vault = Vault.made(Secret(RAW))
    box = vault.seal(Place("document", "c", key), b"x")
    assert vault.open(Place("document", "c", key), box) == b"x"


def test_damaged_rings_are_told() -> None:
    ring = Vault.made(Secret(RAW)).ring
    assert Ring.read(ring.text, "f") == ring
    endless = Ring.made(ring.id_bytes, Kdf("pbkdf2-sha256", ring.id, 10**9), ring.wrapped(), 1)
    for text in ("", "[]", "{}", endless.text, ring.text.replace('"current":1', '"current":7'), ring.text[:40]):
        with pytest.raises(Corrupted):
            Ring.read(text, "f")
    with pytest.raises(FileTooNew):
        Ring.read(ring.text.replace('"v":1', '"v":2'), "f")
    assert Box.of(bytes(33)) is None


def test_the_vectors_of_the_specification() -> None:
    found = json.loads(VECTORS.read_text())
    ring, data_key = bytes.fromhex(found["ring"]), bytes.fromhex(found["data_key"])
    kdf = Kdf("pbkdf2-sha256", b64encode(bytes.fromhex(found["salt"])).decode(), found["iterations"])
    secret = Secret(found["passphrase"])
    assert secret.sealing_key(kdf) == bytes.fromhex(found["user_key"])
    wrapped = bytes.fromhex(found["wrapped"])
    vault = Vault.opened(Ring.made(ring, kdf, {1: wrapped}, 1), secret, "the vectors")
    made = sealed_by(bytes.fromhex(found["user_key"]), 0, ring, Place("key", key=1), data_key, wrapped[5:17])
    assert made == wrapped
    for one in found["boxes"]:
        place = Place(one["kind"], one["collection"], one["key"])
        box, nonce = bytes.fromhex(one["box"]), bytes.fromhex(one["nonce"])
        assert associated(ring, place).hex() == one["associated"]
        assert vault.open(place, box) == one["text"].encode()
        assert sealed_by(bytes.fromhex(found["sealing_key"]), 1, ring, place, one["text"].encode(), nonce) == box


def test_the_command_line_seals_by_a_key_file(tmp_path: Path) -> None:
    run, path, out = CliRunner().invoke, tmp_path / "a.db", tmp_path / "out.ndjson"
    with hp.open(path, collections=[NOTES]) as db:
        db[NOTES].put_many(DOCUMENTS[:3])
    key, other = tmp_path / "key", tmp_path / "other"
    key.write_text("hex:" + RAW.hex() + "\n")
    other.write_text("correct horse\n")
    assert run(cli, ["export", str(path), "notes", str(out), "--key-file", str(key)]).exit_code == 0
    assert b"marzipan" not in out.read_bytes()
    into = ["import", str(tmp_path / "b.db"), "notes", str(out)]
    for words, error in (([], KeyRequired), (["--key-file", str(other)], WrongKey), (["--key-file", str(path)], CannotOpen)):
        assert isinstance(run(cli, [*into, *words]).exception, error)
    assert run(cli, [*into, "--key-file", str(key)]).exit_code == 0
    with hp.open(tmp_path / "b.db", collections=[NOTES]) as db:
        assert db[NOTES].count() == 3
