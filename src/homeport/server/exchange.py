"""One exchange with a device: push, then pull, over one database."""

from __future__ import annotations

import logging
from collections.abc import Callable

from homeport.core.wire import MAX_FORMER, Policy, PushRequest, Reply, present

from .clients import retire
from .database import Database
from .feed import SnapshotFeed, unpack_cursor
from .position import owner_of
from .pull import PAGE_BYTES, PAGE_S, Puller
from .push import Pusher
from .rules import Claims, Rules, valid_name, valid_policy, valid_types, write_specs
from .schema import adopt_unique
from .unique import name_of, usable

log = logging.getLogger("homeport.server")


class Exchange:
    """What a node does with a request, without its sockets and background work.

    Args:
        database: where the documents are.
        rules: what is served.
        page_bytes, page_s: limits of one page of a cut.
        refresh_s: a cursor older than this is replaced although nothing is new.
    """

    def __init__(
        self,
        database: Database,
        rules: Rules,
        *,
        page_bytes: int = PAGE_BYTES,
        page_s: float = PAGE_S,
        refresh_s: float = 7 * 24 * 3600.0,
    ) -> None:
        self.database = database
        self.rules = rules
        self.feed = SnapshotFeed(database)
        self.pusher = Pusher(database, self.feed, rules)
        self.puller = Puller(
            database, self.feed, rules, page_bytes=page_bytes, page_s=page_s, refresh_s=refresh_s
        )
        self._registered: set[str] = set()
        self._adopted: set[str] = set()

    async def sync(
        self, claims: Claims, request: PushRequest, *, pushed: Callable[[], None] = lambda: None
    ) -> Reply:
        """Push (when there is a batch), then the next page of a cut. ``pushed`` is called between.

        Raises:
            UpgradeRequired: the program is older than a collection allows.
            HomeportError: see ``Pusher.push`` and ``Puller.pull``.
        """
        self.rules.check_versions(request.pull.collections, request.pull.versions)
        if self.rules.any:
            await self._register(request)
            await self._adopt_unique(request)
        if request.pull.former:
            async with self.database.session() as connection:
                await retire(connection, claims, request.pull.former[-MAX_FORMER:])
        if present(request.batch):
            asked = request.pull.cursor
            cursor = None if asked is None else unpack_cursor(asked, owner_of(claims))
            raw = bytes(request.batch)
            await self.pusher.push(claims, request.client, raw, request.hash, cursor)
            pushed()
        return await self.puller.pull(claims, request.client, request.pull)

    async def _register(self, request: PushRequest) -> None:
        """Development mode: a collection begins to exist when a device names it."""
        wanted: dict[str, Policy] = {
            name: policy
            for name, policy in request.pull.collections.items()
            if name not in self._registered and valid_name(name) and valid_policy(policy)
        }
        if not wanted:
            return
        async with self.database.session() as connection:
            for name, policy in sorted(wanted.items()):
                await connection.execute(
                    "insert into homeport.collections (name, policy, deletes, fields)"
                    " values ($1, $2, $3, $4) on conflict (name) do nothing",
                    name,
                    policy,
                    "edit-wins" if name in request.pull.edit_wins else "delete-wins",
                    write_specs(valid_types(request.pull.fields.get(name, {}))),
                )
        self._registered.update(wanted)

    async def _adopt_unique(self, request: PushRequest) -> None:
        """Development mode: unique indexes are kept from the first device on that declares them."""
        wanted = [
            (name, name_of(name, index), index)
            for name, indexes in request.pull.unique.items()
            if name in self._registered
            for index in usable(indexes)
        ]
        new = [(name, index) for name, known, index in wanted if known not in self._adopted]
        if not new:
            return
        async with self.database.session() as connection:
            for name, index in new:
                for error in await adopt_unique(connection, name, [index]):
                    log.warning("%s", error.message)
                self.rules.unique.setdefault(name, []).append(index)
        self._adopted.update(known for _, known, _ in wanted)
