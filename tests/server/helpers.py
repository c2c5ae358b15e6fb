"""A device as simple as the protocol allows, and nodes that end with the test."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import msgspec
import uvicorn
from msgspec import Raw

from homeport.core.wire import PullRequest, PushRequest, Reply, Verdict, present
from homeport.server.app import application
from homeport.server.auth import Authenticator
from homeport.server.node import Node
from homeport.server.rules import Claims, ServerCollection

SECRET = b"a secret of more than thirty-two bytes"


class NodeFactory:
    def __init__(self) -> None:
        self._nodes: list[Node] = []

    async def __call__(
        self, dsn: str, collections: Iterable[ServerCollection] | None = None, **options: Any
    ) -> Node:
        node = Node(dsn, auth=Authenticator(SECRET), collections=collections, **options)
        await node.start()
        self._nodes.append(node)
        # Until its tailer listens, a stream may begin with a resync; on a busy machine that takes.
        async with asyncio.timeout(10):
            while not node.tailer.connected:
                await asyncio.sleep(0.005)
        return node

    async def stop(self) -> None:
        for node in self._nodes:
            await node.stop()


def put(key: str, doc: Any, base: str | None = None, collection: str = "wells") -> dict[str, Any]:
    return {"collection": collection, "key": key, "op": "put", "doc": doc, "base": base}


def patch(key: str, base: str | None, collection: str = "wells", **fields: Any) -> dict[str, Any]:
    change = {"collection": collection, "key": key, "op": "patch", "base": base}
    return change | fields


def delete(key: str, base: str | None, collection: str = "wells") -> dict[str, Any]:
    return {"collection": collection, "key": key, "op": "delete", "base": base}


class Device:
    """Mirrors what it pulls; raises what the node raises."""

    def __init__(
        self,
        node: Node,
        subject: str = "ann",
        tenant: str = "t1",
        collections: dict[str, str] | None = None,
        **token: Any,
    ) -> None:
        self.node = node
        self.claims = Claims(subject, tenant, time.time() + 3600, token)
        self.client = uuid.uuid4().hex
        self.collections = collections or {"wells": "merge", "_resolutions": "last-write-wins"}
        self.cursor: str | None = None
        self.holds: dict[str, Any] = {}
        self.number = 0
        self.rows: dict[tuple[str, str], tuple[str, str, Any]] = {}
        self.received: list[Any] = []
        self.pages = 0

    def request(self, *units: Any, position: str | None = None) -> PushRequest:
        pull = PullRequest(self.cursor, position, self.holds, self.collections)
        request = PushRequest(1, self.client, pull)
        if units:
            self.number += 1
            listed = [
                {"id": f"u{index}", "changes": unit if isinstance(unit, list) else [unit]}
                for index, unit in enumerate(units)
            ]
            raw = json.dumps({"number": self.number, "units": listed}).encode()
            request.batch = Raw(raw)
            request.hash = hashlib.sha256(raw).hexdigest()
        return request

    async def sync(
        self, *units: Any, between: Callable[[], Awaitable[Any]] | None = None
    ) -> list[Verdict]:
        """Push (when there are units) and pull to the end of the cut."""
        reply = await self.node.sync(self.claims, self.request(*units))
        staged: list[Reply] = [reply]
        while reply.more is not None:
            if between is not None:
                await between()
            reply = await self.node.sync(self.claims, self.request(position=reply.more))
            staged.append(reply)
        self.apply(staged)
        return reply.batch.verdicts if reply.batch is not None else []

    def apply(self, staged: list[Reply]) -> None:
        last = staged[-1]
        assert last.cursor is not None
        self.pages += len(staged)
        named = {}
        for reply in staged:
            for row in reply.rows:
                self.received.append(row)
                named[row.collection, row.key] = row
        joined = {tuple(pair) for pair in last.joined}
        for place, (_, bucket, _) in list(self.rows.items()):
            if (place[0], bucket) in joined and place not in named:
                del self.rows[place]
        for place, row in named.items():
            if present(row.body):
                self.rows[place] = (row.token, row.bucket, msgspec.json.decode(row.body))
            else:
                self.rows.pop(place, None)
        left = {tuple(pair) for pair in last.left}
        for place, (_, bucket, _) in list(self.rows.items()):
            if (place[0], bucket) in left:
                del self.rows[place]
        self.cursor = last.cursor
        self.holds = last.holds

    def docs(self, collection: str = "wells") -> dict[str, Any]:
        return {key: row[2] for (name, key), row in self.rows.items() if name == collection}

    def token(self, key: str, collection: str = "wells") -> str:
        return self.rows[collection, key][0]


def results(verdicts: list[Verdict]) -> list[str]:
    return [f"{v.result}:{v.code}" if v.code else v.result for v in verdicts]


@contextlib.asynccontextmanager
async def served(node: Node) -> AsyncIterator[str]:
    """The node behind real HTTP; its URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        application(node, lifespan=False),
        lifespan="off",
        log_level="error",
        ws="websockets-sansio",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()
