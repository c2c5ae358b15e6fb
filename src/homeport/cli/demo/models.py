"""What the demo stores: wells, their curves, and what geologists write about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

import homeport as hp

Sample: TypeAlias = float | str | None


class HeaderLine(msgspec.Struct):
    """One line of the header of a LAS file, kept as it was read."""

    section: str
    mnemonic: str
    unit: str
    value: float | str | None
    text: str


class Well(msgspec.Struct, kw_only=True):
    """The header of one LAS file. ``top_m`` and ``base_m`` are metres whatever the file's unit was;
    None where the index is not a depth."""

    id: str
    name: str
    field: str = ""
    company: str = ""
    uwi: str = ""
    location: str = ""
    top_m: float | None = None
    base_m: float | None = None
    depth_unit: str = ""
    mnemonics: list[str] = []
    status: str = "imported"
    remark: str = ""
    reviewed: bool = False
    header: list[HeaderLine] = []


class Curve(msgspec.Struct, kw_only=True):
    """A measured curve; long ones are cut into parts so that no document grows large."""

    id: str
    well_id: str
    mnemonic: str
    unit: str
    text: str = ""
    part: int = 1
    parts: int = 1
    top: float | None = None
    base: float | None = None
    shift_m: float = 0.0
    samples: list[Sample] = []


class Interpretation(msgspec.Struct, kw_only=True):
    """What somebody concludes from the curves of a well."""

    id: str = msgspec.field(default_factory=hp.new_id)
    well_id: str
    author: str
    zone: str
    note: str
    top_m: float | None = None


def careful_merge(
    base: dict[str, Any] | None,
    local: dict[str, Any],
    remote: dict[str, Any],
    meta: Mapping[str, Any],  # noqa: ARG001 - policies are called with it
) -> Any:
    """Policy of the wells: what I changed goes onto what the others have, but nobody merges a
    reviewed well except a person."""
    if base is None or base["reviewed"]:
        return hp.MANUAL
    mine = {name: value for name, value in local.items() if base.get(name) != value}
    return {**remote, **mine}


WELLS = hp.Collection(
    "wells",
    Well,
    indexes=["field", "base_m", ("field", "base_m"), hp.Multi("mnemonics"), hp.FullText("name")],
    sync=hp.Synced(policy=careful_merge),
)
CURVES = hp.Collection("curves", Curve, indexes=["well_id", ("mnemonic", "top")])
INTERPRETATIONS = hp.Collection(
    "interpretations", Interpretation, indexes=["well_id", hp.FullText("note")]
)
COLLECTIONS: list[hp.Collection[Any]] = [WELLS, CURVES, INTERPRETATIONS]
