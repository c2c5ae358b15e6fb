"""The wire vectors (tests/vectors/node.json) against our node, on real PostgreSQL, over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import msgspec
import pytest

from homeport.core.verify import slot_of, sums_of
from homeport.core.wire import PushRequest, Reply
from homeport.server.limits import RateLimit
from homeport.server.rules import ServerCollection
from tests.vectors_run import Names, load

from .helpers import served

SCENARIOS = load("node.json")["scenarios"]


class Run:
    """One scenario."""

    def __init__(self, node: Any, url: str, http: Any, sql: Any, grants: Any, server_dsn: str) -> None:
        self.node, self.url, self.http, self.sql = node, url, http, sql
        self.grants, self.server_dsn = grants, server_dsn
        self.names = Names()
        self.socket: Any = None

    def token(self, who: str | None) -> str:
        if who is None:
            return ""
        if who == "!expired":
            return str(self.node.auth.mint("ann", "t1", -60.0))
        subject, _, tenant = who.partition("@")
        return str(self.node.auth.mint(subject, tenant or "t1", 600.0))

    async def post(
        self, who: str | None, body: bytes, path: str = "/v1/sync", encoding: str | None = None
    ) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self.token(who)}"} if who is not None else {}
        if encoding is not None:
            headers["Content-Encoding"] = encoding
        async with self.http.post(self.url + path, data=io.BytesIO(body), headers=headers) as answer:
            if answer.status != 200:
                problem = json.loads(await answer.read())
                pause = answer.headers.get("Retry-After")
                assert (pause is not None) == ("retry_after_s" in problem)
                return answer.status, json.dumps(problem).encode()
            return 200, await answer.read()

    def body_of(self, send: dict[str, Any]) -> bytes:
        send = dict(self.names.filled(send))
        text = send.pop("batch", None)
        digest = send.pop("hash", None)
        for slots in send["pull"].get("repair", {}).values():
            slots[:] = [slot_of(s["slot of"]) if isinstance(s, dict) else s for s in slots]
        body = json.dumps(send)
        if text is not None:
            digest = digest or hashlib.sha256(text.encode()).hexdigest()
            body = body[:-1] + f', "batch": {text}, "hash": {json.dumps(digest)}}}'
        return body.encode()

    async def step(self, step: dict[str, Any]) -> None:
        if "world" in step:
            await self.world(step)
        elif "follow" in step:
            await self.follow(step)
        elif "poll" in step:
            await self.poll(step)
        elif "live" in step or "hints" in step:
            await self.live(step)
        else:
            if "send" in step:
                body = self.body_of(step["send"])
            elif isinstance(step["raw"], dict):
                body = b" " * step["raw"]["spaces"]
            else:
                body = step["raw"].encode()
            status, answer = await self.post(step["as"], body, step.get("path", "/v1/sync"), step.get("encoding"))
            assert status == step["status"], answer
            if status == 200:
                self.check(step, answer)
            else:
                found = json.loads(answer)
                assert found["code"] == step["problem"]["code"]
                self.names.fits(step["problem"], {k: found[k] for k in step["problem"]})

    def check(self, step: dict[str, Any], answer: bytes) -> None:
        reply = json.loads(answer)
        msgspec.json.decode(answer, type=Reply)
        rows = sorted(reply.get("rows", []), key=lambda row: row[:2])
        rows = [row[:5] if row[5:] == [1] else row for row in rows]
        empty: dict[str, Any] = {
            "rows": [], "joined": [], "left": [], "unknown": [], "holds": {}, "collections": {},
            "sums": {}, "repaired": {},
        }  # fmt: skip
        for name, pattern in step["reply"].items():
            if name == "sums":
                pattern = {
                    collection: sums_of(self.names.filled(one["sum of"]))
                    for collection, one in pattern.items()
                }
                pattern = {c: {str(k): v for k, v in one.items()} for c, one in pattern.items()}
            if name == "repaired":
                pattern = {c: [slot_of(s["slot of"]) for s in slots] for c, slots in pattern.items()}
            value = rows if name == "rows" else reply.get(name, empty.get(name))
            if name == "batch" and isinstance(value, dict):
                for verdict in value["verdicts"]:
                    verdict.setdefault("message", "")
                for verdict in pattern["verdicts"] if isinstance(pattern, dict) else ():
                    verdict.setdefault("message", "*")
            self.names.fits(pattern, value, name)
        for key, text in step.get("body", {}).items():
            pages = msgspec.json.decode(answer, type=Reply).rows
            (body,) = [bytes(row.body).decode() for row in pages if row.key == key]
            assert body == text

    async def follow(self, step: dict[str, Any]) -> None:
        """Ask on until the cut is complete; no row comes twice in another state."""
        position = self.names.known[step["follow"]]
        rows = 0
        for _ in range(50):
            pull = {**step["pull"], "position": position}
            body = self.body_of({"v": 1, "client": step["client"], "pull": pull})
            status, answer = await self.post(step["as"], body)
            assert status == 200, answer
            reply = json.loads(answer)
            rows += len(reply["rows"])
            if reply.get("more") is None:
                assert rows <= step["rows"] <= rows + 40
                self.check(step, answer)
                return
            assert reply.get("cursor") is None and "holds" not in reply
            position = reply["more"]
        raise AssertionError("the cut does not end")

    async def poll(self, step: dict[str, Any]) -> None:
        asked = {**self.names.filled(step["poll"])}
        headers = {"Authorization": f"Bearer {self.token(asked.pop('as'))}"}
        async with self.http.get(self.url + "/v1/poll", params=asked, headers=headers) as answer:
            assert answer.status == 200
            found = await answer.json()
        self.names.fits(step["hint"], {k: found.get(k, []) for k in step["hint"]})

    async def live(self, step: dict[str, Any]) -> None:
        if "live" in step:
            self.socket = await self.http.ws_connect(self.url + "/v1/live")
            hello = {**step["live"], "token": self.token(step["live"]["token"].split(":")[1])}
            await self.socket.send_json(hello)
        for pattern in step["hints"]:
            found = await asyncio.wait_for(self.socket.receive_json(), 10)
            self.names.fits(pattern, {k: found.get(k, []) for k in pattern})

    async def world(self, step: dict[str, Any]) -> None:
        kind = step["world"]
        if kind == "lose markers":
            await self.sql.execute("delete from homeport.markers")
        elif kind == "write":
            many = step.get("many")
            if many:
                documents = [(f"{many['prefix']}{n}", json.dumps({"id": f"{many['prefix']}{n}", "pad": "x" * 80})) for n in range(many["count"])]  # fmt: skip
                name = many["collection"]
            else:
                documents, name = [(step["key"], step["text"])], step["collection"]
            await self.post("ann", json.dumps({"v": 1, "client": "w", "pull": {"collections": {name: "merge"}, "holds": {}}}).encode())  # fmt: skip
            await self.sql.executemany(
                "insert into homeport.documents (tenant, collection, key, body)"
                f" values ('t1', '{name}', $1, $2)",
                documents,
            )
        elif kind == "grant":
            self.grants[step["user"]] = step["buckets"]
        elif kind == "no place is free":
            self.node.database._max_waiting = 0
        elif kind == "stop the database":
            self.node.database._max_waiting = 100
            name = urlsplit(self.node.postgres).path[1:]
            admin = await asyncpg.connect(self.server_dsn)
            await admin.execute(f"alter database {name} with allow_connections false")
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name
            )
            await admin.close()
        elif kind == "hints are dropped":
            self.node.hub.resync()
        elif kind == "the node stops":
            self.node.hub.leave()
        else:
            raise AssertionError(kind)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one["name"])
async def test_node(scenario, dsn, make_node, sql, server_dsn):
    options = dict(scenario.get("node", {}))
    grants: dict[str, list[str]] = {}
    collections = None
    if "bucket" in options:
        field = options.pop("bucket")
        collections = [
            ServerCollection(
                "wells",
                bucket=lambda doc: doc[field],
                buckets=lambda claims, fetch: grants.get(claims.subject, []),
            )
        ]
    elif "collections" in options:
        collections = [ServerCollection(**one) for one in options.pop("collections")]
    if "requests" in options:
        options["device_requests"] = RateLimit(per_s=0.001, burst=options.pop("requests"))
    node = await make_node(dsn, collections, hint_interval_s=0.05, **options)
    async with served(node) as url, aiohttp.ClientSession() as http:
        run = Run(node, url, http, sql, grants, server_dsn)
        for step in scenario["steps"]:
            await run.step(step)
        if run.socket is not None:
            await run.socket.close()


def test_a_wrong_answer_is_noticed():
    names = Names()
    names.fits({"a": "$x", "b": ["*", 1]}, {"a": "t", "b": [5, 1]})
    for wrong in ({"a": "u", "b": [5, 1]}, {"a": "t", "b": [5, 1.0]}, {"a": "t"}, {"a": "t", "b": [1]}):
        with pytest.raises(AssertionError):
            names.fits({"a": "$x", "b": ["*", 1]}, wrong)
    assert names.filled({"k": '{"base":"$x"}'}) == {"k": '{"base":"t"}'}
    assert msgspec.json.decode(b'{"v":1,"client":"c","pull":{}}', type=PushRequest).client == "c"
