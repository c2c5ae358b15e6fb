"""The HTTP client."""

from __future__ import annotations

from homeport.errors import MissingDependency

try:
    import aiohttp
except ImportError as missing:
    raise MissingDependency(
        "Replication needs the package aiohttp.", action="pip install 'homeport[sync]'."
    ) from missing

__all__ = ["aiohttp"]
