"""The commands and their options; what they do is in the modules beside this one."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Optional

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from homeport.errors import HomeportError, UsageError

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

    # Asked to end, it still takes its processes along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(stderr=as_json)
    facts = run_demo(folder, data, postgres, console)
    if as_json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(facts)) + "\n")
    if facts.wrong:
        raise typer.Exit(1)


@cli.command()
def serve(
    postgres: Dsn = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 = a free one.")] = 7080,
    dev: Annotated[
        bool, typer.Option("--dev", help="Any collection, a key of its own, this machine only.")
    ] = False,
    data: Annotated[
        Path, typer.Option(help="Folder of the embedded PostgreSQL and the development key.")
    ] = Path(".homeport"),
    collections: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates this at run time
        typer.Option(metavar="MODULE:NAME", help="The ServerCollections to serve."),
    ] = None,
    key_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Secret or public key (PEM) that verifies tokens."),
    ] = None,
    audience: Annotated[str, typer.Option(help="The audience that tokens must name.")] = "homeport",
    issuer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The issuer that tokens must name."),
    ] = None,
    origin: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Of pages in browsers that may speak to it; may be repeated; * = all."),
    ] = None,
    device_requests: Annotated[
        str, typer.Option(metavar="RATE", help="Of one device: 50/500 = 50 a second, 500 at once.")
    ] = "50/500",
    user_requests: Annotated[
        str, typer.Option(metavar="RATE", help="Of one user, from all devices; none = any.")
    ] = "500/5000",
    user_bytes: Annotated[
        str, typer.Option(metavar="RATE", help="Bytes, unpacked, that one user sends.")
    ] = "20000000/200000000",
    max_streams: Annotated[int, typer.Option(min=1, help="Live streams of this node.")] = 10_000,
    max_streams_per_user: Annotated[
        int, typer.Option(min=1, help="Live streams of one user on this node.")
    ] = 100,
    as_json: AsJson = False,
) -> None:
    """A node in front of PostgreSQL; with --dev everything is made for you."""
    from homeport.server.limits import rate_limit  # noqa: PLC0415 - needs the extra
    from homeport.server.serve import serve as run_node  # noqa: PLC0415 - needs the extra

    run_node(
        postgres,
        host,
        port,
        dev=dev,
        json_line=as_json,
        data_dir=data,
        collections_module=collections,
        key_file=key_file,
        audience=audience,
        issuer=issuer,
        origins=origin or (),
        device_requests=rate_limit(device_requests, "--device-requests"),
        user_requests=rate_limit(user_requests, "--user-requests"),
        user_bytes=rate_limit(user_bytes, "--user-bytes"),
        max_streams=max_streams,
        max_streams_per_user=max_streams_per_user,
    )


@cli.command("rebase-log")
def rebase_log(
    postgres: Annotated[
        str,
        typer.Option(
            "--postgres",
            metavar="DSN",
            envvar="DATABASE_URL",
            help="The database that was restored from a dump.",
        ),
    ],
) -> None:
    """Make a restored dump usable: every device fetches anew and keeps its queued writes."""
    from homeport.server import schema  # noqa: PLC0415 - needs the extra

    changed = asyncio.run(schema.rebase_log(postgres))
    sys.stdout.write(f"{changed} documents have a new version; the node may be started.\n")


@cli.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A database file of Homeport.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare full text with the documents, word by word.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What is in a file, what waits to be sent, and is it healthy? Changes nothing."""
    from homeport.cli.inspect import inspect_file  # noqa: PLC0415 - only this command needs it
    from homeport.cli.inspect_view import show  # noqa: PLC0415

    findings = inspect_file(file, verify=verify)
    if as_json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(findings)) + "\n")
    else:
        show(Console(), findings)
    if findings.problems:
        raise typer.Exit(1)


@cli.command()
def rekey(
    file: Annotated[Path, typer.Argument(help="A database file of Homeport, open nowhere.")],
    remove: Annotated[bool, typer.Option("--remove", help="Write it without encryption.")] = False,
) -> None:
    """Encrypt a file, change its key, or remove it. Keys come from HOMEPORT_KEY and
    HOMEPORT_NEW_KEY, or are asked for."""
    from homeport.cli.keys import key_for, new_key  # noqa: PLC0415
    from homeport.making import rekey as change  # noqa: PLC0415

    old = key_for(file)
    change(file, old, None if remove else new_key())
    Console().print(f"{file} is {'not encrypted any more' if remove else 'encrypted'}.")


Collections = Annotated[str, typer.Argument(metavar="COLLECTION", help="Name of a collection.")]
FormatName = Annotated[
    Optional[str],  # noqa: UP045 - typer evaluates this at run time
    typer.Option("--format", help="json, ndjson, csv or parquet; else as the name ends."),
]
Delimiter = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Between the cells of CSV; else a tab for .tsv, a comma for .csv."),
]

KeyFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--key-file", help="A file with the key of a sealed file."),
]


@cli.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A database file; made when there is none.")],
    collection: Collections,
    source: Annotated[str, typer.Argument(help="The file to read; - is standard input.")],
    format_name: FormatName = None,
    mode: Annotated[
        str, typer.Option(help="put replaces documents with the same key, add refuses them.")
    ] = "put",
    on_error: Annotated[
        str, typer.Option(help="raise stops at the first bad line, collect goes on.")
    ] = "raise",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted import of it ended.")
    ] = False,
    key: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The field with the key, for a new collection (id)."),
    ] = None,
    encoding: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Of the text; else what its first bytes say, or UTF-8."),
    ] = None,
    delimiter: Delimiter = None,
    null: Annotated[str, typer.Option(help="The CSV cell that means null.")] = "null",
    kind: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--type", metavar="COLUMN=TYPE", help="text number integer boolean json."),
    ] = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Load the documents of a JSON, NDJSON, CSV or Parquet file into a collection."""
    from homeport.cli.keys import key_in  # noqa: PLC0415
    from homeport.cli.transfer import import_file, types_of  # noqa: PLC0415

    report = import_file(
        file,
        collection,
        source,
        key=key,
        console=Console(stderr=True),
        format=format_name,
        mode=mode,
        on_error=on_error,
        resume=resume,
        encoding=encoding,
        delimiter=delimiter,
        null=null,
        types=types_of(kind or []),
        sealing_key=key_in(key_file),
    )
    if as_json:
        failures = [{"line": n, "message": error.message} for n, error in report.failures]
        facts = {name: getattr(report, name) for name in ("rows", "skipped", "failed", "seconds")}
        sys.stdout.write(json.dumps({**facts, "failures": failures}) + "\n")
    else:
        failed = f", {report.failed:,} failed" if report.failed else ""
        sys.stdout.write(f"{report.rows:,} documents in {report.seconds:.1f} s{failed}\n")
    if report.failed:
        raise typer.Exit(1)


@cli.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="A database file of Homeport.")],
    collection: Collections,
    target: Annotated[str, typer.Argument(help="The file to write; - is standard output.")],
    format_name: FormatName = None,
    where: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="JSON", help='Only what a filter leaves: {"depth_m": {"$gt": 2000}}.'),
    ] = None,
    delimiter: Delimiter = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a collection into a JSON, NDJSON, CSV or Parquet file."""
    from homeport.cli.keys import key_in  # noqa: PLC0415
    from homeport.cli.transfer import export_file  # noqa: PLC0415

    try:
        condition = None if where is None else json.loads(where)
    except ValueError as error:
        raise UsageError(f"--where is no JSON: {error}.") from error
    report = export_file(
        file,
        collection,
        target,
        where=condition,
        console=Console(stderr=True),
        format=format_name,
        delimiter=delimiter,
        key=key_in(key_file),
    )
    if target != "-":
        facts = {"rows": report.rows, "bytes": report.bytes, "seconds": report.seconds}
        text = f"{report.rows:,} documents, {report.bytes:,} bytes in {report.seconds:.1f} s"
        sys.stdout.write((json.dumps(facts) if as_json else text) + "\n")


def run() -> None:
    """Run a command; a typed error is explained and ends it with status 1."""
    try:
        cli()
    except HomeportError as error:
        console = Console(stderr=True)
        console.print(f"[bold red]homeport:[/] {escape(error.message)}", highlight=False)
        console.print(f"          {escape(error.action)}  [dim]({error.code})[/]", highlight=False)
        raise SystemExit(1) from None
