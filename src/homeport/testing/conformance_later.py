"""The conformance cases on a store that answers later: one whose methods are awaited outside a
transaction, and whose sessions are generators of engine steps inside one.

    store = await IndexedDBStore.open("name", clock_ms=world.clock_ms)
    await run_later(case, world, store)
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any

from homeport.core.requests import DeleteWhere, Write
from homeport.testing.conformance import Ask, Case, World


class _RolledBack(Exception):
    """Makes the driver abort the transaction."""


class _Ended(Exception):
    """The case came to its end inside a transaction."""


async def run_later(case: Case, world: World, store: Any) -> None:
    """Run one case on an open, empty store; ``world`` is its clock."""
    world.store, world.session = store, store.session()
    steps = case.steps(world)
    try:
        ask = steps.send(None)
        while True:
            if ask.name == "begin":
                try:
                    await store.perform(_inside(steps, ask, world), ask.arguments[0], None)
                except _RolledBack:
                    pass
                except _Ended:
                    return
                ask = steps.send(None)
                continue
            try:
                value = await _outside(ask, world)
            except Exception as error:
                ask = steps.throw(error)
            else:
                ask = steps.send(value)
    except StopIteration:
        return


async def _outside(ask: Ask, world: World) -> Any:
    if ask.part == "store":
        return await ask.call(world)
    if ask.name == "rollback":
        return None
    writing = ask.name == "answer" and isinstance(ask.arguments[0], (Write, DeleteWhere))
    return await world.store.perform(ask.call(world), "write" if writing else "read", None)


def _inside(steps: Coroutine[Ask, Any, None], ask: Ask, world: World) -> Generator[Any, Any, None]:
    """The part of a case between begin and commit, stepped in one transaction."""
    while True:
        failure: Exception | None = None
        value: Any = None
        try:
            value = yield from ask.call(world)
        except Exception as error:
            failure = error
        else:
            if ask.name == "commit":
                return
            if ask.name == "rollback":
                raise _RolledBack
        try:
            ask = steps.send(value) if failure is None else steps.throw(failure)
        except StopIteration:
            raise _Ended from None
