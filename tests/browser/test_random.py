"""Random operations from two tabs beside the plain model; ``make soak-browser`` runs it for long."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.conftest import OpenPage
from tests.browser.inside_packed import pack, unpack
from tests.browser.pages import Page
from tests.browser.random_run import Played, follow, run
from tests.property.generate import Generator, collections_of
from tests.property.model import Mismatch, Model
from tests.property.run import START_MS

SEEDS, OPERATIONS = 2, 80


@pytest.mark.parametrize("where", ["page"], indirect=True)
@pytest.mark.parametrize("browser", ["chromium"], indirect=True)  # Firefox: ``make soak-browser``
def test_two_tabs_and_the_model_agree(page: Page, tab: OpenPage) -> None:
    tabs = [page, tab("worker")]
    hits = [run(seed, OPERATIONS, tabs).hits for seed in range(SEEDS)]
    assert sum(hits) > 0, "some answers come from memory"


def test_steps_keep_their_types_on_the_way() -> None:
    script = Generator(3, blocks=False, connections=1).script(2_000)
    assert repr(unpack(pack(script))) == repr(script)
    numbers = [1, 1.0, -0.0, True, 2**53, 5e-324, ("error", "NotFound"), {1: "a"}]
    assert repr(unpack(pack(numbers))) == repr(numbers)


def test_a_script_goes_from_tab_to_tab() -> None:
    script = Played(5, [], storms=True).script(2_000)
    numbers = [step[1] for step in script if step[0] not in ("advance", "storm")]
    changes = sum(one != other for one, other in zip(numbers, numbers[1:], strict=False))
    assert len(numbers) / 10 < changes < len(numbers) / 2
    assert {step[0] for step in script} == {"do", "unit", "advance", "reopen", "storm"}


@pytest.mark.parametrize("step, found", [
    (("do", 0, ("get", "docs", "d0")), [{"id": "d0"}]),
    (("do", 1, ("put", "docs", {"id": "d0"})), [("error", "UniqueViolation")]),
    (("do", 1, ("get", "docs", "d0")), "Closed: ..."),
    (("unit", 0, [("get", "docs", "d0"), ("get", "docs", "d1")], True), [None]),
])  # fmt: skip
def test_what_is_wrong_is_found(step: Any, found: Any) -> None:
    with pytest.raises(Mismatch):
        follow(Model(collections_of(0), START_MS), step, found)
