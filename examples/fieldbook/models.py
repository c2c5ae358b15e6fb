"""What the field book keeps; the server that fills it and the page share this file."""

from __future__ import annotations

from typing import Any

import msgspec

import homeport as hp


class Well(msgspec.Struct, kw_only=True):
    """The header of one well log."""

    id: str
    name: str
    field: str = ""
    company: str = ""
    top_m: float | None = None
    base_m: float | None = None
    curves: int = 0
    status: str = "imported"
    remark: str = ""


class Curve(msgspec.Struct, kw_only=True):
    """One measured curve: samples from ``top`` to ``base`` at equal steps."""

    id: str
    well_id: str
    mnemonic: str
    unit: str = ""
    text: str = ""
    top: float | None = None
    base: float | None = None
    samples: list[float | None] = []


class Chart(msgspec.Struct, kw_only=True):
    """What is drawn: the keys of the selected curves."""

    id: str
    curves: list[str] = []


# Two people who change the same field of a well are asked; different fields are merged.
WELLS = hp.Collection("wells", Well, indexes=["name"], sync=hp.Synced(policy="manual"))
CURVES = hp.Collection("curves", Curve, indexes=[("well_id", "mnemonic")])
# Who selects and who deselects other curves meanwhile are both right: a set, not a list.
CHARTS = hp.Collection("charts", Chart, sync=hp.Synced(fields={"curves": hp.SetOf()}))
COLLECTIONS: list[hp.Collection[Any]] = [WELLS, CURVES, CHARTS]
MAIN = "main"
"""The chart of the page."""
