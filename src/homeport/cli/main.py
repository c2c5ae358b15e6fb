"""The entry point: errors become sentences, missing extras are named.

Nothing but the standard library is imported here before the extra ``cli`` is known to be there.
"""

from __future__ import annotations

import sys


def app() -> None:
    """Run the command line. Exit status: 0 good, 1 an error that was explained, 2 a wrong call."""
    try:
        from homeport.cli.commands import run  # noqa: PLC0415 - needs the extra, checked here
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in {"typer", "rich"}:
            raise
        sys.stderr.write(
            f"homeport: the command line needs the package {error.name!r}.\n"
            "          Install it with: pip install 'homeport[cli]'\n"
        )
        raise SystemExit(1) from None
    run()
