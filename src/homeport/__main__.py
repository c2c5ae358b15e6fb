"""``python -m homeport`` is the command ``homeport``."""

from __future__ import annotations

from homeport.cli.main import app

app()
