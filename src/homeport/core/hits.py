"""What a search returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from homeport.core.highlight import Places, Span
from homeport.core.keys import Key
from homeport.core.models import decode_object
from homeport.core.paths import MISSING, get_path
from homeport.core.textquery import Term
from homeport.core.words import text_of
from homeport.errors import UnknownField

T = TypeVar("T")


class Hit(Generic[T]):
    """A document that a search has found.

    Attributes:
        document: the document; it is a value of its own.
        key: its key.
        score: how well it fits, above 0. Scores are comparable within one search only.
    """

    __slots__ = ("_asked", "_plain", "_read", "_text", "document", "key", "score")

    def __init__(
        self,
        document: T,
        key: Key,
        score: float,
        text: str,
        asked: Mapping[str, tuple[str, Sequence[Term]]],
    ) -> None:
        self.document = document
        self.key = key
        self.score = score
        self._text = text
        self._asked = asked
        self._plain: dict[str, object] | None = None
        self._read: dict[str, Places] = {}

    @property
    def fields(self) -> tuple[str, ...]:
        """The searched fields in which something of the query occurs."""
        return tuple(name for name in self._asked if self._places(name))

    @property
    def highlights(self) -> dict[str, list[Span]]:
        """Where the query occurs: field → (start, end) of each place in ``text(field)``, for the
        fields in which it does."""
        return {name: self._places(name).spans for name in self._asked if self._places(name)}

    def text(self, field: str) -> str:
        """The text of a searched field; of an array its texts, one a line. Raises
        ``UnknownField``."""
        return self._places(field).text

    def highlight(
        self,
        field: str,
        *,
        before: str = "<b>",
        after: str = "</b>",
        escape: bool | None = None,
    ) -> str:
        """The whole text of a searched field with what was found marked.

        escape: write ``<``, ``>``, ``&`` and quotes of the text as HTML does; None = if ``before``
        is a tag, so that the default is safe on a page. Raises ``UnknownField``.
        """
        return self._places(field).highlighted(before, after, escape)

    def snippet(
        self,
        field: str | None = None,
        words: int = 12,
        *,
        before: str = "<b>",
        after: str = "</b>",
        ellipsis: str = "…",
        escape: bool | None = None,
    ) -> str:
        """About so many words of a searched field, where most of the query occurs, marked.

        field: None = the one with most of the query. words: of a script without spaces two
        characters count as one. ellipsis: stands where text was left out. escape: as for
        ``highlight``. Raises ``UnknownField``.
        """
        name = field if field is not None else self._best()
        return self._places(name).snippet(max(1, words), before, after, ellipsis, escape)

    def _best(self) -> str:
        return max(self._asked, key=lambda name: self._places(name).terms)

    def _places(self, name: str) -> Places:
        found = self._read.get(name)
        if found is None:
            if name not in self._asked:
                raise UnknownField(
                    f"{name!r} was not searched, only {', '.join(self._asked)}.",
                    action="Name a full-text field of the search.",
                )
            path, terms = self._asked[name]
            if self._plain is None:
                self._plain = decode_object(self._text)
            value = get_path(self._plain, path)
            found = Places(text_of(None if value is MISSING else value), terms)
            self._read[name] = found
        return found

    def __repr__(self) -> str:
        return f"<Hit {self.key!r}, score {self.score:.3g}>"


class Hits(list[Hit[T]]):
    """The hits of a search, best first.

    Attributes:
        total: how many documents were found and ranked, beyond the limit too.
        capped: more were found than were ranked: ``total`` is the least there are, and among those
            left out there may be better ones.
    """

    __slots__ = ("capped", "total")

    def __init__(
        self, hits: Sequence[Hit[T]] = (), total: int = 0, *, capped: bool = False
    ) -> None:
        super().__init__(hits)
        self.total = total
        self.capped = capped

    @property
    def documents(self) -> list[T]:
        """The documents alone."""
        return [hit.document for hit in self]

    def __repr__(self) -> str:
        more = " or more" if self.capped else ""
        return f"<{len(self)} hits of {self.total:,}{more}>"
