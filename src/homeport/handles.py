"""What belongs to an open database, and so to one process: it is neither copied nor pickled."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

from homeport.errors import NotCopyable


class Handle:
    """Base of what belongs to an open database."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise NotCopyable(
            f"A {type(self).__name__} cannot be copied or pickled: it belongs to a database that "
            "is open in this process."
        )
