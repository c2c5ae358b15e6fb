"""The HTTP client, and what requests and streams read alike from an answer."""

from __future__ import annotations

import email.utils
import math
import time

from homeport.errors import MissingDependency

try:
    import aiohttp
except ImportError as missing:
    raise MissingDependency(
        "Replication needs the package aiohttp.", action="pip install 'homeport[sync]'."
    ) from missing

__all__ = ["aiohttp", "retry_after_s"]


def retry_after_s(header: str | None) -> float | None:
    """The header ``Retry-After``: seconds, or a date."""
    if header is None:
        return None
    try:
        wait_s = float(header)
    except ValueError:
        try:
            wait_s = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(0.0, wait_s) if math.isfinite(wait_s) else None
