"""Where an unfinished cut goes on: opaque to the device, which sends it back."""

from __future__ import annotations

import base64
import hashlib

import msgspec

from homeport.errors import HistoryBroken

from .feed import check_mark
from .rules import Claims


class Part(msgspec.Struct, array_like=True):
    """One collection in a cut: its generation when the cut began, buckets held and joined."""

    generation: int
    kept: list[str]
    joined: list[str]


class Position(msgspec.Struct):
    """Where an unfinished cut goes on. ``at`` is (collection, bucket, key) in the first phase,
    (collection, key) in the second."""

    target: str
    nonce: str
    since: str | None
    phase: int
    at: list[str]
    rounds: int
    parts: dict[str, Part]
    left: list[tuple[str, str]]
    total: int
    owner: str


def owner_of(claims: Claims) -> str:
    """Short text that ties a cursor to its tenant and user."""
    text = msgspec.json.encode([claims.tenant, claims.subject])
    return hashlib.sha256(text).hexdigest()[:16]


def unpack_position(text: str, owner: str) -> Position:
    """What a device sent back. Raises ``HistoryBroken`` for what this server has not made."""
    try:
        position = msgspec.json.decode(base64.urlsafe_b64decode(text), type=Position)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise HistoryBroken("The position is not one of this server.") from error
    length = {0: 3, 1: 2}.get(position.phase, 0)
    if len(position.at) not in (0, length) or any("\0" in name for name in position.at):
        raise HistoryBroken("The position is not one of this server.")
    check_mark(position.target, position.nonce)
    if position.since is not None:
        check_mark(position.since, position.nonce)
    if position.owner != owner:
        raise HistoryBroken("The position belongs to another user.")
    return position
