"""An encrypted database of a browser, under Pyodide in Node; and CPython opens its boxes."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import pytest

from homeport.core.sealing import Place, Ring
from homeport.storage.secret import Secret
from homeport.storage.vault import Vault
from tests.portable import pyodide
from tests.portable.inside_sealed import RAW, WORDS

pytestmark = pytest.mark.xdist_group("pyodide")
PLACE = Place("document", "notes", "é\U0001f600")


def from_cpython() -> dict[str, str]:
    vault = Vault.made(Secret(RAW))
    return {"ring": vault.ring.text, "box": b64encode(vault.seal(PLACE, b"from CPython")).decode()}


def check(found: Any) -> None:
    """What ``inside_sealed.everything`` has to say, wherever it ran."""
    reads = ["marzipan and rum", "marzipan of a unit", ["k299", "k298"], ["k1"], 1, 301, ["k1000"], 302, True,
             ["k7"], 300]  # fmt: skip
    assert sorted(found["without"]) == sorted(WORDS), "what is looked for is there without a key"
    for kind in ("str", "bytes", "DeviceKey"):
        clear, stores, got = found[f"kind {kind}"]
        assert clear == [], f"clear text in IndexedDB with a key of kind {kind}"
        assert stores > 3, "the queue and its system collections were looked at, too"
        assert got == reads
    assert found["device again"] == []
    assert found["forgotten"][0] == "WrongKey"
    broken = ["SealBroken", "notes", "k1"]
    assert found["refusals"] == {
        "none": ["KeyRequired", None, None],
        "wrong": ["WrongKey", None, None],
        "kind": ["WrongKey", None, None],
        "swap": broken,
        "flip": broken,
        "plain": broken,
        "not encrypted": ["WrongKey", None, None],
        "still": [],
    }
    refused = ["WrongKey", None, None]
    assert found["rekey"] == {
        "no database": "CannotOpen", "wrong": "WrongKey", "none": "UsageError", "plain": "WrongKey",
        "old": refused, "new": [], "open": "another declaration",
        "not str": refused, "not bytes": refused, "not DeviceKey": refused,
        "kept": [f"marzipan {n} Grüße \U0001f600" for n in (1, 2)],
    }  # fmt: skip
    twins = found["twins"]
    assert twins["opened"] == "from CPython"
    vault = Vault.opened(Ring.read(twins["ring"], "the browser's"), Secret(RAW), "the browser's")
    assert vault.open(PLACE, b64decode(twins["box"])) == b"from the browser"


def test_an_encrypted_database_shows_nothing_and_opens_to_its_key_only() -> None:
    check(pyodide.run("inside_sealed.everything", from_cpython()))
