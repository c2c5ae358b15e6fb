"""The commands and their options; what they do is in the modules beside this one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from homeport.errors import HomeportError

cli = typer.Typer(
    name="homeport",
    help="Homeport: the offline-first database for Python.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Dsn = Annotated[
    Optional[str],  # noqa: UP045 - typer evaluates this at run time
    typer.Option(
        "--postgres",
        metavar="DSN",
        envvar="DATABASE_URL",
        help="An existing PostgreSQL; without it an embedded one is started.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@cli.callback()
def homeport() -> None:
    """Homeport: the offline-first database for Python."""


@cli.command()
def demo(
    postgres: Dsn = None,
    folder: Annotated[
        Path, typer.Option(help="Where the files of the devices go; emptied at the start.")
    ] = Path(".demo"),
    data: Annotated[Path, typer.Option(help="Where the well logs are kept.")] = Path(".data"),
    as_json: AsJson = False,
) -> None:
    """Two devices, one node, PostgreSQL: cut the network, edit on both, and compare."""
    from homeport.cli.demo.run import run_demo  # noqa: PLC0415 - imports much

    console = Console(stderr=as_json)
    facts = run_demo(folder, data, postgres, console)
    if as_json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(facts)) + "\n")
    if facts.wrong:
        raise typer.Exit(1)


@cli.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A database file of Homeport.")],
    as_json: AsJson = False,
) -> None:
    """What is in a file, what waits to be sent, and is it healthy? Changes nothing."""
    from homeport.cli.inspect import inspect_file  # noqa: PLC0415 - only this command needs it
    from homeport.cli.inspect_view import show  # noqa: PLC0415

    findings = inspect_file(file)
    if as_json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(findings)) + "\n")
    else:
        show(Console(), findings)
    if findings.problems:
        raise typer.Exit(1)


def run() -> None:
    """Run a command; a typed error is explained and ends it with status 1."""
    try:
        cli()
    except HomeportError as error:
        console = Console(stderr=True)
        console.print(f"[bold red]homeport:[/] {escape(error.message)}", highlight=False)
        console.print(f"          {escape(error.action)}  [dim]({error.code})[/]", highlight=False)
        raise SystemExit(1) from None
