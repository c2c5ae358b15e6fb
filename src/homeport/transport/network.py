"""The way to a node that this Python has: sockets, or in a browser what the browser offers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from homeport.transport.rounds import Transport
    from homeport.transport.traffic import Meter


def transport_to(url: str, meter: Meter) -> Transport:
    """Speaks to the node at ``url``; used within one event loop. meter: counts its bytes."""
    if sys.platform == "emscripten":
        from homeport.transport.fetch import FetchTransport  # noqa: PLC0415 - only in a browser

        return FetchTransport(url, meter)
    require_network()
    from homeport.transport.http import HttpTransport  # noqa: PLC0415 - needs the extra

    return HttpTransport(url, meter)


def require_network() -> None:
    """Can this Python speak to a node? Loads what that needs, which back ends (a shared folder)
    do without. Raises ``MissingDependency``."""
    if sys.platform != "emscripten":
        from homeport.transport import http  # noqa: F401, PLC0415 - needs the extra
