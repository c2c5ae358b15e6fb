"""Imports point inward only, pure rings stay pure, and files stay readable."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "homeport"
FILES = sorted(p for p in SOURCE.rglob("*.py"))
GENERATED = SOURCE / "_blocking"
LINES = 400

# Ring 0: vocabulary. 1: pure decisions. 2: all I/O. 3: what users import. 4: programs.
VOCABULARY = {
    "core.arguments",
    "core.codec",
    "core.compression",
    "core.conditions",
    "core.diff",
    "core.expiry",
    "core.fields",
    "core.fieldtypes",
    "core.indexes",
    "core.inspection",
    "core.jsonfilter",
    "core.keygen",
    "core.keyfields",
    "core.keyforms",
    "core.keyrange",
    "core.keys",
    "core.mergetypes",
    "core.misfits",
    "core.models",
    "core.modelpaths",
    "core.modeltree",
    "core.ownform",
    "core.paths",
    "core.plain",
    "core.query",
    "core.restore",
    "core.rowbuilder",
    "core.schema",
    "core.scope",
    "core.textmerge",
    "core.textquery",
    "core.unknown",
    "core.validation",
    "core.versions",
    "core.wire",
    "core.words",
}
PROGRAMS = ("cli", "server", "testing", "__main__")
FORBIDDEN = {"asyncio", "threading", "time", "random", "os", "apsw", "js", "socket", "pathlib"}


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def ring(module: str) -> int:
    first = module.split(".")[0]
    if module in VOCABULARY or first == "errors":
        return 0
    if first == "core":
        return 1
    if first in ("storage", "drivers", "transport") or module == "ids":
        return 2
    if first in PROGRAMS:
        return 4
    return 3


def imports(path: Path) -> list[tuple[str, bool]]:
    """(module, only for type checkers) of everything a file imports, also inside functions."""
    found: list[tuple[str, bool]] = []

    def walk(node: ast.AST, typing_only: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                for inner in child.body:
                    walk(ast.Module([inner], []), True)
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, typing_only) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    package = path.relative_to(SOURCE.parent).parts[: -child.level]
                    base = ".".join([*package, *base.split(".")] if base else package)
                for alias in child.names:
                    sub = SOURCE.joinpath(*base.split(".")[1:], alias.name)
                    is_module = base.startswith("homeport") and (
                        sub.with_suffix(".py").exists() or (sub / "__init__.py").exists()
                    )
                    found.append((f"{base}.{alias.name}" if is_module else base, typing_only))
            walk(child, typing_only)

    walk(ast.parse(path.read_text()), False)
    return found


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_inward(path: Path) -> None:
    own = module_of(path)
    if own == "":
        return  # the public names gather from everywhere
    for name, typing_only in imports(path):
        if name != "homeport" and not name.startswith("homeport."):
            continue
        target = name.removeprefix("homeport").removeprefix(".")
        if target == "" and ring(own) < 4:
            pytest.fail(f"{own} imports the package itself")
        if target in ("", "core", "storage", "drivers"):
            continue
        # The request types name values of ring 0 and 1 for type checkers; nothing is loaded.
        if typing_only and ring(own) >= 1:
            continue
        assert ring(target) <= ring(own), f"{own} (ring {ring(own)}) imports {target} (ring {ring(target)})"


@pytest.mark.parametrize("path", [p for p in FILES if ring(module_of(p)) < 2], ids=module_of)
def test_the_inner_rings_are_pure(path: Path) -> None:
    if module_of(path) == "":
        return
    used = {name.split(".")[0] for name, typing_only in imports(path) if not typing_only}
    assert not used & FORBIDDEN


def test_storage_and_drivers_know_each_other_through_requests_only() -> None:
    for path in FILES:
        own, names = module_of(path), [name for name, typing_only in imports(path) if not typing_only]
        if own.startswith("storage"):
            assert not [n for n in names if n.startswith("homeport.drivers")], own
        if own.startswith("drivers"):
            assert not [n for n in names if n.startswith("homeport.storage")], own
        if not own.startswith("storage") and ring(own) < 3:
            assert "apsw" not in names, own


def test_the_library_never_imports_server_or_command_line() -> None:
    for path in FILES:
        if ring(module_of(path)) == 4:
            continue
        for name, _ in imports(path):
            assert not name.startswith(("homeport.server", "homeport.cli", "homeport.testing")), path


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_stay_readable(path: Path) -> None:
    if GENERATED in path.parents:
        return
    lines = len(path.read_text().splitlines())
    assert lines <= LINES, f"{path.name} has {lines} lines"


def test_the_facade_needs_no_special_case_for_one_of_its_forms() -> None:
    for path in SOURCE.glob("*.py"):
        assert "if True:" not in path.read_text()
