"""After a reset: what this file pushed under its former ids, and what the server has of it.

The batch in flight is not forgotten by a reset: whether the server applied it is asked with the
first request under the new id, and its answer is taken from the next cut, as it would have been.

Named with it are the ids before that one, back to a limit: a server that was put back to a backup
has forgotten that they are retired, and would apply an old request of theirs that arrives late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from homeport.core.acknowledged import clients_kept
from homeport.core.freeze import InFlight
from homeport.core.outbox import META_FORMER, META_RETIRED, write_json
from homeport.core.requests import Meta, Part, Plan, SetMeta
from homeport.core.wire import MAX_FORMER, BatchAnswer


class Former(msgspec.Struct):
    """The id before the reset, and its batch without an answer."""

    client: str
    in_flight: InFlight | None = None


_former = msgspec.json.Decoder(Former)
_retired = msgspec.json.Decoder(list[str])


def read_former() -> Plan[Former | None]:
    text = yield Meta(META_FORMER)
    return None if text is None else _former.decode(text)


def asked_about() -> Plan[list[str]]:
    """Ids to name in the request: none unless the file was reset and has no cut since."""
    former = yield from read_former()
    if former is None:
        return []
    retired = yield from _read_retired()
    kept = yield from clients_kept()
    older = [client for client in kept if client not in retired]
    return _last_of([*older, *retired, former.client])


def retire(client: str) -> Plan[Part]:
    """The part that keeps the id that a reset gives up."""
    retired = yield from _read_retired()
    return SetMeta(META_RETIRED, write_json(_last_of([*retired, client])))


def _last_of(clients: Sequence[str]) -> list[str]:
    """The newest of them, each once; the newest comes last."""
    return list(dict.fromkeys(reversed(clients)))[:MAX_FORMER][::-1]


def _read_retired() -> Plan[list[str]]:
    text = yield Meta(META_RETIRED)
    return [] if text is None else _retired.decode(text)


def answer_of(former: Former | None, known: Mapping[str, BatchAnswer] | None) -> BatchAnswer | None:
    """The answer to the batch that was in flight at the reset, if the server has that very one."""
    if former is None or former.in_flight is None or known is None:
        return None
    answer = known.get(former.client)
    sent = former.in_flight
    if answer is None or (answer.number, answer.hash) != (sent.number, sent.hash):
        return None
    return answer
