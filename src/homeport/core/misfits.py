"""Documents that do not fit their model, and going on without them.

They come from a newer version of the program, from another one, or from the server, whose rows are
never refused (rule G). Reading one raises ``ValidationFailed``; a query with ``Fits`` among its
predicates leaves them out instead, wherever predicates are asked: lists, pages, counts, iterations,
searches, live queries and writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from homeport.core.paths import MISSING
from homeport.errors import ValidationFailed

T = TypeVar("T")

_AT: Final = re.compile(r"^(?P<reason>.*?) - at `(?:key in )?\$\.?(?P<path>[^`]*)`$", re.DOTALL)


class Misfit:
    """A document that its collection's model cannot read.

    Attributes:
        key: of the document.
        path: where it does not fit, in stored names (``items[0].depth_m``); "" = as a whole.
        reason: what is wrong there.
        document: as it is stored, plain JSON values.
    """

    __slots__ = ("document", "key", "path", "reason")

    def __init__(self, key: Any, path: str, reason: str, document: dict[str, Any]) -> None:
        self.key = key
        self.path = path
        self.reason = reason
        self.document = document

    def __repr__(self) -> str:
        return f"Misfit({self.key!r}, {self.path!r}: {self.reason})"


class Fits:
    """A predicate that every document satisfies which can be read at all."""

    __slots__ = ("report",)

    def __init__(self, report: Callable[[Misfit], object] | None = None) -> None:
        self.report = report

    def __call__(self, _: object) -> bool:
        return True


def fault_of(error: Exception) -> tuple[str, str]:
    """``(path, reason)`` of what msgspec or pydantic says about a document."""
    listed: Any = getattr(error, "errors", None)
    if callable(listed):
        try:
            found: Any = listed(include_url=False, include_context=False)
            return _path(found[0]["loc"]), str(found[0]["msg"])
        except Exception:  # noqa: S110 - another library's error that has an errors() too
            pass
    message = str(error).replace("\n", " ")
    at = _AT.match(message)
    return ("", message) if at is None else (at["path"], at["reason"])


def _path(steps: Sequence[object]) -> str:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return path.removeprefix(".")


def readable(
    decode: Callable[[str], T], predicates: Sequence[Callable[[Any], object]], text: str
) -> T:
    """The document of a text; ``MISSING`` when it does not fit its model and that is allowed."""
    try:
        return decode(text)
    except ValidationFailed as error:
        fits = next((one for one in predicates if isinstance(one, Fits)), None)
        document = error.context.get("document")
        if fits is None or not isinstance(document, dict):  # a damaged text is no misfit
            raise
        if fits.report is not None:
            context = error.context
            misfit = Misfit(
                context.get("key"), str(context.get("path")), str(context.get("reason")), document
            )
            fits.report(misfit)
        return MISSING  # type: ignore[no-any-return]
