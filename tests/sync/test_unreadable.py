"""Rows that the server holds and this device cannot read: told, never in the way (rule G)."""

from __future__ import annotations

import pytest

from .model import Doc
from .test_exchange import pair, settle


def store(server, key, text):
    """Plain SQL stores what no device would send."""
    server.write("wells", key, {"id": key})
    row = server.docs["wells", key]
    server.docs["wells", key] = Doc(row.token, row.bucket, text)


@pytest.mark.parametrize(
    "text", ['{"id": "w1", "n": 1e400}', '[1, 2]', '"w1"', '{"id": "w1", "n": -1e999, "m": 0}']
)
@pytest.mark.parametrize("pending", [False, True])
def test_rule_g_an_unreadable_row_is_told_and_the_rest_goes_on(text, pending):
    server, a, b = pair()
    a.put({"id": "w1", "n": 1})
    settle(a, b)
    store(server, "w1", text)
    if pending:
        a.patch("w1", m=2)
        # The node answers so when it cannot read its own row.
        server.put_off = lambda unit: unit.changes[0].key == "w1"
    a.put({"id": "w2"})
    a.sync()
    b.sync()
    assert [e.key for e in a.events if e.kind == "unreadable"] == ["w1"]
    assert b.all() == {"w2": {"id": "w2"}}
    assert a.get("w2") == {"id": "w2"}
    if pending:
        # Nothing acknowledged goes without a record.
        assert [r.local for r in a.log()] == [{"id": "w1", "n": 1, "m": 2}]
    store(server, "w1", '{"id": "w1", "n": 3}')
    settle(a, b)
    assert a.get("w1") == b.get("w1") == {"id": "w1", "n": 3}


@pytest.mark.parametrize("pending", [False, True])
def test_the_same_field_twice_and_another_inner_key(pending):
    server, a, b = pair()
    a.put({"id": "w1", "n": 1})
    a.put({"id": "w2", "n": 2})
    settle(a, b)
    store(server, "w1", '{"id": "w2", "n": 7, "n": 8}')
    if pending:
        a.patch("w1", m=2)
    settle(a, b)
    assert a.all() == b.all()
    assert a.get("w2") == {"id": "w2", "n": 2}
    assert a.get("w1")["id"] == "w1" and a.get("w1")["n"] == 8
    assert a.get("w1").get("m") == (2 if pending else None)
