"""What a node answers when it refuses: a status, a stable code, and when to come back."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from homeport.core.wire import PROTOCOL, Problem
from homeport.errors import (
    DatabaseUnavailable,
    Forbidden,
    HistoryBroken,
    HomeportError,
    IdentityBroken,
    NeedsAuth,
    ProtocolMismatch,
    RateLimited,
    UpgradeRequired,
    UsageError,
)
from homeport.transport.encoding import ACCEPTED

from .database import Overloaded

if TYPE_CHECKING:
    from .node import Node

log = logging.getLogger("homeport.server")


class TooLarge(UsageError):
    """A request of more bytes than a node takes."""

    code = "too-large"


class Late(UsageError):
    """A request whose body does not come."""

    code = "too-slow"


class UnsupportedEncoding(UsageError):
    """A ``Content-Encoding`` that this node does not unpack."""

    code = "unsupported-encoding"


_STATUS: tuple[tuple[type[HomeportError], int, str], ...] = (
    (NeedsAuth, 401, "needs-auth"),
    (Forbidden, 403, "forbidden"),
    (Late, 408, "too-slow"),
    (IdentityBroken, 409, "identity-broken"),
    (HistoryBroken, 410, "history-broken"),
    (TooLarge, 413, "too-large"),
    (UnsupportedEncoding, 415, "unsupported-encoding"),
    (UsageError, 422, "bad-request"),
    (ProtocolMismatch, 426, "protocol-mismatch"),
    (UpgradeRequired, 426, "upgrade-required"),
    (Overloaded, 429, "busy"),
    (RateLimited, 429, "rate-limited"),
    (DatabaseUnavailable, 503, "database-unavailable"),
)
_RETRY_S = {429: 1.0, 503: 2.0}


def judged(node: Node, error: HomeportError) -> tuple[int, Problem]:
    """The HTTP status for an error and what is said of it; counted."""
    known = next((k for k in _STATUS if isinstance(error, k[0])), None)
    if known is None:
        # A statement of ours that PostgreSQL refused: the device shall try again.
        log.error("request failed: %s", getattr(error, "log_text", error.message))
        known = HomeportError, 503, "database-unavailable"
    _, status, code = known
    node.refusals[code] = node.refusals.get(code, 0) + 1
    retry_s = _RETRY_S.get(status)
    if isinstance(error, RateLimited):
        retry_s = float(str(error.context["retry_after_s"]))
    return status, Problem(code, error.message, retry_s)


def refusal(node: Node, error: HomeportError) -> Response:
    """The answer for an error."""
    return problem(*judged(node, error))


def problem(status: int, said: Problem) -> Response:
    """The answer with a ``Problem``."""
    headers = {}
    if said.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(said.retry_after_s)))
    if status == 408:
        headers["Connection"] = "close"  # the rest of the body is not waited for
    if status == 415:
        headers["Accept-Encoding"] = ACCEPTED
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if said.code == "protocol-mismatch":
        headers["Upgrade"] = f"homeport/{PROTOCOL}"
    return Response(msgspec.json.encode(said), status, headers, media_type="application/json")
