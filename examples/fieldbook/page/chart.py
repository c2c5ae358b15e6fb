"""Curves as an SVG: one track each, depth downwards. Colours come from the page's style sheet."""

from __future__ import annotations

from html import escape

from fieldbook.models import Curve

WIDTH, HEIGHT = 150, 460
"""Of a track, in pixels."""
TOP = 56
LEAST = 0.8
"""A narrow window shows it smaller, down to this; then it scrolls."""
MOST = 600
"""Points of a line; a screen has no more rows."""


def draw(curves: list[Curve]) -> str:
    """The chart of these curves; a text where there are none."""
    if not curves:
        return '<p class="nothing">Open a well and select curves: they are drawn here.</p>'
    depths = [depth for curve in curves for depth in (curve.top, curve.base) if depth is not None]
    top, base = (min(depths), max(depths)) if depths else (0.0, 1.0)
    span = base - top or 1.0
    tracks = "".join(_track(curve, n, top, span) for n, curve in enumerate(curves))
    digits = 0 if span >= 20 else 1 if span >= 2 else 2
    marks = "".join(_mark(n / 5, top + span * n / 5, digits) for n in range(6))
    width, height = 60 + len(curves) * (WIDTH + 10), TOP + HEIGHT + 12
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" style="min-width: {width * LEAST}px"'
        f' role="img" aria-label="{len(curves)} curves">{marks}{tracks}</svg>'
    )


def _mark(share: float, depth: float, digits: int) -> str:
    y = TOP + share * HEIGHT
    return (
        f'<line class="mark" x1="56" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="depth" x="50" y="{y + 4:.1f}">{depth:,.{digits}f}</text>'
    )


def _track(curve: Curve, number: int, top: float, span: float) -> str:
    left = 60 + number * (WIDTH + 10)
    values = [value for value in curve.samples if value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:  # a line in the middle, not on the edge
        low, high = low - 0.5, high + 0.5
    scale = high - low
    first = top if curve.top is None else curve.top
    length = span if curve.base is None else curve.base - first
    count = max(1, len(curve.samples) - 1)
    step = max(1, len(curve.samples) // MOST)
    parts, pen = [], "M"
    for n in range(0, len(curve.samples), step):
        value = curve.samples[n]
        if value is None:
            pen = "M"  # a gap in the log
            continue
        x = left + (value - low) / scale * WIDTH
        y = TOP + (first + length * n / count - top) / span * HEIGHT
        parts.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    well = curve.well_id.rsplit("/", 1)[-1]
    return (
        f'<g class="track track{number % 6}"><rect x="{left}" y="{TOP}" width="{WIDTH}" '
        f'height="{HEIGHT}"/>'
        f'<text class="name" x="{left}" y="16">{escape(curve.mnemonic)}</text>'
        f'<text class="well" x="{left}" y="31">{escape(well[:22])}</text>'
        f'<text class="range" x="{left}" y="48">{low:.4g}</text>'
        f'<text class="range end" x="{left + WIDTH}" y="48">{high:.4g} {escape(curve.unit)}</text>'
        f'<path d="{" ".join(parts)}"/></g>'
    )
