"""The picture of the growth: cost against number of documents, one panel for each operation.

Written as SVG by hand, once for light and once for dark pages: no drawing library is needed, and a
changed figure changes one line of the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from bench import peers
from bench.operations import BY_NAME
from bench.report import Row

Points = dict[int, float]

PANELS = (
    ("load", None),
    ("open", None),
    ("get", None),
    ("bulk_get_100", None),
    ("equal", None),
    ("range_1000", None),
    ("compound_eq", None),
    ("order_limit", None),
    ("count", None),
    ("iterate", None),
    ("text", None),
    ("search_20", None),
    ("put", "full"),
    ("put", "relaxed"),
    ("patch", "relaxed"),
    ("delete", "relaxed"),
)
COLUMNS = 4
PANEL_WIDTH, PANEL_HEIGHT = 246, 186
LEFT, TOP, GAP_X, GAP_Y = 52, 106, 54, 52


@dataclass(frozen=True)
class Theme:
    background: str
    ink: str
    faint: str
    grid: str
    ours: str
    reference: str
    others: dict[str, str]


# Hue by family (SQL blue to green, documents purple to pink, keys and objects orange to brown), and
# a mark of its own for each, so that colour is not needed to tell two apart.
LIGHT = Theme(
    background="#ffffff",
    ink="#1f2328",
    faint="#59636e",
    grid="#e4e8ec",
    ours="#d1242f",
    reference="#1f2328",
    others={
        "homeport-async": "#f0868c",
        "sqlite3": "#0969da",
        "aiosqlite": "#6cb0f5",
        "sqlmodel": "#1a7f37",
        "sqlite-utils": "#12a4a4",
        "tinydb": "#8250df",
        "monlite": "#c84fc0",
        "diskcache": "#9a6700",
        "lmdb": "#e36209",
        "zodb": "#7d5a3c",
    },
)
DARK = Theme(
    background="#0d1117",
    ink="#e6edf3",
    faint="#9198a1",
    grid="#262c36",
    ours="#ff6b6b",
    reference="#e6edf3",
    others={
        "homeport-async": "#b5545a",
        "sqlite3": "#4493f8",
        "aiosqlite": "#3868a8",
        "sqlmodel": "#3fb950",
        "sqlite-utils": "#39c5cf",
        "tinydb": "#ab7df8",
        "monlite": "#e275d6",
        "diskcache": "#d29922",
        "lmdb": "#f0883e",
        "zodb": "#b89274",
    },
)
MARKS = {
    "homeport": "circle",
    "raw-apsw": "none",
    "homeport-async": "circle",
    "sqlite3": "square",
    "aiosqlite": "square",
    "sqlmodel": "diamond",
    "sqlite-utils": "triangle",
    "tinydb": "cross",
    "monlite": "plus",
    "diskcache": "triangle-down",
    "lmdb": "diamond",
    "zodb": "square",
}


def write(rows: Sequence[Row], folder: Path) -> list[Path]:
    """→ the two files; nothing when there is only one size to draw."""
    series = {panel: _series(rows, *panel) for panel in PANELS}
    sizes = sorted({n for lines in series.values() for points in lines.values() for n in points})
    if len(sizes) < 2:
        return []
    paths = []
    for name, theme in (("light", LIGHT), ("dark", DARK)):
        path = folder / f"benchmarks-{name}.svg"
        path.write_text(_picture(series, sizes, theme), encoding="utf-8")
        paths.append(path)
    return paths


def _series(rows: Sequence[Row], op: str, durability: str | None) -> dict[str, Points]:
    lines: dict[str, Points] = {}
    for entry in rows:
        if entry.op != op or entry.durability != durability:
            continue
        name = entry.reference.removesuffix("-bare")
        if name in peers.HELPERS:
            continue
        if entry.reference_us:
            lines.setdefault(name, {})[entry.n] = entry.reference_us
        if entry.ours_us:
            lines.setdefault(peers.OURS, {})[entry.n] = entry.ours_us
    # Ours and the reference last: they lie on top.
    order = [name for name in peers.MODULES if name not in (peers.OURS, peers.REFERENCE)]
    return {name: lines[name] for name in (*order, peers.REFERENCE, peers.OURS) if name in lines}


def _picture(
    series: dict[tuple[str, str | None], dict[str, Points]], sizes: Sequence[int], theme: Theme
) -> str:
    shown = [panel for panel in PANELS if series[panel]]
    lines = math.ceil(len(shown) / COLUMNS)
    width = LEFT + COLUMNS * PANEL_WIDTH + (COLUMNS - 1) * GAP_X + 20
    height = TOP + lines * PANEL_HEIGHT + lines * GAP_Y + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" '
        'aria-label="Time of one operation against the number of documents, one panel for each '
        'operation, one line for each database">',
        "<style>text{font-family:-apple-system,'Segoe UI','Noto Sans','DejaVu Sans',sans-serif;"
        "font-size:11px}"
        ".t{font-size:13px;font-weight:600}.h{font-size:16px;font-weight:600}</style>",
        f'<rect width="{width}" height="{height}" fill="{theme.background}"/>',
        f'<text class="h" x="{LEFT}" y="26" fill="{theme.ink}">Time of one operation as the '
        "collection grows</text>",
        f'<text x="{LEFT}" y="44" fill="{theme.faint}">Both axes logarithmic; lower is faster. '
        "A line that ends has left the contest: too slow for its share of time.</text>",
        *_legend({name for panel in shown for name in series[panel]}, theme),
    ]
    for place, panel in enumerate(shown):
        x = LEFT + place % COLUMNS * (PANEL_WIDTH + GAP_X)
        y = TOP + place // COLUMNS * (PANEL_HEIGHT + GAP_Y)
        parts += _panel(panel, series[panel], sizes, x, y, theme)
    return "\n".join([*parts, "</svg>\n"])


def _legend(names: set[str], theme: Theme) -> list[str]:
    parts, x, y = [], LEFT, 66
    order = (peers.OURS, peers.REFERENCE, *peers.MODULES)
    for name in dict.fromkeys(order):
        if name not in names:
            continue
        title = TITLES[name]
        parts += _line([(x, y - 4), (x + 20, y - 4)], name, theme, marked=(10,))
        parts.append(f'<text x="{x + 26}" y="{y}" fill="{theme.ink}">{escape(title)}</text>')
        x += 42 + round(6.1 * len(title))
    return parts


TITLES = {
    "homeport": "Homeport",
    "raw-apsw": "SQL by hand (apsw)",
    "homeport-async": "Homeport asyncio",
    "sqlite3": "sqlite3",
    "aiosqlite": "aiosqlite",
    "sqlmodel": "SQLModel",
    "sqlite-utils": "sqlite-utils",
    "tinydb": "TinyDB",
    "monlite": "monlite",
    "diskcache": "diskcache",
    "lmdb": "LMDB",
    "zodb": "ZODB",
}


def _panel(
    panel: tuple[str, str | None],
    lines: dict[str, Points],
    sizes: Sequence[int],
    x: float,
    y: float,
    theme: Theme,
) -> list[str]:
    op, durability = panel
    costs = [cost for points in lines.values() for cost in points.values()]
    low, high = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))
    high = max(high, low + 1)
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])

    def at(n: int, cost: float) -> tuple[float, float]:
        across = (math.log10(n) - first) / (last - first)
        up = (math.log10(cost) - low) / (high - low)
        return x + across * PANEL_WIDTH, y + PANEL_HEIGHT - up * PANEL_HEIGHT

    title = BY_NAME[op].title + (f" ({durability})" if durability else "")
    parts = [f'<text class="t" x="{x}" y="{y - 8}" fill="{theme.ink}">{escape(title)}</text>']
    for power in range(low, high + 1):
        _, level = at(sizes[0], 10.0**power)
        parts.append(
            f'<path d="M{x} {level:.1f}h{PANEL_WIDTH}" stroke="{theme.grid}" fill="none"/>'
            f'<text x="{x - 6}" y="{level + 4:.1f}" text-anchor="end" fill="{theme.faint}">'
            f"{_power(power)}</text>"
        )
    for n in sizes:
        across, _ = at(n, 1.0)
        parts.append(
            f'<path d="M{across:.1f} {y}v{PANEL_HEIGHT}" stroke="{theme.grid}" fill="none"/>'
            f'<text x="{across:.1f}" y="{y + PANEL_HEIGHT + 16}" text-anchor="middle" '
            f'fill="{theme.faint}">{size_text(n)}</text>'
        )
    for name, points in lines.items():
        parts += _line([at(n, points[n]) for n in sorted(points)], name, theme)
    return parts


def _line(
    points: list[tuple[float, float]], name: str, theme: Theme, marked: tuple[int, ...] = ()
) -> list[str]:
    style = {
        peers.OURS: (theme.ours, 3.0, ""),
        peers.REFERENCE: (theme.reference, 1.8, ' stroke-dasharray="5 3"'),
    }
    colour, width, dash = style.get(name, (theme.others.get(name, theme.faint), 1.3, ""))
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    marks = points if not marked else [(points[0][0] + offset, points[0][1]) for offset in marked]
    size = 4.0 if name == peers.OURS else 3.0
    return [
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'stroke-linejoin="round"{dash}/>',
        *(_mark(MARKS.get(name, "circle"), x, y, size, colour, theme) for x, y in marks),
    ]


def _mark(kind: str, x: float, y: float, size: float, colour: str, theme: Theme) -> str:
    s = size
    shapes = {
        "square": f"M{x - s:.1f} {y - s:.1f}h{2 * s}v{2 * s}h{-2 * s}z",
        "diamond": f"M{x:.1f} {y - s - 1:.1f}l{s + 1} {s + 1}l{-s - 1} {s + 1}l{-s - 1} {-s - 1}z",
        "triangle": f"M{x:.1f} {y - s - 0.5:.1f}l{s + 0.5} {2 * s}h{-2 * s - 1}z",
        "triangle-down": f"M{x:.1f} {y + s + 0.5:.1f}l{s + 0.5} {-2 * s}h{-2 * s - 1}z",
    }
    strokes = {
        "cross": f"M{x - s:.1f} {y - s:.1f}l{2 * s} {2 * s}m0 {-2 * s}l{-2 * s} {2 * s}",
        "plus": f"M{x - s:.1f} {y:.1f}h{2 * s}m{-s} {-s}v{2 * s}",
    }
    if kind == "none":
        return ""
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{s}" fill="{colour}"/>'
    if kind in strokes:
        return f'<path d="{strokes[kind]}" stroke="{colour}" stroke-width="1.8" fill="none"/>'
    edge = f'stroke="{theme.background}" stroke-width="0.8"'
    return f'<path d="{shapes[kind]}" fill="{colour}" {edge}/>'


def _power(power: int) -> str:
    units = {-1: "0.1 µs", 0: "1 µs", 1: "10 µs", 2: "0.1 ms", 3: "1 ms", 4: "10 ms", 5: "0.1 s"}
    return units.get(power, f"{10 ** (power - 6)} s" if power > 5 else f"{10.0**power:g} µs")


def size_text(n: int) -> str:
    if n >= 1_000_000:
        return f"{n / 1e6:g}M"
    return f"{n / 1e3:g}k" if n >= 1000 else str(n)
