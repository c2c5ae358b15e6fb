"""Telling of transactions that keep others waiting for long."""

from __future__ import annotations

import logging
import warnings
from time import monotonic

from homeport.errors import LongTransactionWarning

log = logging.getLogger("homeport.transactions")


class Held:
    """An open transaction that writes: since when, and where in the user's code it began."""

    __slots__ = ("file", "limit_s", "line", "since", "told")

    def __init__(self, limit_s: float, file: str, line: int) -> None:
        self.limit_s = limit_s
        self.file = file
        self.line = line
        self.since = monotonic()
        self.told = False

    @property
    def left_s(self) -> float:
        """Seconds until it is worth a word; negative afterwards."""
        return self.since + self.limit_s - monotonic()

    def tell(self) -> None:
        """Others wait for it: warn, once."""
        if self.told:
            return
        self.told = True
        seconds = monotonic() - self.since
        log.warning(
            "A transaction that began at %s:%d keeps others waiting; it is open for %.1f s.",
            self.file,
            self.line,
            seconds,
            extra={"file": self.file, "line": self.line, "seconds": seconds},
        )
        warnings.warn_explicit(
            f"This transaction keeps others waiting; it is open for {seconds:.1f} s. "
            "Keep slow work out of it, or raise long_transaction_s.",
            LongTransactionWarning,
            self.file,
            self.line,
        )
