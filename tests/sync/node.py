"""The model of the node behind real HTTP and WebSocket, with faults on demand."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from typing import Any

from aiohttp import WSMsgType, web

from .model import ModelServer, Problem


def token(subject: str = "u", tenant: str = "t", signature: str = "good") -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS256'})}.{part({'sub': subject, 'tenant': tenant})}.{signature}"


class HttpNode:
    """Runs on a thread. Faults: ``status`` answers with this instead; ``lose`` that many replies are
    cut off after the work was done; ``delay_s`` before each answer."""

    def __init__(self, model: ModelServer | None = None, port: int = 0) -> None:
        self.model = model or ModelServer()
        self.status: int | None = None
        self.lose = 0
        self.delay_s = 0.0
        self.good = {"good"}
        self.requests = 0
        self.live: set[web.WebSocketResponse] = set()
        self.port = port
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=20_000_000)
        app.router.add_post("/v1/sync", self._sync)
        app.router.add_get("/v1/live", self._live)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(self._runner.setup())
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        self._loop.run_until_complete(site.start())
        self.port = self._runner.addresses[0][1]
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    async def _sync(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        body = await request.read()
        await asyncio.sleep(self.delay_s)
        if request.headers["Authorization"].rpartition(".")[2] not in self.good:
            return self._problem(401, "needs-auth")
        if self.status is not None:
            return self._problem(self.status, "busy")
        try:
            answer = self.model.sync(body)
        except Problem as problem:
            return self._problem(problem.status, problem.code)
        if self.lose:
            self.lose -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.Response(body=answer, content_type="application/json")

    def _problem(self, status: int, code: str) -> web.Response:
        text = json.dumps({"code": code, "message": f"answered {code}"})
        return web.Response(status=status, text=text, content_type="application/json")

    async def _live(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        hello = await socket.receive_json()
        assert hello["v"] == 1 and hello["client"] and "wells" in hello["collections"]
        await socket.send_json({"t": "ready", "collections": []})
        self.live.add(socket)
        async for message in socket:
            if message.type is WSMsgType.CLOSE:
                break
        self.live.discard(socket)
        return socket

    def hint(self) -> None:
        async def send() -> None:
            for socket in list(self.live):
                await socket.send_json({"t": "hint", "collections": ["wells"]})

        asyncio.run_coroutine_threadsafe(send(), self._loop).result(5)
