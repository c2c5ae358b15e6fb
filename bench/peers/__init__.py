"""The sides of the comparison, each in a module of its own that is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from bench.peers.base import Peer

# In the order of the tables. The reference comes first: others copy its file.
MODULES = {
    "raw-apsw": "by_hand:RawApsw",
    "again": "by_hand:RawApswAgain",
    "raw-apsw-same-obligations": "by_hand:RawApswLogged",
    "homeport": "homeport:Homeport",
    "homeport-async": "homeport:HomeportAsync",
    "sqlite3": "sqlite_stdlib:SqliteStdlib",
    "aiosqlite": "sqlite_async:Aiosqlite",
    "sqlmodel": "sqlmodel:SqlModel",
    "sqlite-utils": "sqlite_utils:SqliteUtils",
    "tinydb": "tinydb:Tinydb",
    "monlite": "monlite:Monlite",
    "diskcache": "disk_cache:DiskCache",
    "lmdb": "lightning:Lightning",
    "zodb": "zodb:Zodb",
}
REFERENCE = "raw-apsw"
OURS = "homeport"
HELPERS = ("again", "raw-apsw-same-obligations")
"""Sides that are measured beside the reference and are no peers of their own."""


def load(name: str) -> type[Peer]:
    """The class of a peer; raises ``ImportError`` when its package is not installed."""
    module, _, attribute = MODULES[name].partition(":")
    peer: type[Peer] = getattr(import_module(f"bench.peers.{module}"), attribute)
    return peer
