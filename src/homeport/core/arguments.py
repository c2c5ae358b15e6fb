"""Arguments of calls that are looked at before anything happens: a slip is told where it was made,
not where it would have hurt."""

from __future__ import annotations

import inspect
from typing import Final

from homeport.errors import UsageError

MOST_S: Final = 1_000_000
"""The longest time that a call may be told to wait; engines count milliseconds in 32 bits."""


def check_seconds(value: object, name: str, *, least: float = 0.0, none: bool = False) -> None:
    """A number of seconds from ``least`` to ``MOST_S``; None where that is allowed."""
    if none and value is None:
        return
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not least <= value <= MOST_S:  # type: ignore[operator]
        raise UsageError(
            f"{name} is a number of seconds from {least:g} to {MOST_S:,}, not {value!r:.60}.",
            action=f"For example {name}={max(least, 5.0):g}{' or None' if none else ''}.",
        )


def check_whole(value: object, name: str, *, least: int, none: bool = False) -> None:
    """A whole number from ``least``; None where that is allowed."""
    if none and value is None:
        return
    if type(value) is not int or value < least:
        raise UsageError(
            f"{name} is a whole number from {least:,}, not {value!r:.60}.",
            action=f"Give an int{' or None' if none else ''}.",
        )


def check_flag(value: object, name: str) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise UsageError(f"{name} is True or False, not {value!r:.60}.")


def check_function(
    value: object, what: str, *, none: bool = False, awaited: bool = False, action: str = ""
) -> None:
    """Something that can be called; ``what`` names who wanted it. awaited: what a coroutine
    function returns is awaited there; elsewhere its body would never run."""
    if (none and value is None) or callable(value):
        if not awaited and is_coroutine_function(value):
            raise UsageError(
                f"{what} takes a plain function; the body of {value!r:.60} would never run.",
                action="Write def in place of async def.",
            )
        return
    raise UsageError(
        f"{what} takes a function, not {value!r:.60}.", action=action or "Pass it without ()."
    )


def is_coroutine_function(value: object) -> bool:
    """Would a call of it only make something to await?"""
    called = value if inspect.isroutine(value) else getattr(value, "__call__", None)  # noqa: B004
    return any(
        inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one)
        for one in (value, called)
    )


def shown(value: object, most: int = 60) -> str:
    """A value for a message: its ``repr``, shortened, which must not fail in its turn (lists inside
    each other without an end, integers of thousands of digits, a ``__repr__`` that raises)."""
    try:
        return repr(value)[:most]
    except Exception:
        return f"a value of type {type(value).__name__}"


def is_unicode(text: str) -> bool:
    """Can this text be written as UTF-8? A lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
