"""LAS files → documents. Real files are dirty: what cannot be read is listed, never hidden."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lasio

from homeport.cli.demo.models import Curve, HeaderLine, Sample, Well

PART_SAMPLES = 10_000
"""Longer curves are stored in several documents (about 90 kB each)."""

METRES = {"M": 1.0, "METRES": 1.0, "METERS": 1.0, "F": 0.3048, "FT": 0.3048, "FEET": 0.3048}
METRES[".1IN"] = 0.00254


@dataclass(frozen=True)
class WellLog:
    """One file that could be read."""

    well: Well
    curves: list[Curve]


@dataclass(frozen=True)
class Unreadable:
    """One file that could not, and lasio's reason."""

    name: str
    reason: str


def read_logs(files: Sequence[Path], root: Path) -> Iterator[WellLog | Unreadable]:
    """Read the files one by one, in their order."""
    logging.getLogger("lasio").setLevel(logging.CRITICAL)
    for path in files:
        name = path.relative_to(root).with_suffix("").as_posix()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield _convert(name, _read(path))
        except Exception as error:  # lasio raises many kinds; the demo goes on with the next file
            yield Unreadable(name, " ".join(str(error).split())[:90])


def _read(path: Path) -> Any:
    """Broken header lines are skipped; a text that is no Unicode is left to lasio's guess."""
    options: dict[str, Any] = {"ignore_header_errors": True}
    encoding = _unicode_form(path.read_bytes())
    if encoding:
        options |= {"encoding": encoding, "autodetect_encoding": False}
    return lasio.read(str(path), **options)


def _unicode_form(raw: bytes) -> str | None:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if b"\0" in raw[:64]:
        return "utf-16-be" if raw[:1] == b"\0" else "utf-16-le"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return "utf-8-sig"


def _convert(name: str, las: Any) -> WellLog:
    header = [
        HeaderLine(section, str(item.mnemonic), str(item.unit), _value(item.value), str(item.descr))
        for section in ("well", "params")
        for item in getattr(las, section)
    ]
    facts = {line.mnemonic.upper(): line for line in header if line.section == "well"}

    def fact(*names: str) -> str:
        found = (facts[name] for name in names if name in facts)
        return next((str(line.value) for line in found if line.value not in (None, "")), "")

    unit = _depth_unit(las)
    depths = [v for v in _samples(las.index) if isinstance(v, float)] if len(las.curves) else []
    scale = METRES.get(unit.upper())
    well = Well(
        id=name,
        name=fact("WELL") or name,
        field=fact("FLD"),
        company=fact("COMP"),
        uwi=fact("UWI", "API"),
        location=fact("LOC"),
        top_m=round(min(depths) * scale, 3) if depths and scale else None,
        base_m=round(max(depths) * scale, 3) if depths and scale else None,
        depth_unit=unit,
        mnemonics=[str(curve.mnemonic) for curve in las.curves],
        header=header,
    )
    index = _samples(las.index) if len(las.curves) else []
    curves = [part for curve in las.curves for part in _parts(well, curve, index)]
    return WellLog(well, curves)


def _parts(well: Well, curve: Any, index: list[Sample]) -> Iterator[Curve]:
    samples = _samples(curve.data)
    count = max(1, math.ceil(len(samples) / PART_SAMPLES))
    for part in range(count):
        cut = slice(part * PART_SAMPLES, (part + 1) * PART_SAMPLES)
        depths = [value for value in index[cut] if isinstance(value, float)]
        yield Curve(
            id=f"{well.id}/{curve.mnemonic}" + (f"/{part + 1}" if count > 1 else ""),
            well_id=well.id,
            mnemonic=str(curve.original_mnemonic),
            unit=str(curve.unit),
            text=str(curve.descr),
            part=part + 1,
            parts=count,
            top=min(depths, default=None),
            base=max(depths, default=None),
            samples=samples[cut],
        )


def _depth_unit(las: Any) -> str:
    if las.curves and las.curves[0].unit:
        return str(las.curves[0].unit)
    return str(las.well.STRT.unit) if "STRT" in las.well else ""


def _samples(data: Any) -> list[Sample]:
    """numpy → JSON values; a gap in the log (NaN) becomes null."""
    return [_value(value) for value in data.tolist()]


def _value(value: object) -> float | str | None:
    if isinstance(value, bool) or value is None:
        return None if value is None else str(value)
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else None
    return str(value).replace("\0", "")
