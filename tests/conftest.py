"""Shared by the whole suite."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# CI must give the same answer twice; `HYPOTHESIS_PROFILE=explore` looks for new counterexamples.
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.register_profile("explore", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
