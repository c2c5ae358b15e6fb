"""Replication, seen from a device."""

from __future__ import annotations

from homeport.errors.base import HomeportError


class SyncError(HomeportError):
    """Replication; the outbox is kept whatever happens."""

    code = "sync"
    action = "See sync.status(); queued writes are kept."


class CannotSync(SyncError):
    """Where this database keeps its documents there is no place for a queue."""

    code = "cannot-sync"
    action = "Open a database that syncs (leave storage='simple' out) and import the documents."


class Unreachable(SyncError):
    """No network, no server, or no answer in time."""

    code = "unreachable"
    action = "Nothing to do: it is retried by itself and queued writes are kept."


class RateLimited(Unreachable):
    """The server takes no more from this device or user for a moment."""

    code = "rate-limited"
    action = "Nothing to do: it goes on by itself when the server said, and queued writes are kept."


class NeedsAuth(SyncError):
    """The token is missing, wrong or expired."""

    code = "needs-auth"
    action = "Give a fresh token (token= may be a callable); queued writes are kept."


class Forbidden(SyncError):
    """The token is good, but this action is not allowed."""

    code = "forbidden"
    action = "Ask the owner of the server for access."


class WrongUser(SyncError):
    """The file belongs to another server, tenant or user; nothing was sent."""

    code = "wrong-user"
    action = "Open another file for this user."


class UnknownRemoteCollection(SyncError):
    """The server does not know a collection; its writes stay queued."""

    code = "unknown-remote-collection"
    action = "Declare the collection on the server, or give it sync=False on the device."


class HistoryBroken(SyncError):
    """The server lost (crash, failover, restore) or pruned history that this device had seen."""

    code = "history-broken"
    action = "Nothing to do: the device fetches everything again and keeps its queued writes."


class IdentityBroken(SyncError):
    """Another copy of this file has synced under the same identity."""

    code = "identity-broken"
    action = "Nothing to do: this file takes a new identity and merges its queued writes."


class ProtocolMismatch(SyncError):
    """Device and server speak different versions of the protocol."""

    code = "protocol-mismatch"
    action = "Upgrade the older side; queued writes are kept."


class UpgradeRequired(SyncError):
    """The server takes no changes from so old a version of this program."""

    code = "upgrade-required"
    action = "Update this program; it goes on working offline and queued writes are kept."


class ServerRefused(SyncError):
    """The server refused the request as a whole."""

    code = "server-refused"
    action = "See the message; queued writes are kept."


class UnitTooLarge(SyncError):
    """A unit (explicit transaction) that could never be sent; nothing of it was written."""

    code = "unit-too-large"
    action = "Split it, or use put_many, whose rows are units of one."


class QueueFull(SyncError):
    """The outbox reached its limit; this write was not made."""

    code = "queue-full"
    action = "Let the queue drain (sync.status() says why it does not), or raise max_queue."


class RolledBack(SyncError):
    """An optimistic update that was to be committed is gone already: its time was over, or the
    server's side won a conflict with it."""

    code = "rolled-back"
    action = "Apply it again on the document of today; what timed out is in sync.dead_letters()."
