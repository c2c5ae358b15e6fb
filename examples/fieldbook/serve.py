"""Serve the field book: its page, and a development node with real well logs behind it.

    python examples/fieldbook/serve.py             # then open the address that it prints
    python examples/fieldbook/serve.py --port 8000 --data .fieldbook

Everything comes from this machine: Pyodide and AG Grid from ``node_modules``, the wheels from
``.venv/emscripten`` (``make setup`` fetches them), Homeport from this checkout.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import math
import socket
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import homeport as hp
from homeport.cli.demo.data import well_log_files
from homeport.cli.demo.logs import Unreadable, read_logs
from homeport.server.app import application
from homeport.server.auth import Authenticator, development
from homeport.server.node import Node
from homeport.server.postgres import Postgres

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

from models import COLLECTIONS, CURVES, WELLS, Curve, Well  # noqa: E402 - beside this file

FOLDERS = {
    "pyodide": ROOT / "node_modules" / "pyodide",
    "grid": ROOT / "node_modules" / "ag-grid-community" / "dist",
    "wheels": ROOT / ".venv" / "emscripten",
}
PAGE = ["style.css", "page.mjs"]
GRID = "grid/ag-grid-community.min.js"
PYODIDE = ["pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip",
           "pyodide-lock.json"]  # fmt: skip
MODULES = {"app.py": HERE / "page", "chart.py": HERE / "page", "models.py": HERE}
TOKEN_S = 12 * 3600.0
LEAST_SAMPLES = 20
"""Files with less are there to test readers of files, not to look at."""
MOST_SAMPLES = 2_000
"""Of a curve in the field book; every n-th value of longer ones."""
KINDS = {".mjs": "text/javascript", ".wasm": "application/wasm", ".whl": "application/zip"}


def packed() -> bytes:
    """Homeport of this checkout as an archive that Pyodide unpacks."""
    source = Path(hp.__file__).parent
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.rglob("*")):
            inside = path.relative_to(source.parent)
            if path.is_file() and "__pycache__" not in inside.parts:
                archive.write(path, inside.as_posix())
    return made.getvalue()


def site(node: Node, auth: Authenticator) -> ASGIApp:
    """The page at ``/``, the node at ``/v1``: one address, so the browser asks nobody for leave."""
    archive = packed()
    wheels = sorted(path.name for path in FOLDERS["wheels"].glob("*.whl"))

    async def files(_: Request) -> Response:
        return JSONResponse({
            "page": [*PAGE, GRID, *[f"pyodide/{name}" for name in PYODIDE]],
            "archives": ["homeport.zip", *[f"wheels/{name}" for name in wheels]],
            "modules": [f"fieldbook/{name}" for name in MODULES],
        })  # fmt: skip

    async def token(_: Request) -> Response:
        return PlainTextResponse(auth.mint("geologist", "field", TOKEN_S))

    async def homeport(_: Request) -> Response:
        return Response(archive, media_type="application/zip")

    async def module(request: Request) -> Response:
        name = request.path_params["name"]
        return FileResponse(MODULES[name] / name) if name in MODULES else Response(status_code=404)

    async def file(request: Request) -> Response:
        path: str = request.path_params["path"] or "index.html"
        folder, _, name = path.partition("/")
        root, name = (FOLDERS[folder], name) if folder in FOLDERS else (HERE / "page", path)
        found = (root / name).resolve()
        if not found.is_relative_to(root.resolve()) or not found.is_file() or found.suffix == ".py":
            return Response(status_code=404)
        return FileResponse(found, media_type=KINDS.get(found.suffix))

    inner = application(node, lifespan=False)
    pages = Starlette(
        routes=[
            Route("/files.json", files),
            Route("/token", token),
            Route("/homeport.zip", homeport),
            Route("/fieldbook/{name}", module),
            Route("/{path:path}", file),
        ]
    )

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        app = inner if str(scope.get("path", "")).startswith("/v1/") else pages
        await app(scope, receive, send)

    return both


def documents(folder: Path) -> Iterator[tuple[Well, list[Curve]]]:
    """Real well logs (fetched once from PyPI) as the field book keeps them."""
    files = well_log_files(folder)
    for log in read_logs(files, folder / "las"):
        if isinstance(log, Unreadable) or not log.curves:
            continue
        # The first curve is the depth itself; parts of a cut one are put together again.
        whole: dict[str, Curve] = {}
        for part in log.curves:
            if part.mnemonic.upper().startswith(("DEPT", "TIME")):
                continue
            samples = [value if isinstance(value, float) else None for value in part.samples]
            key = f"{part.well_id}/{part.mnemonic}"
            new = Curve(
                id=key, well_id=part.well_id, mnemonic=part.mnemonic, unit=part.unit,
                text=part.text, top=part.top,
            )  # fmt: skip
            held = whole.setdefault(key, new)
            held.base = part.base  # parts come in the order of their depths
            held.samples += samples
        for curve in whole.values():
            curve.samples = curve.samples[:: max(1, math.ceil(len(curve.samples) / MOST_SAMPLES))]
        if max((len(curve.samples) for curve in whole.values()), default=0) >= LEAST_SAMPLES:
            known = log.well
            yield Well(
                id=known.id, name=known.name, field=known.field, company=known.company,
                top_m=known.top_m, base_m=known.base_m, curves=len(whole),
            ), list(whole.values())  # fmt: skip


def seed(url: str, token: str, folder: Path) -> int:
    """Fill an empty server through a device of its own → how many wells it has then."""
    with hp.open(":memory:", collections=COLLECTIONS) as db:
        sync = db.sync(url, token=token, live=False)
        sync.now()
        if not db[WELLS].count():
            for well, curves in documents(folder):
                db[WELLS].put(well)
                db[CURVES].put_many(curves)
            sync.now(timeout_s=120)
        return db[WELLS].count()


async def serve(port: int, dsn: str, data: Path, logs: Path, *, json_line: bool) -> None:
    """Serve until the process is ended."""
    auth = development(data)
    node = Node(dsn, auth=auth, collections=None)
    await node.start()
    listener = socket.create_server(("127.0.0.1", port))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        site(node, auth), log_level="warning", ws="websockets-sansio", lifespan="off",
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event
        await asyncio.sleep(0.02)
    if server.started:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        token = auth.mint("geologist", "field", TOKEN_S)
        wells = await asyncio.to_thread(seed, url, token, logs)
        ready = json.dumps({"url": url, "token": token, "wells": wells})
        print(ready if json_line else f"{wells} wells. The field book: {url}/", flush=True)
    try:
        await serving
    finally:
        await node.stop()


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--port", type=int, default=7081, help="0 = a free one (default 7081)")
    parser.add_argument("--postgres", help="connection string (default: an embedded server)")
    parser.add_argument("--data", type=Path, help="kept over restarts (default: nothing is)")
    parser.add_argument("--logs", type=Path, default=ROOT / ".data", help="where logs are kept")
    parser.add_argument("--json", action="store_true", help="print {url, token, wells} when ready")
    chosen = parser.parse_args()
    for folder in FOLDERS.values():
        if not folder.is_dir():
            sys.exit(f"{folder} is missing: run `make setup` first.")
    with contextlib.ExitStack() as stack:
        data = chosen.data or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        dsn = chosen.postgres or stack.enter_context(Postgres.start(data / "server")).dsn
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(chosen.port, dsn, data, chosen.logs, json_line=chosen.json))


if __name__ == "__main__":
    main()
