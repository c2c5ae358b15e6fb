"""What the demo stores: wells, their curves, and what geologists write about them."""

from __future__ import annotations

from typing import TypeAlias

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
