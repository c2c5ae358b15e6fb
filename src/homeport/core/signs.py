"""Signs: small tracked rows for what moves without a document.

That a batch was sent, or that the server cannot be reached, is a named value of the file, and named
values are in no change row. Who follows badges (``core.badges``) sleeps until there is one.
"""

from __future__ import annotations

from typing import Literal

from homeport.core.outbox import SIGNS, record_row
from homeport.core.requests import Put


def sign(name: Literal["in-flight", "offline", "adopted"], value: object) -> Put:
    """The part of a write that says: this has moved."""
    return Put(SIGNS, [record_row(SIGNS, {"id": name, "value": value})])
