"""The documentation is proved: examples run, and every name that a user can meet is explained."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.main import get_command

import homeport as hp
from homeport.core import wire

ROOT = Path(__file__).parent.parent
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
PAGES = [ROOT / "README.md", *GUIDES]
ADDRESS = "https://sync.example.com"

# A fence may be indented under a list item; only blocks marked as Python are examples.
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def docs_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A development node as a reader would start it; it brings its own PostgreSQL."""
    folder = tmp_path_factory.mktemp("node")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    environment.pop("DATABASE_URL", None)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "homeport", "serve", "--dev", "--json", "--port", "0"],
            stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder, env=environment,
        )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (folder / "log").read_text()
    yield json.loads(line)
    process.terminate()
    process.wait(20)
    process.stdout.close()


def text_of(*pages: Path) -> str:
    return "\n".join(page.read_text() for page in pages)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    """The examples of a page run in one namespace, top to bottom, in an empty folder."""
    text = page.read_text()
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    if ADDRESS in text:
        node = request.getfixturevalue("docs_node")
        names["get_token"] = lambda: node["token"]
        text = text.replace(ADDRESS, node["url"])
    line = 0
    for match in EXAMPLE.finditer(text):
        line = text.count("\n", 0, match.start(1))
        # Leading newlines give tracebacks the line numbers of the page.
        code = compile("\n" * line + match.group(1), str(page), "exec", dont_inherit=True)
        exec(code, names)
    for value in names.values():
        if isinstance(value, (hp.Database,)):
            value.close()
    if page.stem not in {"cli", "reference"}:
        assert line, f"{page.name} has no example"


def error_classes() -> list[type[hp.HomeportError]]:
    return [
        value
        for _, value in inspect.getmembers(hp.errors, inspect.isclass)
        if issubclass(value, hp.HomeportError)
    ]


@pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.__name__)
def test_r26_every_error_is_explained(error: type[hp.HomeportError]) -> None:
    page = (ROOT / "docs" / "guides" / "errors.md").read_text()
    assert f"`{error.__name__}`" in page
    inner = [sub for sub in error_classes() if error in sub.__bases__]
    if not inner:
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{error.__name__}` |")]
        assert f"`{error.code}`" in row
        assert error.action in row


def test_error_codes_are_unique() -> None:
    codes = [error.code for error in error_classes()]
    assert len(codes) == len(set(codes))


def wire_messages() -> list[type[msgspec.Struct]]:
    return [
        value
        for _, value in inspect.getmembers(wire, inspect.isclass)
        if issubclass(value, msgspec.Struct) and value.__module__ == wire.__name__
    ]


@pytest.mark.parametrize("message", wire_messages(), ids=lambda message: message.__name__)
def test_every_wire_message_and_field_is_in_the_protocol(message: type[msgspec.Struct]) -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    assert f"`{message.__name__}`" in page
    for field in message.__struct_fields__:
        assert re.search(rf"\b{field}\b", page), f"{message.__name__}.{field}"


@pytest.mark.parametrize("limit", [name for name in vars(wire) if name.startswith("MAX_")])
def test_every_limit_is_in_the_protocol(limit: str) -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    assert f"`{limit}`" in page
    assert f"{getattr(wire, limit):,}" in page


def commands() -> list[tuple[str, Any]]:
    from homeport.cli.commands import cli

    return sorted(get_command(cli).commands.items())  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "command"), commands(), ids=lambda value: getattr(value, "name", value))
def test_every_command_and_option_is_documented(name: str, command: Any) -> None:
    page = text_of(*PAGES)
    assert f"homeport {name}" in page
    for parameter in command.params:
        for option in parameter.opts:
            if option.startswith("--") and option != "--help":
                assert f"`{option}" in page, f"homeport {name} {option}"


@pytest.mark.parametrize("name", sorted(set(hp.__all__) - {e.__name__ for e in error_classes()}))
def test_every_public_name_is_in_the_docs(name: str) -> None:
    assert re.search(rf"\b{re.escape(name)}\b", text_of(*PAGES)), name


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_path_of_a_machine_in_the_repository() -> None:
    """A fresh clone must not know where it was written."""
    own = [os.path.join("/", "root", ""), os.path.join("/", "work", "")]
    for folder in ("src", "docs", "tools", "tests", "bench"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in {".py", ".md", ".sh", ".json", ".toml"}:
                text = path.read_text()
                for prefix in own:
                    assert prefix not in text, f"{path} names {prefix}"
