"""After a reset: what this file pushed under its former ids, and what the server has of it.

The batch in flight is not forgotten by a reset: whether the server applied it is asked with the
first request under the new id, and its answer is taken from the next cut, as it would have been.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from homeport.core.acknowledged import clients_kept
from homeport.core.freeze import InFlight
from homeport.core.outbox import META_FORMER
from homeport.core.requests import Meta, Plan
from homeport.core.wire import BatchAnswer


class Former(msgspec.Struct):
    """The id before the reset, and its batch without an answer."""

    client: str
    in_flight: InFlight | None = None


_former = msgspec.json.Decoder(Former)


def read_former() -> Plan[Former | None]:
    text = yield Meta(META_FORMER)
    return None if text is None else _former.decode(text)


def asked_about() -> Plan[list[str]]:
    """Ids to name in the request: none unless the file was reset and has no cut since."""
    former = yield from read_former()
    if former is None:
        return []
    return sorted({former.client, *(yield from clients_kept())})


def answer_of(former: Former | None, known: Mapping[str, BatchAnswer] | None) -> BatchAnswer | None:
    """The answer to the batch that was in flight at the reset, if the server has that very one."""
    if former is None or former.in_flight is None or known is None:
        return None
    answer = known.get(former.client)
    sent = former.in_flight
    if answer is None or (answer.number, answer.hash) != (sent.number, sent.hash):
        return None
    return answer
