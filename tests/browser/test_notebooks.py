"""Homeport as a notebook gets it: installed by micropip from an index of packages, or by PyScript.
JupyterLite and marimo install it with the same micropip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest

from tests.browser.pages import Browser, Page
from tests.browser.website import FOLDERS, Website

CELLS = """
import homeport as hp
wells = hp.Collection("wells", indexes=["depth_m"])
db = await hp.open_async("notebook", collections=[wells])
await db[wells].put({"id": "w1", "depth_m": 2810.5})
deep = await db[wells].where(hp.F.depth_m > 2000).all()
with hp.open("blocking", collections=[wells]) as other:
    other[wells].put({"id": "w2", "depth_m": 1.0})
    known = other[wells].keys()
found = [deep, (await db.storage_info()).engine, known]
"""
FOUND = [[{"id": "w1", "depth_m": 2810.5}], "IndexedDB", ["w2"]]

PAGE = """<!doctype html>
<meta charset="utf-8">
<script type="module">
import {{ watch }} from "/site/boot.mjs";
window.harness = {{ complaints: [] }};
watch(window, (text) => window.harness.complaints.push(text));
</script>
{body}
"""


def index_of(website: Website) -> None:
    """The wheels as an index serves them (PEP 691), with what each requires."""
    wheels = {"homeport": website.wheel, "msgspec": next(FOLDERS["wheels"].glob("msgspec-*.whl"))}
    for name, wheel in wheels.items():
        data = wheel.read_bytes()
        website.files[f"/simple/{wheel.name}"] = data
        one = {
            "filename": wheel.name, "url": f"{website.origin}/simple/{wheel.name}",
            "hashes": {"sha256": hashlib.sha256(data).hexdigest()}, "size": len(data),
        }  # fmt: skip
        about = {"meta": {"api-version": "1.1"}, "name": name, "files": [one]}
        website.files[f"/simple/{name}.simple"] = json.dumps(about).encode()


@pytest.fixture
def notebook(browser: Browser) -> Iterator[Page]:
    page = browser._new_page()
    yield page
    page.check()
    page.close()


@pytest.mark.parametrize("browser", ["chromium"], indirect=True)
def test_micropip_installs_it_with_what_it_needs(notebook: Page, website: Website) -> None:
    index_of(website)
    micropip = next(FOLDERS["micropip"].glob("*.whl"))
    website.files["/notebook.html"] = PAGE.format(body="<title>notebook</title>").encode()
    notebook.load(f"{website.origin}/notebook.html")
    found = notebook.evaluate(
        """
        const { loadPyodide } = await import("/pyodide/pyodide.mjs");
        const python = await loadPyodide({ indexURL: "/pyodide/" });
        python.unpackArchive(await (await fetch(arguments_[0])).arrayBuffer(), "wheel");
        await python.runPythonAsync(arguments_[1]);
        return await python.runPythonAsync(arguments_[2]);
        """,
        f"/micropip/{micropip.name}",
        f"import micropip\nawait micropip.install('homeport', index_urls=['{website.origin}/simple/{{package_name}}.simple'])",
        f"import json\n{CELLS}\njson.dumps([found, sorted(micropip.list())])",
        timeout_s=90,
    )  # fmt: skip
    said, installed = json.loads(found)
    assert said == FOUND
    assert {"homeport", "msgspec"} <= set(installed)
    assert "apsw-sqlite3mc" not in installed, "the browser's IndexedDB is the engine"


def test_pyscript_runs_it(notebook: Page, browser: Browser, website: Website) -> None:
    where = "page" if browser.name == "chromium" else "worker"
    micropip = next(FOLDERS["micropip"].glob("*.whl"))
    index_of(website)
    names = [path for path in website.files if path.startswith("/simple/") and path.endswith(".whl")]
    # PyScript takes micropip from where Pyodide is.
    website.files[f"/pyodide/{micropip.name}"] = micropip.read_bytes()
    lock = json.loads((FOLDERS["pyodide"] / "pyodide-lock.json").read_text())
    lock["packages"]["micropip"]["sha256"] = hashlib.sha256(micropip.read_bytes()).hexdigest()
    website.files["/pyodide/pyodide-lock.json"] = json.dumps(lock).encode()
    config = {
        "interpreter": "/pyodide/pyodide.mjs",
        "packages": [website.origin + name for name in sorted(names, reverse=True)],
    }
    tell = "import json\nfrom pyscript import window\nwindow.found = json.dumps(found)"
    body = (
        '<script type="module" src="/pyscript/core.js"></script>\n'
        f"<script type='py' async {'worker' if where == 'worker' else ''} config='{json.dumps(config)}'>"
        f"{CELLS}{tell}\n</script>"
    )
    website.files["/pyscript.html"] = PAGE.format(body=body).encode()
    notebook.load(f"{website.origin}/pyscript.html")
    try:
        found = notebook.evaluate(
            "for (let n = 0; n < 1200 && !window.found; n++) await new Promise((r) => setTimeout(r, 50));"
            "return window.found ?? null;",
            timeout_s=70,
        )
    finally:
        del website.files["/pyodide/pyodide-lock.json"]
    assert found is not None, notebook.complaints()
    assert json.loads(found) == FOUND
