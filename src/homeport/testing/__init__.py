"""For tests: the conformance suites, the simulation and a proxy that breaks connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from homeport.testing.proxy import FaultProxy
    from homeport.testing.simulation import Simulation, SimulationReport

__all__ = ["FaultProxy", "Simulation", "SimulationReport"]


def __getattr__(name: str) -> Any:
    # The simulation needs the server's packages; the conformance suites do not.
    if name == "FaultProxy":
        from homeport.testing.proxy import FaultProxy  # noqa: PLC0415

        return FaultProxy
    if name in __all__:
        from homeport.testing import simulation  # noqa: PLC0415

        return getattr(simulation, name)
    raise AttributeError(f"module 'homeport.testing' has no attribute {name!r}")
