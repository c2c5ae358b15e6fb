"""Replication as users see it: the handle that ``db.sync(...)`` returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from homeport.core import conflicts
from homeport.core.adopt import enable
from homeport.core.arguments import check_flag, check_function, check_seconds, check_whole
from homeport.core.backend import Backend
from homeport.core.conflicts import Conflict, DeadLetter, Resolution
from homeport.core.context import Event
from homeport.core.integrity import IntegrityConflict
from homeport.core.requests import Operation, Plan
from homeport.core.schema import Collection
from homeport.core.status import SyncStatus
from homeport.core.subscribing import read_subscribed, subscribe, unsubscribe
from homeport.core.verify import VerifyReport
from homeport.core.wire import RESOLUTIONS
from homeport.drivers.browser import LaterEngine
from homeport.errors import UsageError
from homeport.events import AsyncEvents
from homeport.handles import Handle
from homeport.ids import new_id
from homeport.transactions import table_of
from homeport.transport import reports
from homeport.transport.hosts import Work, at_once
from homeport.transport.network import require_network
from homeport.transport.pump import Pump
from homeport.transport.recovery import OnReset, checked
from homeport.transport.rounds import Token
from homeport.waiting import AsyncWaiter

if TYPE_CHECKING:
    from homeport.database import AsyncDatabase

R = TypeVar("R")

__all__ = [
    "AsyncEvents",
    "AsyncSync",
    "Conflict",
    "DeadLetter",
    "Event",
    "IntegrityConflict",
    "Resolution",
    "SyncStatus",
    "VerifyReport",
]


class AsyncSync(Handle):
    """Replication of one database with one server. Made by ``db.sync(...)``.

    From the moment it is made, writes to the synced collections are queued; ``start()`` begins to
    exchange them in the background, ``now()`` does it once. All of it happens on a thread of its
    own, so neither ever blocks reads and writes for longer than a local transaction.
    """

    def __init__(
        self,
        db: AsyncDatabase,
        url: str | Backend,
        *,
        token: Token = None,
        collections: Iterable[Collection[Any] | str] | None = None,
        max_queue: int = 100_000,
        live: bool = True,
        poll_s: float = 30.0,
        on_reset: OnReset = "recover",
        verify_s: float | None = 86_400.0,
    ) -> None:
        backend = url if isinstance(url, Backend) else None
        if backend is None and not (
            isinstance(url, str) and url.startswith(("http://", "https://"))
        ):
            raise UsageError(
                f"{url!r:.80} is no address of a server; it begins with https://.",
                action="Give an address, or a back end of homeport.backends.",
            )
        check_seconds(poll_s, "poll_s", least=0.001)
        check_whole(max_queue, "max_queue", least=1)
        check_seconds(verify_s, "verify_s", least=0.001, none=True)
        check_flag(live, "live")
        if backend is not None and token is not None:
            raise UsageError("A back end takes no token=.", action="Give it to the back end.")
        if backend is None and not isinstance(token, str):
            action = "Give the token as text, or what returns it."
            check_function(token, "token=", awaited=True, action=action)
        if isinstance(collections, (str, Collection)) or not (
            collections is None or isinstance(collections, Iterable)
        ):
            raise UsageError(f"collections= takes a list, not {collections!r:.60}.")
        checked(on_reset)
        if backend is None:
            require_network()
        self._engine = db._driver.engine
        self._engine.forbid_inside("sync()")
        self._waiter = AsyncWaiter()
        self._callbacks: tuple[Callable[[Event], None], ...] = ()
        chosen = db.collections if collections is None else tuple(collections)
        tables = {t.name: t for t in (table_of(db._tables, one) for one in chosen)}
        for name in [name for name, table in tables.items() if table.collection.sync is None]:
            if collections is not None:
                raise UsageError(f"{name} is declared with sync=False.")
            del tables[name]
        tables[RESOLUTIONS] = db._tables[RESOLUTIONS]
        self._tables = tables
        for table in tables.values():
            # Rows of newer programs may hold fields that this model does not know.
            table.keep_unknown = table.keep_unknown or table.collection.model is not None
        self._later = self._engine.answer if isinstance(self._engine, LaterEngine) else None
        self._pump = Pump(
            self._engine,
            tables,
            str(url),
            token,
            live=live,
            poll_s=poll_s,
            tell=self._tell,
            on_reset=on_reset,
            path=db.path,
            verify_s=verify_s,
            backend=backend,
            later=self._later,
        )
        self._pump.host.begin(Operation(enable(tables, new_id(), max_queue), "write"))

    def start(self) -> Awaitable[None]:
        """Replicate in the background from now on; silent when it does already."""
        self._engine.forbid_inside("sync.start()")
        return self._waiter.wait(self._pump.submit(self._pump.start))

    def stop(self) -> Awaitable[None]:
        """End it; what is queued stays queued. Silent when nothing runs."""
        self._engine.forbid_inside("sync.stop()")
        if not self._pump.running:
            done: Future[None] = Future()
            done.set_result(None)
            return self._waiter.wait(done)
        return self._waiter.wait(self._pump.submit(self._pump.stop))

    def now(self, timeout_s: float = 60.0) -> Awaitable[SyncStatus]:
        """Push and pull until nothing is queued that can be sent and nothing is new.

        Works without ``start()``. While the server cannot be reached it is tried again, until the
        time is over.

        Raises:
            Unreachable, NeedsAuth, Forbidden, WrongUser, ProtocolMismatch, ServerRefused: it could
                not be done; the queue is kept.
            TransactionError: inside a transaction.
        """
        self._engine.forbid_inside("sync.now()")

        work = partial(self._pump.now, timeout_s, partial(reports.status, self._pump))
        return self._waiter.wait(self._pump.submit(work))

    def verify(self, timeout_s: float = 300.0) -> Awaitable[VerifyReport]:
        """Compare this file with the server, by sums over keys and versions, and fetch again what
        differs → the report. What is queued is not touched. Done by itself every ``verify_s``.

        Raises:
            Unreachable, NeedsAuth, Forbidden, WrongUser, ProtocolMismatch, ServerRefused: it could
                not be done.
        """
        self._engine.forbid_inside("sync.verify()")
        work = partial(self._pump.verify, timeout_s)
        return self._waiter.wait(self._pump.submit(work))

    def pause(self) -> Awaitable[None]:
        """Send and fetch nothing in the background until ``resume()``."""
        return self._waiter.wait(self._pump.submit(self._pump.pause))

    def resume(self) -> Awaitable[None]:
        """Go on at once: after ``pause()``, or when the network or the token is back."""
        return self._waiter.wait(self._pump.submit(self._pump.resume))

    def status(self) -> Awaitable[SyncStatus]:
        """What it is doing; never waits for the network."""
        return self._do(reports.status(self._pump))

    def subscribe(
        self, collection: Collection[Any] | str, buckets: Iterable[str] | None
    ) -> Awaitable[None]:
        """Fetch only some buckets of a collection, from the next exchange on.

        The first call leaves only these; each further one adds. What is left out goes from this
        device in one step, once nothing of it waits to be sent. Kept in the file.

        Args:
            collection: a synced one.
            buckets: names, as the server's declaration gives them; None = everything again.

        Raises:
            UnknownCollection: it is not synced here.
            UsageError: no list of names.
        """
        return self._ask_for(collection, buckets, more=True)

    def unsubscribe(
        self, collection: Collection[Any] | str, buckets: Iterable[str] | None = None
    ) -> Awaitable[None]:
        """Take buckets away from what ``subscribe`` asks for; None = fetch nothing of the
        collection. Documents with changes that wait stay until these are sent.

        Raises:
            UnknownCollection: it is not synced here.
            UsageError: no list of names.
        """
        return self._ask_for(collection, buckets, more=False)

    def subscriptions(self) -> Awaitable[dict[str, list[str]]]:
        """Buckets by collection; a collection that is not in it is fetched whole."""
        return self._plan(read_subscribed(), "read")

    def _ask_for(
        self, collection: Collection[Any] | str, buckets: Iterable[str] | None, *, more: bool
    ) -> Awaitable[None]:
        table = table_of(self._tables, collection)
        names = None if buckets is None else list(buckets)
        if isinstance(buckets, str) or not all(isinstance(name, str) for name in names or ()):
            raise UsageError("Buckets are given as a list of names, or None.")
        change = subscribe if more else unsubscribe
        done = self._plan(change(table.name, names), "write")
        if self._pump.running:
            self._pump.submit(self._pump.resume)
        return done

    def conflicts(self) -> Awaitable[list[Conflict]]:
        """Conflicts that wait for a person."""
        return self._plan(conflicts.list_conflicts(), "read")

    def resolve(
        self,
        conflict_id: str,
        choice: Literal["mine", "theirs"] | Mapping[str, Any] | None = None,
        *,
        fields: Mapping[str, Literal["mine", "theirs"]] | None = None,
    ) -> Awaitable[bool]:
        """Settle a conflict; works offline.

        Args:
            conflict_id: ``Conflict.id``.
            choice: ``mine``, ``theirs``, or the document as it shall be.
            fields: instead, a side for each of ``Conflict.fields`` (dotted paths). What only one
                side changed is kept.

        Returns False while other conflicts of the same transaction are open, else True.

        Raises:
            NotFound: it is settled already.
            UsageError: the choice is incomplete or names what does not exist.
        """
        plan = conflicts.resolve(self._tables, conflict_id, choice, fields)
        return self._plan(plan, "write")

    def integrity(self) -> Awaitable[list[IntegrityConflict]]:
        """Documents of the server that break a unique index or the model of this device.

        They are stored like all others, and nothing waits for them. A conflict ends by itself as
        soon as one of its documents is changed so that nothing is broken any more.
        """
        return self._do(reports.integrity(self._pump))

    def dead_letters(self) -> Awaitable[list[DeadLetter]]:
        """Units that the server refused, with what was in them."""
        return self._plan(conflicts.list_dead(), "read")

    def retry(
        self, letter_id: str, documents: Mapping[str, Mapping[str, Any]] | None = None
    ) -> Awaitable[None]:
        """Make the changes of a dead letter again, as one unit, on the documents of today.

        Args:
            letter_id: ``DeadLetter.id``.
            documents: edited: by key (or ``"collection/key"``), the document to write instead of
                what was refused.

        Raises:
            NotFound: no such letter, or a patched document is not there any more.
            UsageError: a document is named that the letter has no change of.
        """
        return self._plan(conflicts.retry(self._tables, letter_id, documents), "write")

    def discard(self, letter_id: str) -> Awaitable[DeadLetter]:
        """Remove a dead letter for good → what was in it."""
        return self._plan(conflicts.discard(letter_id), "write")

    def export(self, path: str | Path, *, plaintext: bool = False) -> Awaitable[int]:
        """Write everything that has not reached the server to a file, one JSON object a line:
        queued changes, conflicts and dead letters, with their contents → how many lines.

        Nothing is removed. The file is there whole or not at all.

        Args:
            path: of the file.
            plaintext: of an encrypted database it must be True, because the file is not encrypted.

        Raises:
            CannotOpen: it cannot be written.
            UsageError: the database is encrypted, and ``plaintext`` is not True.
        """
        return self._do(reports.export(self._pump, path, plaintext=plaintext))

    def recover(
        self, strategy: Literal["recover", "recover-else-export", "discard"] = "recover"
    ) -> Awaitable[None]:
        """Begin anew with the server: everything is fetched again.

        Needed under ``on_reset="manual"`` when ``status().state`` is ``needs-recovery``; may be
        called at any time.

        Args:
            strategy: ``recover`` keeps the queue and merges it onto the fresh data;
                ``recover-else-export`` puts what cannot be applied any more into a file beside the
                database; ``discard`` puts the whole queue there and takes the server's state.

        Raises:
            UsageError: no such strategy.
        """
        chosen = checked(strategy)
        if chosen == "manual":
            raise UsageError("recover() needs a decision.", action="Say recover or discard.")
        self._engine.forbid_inside("sync.recover()")
        work = partial(self._pump.recover, chosen)
        return self._waiter.wait(self._pump.submit(work))

    def resolutions(self, limit: int = 1_000) -> Awaitable[list[Resolution]]:
        """Conflicts that were settled, here or on other devices, newest first."""
        return self._plan(conflicts.list_resolutions(self._tables, limit), "read")

    def undo(
        self, resolution_id: str, to: Literal["base", "local", "remote"] | None = None
    ) -> Awaitable[dict[str, Any] | None]:
        """Take a settlement back: the version that lost is written again, as an ordinary change
        that syncs like any other → the document, None = it is deleted again.

        Args:
            resolution_id: ``Resolution.id``.
            to: the version to go back to; None = the side that lost. Where only fields were
                settled, only these change.

        Raises:
            NotFound: there is no such record, or its collection is not synced here.
            UsageError: the document was changed again since.
        """
        return self._plan(conflicts.undo(self._tables, resolution_id, to), "write")

    def on_event(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call a function for each event → a function that ends that. It runs on the thread of
        the replication and must not wait for it."""
        self._callbacks = (*self._callbacks, callback)

        def forget() -> None:
            self._callbacks = tuple(one for one in self._callbacks if one is not callback)

        return forget

    def events(self) -> AsyncEvents:
        """Events from now on, as an iterator that waits for the next one; ``close()`` ends it."""
        return AsyncEvents(self.on_event, self._waiter)

    def _tell(self, event: Event) -> None:
        for callback in self._callbacks:
            try:
                callback(event)
            except Exception:  # noqa: S112 - a user's callback must not stop the replication
                continue

    def _plan(self, plan: Plan[R], mode: Literal["read", "write"]) -> Awaitable[R]:
        work: Work[R] = self._pump.host.perform(Operation(plan, mode))
        return self._do(work)

    def _do(self, work: Work[R]) -> Awaitable[R]:
        """Run a bounded local operation at once, in the caller's thread and transaction."""
        if self._later is not None:
            return self._waiter.later(work)
        future: Future[R] = Future()
        try:
            future.set_result(at_once(work))
        except Exception as error:
            future.set_exception(error)
        return self._waiter.wait(future)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._pump.rounds.url!r} {self._pump.session.state}>"
