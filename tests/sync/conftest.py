"""Real nodes for the tests of this folder that want one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .site import Site


@pytest.fixture
def sites() -> Iterator[Callable[..., Site]]:
    """Makes nodes that end with the test."""
    with contextlib.ExitStack() as stack:

        def make(dsn: str, collections: Any = None, **options: Any) -> Site:
            return stack.enter_context(Site(dsn, collections, **options))

        yield make
