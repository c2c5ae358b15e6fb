"""A local web server with everything that a page needs: no request leaves this machine."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import zipfile
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
SITE = Path(__file__).parent / "site"
FOLDERS = {
    "pyodide": ROOT / "node_modules" / "pyodide",
    "dexie": ROOT / "node_modules" / "dexie" / "dist",
    "pyscript": ROOT / "node_modules" / "@pyscript" / "core" / "dist",
    "wheels": ROOT / ".venv" / "emscripten",
    "micropip": ROOT / ".venv" / "micropip",
    "site": SITE,
}
KINDS = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".zip": "application/zip",
    ".whl": "application/zip",
    ".simple": "application/vnd.pypi.simple.v1+json",  # a package of an index
}
TESTS = ("tests/__init__.py", "tests/facade/*.py", "tests/portable/inside*.py", "tests/cases/*.json",
         "tests/browser/__init__.py", "tests/browser/inside*.py", "tests/property/*.py",
         "tests/portable/__init__.py")  # fmt: skip


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout, as ``pip install`` would get it."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--no-index", "--wheel-dir", str(folder), str(ROOT)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("homeport-*.whl"))


class Website:
    """Serves on a free port; ``files`` holds what is not on the disk, by path."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, bytes] = {}
        self.wheel = build_wheel(folder)
        wheels = sorted(FOLDERS["wheels"].glob("*.whl"))
        assert wheels, "the wheels for Pyodide are missing: run make setup"
        self.files["/homeport.whl"] = self.wheel.read_bytes()
        self.files["/tests.zip"] = self._tests()
        archives = [f"/wheels/{one.name}" for one in wheels] + ["/homeport.whl", "/tests.zip"]
        self.files["/archives.json"] = json.dumps({"archives": archives}).encode()
        self.files["/favicon.ico"] = b""
        self.files["/python.image"] = b""  # none yet
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site._answer(self)

            def do_PUT(self) -> None:
                """A page keeps something for those behind it."""
                size = int(self.headers["Content-Length"])
                site.files[self.path] = self.rfile.read(size)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @cached_property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @cached_property
    def second_origin(self) -> str:
        """The same pages with a storage of their own."""
        return f"http://localhost:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _tests(self) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for pattern in TESTS:
                for path in sorted(ROOT.glob(pattern)):
                    archive.write(path, path.relative_to(ROOT).as_posix())
        return packed.getvalue()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        if path == "/":
            path = "/site/index.html"
        body = self.files.get(path)
        if body is None:
            folder, _, name = path.strip("/").partition("/")
            root = FOLDERS[folder].resolve() if folder in FOLDERS else None
            file = None if root is None else (root / name).resolve()
            if file is not None and file.is_relative_to(root) and file.is_file():
                body = file.read_bytes()
        try:
            request.send_response(404 if body is None else 200)
            request.send_header("Content-Type", KINDS.get(Path(path).suffix, "application/octet-stream"))
            request.send_header("Content-Length", str(len(body or b"")))
            # Fine timers in Chromium; and nothing from elsewhere can be loaded.
            request.send_header("Cross-Origin-Opener-Policy", "same-origin")
            request.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            request.send_header("Cache-Control", "no-cache")
            request.end_headers()
            request.wfile.write(body or b"")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the page is gone
