"""Looking for the commits of other processes: one look for all who wait, while somebody does."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from homeport.drivers.steps import head
from homeport.errors import HomeportError

if TYPE_CHECKING:
    from homeport.core.stores import CommitStamp
    from homeport.drivers.engine import Engine

POLL_S = 0.02
"""How often commits of other processes are looked for."""

BUSY_POLL_S = 0.005
BUSY_LOOKS = 100
"""So often, and so many times, after one was found: commits come in swarms."""


class Pulse:
    """Rings the bells of those who wait whenever anything was committed to the store.

    A thread of its own looks at the stamp of the store, which costs next to nothing; it lives as
    long as somebody is here.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = weakref.ref(engine)
        # Changed by single operations only: garbage collection may call leave() in the middle of
        # anything.
        self._bells: dict[object, Callable[[], None]] = {}
        self._stamp: CommitStamp | None = None
        self._beats = False
        self._guard = threading.Lock()  # between the end of the thread and those who come

    def join(self, bell: Callable[[], None]) -> Callable[[], None]:
        """Ring this bell too → a function that ends it. Bells ring in another thread: they may set
        an event and nothing else."""
        name = object()
        bells = self._bells
        with self._guard:
            bells[name] = bell
            if not self._beats:
                self._beats = True
                threading.Thread(
                    target=_beat, args=(weakref.ref(self),), name="homeport-pulse", daemon=True
                ).start()

        def leave() -> None:
            bells.pop(name, None)

        return leave

    def beat(self, seen: object) -> tuple[bool, object]:
        """Look once → is somebody still here, and what was seen."""
        engine = self._engine()
        with self._guard:
            if engine is None or engine.closed or not self._bells:
                self._beats = False
                return False, seen
        try:
            found = self._look(engine)
        except HomeportError:
            return True, seen  # busy, or being closed: the next look will tell
        if found != seen:
            for bell in list(self._bells.values()):
                bell()
        return True, found

    def _look(self, engine: Engine) -> object:
        stamp = self._stamp
        if stamp is None:
            stamp = self._stamp = engine.stamp()
        if stamp is None:
            return engine.run(head())
        with stamp.lock:
            return stamp.read()


def _beat(pulse: weakref.ref[Pulse]) -> None:
    seen: object = None
    busy = 0
    while True:
        here = pulse()
        if here is None:
            return
        wanted, found = here.beat(seen)
        if not wanted:
            return
        del here
        busy = BUSY_LOOKS if found != seen else busy - 1
        seen = found
        time.sleep(BUSY_POLL_S if busy > 0 else POLL_S)
