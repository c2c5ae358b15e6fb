"""Homeport in Pyodide beside Dexie, in one page of each browser: ``make bench-browser``.

The two sides take turns, so what slows the machine slows both: the ratios are what to read. Both write
with relaxed durability, which is IndexedDB's default. Dexie is timed inside JavaScript, Homeport in
Python, so the border between them is on Homeport's side.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from pathlib import Path

from tests.browser.chromium import Chromium
from tests.browser.firefox import Firefox
from tests.browser.website import FOLDERS, Website

REPEATS = 25
PYODIDE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS
    with tempfile.TemporaryDirectory() as folder:
        site = Website(Path(folder))
        try:
            for kind in (Chromium, Firefox):
                browser = kind()
                try:
                    page = browser.open(site.origin)
                    print(f"\n{browser.name}: Pyodide {page.times['pyodide_ms']:.0f} ms, with Homeport "
                          f"unpacked {page.times['all_ms']:.0f} ms\n")  # fmt: skip
                    page.evaluate("await import('/site/dexie.mjs');")
                    found = page.call("browser.inside_bench.compare", repeats, timeout_s=300)
                    print("| operation | Homeport ms | Dexie ms | ratio |\n|---|---|---|---|")
                    for name, one in found.items():
                        print(f"| {name} | {one['homeport']:.2f} | {one['dexie']:.2f} "
                              f"| {one['homeport'] / one['dexie']:.2f} |")  # fmt: skip
                    costs = page.call("browser.inside_bench.sealed", repeats, timeout_s=300)
                    print("\n| operation | without a key ms | encrypted ms | ratio |\n|---|---|---|---|")
                    for name, one in costs.items():
                        print(f"| {name} | {one['plain']:.2f} | {one['sealed']:.2f} "
                              f"| {one['sealed'] / one['plain']:.2f} |")  # fmt: skip
                    page.check()
                finally:
                    browser.close()
            wheels = [site.wheel, *FOLDERS["wheels"].glob("*.whl")]
            sizes = {one.name: one.stat().st_size for one in wheels}
            sizes["Pyodide, gzipped"] = sum(
                len(gzip.compress((FOLDERS["pyodide"] / name).read_bytes())) for name in PYODIDE
            )
            print("\n" + json.dumps(sizes, indent=1))
        finally:
            site.close()


if __name__ == "__main__":
    main()
