"""The tables of ``docs/benchmarks.md``, written between two marks of the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import peers, plot
from bench.operations import BY_NAME, READS, TEXTS
from bench.replication_clients import CLIENTS
from bench.report import Facts, Measure, Row, bytes_text, growths, time_text

BEGIN = "<!-- results: written by make bench ARGS=--write-docs -->"
END = "<!-- /results -->"
MAIN_SIZE = 100_000
WRITE_OPS = ("put", "bulk_put_200", "patch", "delete", "notify")
LEVELS = {
    "full": "an acknowledged write survives a power cut",
    "relaxed": "it survives the end of the process; a power cut may cost the last ones",
    "none": "a power cut may cost more, or the file",
}


def write(
    rows: Sequence[Row],
    facts: Sequence[Facts],
    figures: Sequence[Measure],
    conditions: str,
    page: Path,
) -> None:
    """Put new tables between the marks of the page, and new pictures beside it."""
    text = page.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    inside, closed, after = rest.partition(END)
    if not found or not closed:
        raise SystemExit(f"{page} has lost its marks {BEGIN!r} and {END!r}.")
    del inside
    pictures = plot.write(rows, page.parent)
    body = "\n".join(_body(rows, facts, figures, conditions, pictures))
    page.write_text(f"{before}{BEGIN}\n\n{body}\n{END}{after}", encoding="utf-8")


def _body(
    rows: Sequence[Row],
    facts: Sequence[Facts],
    figures: Sequence[Measure],
    conditions: str,
    pictures: Sequence[Path],
) -> list[str]:
    sizes = sorted({row.n for row in rows if row.op in BY_NAME})
    main = MAIN_SIZE if MAIN_SIZE in sizes else sizes[-1]
    reasons = _Reasons()
    lines = [f"{conditions}", ""]
    if pictures:
        light, dark = (path.name for path in pictures)
        lines += [
            f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
            f'<img alt="Time of one operation as the collection grows" src="{light}"></picture>',
            "",
        ]
    lines += [f"### Against the same work by hand, {main:,} documents", "", *_by_hand(rows, main)]
    lines += [f"### Reads, {main:,} documents", "", *_reads(rows, main, reasons)]
    for level in LEVELS:
        lines += _writes(rows, main, level, reasons, "###")
    lines += ["### Load, file, memory, start", "", *_takes(rows, facts, sizes, reasons)]
    lines += ["### How our cost grows", "", *_growth(rows, sizes)]
    if figures or any(row.op in ("push", "pull") for row in rows):
        lines += ["### Replication", "", *_replication(rows, figures)]
    for size in sizes:
        if size != main:
            lines += [f"<details><summary>The same with {size:,} documents</summary>", ""]
            lines += [*_by_hand(rows, size), *_reads(rows, size, reasons)]
            for level in LEVELS:
                lines += _writes(rows, size, level, reasons, "####")
            lines += ["</details>", ""]
    lines += reasons.lines()
    return lines


class _Reasons:
    """Footnotes: why a figure is missing, or what must be said about it."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, reason: str) -> str:
        number = self._numbers.setdefault(reason, len(self._numbers) + 1)
        return f"<sup>{number}</sup>"

    def lines(self) -> list[str]:
        if not self._numbers:
            return []
        notes = [f"{number}. {reason}" for reason, number in self._numbers.items()]
        return ["### Notes to the tables", "", *notes, ""]


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    if not body:
        return []
    rule = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *body)] + [""]


def _by_hand(rows: Sequence[Row], size: int) -> list[str]:
    against = {
        "raw-apsw": "by hand",
        "raw-apsw-bare": "by hand, bare",
        "raw-apsw-same-obligations": "by hand + change row",
    }
    body = [
        [
            BY_NAME[row.op].title,
            row.durability or "",
            against[row.reference],
            time_text(row.ours_us),
            time_text(row.reference_us),
            f"**{row.ratio:.2f}**",
            "" if row.noise is None else f"{row.noise:.2f}",
        ]
        for row in rows
        if row.n == size and row.reference in against and row.ours_us and row.reference_us
    ]
    head = ("operation", "durability", "against", "Homeport", "by hand", "ratio", "noise")
    return _table(head, body)


def _cells(rows: Sequence[Row], size: int, level: str | None) -> dict[str, dict[str, Row]]:
    """side → operation → its row; ours from the reference's row."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.n == size and row.durability == level and row.op in BY_NAME:
            side = row.reference.removesuffix("-bare")
            found.setdefault(side, {})[row.op] = row
    return found


def _cell(row: Row | None, side: str, how: str, reasons: _Reasons) -> str:
    if row is None:
        return "–"
    if row.reference_us is None:
        return f"–{reasons.mark(row.reason)}" if row.reason else "–"
    ratio = "" if row.to_raw is None or side == plot.TITLES["raw-apsw"] else f" ({row.to_raw:.2f})"
    note = reasons.mark(how) if how else ""
    return f"{time_text(row.reference_us)}{ratio}{note}"


def _ours(cells: dict[str, dict[str, Row]], op: str) -> str:
    for ops in cells.values():
        row = ops.get(op)
        if row is not None and row.ours_us is not None:
            raw = cells.get(peers.REFERENCE, {}).get(op)
            ratio = "" if raw is None or raw.ratio is None else f" ({raw.ratio:.2f})"
            return f"**{time_text(row.ours_us)}**{ratio}"
    return "–"


def _sides(
    cells: dict[str, dict[str, Row]], ops: Sequence[str], reasons: _Reasons
) -> list[list[str]]:
    body = []
    for name in peers.MODULES:
        title = plot.TITLES.get(name, "by hand + change row")
        if name == peers.OURS:
            body.append([f"**{title}**", *(_ours(cells, op) for op in ops)])
        elif any(row.reference_us is not None for row in cells.get(name, {}).values()):
            how = peers.load(name).how
            body.append(
                [
                    title,
                    *(
                        _cell(cells[name].get(op), title, how.get(op, ""), reasons)
                        for op in ops
                    ),
                ]
            )
    return body


def _reads(rows: Sequence[Row], size: int, reasons: _Reasons) -> list[str]:
    ops = [op.name for op in (*READS, *TEXTS)]
    cells = _cells(rows, size, None)
    cells.pop("raw-apsw-same-obligations", None)
    ops = [op for op in ops if any(op in side for side in cells.values())]
    return _table(["", *(BY_NAME[op].title for op in ops)], _sides(cells, ops, reasons))


def _writes(
    rows: Sequence[Row], size: int, level: str, reasons: _Reasons, heading: str
) -> list[str]:
    cells = _cells(rows, size, level)
    ops = [op for op in WRITE_OPS if any(op in side for side in cells.values())]
    body = _sides(cells, ops, reasons)
    if level == "none":
        body = [line for line in body if "Homeport" not in line[0]]
    if not body or not ops:
        return []
    table = _table(["", *(BY_NAME[op].title for op in ops)], body)
    title = f"Writes, durability {level}: {LEVELS[level]}; {size:,} documents"
    return [f"{heading} {title}", "", *table]


def _takes(
    rows: Sequence[Row], facts: Sequence[Facts], sizes: Sequence[int], reasons: _Reasons
) -> list[str]:
    lines = [
        "Load: each document of a bulk load into an empty file with three indexes, until it is "
        "closed. Memory: growth of a process of its own that imports the package, opens the file, "
        "reads 1,000 documents by key, ten ranges of 1,000 and then every document once; in "
        "brackets its peak. Start: from the first import to the first document.",
        "",
    ]
    for size in sizes:
        known = {fact.side: fact for fact in facts if fact.n == size}
        if not known:
            continue
        cells = _cells(rows, size, None)
        body = []
        for name in peers.MODULES:
            fact = known.get(name)
            if fact is None:
                continue
            title = plot.TITLES[name]
            bold = "**" if name == peers.OURS else ""
            own = cells.get(name, {})
            is_ours = name == peers.OURS
            how = peers.load(name).how
            load, opened = (
                _ours(cells, op)
                if is_ours
                else _cell(own.get(op), title, how.get(op, ""), reasons)
                for op in ("load", "open")
            )
            memory = "–"
            if fact.work_bytes is not None and fact.peak_bytes is not None:
                memory = f"{bytes_text(fact.work_bytes)} ({bytes_text(fact.peak_bytes)})"
            start = "–" if fact.start_ms is None else f"{fact.start_ms:.0f} ms"
            body.append(
                [f"{bold}{title}{bold}", load, bytes_text(fact.file_bytes), memory, opened, start]
            )
        head = [f"{size:,} documents", "load, each", "file", "memory", "open, get one", "start"]
        lines += _table(head, body)
    return lines


def _growth(rows: Sequence[Row], sizes: Sequence[int]) -> list[str]:
    costs: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        if row.op in BY_NAME and row.ours_us and row.reference in ("raw-apsw", "raw-apsw-bare"):
            costs.setdefault((row.op, row.durability or ""), {})[row.n] = row.ours_us
    slopes = {(growth.op, growth.durability): growth for growth in growths(rows)}
    body = []
    for (op, level), found in costs.items():
        slope = slopes.get((op, level))
        ours = "–" if slope is None else f"{slope.ours:+.2f}"
        body.append(
            [
                f"{BY_NAME[op].title}{f' ({level})' if level else ''}",
                *(time_text(found[n]) if n in found else "–" for n in sizes),
                f"**{ours}**" if slope is not None and slope.too_much else ours,
                "–" if slope is None or slope.by_hand is None else f"{slope.by_hand:+.2f}",
            ]
        )
    text = (
        "The exponent *e* of cost ~ n^*e*: 0 is flat, 1 is linear. What touches a fixed number of "
        "documents should stay below 0.2 (bold where it does not); counting a tenth of the "
        "collection has to grow. The work by hand grows too, since a larger file fits worse into "
        "the processor's caches: the last column."
    )
    head = ["", *(plot.size_text(n) for n in sizes), "*e*", "*e* by hand"]
    return [text, "", *_table(head, body)]


def _replication(rows: Sequence[Row], figures: Sequence[Measure]) -> list[str]:
    body = [
        [
            f"{row.op} {row.n:,} documents",
            f"**{time_text(row.ours_us)}**, {row.n / row.ours_us * 1e6:,.0f} a second",
            f"{time_text(row.reference_us)}, {row.n / row.reference_us * 1e6:,.0f} a second",
            row.reference,
            f"{row.ratio:.2f}",
        ]
        for row in rows
        if row.op in ("push", "pull") and row.ours_us and row.reference_us
    ]
    lines = _table(["", "Homeport", "reference", "which is", "ratio"], body)
    crowd = [figure for figure in figures if figure.subject.endswith(CLIENTS)]
    body = [
        [
            ", ".join(part for part in (figure.name, figure.subject) if part),
            f"**{f'{_number(figure.value)} {figure.unit}'.strip()}**",
            "" if figure.reference_value is None else f"{_number(figure.reference_value)}",
            figure.reference or figure.note,
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
        ]
        for figure in figures
        if figure not in crowd
    ]
    lines += _table(["", "Homeport", "reference", "which is", "ratio"], body)
    counts = list(dict.fromkeys(figure.subject for figure in crowd))
    names = list(dict.fromkeys(figure.name for figure in crowd))
    known = {(figure.name, figure.subject): figure for figure in crowd}
    body = [
        [name, *(_figure(known.get((name, count))) for count in counts)] for name in names
    ]
    notes = [f"{figure.subject}: {figure.note}." for figure in crowd if figure.note]
    return [*lines, *_table(["", *counts], body), *notes, ""]


def _figure(figure: Measure | None) -> str:
    return "–" if figure is None else f"{_number(figure.value)} {figure.unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
