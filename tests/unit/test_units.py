"""Units: a user's coroutine stepped as a plan, here against a scripted session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from homeport.core.requests import Operation
from homeport.core.units import Op, Run, unit
from homeport.drivers.replay import ReplaySession, replay
from homeport.drivers.steps import perform
from homeport.errors import KeyExists, TransactionError


def one(value: Any = "asked") -> Operation[Any]:
    def _get() -> Any:
        return (yield value)

    return Operation(_get(), "read", True)


def write(*requests: Any) -> Operation[Any]:
    def _put() -> Any:
        result = None
        for request in requests:
            result = yield request
        return result

    return Operation(_put(), "write")


def run(fn: Any, *answers: Any, args: tuple[Any, ...] = ()) -> tuple[Any, ReplaySession]:
    session = ReplaySession(answers)
    return perform(session, unit(fn, args, {}, lambda runner: runner)), session


def test_awaited_operations_are_answered_and_the_result_returned() -> None:
    async def fn(tx: Any, a: int) -> Any:
        return [await tx.run(one()), await tx.run(one()), a]

    result, session = run(fn, 1, 2, args=(3,))
    assert result == [1, 2, 3]
    assert session.asked == ["asked", "asked"]


def test_helpers_may_await_too() -> None:
    async def helper(tx: Any) -> Any:
        return await tx.run(one())

    async def fn(tx: Any) -> Any:
        return await helper(tx)

    assert run(fn, "x")[0] == "x"


def test_an_operation_that_was_not_awaited_is_an_error_that_names_it() -> None:
    async def fn(tx: Any) -> None:
        tx.run(write("w"))

    with pytest.raises(TransactionError, match=r"put\(\) was called but never awaited"):
        run(fn)


@pytest.mark.parametrize("swallow", [False, True])
def test_awaiting_anything_else_is_an_error_even_when_it_is_swallowed(swallow: bool) -> None:
    lines: list[str] = []

    async def fn(tx: Any) -> None:
        try:
            await asyncio.sleep(0)
        except TransactionError:
            lines.append("at the await")
            if not swallow:
                raise

    with pytest.raises(TransactionError, match="operations of its tx only"):
        run(fn)
    assert lines == ["at the await"]


def test_an_await_that_needs_an_event_loop_says_the_same() -> None:
    async def fn(tx: Any) -> None:
        await asyncio.sleep(1)

    with pytest.raises(TransactionError, match="operations of its tx only"):
        run(fn)


def test_errors_cross_into_the_coroutine_and_may_be_handled() -> None:
    async def fn(tx: Any) -> str:
        try:
            await tx.run(write("first", "second"))
        except KeyExists:
            return "handled"
        return "not reached"

    session = ReplaySession(["tx-info", None, KeyExists("there")])
    session_info = type("Info", (), {"changes": 0, "bytes": 0})()
    session = ReplaySession([session_info, None, KeyExists("there")])
    assert perform(session, unit(fn, (), {}, lambda r: r)) == "handled"
    # What the operation had done before its error is undone; the unit goes on.
    assert session.log == ["savepoint", "rollback to"]


def test_an_error_that_leaves_the_function_leaves_the_plan() -> None:
    async def fn(tx: Any) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run(fn)


def test_the_tx_is_over_with_its_unit() -> None:
    kept: list[Any] = []

    async def fn(tx: Any) -> None:
        kept.append(tx)
        kept.append(tx.run(one()))
        await kept[1]

    run(fn, 1)
    with pytest.raises(TransactionError, match="is over"):
        kept[0].run(one())
    with pytest.raises(TransactionError, match="is over"):
        kept[1].__await__()


def test_awaiting_twice_is_an_error() -> None:
    async def fn(tx: Any) -> None:
        op = tx.run(one())
        await op
        await op

    with pytest.raises(TransactionError, match="awaited twice"):
        run(fn, 1)


def plain(tx: Any) -> int:
    return 5


async def generator(tx: Any) -> Any:
    yield 1


@pytest.mark.parametrize(("fn", "word"), [(plain, "a plain int"), (generator, "async generator")])
def test_only_coroutine_functions(fn: Any, word: str) -> None:
    with pytest.raises(TransactionError, match=word):
        run(fn)


def test_finish_is_applied_inside_units() -> None:
    def _get() -> Any:
        return (yield "asked")

    async def fn(tx: Any) -> Any:
        return await tx.run(Operation(_get(), "read", True, finish=lambda v: v + 1))

    assert run(fn, 1)[0] == 2


def test_an_op_is_shown_readably() -> None:
    shown: list[str] = []

    async def fn(tx: Any) -> None:
        op: Op[Any] = tx.run(one())
        shown.append(repr(op))
        await op

    run(fn, 1)
    assert shown == ["<operation get, not awaited yet>"]


def test_replay_reports_the_requests_of_a_plan() -> None:
    result, asked = replay(write("a", "b"), 1, 2)
    assert result == 2
    assert asked == ["a", "b"]
    assert not any(isinstance(request, Run) for request in asked)
