"""Where Python runs: asked inside a browser."""

from __future__ import annotations

import sys
from typing import Any


def place() -> dict[str, Any]:
    import js

    return {
        "platform": sys.platform,
        "native": "[native code]" in js.Function.prototype.toString.call(js.indexedDB.open),
        "window": getattr(js, "document", None) is not None,
    }


async def run(scripts: list[str]) -> int:
    """Run scripts with ``await`` at their top, one behind the other, in one namespace."""
    from pyodide.code import eval_code_async

    names: dict[str, Any] = {}
    for script in scripts:
        await eval_code_async(script, globals=names)
    return len(scripts)
