"""One connection to a database of the browser: opening, transactions, and what the browser tells.

Two rules of the place decide its shape. A transaction lives only while requests of it are pending,
so what belongs to one is a generator of steps that is advanced inside the callback of the step
before; an ``await`` in between would end it. And a promise that is rejected with anything but a
plain ``Error``, or passed from Python into a function that returns one, hangs or kills Pyodide: so
none crosses the border. The helper calls one function of ours with numbers and texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from homeport.core.requests import Mode
from homeport.errors import (
    Busy,
    CannotOpen,
    Closed,
    HomeportError,
    KeyRequired,
    QuotaExceeded,
    ReadOnly,
    SchemaMismatch,
    StorageRefused,
    WrongKey,
)
from homeport.storage import webcrypto
from homeport.storage.indexeddb_alone import NEWS, Alone
from homeport.storage.indexeddb_cache import Kept, Logged
from homeport.storage.indexeddb_errors import translate
from homeport.storage.indexeddb_flight import Flight, Opening
from homeport.storage.indexeddb_helpers import helpers, there_is
from homeport.storage.indexeddb_room import Room
from homeport.storage.indexeddb_schema import (
    CHANGES,
    NAMED,
    Layout,
    Stepped,
    follow,
    keep_ring,
    read_all,
    same_keys,
    swap_ring,
)

if TYPE_CHECKING:
    from asyncio import Task

    from homeport.storage.secret import DeviceKey, Secret

BLOCKED_S = 5.0
"""How long to wait for another tab that keeps the old version open."""


class Connection:
    """A connection that is made again when the browser or another tab has ended it.

    hinted: is called when another connection may have committed. kept: what it has in memory.
    """

    def __init__(
        self,
        name: str,
        *,
        clock_ms: Callable[[], int],
        durability: Literal["full", "relaxed"] = "full",
        readonly: bool = False,
        cache_bytes: int = 0,
        key: Secret | DeviceKey | None = None,
    ) -> None:
        import js  # type: ignore[import-not-found] # noqa: PLC0415
        from pyodide.ffi import create_proxy  # type: ignore[import-not-found] # noqa: PLC0415

        self.name = name
        self.clock_ms = clock_ms
        self.durability = durability
        self.readonly = readonly
        self.key = key
        self.closed = False
        self.hinted: Callable[[], None] = lambda: None  # another connection may have committed
        if not there_is(js):
            raise StorageRefused(
                f"There is no IndexedDB here to open {name} in.",
                action='Open ":memory:", or run in a browser that keeps data.',
            )
        make, make_tabs, gone = helpers()
        self._helper: Any = make()
        self._tabs: Any = make_tabs(gone)
        self._tell: Any = create_proxy(self._told)
        self._helper.listen(self._tell, self._tabs)
        self._flights: dict[int, Flight[Any] | Opening] = {}
        self._last_id = 0
        self._handle: int | None = None
        self._version = 0
        self._layouts: dict[str, Layout] = {}
        self._flags: list[str | None] | None = None
        """``FLAGS`` as they were when it was connected; None = they may be others now."""
        self._versions: tuple[str | None] | None = None
        """``META_VERSIONS``, in the same way."""
        self._connecting: Task[None] | None = None
        self.kept = Kept(cache_bytes)
        self._room = Room()
        self.alone = Alone(self._tabs, self._confirm, self._later)
        self.logged: Logged | None = None
        """What the steps that have just ended have written."""
        self._entered = False
        self._ring: str | None = None

    @property
    def sealed(self) -> bool:
        """Is what is stored encrypted?"""
        return self._ring is not None

    # -- what the helper tells

    def _told(self, what: str, number: int, name: str, text: Any) -> str | bool | None:
        """→ of a transaction: its next step, or whether it is to be committed."""
        if what in NEWS:
            self.alone.told(what, number, text)
            if what == "hint":
                self.hinted()
            return None
        if what in ("versionchange", "closed"):
            # Another tab upgrades, or the browser has taken it: the next call opens it again.
            if number == self._handle:
                self._handle = None
                self.alone.drop()
            return None
        found = self._flights.get(number)
        if found is None:
            return None  # a time limit was faster
        if isinstance(found, Opening):
            return self._opened(found, what, name, text)
        self.logged = None
        if what == "step":
            step = found.advance(text if isinstance(text, str) else text.to_bytes())
        elif what == "failed":
            step = found.fail(self._room.error(name, text, self.name))
        else:
            del self._flights[number]
            if what == "complete" and text:
                found.advance(text)  # what its one step has found
            if what == "complete" and not self._kept_up(self.logged or found.logged):
                self.alone.drop()
            found.end(None if what == "complete" else self._room.error(name, text, self.name))
            return None
        found.logged = self.logged or found.logged
        if found.landing.done():
            del self._flights[number]  # a read: of its end nothing is told
        return step

    def _kept_up(self, logged: Logged | None) -> bool:
        """Is what is in memory right behind a commit? Of one that was cancelled while the browser
        was at it, nothing is known."""
        return logged is not None and self.kept.wrote(logged)

    def _later(self, seconds: float, fn: Callable[[], None]) -> None:
        from asyncio import get_event_loop  # noqa: PLC0415 - a loop runs

        def call() -> None:
            if not self.closed:
                fn()

        get_event_loop().call_later(seconds, call)

    def _confirm(self, period: int) -> None:
        """Bring what is in memory to the state of now; nobody waits for it."""

        def steps() -> Stepped[None]:
            if (yield from self.kept.current()):
                self.alone.confirmed(period)

        if self._handle is not None and not self.closed:
            with suppress(HomeportError):  # then the next one tries again
                self.fly(steps(), "read", [CHANGES])

    def _opened(self, opening: Opening, what: str, name: str, text: str) -> str | bool | None:
        if what == "upgrade":
            return opening.upgrade(self._helper)
        if what == "step":
            return opening.advance(text)
        if what == "failed":
            return opening.fail(translate(name, text, self.name))
        if what == "blocked":
            opening.limit(BLOCKED_S, Busy(f"Another tab keeps {self.name} open."))
        elif what == "open":
            del self._flights[opening.id]
            version, handle = int(name or 0), int(text or 0)
            self.kept.clear()  # it may be another database of the same name
            self.alone.drop()
            if not opening.succeed((version, handle)):
                self._helper.close(handle)
        elif what == "refused":
            del self._flights[opening.id]
            opening.refuse(translate(name, text, self.name))
        return None

    # -- connection

    def _opening(self, steps: Callable[[], Stepped[Any]] | None) -> Opening:
        self._last_id += 1
        opening = Opening(self._last_id, steps)
        self._flights[opening.id] = opening
        return opening

    async def _connect(self) -> None:
        opening = self._opening(lambda: follow((), {}))
        asked = self._ring is None  # with keys, versions are opened by them: if they fit
        reading, step = self._prepared(read_all(versions=asked), "read")
        self._flights[reading.id] = reading
        try:
            self._helper.open(opening.id, self.name, 0, reading.id, step)
        except Exception as error:
            del self._flights[opening.id], self._flights[reading.id]
            raise translate("SecurityError", str(error), self.name) from error
        try:
            self._version, self._handle = await opening.landing
        except BaseException:
            self._flights.pop(reading.id, None)  # it has not begun, and never will
            raise
        if not self._entered:
            self._entered = True
            self._tabs.enter(self._tell, self.name)
        try:
            state = await reading.landing
            self._layouts, ring, self._flags = state.layouts, state.ring, state.flags
            self._versions = (state.versions,) if asked else None
        except SchemaMismatch as error:
            raise CannotOpen(
                f"The database {self.name} of this site is not one of Homeport's.",
                action="Use another name.",
                path=self.name,
            ) from error
        if not same_keys(ring, self._ring) or (self.key is not None and ring is None):
            try:
                await self._unlock(ring)
            except BaseException:
                # Nothing is to be read or written with keys that are not this database's.
                self._drop()
                raise

    def _drop(self) -> None:
        """Leave the connection; the next call makes another."""
        self._helper.close(self._handle)
        self._handle = None

    async def _unlock(self, ring: str | None) -> None:
        """Seal and open with the keys of the database; an empty one gets its own."""
        if self._ring is not None and not self._layouts:
            return  # it was deleted: ``reconnected`` says so
        if self.key is None:
            raise KeyRequired(f"{self.name} is encrypted.", path=self.name)
        if ring is None and not self._layouts and not self.readonly:
            made, vault = await webcrypto.made(self.key, self.name)
            ring = await self.fly(keep_ring(made), "write", [NAMED]).landing
            if ring == made:
                self._seal(made, vault)
                return
        if ring is None:
            raise WrongKey(
                f"{self.name} is not encrypted, and a key was given.",
                action="Open it without a key, or copy its documents to a new database with one.",
                path=self.name,
            )
        self._seal(ring, await webcrypto.unlocked(ring, self.key, self.name))

    def _seal(self, ring: str, vault: Any) -> None:
        self._ring = ring
        self._helper.seal(vault)

    async def rekey(self, new: Secret | DeviceKey) -> None:
        """Let another key open the database. Raises ``Busy``: another tab has just done so."""
        assert self._ring is not None
        assert self.key is not None
        made = await webcrypto.rewrapped(self._ring, self.key, new, self.name)
        if not await self.perform(swap_ring(self._ring, made), "write", [NAMED]):
            raise Busy(
                f"Another tab has just changed the key of {self.name}.",
                action="Open it again, with the key that it has now.",
            )
        self._ring, self.key = made, new

    async def _connected(self) -> None:
        """Connect again if the connection is gone, once for all who ask."""
        from asyncio import ensure_future, shield  # noqa: PLC0415 - a loop runs

        if self.closed:
            raise Closed("The database is closed.")
        if self._handle is not None:
            return
        if self._connecting is None:
            self._connecting = ensure_future(self._again())
        await shield(self._connecting)

    async def _again(self) -> None:
        try:
            await self._connect()
            self.reconnected()
        except BaseException:
            self._drop()  # the next call hears the same
            raise
        finally:
            self._connecting = None

    def reconnected(self) -> None:
        """Is called behind the second and every later connection; may raise."""

    async def perform(
        self, steps: Stepped[Any], mode: Mode, places: Sequence[str] | None = None
    ) -> Any:
        """Step a generator in one transaction over these object stores (None = all) → its value.

        Cancelled, it aborts unless the commit is under way, and only then raises.
        """
        if self.readonly and mode == "write":
            steps.close()
            raise ReadOnly(
                f"{self.name} is open for reading only.", action="Open it without readonly=True."
            )
        if mode == "write" and not self.alone.may_write:
            await self.alone.until_known()
        if self._handle is None or self.closed:
            await self._connected()
        flight, step = self._prepared(steps, mode)
        if isinstance(step, str):
            try:
                self._launch(flight, step, mode, places)
            except Closed:
                # The browser has ended the connection, and the news of it is still on its way.
                self._drop()
                await self._connected()
                self._launch(flight, step, mode, places)
        try:
            return await flight.landing
        except QuotaExceeded:
            await self._room.settle(self.fly)
            raise

    def everything(self) -> list[str]:
        """All object stores."""
        return [NAMED]

    def fly(
        self, steps: Stepped[Any], mode: Mode, places: Sequence[str] | None = None
    ) -> Flight[Any]:
        """As ``perform``, begun at once on the open connection."""
        flight, step = self._prepared(steps, mode)
        if isinstance(step, str):
            self._launch(flight, step, mode, places)
        return flight

    def _prepared(self, steps: Stepped[Any], mode: Mode) -> tuple[Flight[Any], str | bool | None]:
        """→ a flight and its first step; it is over when it has none."""
        self._last_id += 1
        flight: Flight[Any] = Flight(self._last_id, self._helper, steps, reading=mode == "read")
        step = flight.advance(None)
        if not isinstance(step, str):
            flight.end(None)
        return flight, step

    def _launch(
        self, flight: Flight[Any], step: str, mode: Mode, places: Sequence[str] | None
    ) -> None:
        if places is None:
            places = self.everything()
        self._flights[flight.id] = flight
        try:
            self._helper.fly(
                flight.id,
                self._handle,
                msgspec.json.encode(places).decode(),
                "readonly" if mode == "read" else "readwrite",
                "strict" if self.durability == "full" else "relaxed",
                step,
            )
        except BaseException as error:
            del self._flights[flight.id]
            name = getattr(error, "name", "")
            raise translate(name, str(error), self.name) from error

    async def close(self) -> None:
        """Wait for what is under way and close; silent when it is closed already."""
        if self.closed:
            return
        self.closed = True
        for flight in list(self._flights.values()):
            await flight.landing.settled()
        self._drop()
        self._helper.end()
        self._tabs.end()
        self.alone.allow()  # who waits finds it closed
        self._tell.destroy()
