"""``python -m homeport.cli`` is the command ``homeport``."""

from __future__ import annotations

from homeport.cli.main import app

app()
