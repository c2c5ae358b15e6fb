"""Running a node, and what is not installed."""

from __future__ import annotations

from homeport.errors.base import HomeportError


class ServerError(HomeportError):
    """Running a node."""

    code = "server"
    action = "See the log of the node."


class DatabaseUnavailable(ServerError):
    """PostgreSQL does not answer."""

    code = "database-unavailable"
    action = "Check that PostgreSQL runs and that the connection string is right."


class MissingDependency(ServerError):
    """An optional package is not installed."""

    code = "missing-dependency"
    action = "Install the extra that the message names."


class LaunchFailed(ServerError):
    """A program that Homeport starts (PostgreSQL, a node) did not come up."""

    code = "launch-failed"
    action = "See the log that the message names."
