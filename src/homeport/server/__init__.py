"""The sync server: PostgreSQL behind stateless nodes. Needs the extra ``homeport[server]``."""

from __future__ import annotations

from importlib import import_module

from homeport.errors import MissingDependency

for _name in ("asyncpg", "joserfc", "starlette"):
    try:
        import_module(_name)
    except ImportError as _missing:
        raise MissingDependency(
            f"The server needs the package {_name}.", action="pip install 'homeport[server]'."
        ) from _missing
