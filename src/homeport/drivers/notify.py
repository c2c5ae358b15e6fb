"""Telling those who asked to be told of commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping


def tell(listeners: Mapping[object, Callable[[], None]]) -> None:
    """Call each of them.

    The write is committed: an error of a listener must not look like one of the write, which would
    then be repeated, nor keep the others from hearing of it. It goes to the log ``homeport``.
    """
    for listener in list(listeners.values()):
        try:
            listener()
        except Exception:
            import logging  # noqa: PLC0415 - most programs never come here

            log = logging.getLogger("homeport")
            log.exception("A function given to on_commit() failed: %r", listener)
