"""Whether this connection is the only one to its database: then what it has in memory is right
without asking IndexedDB.

A lease (Gray and Cheriton, 1989) over Web Locks. Each connection holds a lock with a name of its
own as long as it lives, from before its first write. Who finds in the list of locks that there is
no other knows that nobody else writes until ``LEASE_S`` after it has *asked*: a connection that
finds others when it has its own lock waits for so long (or until each of them has answered that it
knows, or is gone) before it writes. Only durations are compared, so each side needs a clock that
does not stop, and no common one; a page that was frozen finds its lease run out.

A connection that crashes loses its lock, and what it has sent to IndexedDB may still be on its way.
So a lease counts only when there was nobody for ``GRACE_S`` before, and when the log of changes has
then been looked at. It is looked at again whenever the lease is renewed, for which nobody waits.

Where there are no Web Locks (a page without HTTPS) nobody has a lease: storage is a matter of the
origin and of that of the outermost page, so all who share a database have Web Locks or none has.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import msgspec

from homeport.errors import CannotOpen
from homeport.storage.indexeddb_landing import Landing

LEASE_S: Final = 1.0
MARGIN_S: Final = 0.25
"""For clocks of a browser that show only every tenth of a second."""

RENEW_S: Final = 0.4
GRACE_S: Final = 0.5
IDLE_S: Final = 15.0
"""For so long behind the last read the lease is renewed, so that the next one finds it."""

AGAIN_S: Final = 1.0
"""Until it is looked again whether others are still there."""

LOOKS_S: Final = (0.05, 0.2, 0.6)
"""When a newcomer looks whether those who do not answer are gone."""

NEWS: Final = frozenset({"hint", "visitor", "heard", "alone", "unlocked", "crowd", "entered"})
"""What ``indexeddb_tabs.js`` tells."""

NEVER: Final = float("-inf")


class Alone:
    """The lease of one connection. tabs: ``indexeddb_tabs.js``. confirm: look at the log of
    changes, and call ``confirmed`` with the period given. later: call a function after so many
    seconds."""

    def __init__(
        self,
        tabs: Any,
        confirm: Callable[[int], None],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._tabs = tabs
        self._confirm = confirm
        self._later = later
        self.period = 0
        """A number for each time without others that was seen without a gap."""
        self._since_s = self._proved_s = self._next_s = self._used_s = NEVER
        self._asked_s: float | None = None
        self._asked = 0
        self._confirmed = -1
        self._present = False
        self._others: set[str] = set()
        self.may_write = False
        """Has each other connection been told, or its lease run out?"""
        self._waiting: Landing[None] | None = None
        self._refused: CannotOpen | None = None

    def told(self, what: str, number: int, text: str) -> None:
        """One of ``NEWS`` of the other connections."""
        if what in ("hint", "visitor"):
            self.drop(AGAIN_S)
        elif what == "heard":
            self.heard(text)
        elif what == "crowd":
            self.seen(number, set(msgspec.json.decode(text)))
        elif what == "entered":
            self.entered(set(msgspec.json.decode(text)))
        elif what == "alone":
            self.allow()
        else:
            self.refused(text)

    # -- reading

    def holds(self) -> bool:
        """Is nobody else there, and what is in memory confirmed since?"""
        if not self._present:
            return False
        now = self._used_s = monotonic()
        age = now - self._proved_s
        if age > RENEW_S and self._asked_s is None and now >= self._next_s:
            self._look(now)
        return age < LEASE_S and self._confirmed == self.period

    def _look(self, now: float) -> None:
        self._asked += 1
        self._asked_s = now
        self._tabs.look(self._asked)

    def _look_again(self) -> None:
        if self._asked_s is None and (not self.may_write or self._confirmed != self.period):
            self._look(monotonic())

    def seen(self, number: int, others: set[str]) -> None:
        """What the list of locks says, by the names of the connections."""
        if not self.may_write and self._present:
            self._others &= others
            self._allow_if_known()
        asked = self._asked_s
        if asked is None or number != self._asked:
            return  # it is of before the last visitor
        self._asked_s = None
        if others:
            self.drop(AGAIN_S)
            return
        if asked - self._proved_s > LEASE_S:
            self.period += 1
            self._since_s = asked
            self._later(GRACE_S, self._look_again)
        self._proved_s = asked
        if asked - self._since_s >= GRACE_S:
            self._confirm(self.period)
            self._later(RENEW_S, self._renew)

    def _renew(self) -> None:
        now = monotonic()
        idle = now - self._used_s > IDLE_S
        if self._asked_s is None and not idle and now - self._proved_s > RENEW_S / 2:
            self._look(now)

    def confirmed(self, period: int) -> None:
        if period == self.period:
            self._confirmed = period

    def drop(self, pause_s: float = 0.0) -> None:
        """There is another one, or what is in memory is not certain any more. pause_s: before it is
        looked again."""
        self._proved_s = NEVER
        self._asked_s = None
        self.period += 1
        self._next_s = monotonic() + pause_s

    # -- writing

    def entered(self, others: set[str]) -> None:
        """The lock of this connection is held; these were there before."""
        self._present = True
        self._others = others
        self._allow_if_known()
        if self.may_write:
            return
        self._tabs.announce()
        for seconds in LOOKS_S:
            self._later(seconds, self._look_again)
        self._later(LEASE_S + MARGIN_S, self.allow)

    def refused(self, text: str) -> None:
        """This connection cannot be seen, so others might read what is old while it writes."""
        self._refused = CannotOpen(
            f"The browser gives no access to Web Locks ({text}).",
            action="Open the database with readonly=True.",
        )
        if self._waiting is not None:
            self._waiting.fail(self._refused)

    def heard(self, name: str) -> None:
        """Another connection knows of this one."""
        if self._present:
            self._others.discard(name)
            self._allow_if_known()

    def _allow_if_known(self) -> None:
        if not self._others:
            self.allow()

    def allow(self) -> None:
        """All know, or nobody can have a lease."""
        self.may_write = True
        if self._waiting is not None:
            self._waiting.succeed(None)

    async def until_known(self) -> None:
        """Return when this connection may write."""
        if self._refused is not None:
            raise self._refused
        if self._waiting is None:
            self._waiting = Landing()
        await self._waiting.settled()
        self._waiting.result()
