"""What a hostile or broken client, or a careless SQL statement, can do to a node: nothing."""

from __future__ import annotations

import base64
import json
import uuid

import aiohttp
import asyncpg
import msgspec
import pytest

from homeport.core.wire import PROTOCOL, Hello, Hint, Problem, Reply, present
from homeport.errors import HistoryBroken
from homeport.server.feed import check_mark
from homeport.server.patches import MAX_NESTING, readable, too_deep
from homeport.server.position import owner_of

from .helpers import Device, put, results, served


def _pack(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "snapshot", ["5:3:", "0:0:", "0:5:", "1:5:9", "1:5:3,2", "9:10:3", "1:99999999999999999999:"]
)
def test_a_snapshot_that_postgresql_would_refuse_is_no_cursor(snapshot):
    with pytest.raises(HistoryBroken):
        check_mark(snapshot, str(uuid.uuid4()))


async def test_forged_positions_are_refused_by_name(dsn, make_node):
    node = await make_node(dsn)
    device = Device(node)
    await device.sync(put("k", {"id": "k"}))
    snapshot, nonce, owner = msgspec.json.decode(base64.urlsafe_b64decode(device.cursor))
    assert owner == owner_of(device.claims)

    def position(**fields):
        whole = {
            "target": snapshot, "nonce": nonce, "since": None, "phase": 0, "at": [], "rounds": 0,
            "parts": {"wells": [1, [], [""]]}, "left": [], "total": 0, "owner": owner,
        }  # fmt: skip
        return _pack(whole | fields)

    assert (await node.sync(device.claims, device.request(position=position()))).rows
    for forged in (
        {"at": ["wells"]},
        {"at": ["wells", ""]},
        {"at": ["wells", "", "\0"]},
        {"phase": 1, "at": ["x"], "since": snapshot},
        {"phase": 9, "at": ["x", "y"]},
        {"target": "9:1:"},
        {"since": "9:1:"},
    ):
        with pytest.raises(HistoryBroken):
            await node.sync(device.claims, device.request(position=position(**forged)))
    deep = "[" * 3_000 + "]" * 3_000
    text = f'["{snapshot}","{nonce}","{owner}",{deep}]'
    device.cursor = base64.urlsafe_b64encode(text.encode()).decode()
    with pytest.raises(HistoryBroken):
        await node.sync(device.claims, device.request())


async def test_names_with_nul_cost_their_unit_and_not_the_batch(dsn, make_node):
    node = await make_node(dsn)
    device = Device(node, collections={"wells": "merge", "other": "a\0b", "x" * 60: "p" * 10_000})
    verdicts = await device.sync(put("k", {"id": "k"}), put("k", {"id": "k"}, collection="a\0"))
    assert results(verdicts) == ["applied", "retry:unknown-collection"]
    assert set(device.docs()) == {"k"}


async def test_a_bug_of_the_node_is_a_problem_and_tells_nothing(dsn, make_node, monkeypatch):
    node = await make_node(dsn)

    async def broken(*_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(node, "sync", broken)
    headers = {"Authorization": "Bearer " + node.auth.mint("ann", "t1", 60.0)}
    body = msgspec.json.encode(Device(node).request())
    async with served(node) as url, aiohttp.ClientSession() as http:
        async with http.post(url + "/v1/sync", data=body, headers=headers) as answer:
            text = await answer.read()
            assert answer.status == 500
    problem = msgspec.json.decode(text, type=Problem)
    assert problem.code == "server-error" and b"secret" not in text


async def test_a_hello_of_brackets_is_refused_by_code(dsn, make_node):
    node = await make_node(dsn)
    token = node.auth.mint("ann", "t1", 60.0)
    deep = '{"x":' + "[" * 20_000 + "]" * 20_000 + "}"
    async with served(node) as url, aiohttp.ClientSession() as http:
        async with http.ws_connect(url + "/v1/live") as socket:
            await socket.send_str(deep)
            await socket.receive()
            assert socket.close_code == 4400
        async with http.ws_connect(url + "/v1/live") as socket:
            hello = Hello(PROTOCOL, token, "c", ["wells", "\0", "_x"])
            await socket.send_str(msgspec.json.encode(hello).decode())
            assert msgspec.json.decode((await socket.receive()).data, type=Hint).t == "ready"


UNREADABLE = {
    "half a pair": '{"id": "half a pair", "a": "\\ud800"}',
    "brackets": '{"id": "brackets", "a": ' + "[" * 2_000 + "]" * 2_000 + "}",
    "rather deep": '{"id": "rather deep", "a": ' + "[" * 250 + "]" * 250 + "}",
}


async def test_a_row_that_no_device_can_read_costs_itself_and_not_its_page(
    dsn, make_node, sql: asyncpg.Connection
):
    node = await make_node(dsn)
    device = Device(node)
    await device.sync(put("good", {"id": "good"}))
    for key, body in UNREADABLE.items():
        await sql.execute(
            "insert into homeport.documents (tenant, collection, key, body)"
            " values ('t1', 'wells', $1, $2)",
            key,
            body,
        )
    other = Device(node, "bob")
    for one in (device, other):
        reply = await node.sync(one.claims, one.request())
        # What goes over the wire can be read by every device.
        again = msgspec.json.decode(msgspec.json.encode(reply), type=Reply)
        rows = {row.key: row for row in again.rows if row.collection == "wells"}
        assert set(UNREADABLE) <= set(rows)
        for key in UNREADABLE:
            assert not present(rows[key].body) and rows[key].token is not None
    await other.sync()
    assert set(other.docs()) == {"good"}


async def test_r03_a_document_of_brackets_costs_its_unit(dsn, make_node):
    node = await make_node(dsn)
    deep: list[object] = []
    for _ in range(MAX_NESTING):
        deep = [deep]
    device = Device(node)
    verdicts = await device.sync(put("a", {"id": "a", "x": deep}), put("b", {"id": "b"}))
    assert results(verdicts) == ["rejected:invalid-json", "applied"]


def test_nesting_is_counted_outside_of_strings():
    assert not too_deep(b'{"a": "' + b"[" * 5_000 + b'\\"[[[[", "b": [[]]}')
    assert not too_deep(b"[" + b"[]," * 5_000 + b"[]]")
    assert too_deep(b'{"a": "\\\\", "b": ' + b"[" * 200 + b"]" * 200 + b"}")
    assert readable('{"a": "\\ud83d\\ude00 é"}'.encode())
