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
