"""The way to a node that this Python has: sockets, or in a browser what the browser offers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from homeport.transport.traffic import Meter

if TYPE_CHECKING:
    from homeport.transport.rounds import Transport

if sys.platform == "emscripten":
    from homeport.transport.fetch import FetchTransport as NetworkTransport
else:
    from homeport.transport.http import HttpTransport as NetworkTransport


def transport_to(url: str, meter: Meter) -> Transport:
    """Speaks to the node at ``url``; used within one event loop. meter: counts its bytes."""
    return NetworkTransport(url, meter)
