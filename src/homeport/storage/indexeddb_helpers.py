"""What a page or worker has for the store: IndexedDB, if it may use that, and the helpers in
JavaScript, compiled once."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

HELPERS = ("indexeddb.js", "indexeddb_tabs.js")


@cache
def helpers() -> tuple[Any, Any, Any]:
    """What makes each of ``HELPERS``, and the set of connections that are closed."""
    from pyodide.code import run_js  # type: ignore[import-not-found] # noqa: PLC0415

    texts = [files("homeport.storage").joinpath(name).read_text("utf-8") for name in HELPERS]
    make, make_tabs = map(run_js, texts)
    return make, make_tabs, run_js("new Set()")


def there_is(js: Any) -> bool:
    """Has the page IndexedDB?"""
    try:
        return getattr(js, "indexedDB", None) is not None
    except Exception:  # a page without rights may not even ask
        return False
