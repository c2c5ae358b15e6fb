"""A short sample of the chaos run; ``python -m tests.e2e.chaos`` runs any seed for any time."""

from __future__ import annotations

import pytest

from tests.e2e.chaos import run


@pytest.mark.parametrize("seed", [1, 15])
def test_devices_under_random_faults_converge_and_lose_nothing(seed: int) -> None:
    done = run(seed, seconds=12.0)
    assert done["transfer"] and done["set_alone"] and done["delete"]
